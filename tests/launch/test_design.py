"""`make design`: budgets of a study file, the file that it writes, and the runs that it learns from."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
from msgspec import structs
from support.runs import ROOT, tiny_text

from analysis import aggregate
from analysis.budgets import foreseen_law, pilot
from analysis.budgets.budget import Seconds, cheapest
from analysis.budgets.foreseen import QUANTITIES
from ntkhpc import cli, studies
from ntkhpc.engine import plan, receipts, run
from ntkhpc.engine.run import Run
from ntkhpc.launch import design, profile, study_file
from ntkhpc.studies.ensemble.study import EnsembleStudy

STUDY = """
# Mine.
name = "small"
[data]
source = "calorimeter"
pool = 400
test = 40
[network]
widths = [16, 32]
[ensemble]   # of networks
n_train = [8, 16, 32]   # nested
members = 30   # networks
[infinite_width]
redraws = 10
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


def made(task: Path, *words: str) -> int:
    return cli.main(["design", f"--task={task}", f"--runs={task.parent / 'runs'}", *words])


def test_the_study_that_is_written_has_the_numbers_of_the_cheapest_and_the_text_of_its_user(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = task.parent / "new.toml"
    assert made(task, "--error=5%", "--quantity=mu_L", f"--out={out}") == 0
    said = capsys.readouterr().out
    assert f"make submit TASK={out}" in said
    text, before = out.read_text(), studies.load(task).of_kind(EnsembleStudy)
    after = studies.load(out).of_kind(EnsembleStudy)
    assert f"{after.ensemble.members:,}" in next(line for line in said.splitlines() if line.startswith("mu_L"))
    assert structs.replace(after, ensemble=before.ensemble) == before
    assert all(line in text for line in ("# Mine.", "n_train = [8, 16, 32]   # nested", "[ensemble]   # of networks"))
    assert text.startswith("# mu_L to 5 %, by ")
    assert plan.make(after).seconds > 0


def test_without_a_quantity_all_are_reached_together(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(task, "--error=10%") == 0
    said = capsys.readouterr().out
    for quantity in (*QUANTITIES, design.ALL):
        assert any(line.startswith(quantity) for line in said.splitlines()), quantity
    text = said.partition("study file (OUT=path.toml writes it):\n")[2]
    assert f"# {design.ALL} to 10 %" in text
    assert studies.loads(text).of_kind(EnsembleStudy).ensemble.members >= 20


@pytest.mark.parametrize("line", ['"members" = 30', "members = 30\n'draws' = 1", "members = 3_0"])
def test_spellings_that_an_edit_does_not_know_are_no_trouble(line: str, task: Path) -> None:
    task.write_text(STUDY.replace("members = 30   # networks", line))
    before = studies.load(task).of_kind(EnsembleStudy)
    wanted = structs.replace(before, ensemble=structs.replace(before.ensemble, members=70, draws=3))
    assert studies.loads(study_file.text(task, wanted)) == wanted


def test_a_file_that_cannot_be_edited_line_by_line_is_written_anew(task: Path, tmp_path: Path) -> None:
    """A table in one line, and data in another folder, whose path becomes absolute."""
    rows = np.random.default_rng(0).normal(size=(80, 3))
    np.savetxt(tmp_path / "t.csv", rows, delimiter=",", header="a,b,c", comments="")
    task.write_text(
        'name = "table"\nensemble = { n_train = [8, 16], members = 30 }\nnetwork = { widths = [4] }\n[data]\n'
        'source = "file"\npath = "t.csv"\nx = ["a", "b"]\ny = ["c"]\npool = 60\ntest = 20\n'
    )
    out = tmp_path / "elsewhere" / "new.toml"
    out.parent.mkdir()
    assert made(task, "--error=10%", "--quantity=mu_L", f"--out={out}") == 0
    after = studies.load(out)
    assert after.data.path == (str(tmp_path / "t.csv"),) or after.data.path == str(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give the one to reach, ERROR=2%"),
        (["--error=2%", "--quantity=eps"], "did you mean eps_L?"),
        (["--error=2%", "--out=new.txt"], "must end with .toml"),
        (["--error=2%", "--out=nowhere/new.toml"], "the folder of the study file is not there"),
        (["--error=2%", "--quantity=exponent_mu_L"], "with up to 64 draws"),
    ],
)
def test_bad_wishes_are_refused_with_what_to_do(
    words: list[str], said: str, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "draws" in said:
        task.write_text(STUDY.replace("pool = 400", "pool = 40"))
    assert made(task, *words) == 2
    assert said in capsys.readouterr().err


def test_a_study_file_is_not_written_over(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(task, "--error=2%", f"--out={task}") == 2
    assert "is there already" in capsys.readouterr().err
    assert task.read_text() == STUDY


@pytest.mark.parametrize("error", ["0", "abc", "-2%", "2", "60%", "nan"])
def test_errors_that_are_none_are_refused(error: str, task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        made(task, f"--error={error}")
    assert "--error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[training]\noptimiser = "adam"\nlearning_rate = 0.1\n', "no exact law for adam"),
        ('parametrisation = "mup"\n', "the lazy law beside each width"),
        ("centred = true\n", "no spread at infinite width"),
    ],
)
def test_without_a_law_and_without_a_pilot_nothing_is_promised(
    text: str, said: str, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "[ensemble]" if "[training]" in text else "widths"
    infinite = STUDY if "[training]" in text else STUDY.replace("[infinite_width]\nredraws = 10\n", "")
    task.write_text(infinite.replace(place, f"{text}{place}"))
    assert made(task, "--error=5%") == 2
    found = capsys.readouterr().err
    assert said in found
    assert "run a pilot, this study with ensemble.members = 100" in found


def test_studies_of_other_kinds_are_refused(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in (("bayes-calorimeter-light", "bayes"), ("algorithms", "comparison")):
        assert made(ROOT / "jobs" / f"{name}.toml", "--error=5%") == 2
        assert f"this is a study of kind '{kind}'" in capsys.readouterr().err


def test_a_run_beside_tells_seconds_and_with_enough_networks_the_spread(
    finished: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Errors for as many networks as the pilot has are those of its own moments, and times those of its receipts."""
    (tmp_path / "runs").mkdir()
    shutil.copytree(finished.path, tmp_path / "runs" / finished.path.name)
    shutil.copytree(finished.path, tmp_path / "runs" / "no-run").joinpath("manifest.json").write_text("{}")
    study = finished.study.of_kind(EnsembleStudy)
    wanted = structs.replace(study, ensemble=structs.replace(study.ensemble, members=500), seed=77)
    few = pilot.find(tmp_path / "runs", wanted)
    assert few is not None
    assert (few.members, few.trained, few.processor) == (11, None, "core")
    assert few.improve(None, wanted) is None
    assert set(few.factors) >= {"data", "ensemble", "law", "redraws"}
    assert "11 networks are too few" in few.said
    assert pilot.find(tmp_path / "runs", structs.replace(study, training=type(study.training)(momentum=0.5))) is None
    monkeypatch.setattr(pilot, "ENOUGH", 10)
    enough = pilot.find(tmp_path / "runs", wanted)
    assert enough is not None
    law = foreseen_law.foresee(wanted, study.data.load(study.known))
    known = enough.improve(law, wanted)
    assert known is not None
    measured = aggregate.moments(finished)
    for name in ("mu_L", "eps_L"):
        for target, i in zip(known.targets(name), (0, 1), strict=True):
            cell = measured.isel(width=0, n_train=i, draw=0)
            assert target.name == f"{name}, width 4, N_D {int(cell.n_train)}"
            error = float((cell[f"{name}_deviates"] ** 2).sum()) ** 0.5
            assert target.variance(11, 0, 1) ** 0.5 == pytest.approx(error, rel=1e-6)
        assert target.trained.between < target.trained.own  # as the law says of two draws
        assert law.targets(name)[0].trained.own != target.trained.own


def test_a_study_whose_run_is_the_pilot_says_so(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.path, tmp_path / "runs" / finished.path.name)
    (tmp_path / "tiny.toml").write_text(tiny_text())
    assert made(tmp_path / "tiny.toml", "--error=8%") == 0
    said = capsys.readouterr().out
    assert "too few to tell the spread" in said
    assert f"time: as measured in {tmp_path / 'runs' / finished.path.name}" in said
    assert "no exponent is fitted to fewer than 3 sizes" in said


def test_times_of_a_pilot_are_measured_over_projected_seconds_also_of_gpus(
    finished: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of shards that were computed in one go: those that went on from kept tiles tell nothing."""
    shutil.copytree(finished.path, tmp_path / "runs" / finished.path.name)
    read = receipts.read

    def slow(run: Run, shard: plan.Shard) -> receipts.Receipt:
        found = read(run, shard)
        assert found is not None
        reused = 3 if shard.region.get("member", (0,))[0] and shard.phase == "ensemble" else 0
        changes = {"seconds": 10 * shard.seconds * (1 + reused), "tiles_reused": reused}
        return structs.replace(found, fingerprint={"platform": "gpu"}, **changes)

    monkeypatch.setattr(pilot.receipts, "read", slow)
    study = finished.study.of_kind(EnsembleStudy)
    found = pilot.find(tmp_path / "runs", study)
    assert found is not None
    assert found.processor == "GPU"
    assert found.factors["ensemble"] == pytest.approx(10)
    clock = design._clock(study, found, None)
    assert clock.seconds(plan.make(study)) == pytest.approx(10 * plan.make(study).seconds)


def test_times_of_a_cluster_are_those_that_doctor_measured(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    study, gpu = finished.study.of_kind(EnsembleStudy), profile.find("gpu")
    label = gpu.partition_of("ensemble")
    monkeypatch.setattr(design.speed, "speeds", lambda *_: {label: 20.0})
    clock = design._clock(study, None, gpu)
    assert clock.processor == ("GPU" if gpu["ensemble"].gpu else "core")
    assert clock.factors["ensemble"] == pytest.approx(1 / 20)
    monkeypatch.setattr(design.speed, "speeds", lambda *_: {})
    assert design._clock(study, None, gpu).factors == {}


WIDE = """
name = "wide"
[data]
source = "calorimeter"
pool = 400
test = 40
[network]
widths = [512]
[ensemble]
n_train = [64, 128, 256]
members = 30
[infinite_width]
redraws = 0
"""


def test_where_leaps_are_cheaper_the_study_has_them_beside_trained_networks(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task.write_text(WIDE)
    out = task.parent / "new.toml"
    assert made(task, "--error=3%", "--quantity=mu_L", f"--out={out}") == 0
    said, ensemble = capsys.readouterr().out, studies.load(out).of_kind(EnsembleStudy).ensemble
    assert (ensemble.method, ensemble.leap_members) == ("leaps", 0)
    assert 20 <= ensemble.trained < ensemble.leapt / 3
    rows = [line.split() for line in said.splitlines() if re.match(r"(mu_L)? +(training|both|leaps) ", line)]
    ways = {next(word for word in row if word != "mu_L"): row for row in rows}
    assert {f"{ensemble.trained:,}", f"{ensemble.leapt:,}"} <= set(ways["both"])
    assert "bias" in ways["leaps"]
    assert "no study file is of them" in said
    hours = {way: float(words[-2]) for way, words in ways.items()}
    assert hours["both"] < hours["training"]


def test_leaps_alone_are_refused_below_their_bias(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task.write_text(WIDE)
    assert made(task, "--error=2%", "--quantity=mu_L") == 0
    assert "mu_L by leaps: leaps alone have a bias of about 1 %" in capsys.readouterr().out


def test_without_leaps_of_its_algorithm_a_study_is_trained(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task.write_text(f'{STUDY}\n[training]\nweight_decay = 0.01\ndecay_towards = "start"\n')
    assert made(task, "--error=10%", "--quantity=mu_L") == 0
    said = capsys.readouterr().out
    assert "leaps are not open to this study" in said
    assert not re.search(r"^mu_L +(leaps|both)", said, re.MULTILINE)


def test_a_study_that_is_trained_has_no_field_of_leaps_left(task: Path) -> None:
    task.write_text(STUDY.replace("members = 30", "members = 30\nmethod = 'leaps'\nvalidation = 25\ntwin = true"))
    before = studies.load(task).of_kind(EnsembleStudy)
    trained = design._made(before, 60, 0, 1)
    assert (trained.trained_members, trained.leapt_members) == (60, 0)
    again = studies.loads(study_file.text(task, trained))
    assert again == trained
    leapt = design._made(before, 40, 700, 2)
    assert (leapt.trained_members, leapt.leapt_members, leapt.ensemble.twin) == (40, 700, True)
    assert studies.loads(study_file.text(task, leapt)) == leapt


LEAPT = tiny_text(members="150").replace("tile = 2", "tile = 2\nmethod = 'leaps'\nvalidation = 30")


def leapt_run(runs: Path, monkeypatch: pytest.MonkeyPatch, rms: float, *, pairs: int = 30) -> EnsembleStudy:
    """A run of 150 leapt networks in two cells, `pairs` of them trained too, and its study.

    Losses are chi-squared; leaps are 2 % too small, and in the second cell off by `rms` beside. The store is made here.
    """
    study = studies.loads(LEAPT.replace("validation = 30", f"validation = {pairs}")).of_kind(EnsembleStudy)
    run.create(runs, study)
    rng, shape = np.random.default_rng(8), (1, 2, 1, 150)
    losses = 1 + 0.2 * (rng.chisquare(8, size=shape) - 8) / 4
    off = np.where(np.arange(150) % 2, 1, -1) * np.array([0.01, rms])[:, None, None]
    dims = ("width", "n_train", "draw")
    arrays = {
        "test_loss": ((*dims, "member"), losses[..., :pairs]),
        "status": ((*dims, "member"), np.zeros((1, 2, 1, pairs), np.int8)),
        "leap_loss": ((*dims, "leap_member"), losses * (0.98 + off)),
        "leap_status": ((*dims, "leap_member"), np.zeros(shape, np.int8)),
    }
    store = xarray.Dataset(arrays, {"width": [4], "n_train": [8, 12]})
    monkeypatch.setattr(pilot, "opened", lambda _: store)
    return study


def test_leaps_of_a_pilot_tell_the_spread_their_worth_and_their_bias(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = leapt_run(tmp_path, monkeypatch, 0.04)
    found = pilot.find(tmp_path, study)
    assert found is not None
    assert (found.members, found.judged.pairs, found.judged.refusal) == (150, 30, "")
    assert found.trained is not None
    assert found.trained is found.leapt
    assert found.trained["mu_L"][0, 0, 0, 0, 0] == pytest.approx(0.2**2, rel=0.5)  # 4.5 standard errors of a variance
    assert found.difference is not None
    assert found.difference["mu_L"][0, 0, 1, 0, 1] < found.trained["mu_L"][0, 0, 1, 0, 1] / 5
    assert found.bias == pytest.approx(-0.02, abs=1e-9)
    assert "the worth of leaps by 30 networks, with a bias of -2 % in the cell where it is largest" in found.said


def test_leaps_of_another_tolerance_or_too_few_pairs_tell_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = leapt_run(tmp_path / "one", monkeypatch, 0.2)
    other = structs.replace(study, ensemble=structs.replace(study.ensemble, leap_tolerance=0.2))
    found = pilot.find(tmp_path / "one", other)
    assert found is not None
    assert (found.members, found.trained, found.leapt, found.difference, found.bias) == (30, None, None, None, None)
    assert not found.judged.refusal  # of leaps that the study would not have
    study = leapt_run(tmp_path / "two", monkeypatch, 0.2, pairs=3)
    found = pilot.find(tmp_path / "two", study)
    assert found is not None
    assert (found.members, found.trained, found.leapt, found.judged.accepted) == (3, None, None, False)
    assert not found.judged.refusal  # nobody knows


def test_a_study_whose_leaps_a_pilot_refuses_is_trained(
    monkeypatch: pytest.MonkeyPatch, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off by 20 % in one of the two cells: neither their spread nor their worth is used, and none are offered."""
    runs = task.parent / "runs"
    study = leapt_run(runs, monkeypatch, 0.2)
    found = pilot.find(runs, study)
    assert found is not None
    assert (found.members, found.trained, found.leapt, found.difference) == (30, None, None, None)
    task.write_text(LEAPT)
    assert made(task, "--error=5%", "--quantity=mu_L") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"leaps are refused, as the run {found.path} has them: the losses of leaps are off by 20 % rms" in said
    assert "(width 4, N_D 12, draw 0)" in said
    assert "30 networks are too few to tell the spread" in said
    text = said.partition("study file (OUT=path.toml writes it):")[2]
    assert "mu_L to 5 %, by training" in text
    assert "leaps" not in text.partition("by make design.")[2]


def test_ways_of_more_shards_than_are_planned_are_said_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 1 % training takes 40 shards and with leaps 28; at 0.5 % both take more than 30."""
    task.write_text(WIDE)
    monkeypatch.setattr(plan, "MAX_SHARDS", 30)
    assert made(task, "--error=1%", "--quantity=mu_L") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"mu_L by training: the study has [\d,]+ shards; at most 30 are planned; phase ensemble has", said)
    assert "# mu_L to 1 %, by both" in said
    assert made(task, "--error=0.5%", "--quantity=mu_L") == 2
    assert "mu_L by both: the study has" in " ".join(capsys.readouterr().err.split())


def test_errors_of_exponents_are_said_to_be_absolute(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = studies.load(task).of_kind(EnsembleStudy)
    known = foreseen_law.foresee(study, study.data.load(study.known))
    (target,) = known.targets("exponent_mu_L")
    assert target.absolute
    assert not any(one.absolute for one in known.targets("mu_L"))
    promised = cheapest([target], Seconds(1.0), 0.1, "training", multiple=study.ensemble.tile)
    assert made(task, "--error=10%", "--quantity=exponent_mu_L") == 0
    said = capsys.readouterr().out
    assert "study small, to 0.1\n" in said
    (row,) = re.findall(r"^exponent_mu_L +training .*$", said, re.MULTILINE)
    assert f"{promised.error:.2g}" in row.split()
    assert "%" not in row
    assert "of exponents absolute" in said
    assert "# exponent_mu_L to 0.1, by training: 0." in said
    assert made(task, "--error=10%") == 0
    assert "study small, to 10 %, of exponents 0.1\n" in capsys.readouterr().out

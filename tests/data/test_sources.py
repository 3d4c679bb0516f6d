"""Studies of a user's own files: what is found out before a run is made, what is refused, what a job sees."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from support.runs import ntkhpc

from analysis.ensemble import spread
from ntkhpc import studies
from ntkhpc.data import shower_files, staging
from ntkhpc.data.mnist import Mnist
from ntkhpc.data.split import Split
from ntkhpc.engine import plan, run
from ntkhpc.engine.run import Run
from ntkhpc.errors import DataError, StudyError
from ntkhpc.launch import container
from ntkhpc.studies import facts, frozen
from ntkhpc.studies.base import Study

STUDY = """
name = "own"
[data]
source = "file"
path = "{path}"
x = ["a", "b", "c"]
y = ["energy"]
pool = 60
test = 20
{more}
[network]
widths = [4]
[ensemble]
n_train = [8, 12, 16]
members = 6
tile = 2
shard_members = 6
trace_points = 4
"""


def table(path: Path, rows: int = 100, *, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=rows) for name in "abc"}
    columns["energy"] = np.exp(columns["a"] + 0.1 * columns["b"])
    write(path, columns)
    return columns


def write(path: Path, columns: dict[str, np.ndarray]) -> None:
    lines = [",".join(columns), *(",".join(f"{v:.17g}" for v in row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def resolved(folder: Path, *, path: str = "t.csv", more: str = "") -> Study:
    return facts.resolve(studies.loads(STUDY.format(path=path, more=more)), folder)


def loaded(study: Study) -> Split:
    return study.data.load(study.known)


def test_a_resolved_study_knows_its_file_and_survives_freezing(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    found = resolved(tmp_path)
    assert found.data.path == str(tmp_path / "t.csv")
    assert (found.known.rows, found.features, found.outputs) == (100, 3, 1)
    again = frozen.loads(studies.dumps(found).decode())
    assert again == found
    assert facts.resolve(again, Path("/nowhere")) == found
    assert found.data.folders() == (tmp_path,)


@pytest.mark.promise("Another content of a user's file is another study.")
def test_other_data_are_another_study(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    one = resolved(tmp_path)
    table(tmp_path / "t.csv", seed=1)
    assert resolved(tmp_path).id != one.id


@pytest.mark.parametrize("more", ['sha256 = "0"', "rows = 100", "features = 3", "[facts]\nfeatures = 3\noutputs = 1"])
def test_facts_are_found_and_not_given(more: str) -> None:
    with pytest.raises(StudyError, match=f"unknown field {'facts' if 'facts' in more else 'data.' + more[:4]}"):
        studies.loads(STUDY.format(path="t.csv", more=more))


def test_a_file_with_more_outputs_than_the_kind_of_study_knows_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    text = STUDY[: STUDY.index("[ensemble]")].replace('"energy"]', '"energy", "c"]').replace(', "c"]\ny', "]\ny")
    text = 'kind = "bayes"' + text + "[posterior]\nn_train = [8]\n"
    with pytest.raises(StudyError, match="the data have 2 outputs; studies of kind bayes have one"):
        facts.resolve(studies.loads(text.format(path="t.csv", more="")), tmp_path)


def test_a_study_whose_files_nobody_looked_at_has_no_plan() -> None:
    with pytest.raises(DataError, match="have not been looked at"):
        plan.make(studies.loads(STUDY.format(path="t.csv", more="")))


@pytest.mark.parametrize("order", ["file", "permuted"])
@pytest.mark.parametrize("target", ["linear", "log"])
def test_the_split_is_made_of_the_rows_of_the_table(order: str, target: str, tmp_path: Path) -> None:
    columns = table(tmp_path / "t.csv")
    wanted = resolved(tmp_path, more=f'order = "{order}"\ntarget = "{target}"\nscaling = "feature"')
    split = loaded(wanted)
    x = np.concatenate([split.x_train, split.x_test]) * split.feature_scale + split.feature_mean
    rows = [int(np.abs(columns["a"] - value).argmin()) for value in x[:, 0]]
    assert len(set(rows)) == 80
    assert (rows == list(range(80))) == (order == "file")
    np.testing.assert_allclose(x, np.stack([columns[name][rows] for name in "abc"], axis=1), rtol=1e-12, atol=1e-14)
    y = np.concatenate([split.y_train, split.y_test]) * split.target_scale + split.target_mean
    measured = columns["energy"][rows]
    np.testing.assert_allclose(y[:, 0], np.log(measured) if target == "log" else measured, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(split.x_train.std(axis=0), 1)


@pytest.mark.promise(
    "Tables with missing values, constant columns, equal rows or too few rows are refused before a run exists."
)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["b"].__setitem__(7, np.nan), "b"),
        (lambda t: t["c"].fill(3.0), "carries no information"),
        (lambda t: [t[name].__setitem__(5, t[name][2]) for name in "abc"], "duplicates"),
        (lambda t: t["energy"].__setitem__(3, -1.0), "no logarithm"),
        (lambda t: t.update({name: t[name][:70] for name in list(t)}), "80 rows are asked for, there are 70"),
        (lambda t: t.pop("a"), "'a'"),
    ],
)
def test_bad_tables_are_refused_before_there_is_a_run(change, said: str, tmp_path: Path) -> None:
    columns = table(tmp_path / "t.csv")
    change(columns)
    write(tmp_path / "t.csv", columns)
    (tmp_path / "own.toml").write_text(STUDY.format(path="t.csv", more='target = "log"'))
    submitted = ntkhpc("submit", f"--task={tmp_path / 'own.toml'}", f"--runs={tmp_path / 'runs'}", "--cores=1")
    assert submitted.returncode == 2, submitted.stderr
    assert said in submitted.stderr
    assert "t.csv" in submitted.stderr
    assert "Traceback" not in submitted.stderr
    assert not list((tmp_path / "runs").glob("*"))


def test_dropped_duplicates_leave_the_first_of_each(tmp_path: Path) -> None:
    columns = table(tmp_path / "t.csv")
    for name in "abc":
        columns[name][90:] = columns[name][:10]
    write(tmp_path / "t.csv", columns)
    split = loaded(resolved(tmp_path, more='duplicates = "drop"\norder = "file"'))
    assert len(np.unique(np.concatenate([split.x_train, split.x_test]), axis=0)) == 80


@pytest.mark.promise("A file that changed after submission stops the data phase.")
def test_a_file_that_changed_after_submission_stops_the_data_phase(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    target = run.create(tmp_path / "runs", resolved(tmp_path))
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("1", "2"))
    with pytest.raises(DataError, match="not the one the study was submitted with"):
        loaded(target.study)
    (tmp_path / "t.csv").unlink()
    with pytest.raises(DataError, match="not there"):
        loaded(target.study)


def test_a_study_of_a_table_runs_to_its_report(tmp_path: Path) -> None:
    table(tmp_path / "t.csv", rows=120)
    path = tmp_path / "own.toml"
    path.write_text(STUDY.format(path="t.csv", more='target_unit = "GeV"'))
    submitted = ntkhpc("submit", f"--task={path}", f"--runs={tmp_path / 'runs'}", "--cores=2")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    (made,) = (tmp_path / "runs").iterdir()
    summary = (Run(made).path / "analysis" / "summary.txt").read_text()
    assert "trained on 16 samples, the random initialisation moves a prediction by" in summary
    assert "GeV" in summary
    assert ntkhpc("status", f"--task={path}", f"--runs={tmp_path / 'runs'}").returncode == 0


def test_a_job_reads_a_copy_on_its_own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, scratch = tmp_path / "data.bin", tmp_path / "scratch"
    path.write_bytes(b"123")
    scratch.mkdir()
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("TMPDIR", str(scratch))
    with staging.staged(path) as here:
        assert here == path
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with staging.staged(path) as there:
        assert there.is_relative_to(scratch)
        assert there.read_bytes() == b"123"
    assert not list(scratch.iterdir())


def test_the_data_job_alone_sees_the_folder_of_the_data(tmp_path: Path) -> None:
    from ntkhpc.launch.profile import Container

    place = container.Place(tmp_path / "run", tmp_path / "code", (tmp_path / "data",))
    with_data, without = (
        container.command(place, Container(), tmp_path / "x.sif", {}, gpu=False, reads=reads) for reads in (True, False)
    )
    assert str(tmp_path / "data") in with_data
    assert str(tmp_path / "data") not in without


def lcd(path: Path, showers: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    energy = rng.uniform(10, 100, showers)
    cells = rng.gamma(1.0, 1.0, (showers, 25, 25, 25))
    cells *= (0.02 * energy / cells.sum(axis=(1, 2, 3)))[:, None, None, None]
    with h5py.File(path, "w") as file:
        file["ECAL"], file["energy"], file["pdgID"] = cells, energy, np.full(showers, 11)
    return energy


def test_stored_showers_of_two_files_make_a_study(tmp_path: Path) -> None:
    energies = [lcd(tmp_path / f"{i}.h5", 12, i) for i in (1, 2)]
    text = STUDY.format(path="", more="").replace('source = "file"', 'source = "showers"\nlayout = "lcd"')
    text = text.replace('path = ""', 'path = ["1.h5", "2.h5"]\norder = "file"').replace('x = ["a", "b", "c"]\n', "")
    text = text.replace('y = ["energy"]\n', "").replace("pool = 60\ntest = 20", "pool = 18\ntest = 6")
    wanted = facts.resolve(studies.loads(text), tmp_path)
    assert (wanted.known.rows, wanted.features) == (24, 25)
    wanted.data.prepare(wanted.known)
    split = loaded(wanted)
    assert (split.target_train[:12, 0] == energies[0]).all()
    assert wanted.data.rows_in_files(wanted.known, (14, 3)) == "showers 14 and 3 (from 0) of those in 1.h5 and 2.h5"
    permuted = facts.resolve(studies.loads(text.replace('"file"', '"permuted"')), tmp_path)
    _, place, *_ = permuted.data.rows_in_files(permuted.known, (5,)).split()
    assert loaded(permuted).target_train[5, 0] == np.concatenate(energies)[int(place)]
    assert plan.make(wanted).shards
    with pytest.raises(DataError, match="30 showers are asked for, 24 pass"):
        facts.resolve(studies.loads(text.replace("pool = 18", "pool = 24")), tmp_path)
    with pytest.raises(DataError, match="two of the files are the same"):
        facts.resolve(studies.loads(text.replace("2.h5", "1.h5")), tmp_path)


def test_permuted_showers_are_those_of_the_files_and_no_other_is_read(tmp_path: Path) -> None:
    energies = np.concatenate([lcd(tmp_path / f"{i}.h5", 12, i) for i in (1, 2)])
    paths = (tmp_path / "1.h5", tmp_path / "2.h5")
    everything = shower_files.read(paths, "lcd")
    take = np.array([20, 3, 13, 0])
    energy, layers = shower_files.read(paths, "lcd", take=take)
    assert (energy == energies[take]).all()
    assert (layers == everything[1][take]).all()


@pytest.mark.promise("A study's id depends on the content of its file, not on where the file lies.")
def test_the_id_is_that_of_the_data_wherever_they_lie(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        table(tmp_path / folder / "t.csv")
    assert resolved(tmp_path / "a").id == resolved(tmp_path / "b").id


def test_a_finished_run_is_looked_at_without_its_data(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    path = tmp_path / "own.toml"
    path.write_text(STUDY.format(path="t.csv", more=""))
    made = run.create(tmp_path / "runs", resolved(tmp_path))
    (tmp_path / "t.csv").unlink()
    looked = ntkhpc("status", f"--task={path}", f"--runs={tmp_path / 'runs'}")
    assert made.path.name in looked.stdout, looked.stderr
    path.write_text(STUDY.format(path="t.csv", more="seed = 9"))
    other = ntkhpc("status", f"--task={path}", f"--runs={tmp_path / 'runs'}")
    assert other.returncode == 2
    assert "no such file" in other.stderr


def test_the_spread_of_several_outputs_is_theirs() -> None:
    """Against NumPy, of predictions that are known: one output is scaled by 1,000 and hardly fluctuates."""
    rng = np.random.default_rng(5)
    f = rng.normal(size=(40, 30, 2)) * [0.01, 0.5]
    tiles, dims = f.reshape(1, 1, 1, 20, 2, 30, 2), ("width", "n_train", "draw", "tile", "test_point", "output")
    store = xarray.Dataset(
        {
            "prediction_mean": (dims, tiles.mean(axis=4)),
            "prediction_m2": (dims, 2 * tiles.var(axis=4)),
            "status": (("width", "n_train", "draw", "member"), np.zeros((1, 1, 1, 40), int)),
            "y_test": (("test_point", "output"), np.ones((30, 2))),
            "target_scale": (("output",), np.array([1000.0, 1.0])),
            "law_variance": (("draw", "n_train", "test_point"), np.full((1, 1, 30), 0.25)),
        },
        coords={"width": [8], "n_train": [16], "draw": [0]},
        attrs={"study_toml": STUDY.format(path="x.csv", more="").replace('"energy"]', '"energy", "mass"]')},
    )
    section = studies.loads(store.attrs["study_toml"]).data
    found = spread.spread(store, section)
    assert found is not None
    assert found.found.initialisation.value == pytest.approx(np.sqrt(f.var(axis=0, ddof=1).mean()))
    assert found.unit == "standard deviations of the targets"
    assert found.found.infinite_width == pytest.approx(0.5)
    classes = Mnist(classes=(0, 1))
    one_hot = np.eye(2)[np.arange(30) % 2] - 0.5
    store["y_test"], store["target_scale"] = (("test_point", "output"), one_hot), (("output",), np.ones(2))
    mean = f.mean(axis=0)
    found = spread.spread(store, classes)
    assert found is not None
    assert found.accuracy == (mean.argmax(axis=1) == one_hot.argmax(axis=1)).mean()
    whole = np.sqrt(((mean - one_hot) ** 2 + f.var(axis=0, ddof=1) * (1 - 1 / 40)).mean())
    assert found.found.total == pytest.approx(whole)

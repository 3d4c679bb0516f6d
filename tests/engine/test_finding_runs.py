"""A run is found by what its study says, whatever id an older version gave it, and whatever became of it."""

from pathlib import Path

import msgspec
import pytest
from support import older
from support.runs import make_run, ntkhpc, tiny_text

from ntkhpc import cli, studies
from ntkhpc.data.source import Facts
from ntkhpc.engine import run
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError
from ntkhpc.studies import facts


@pytest.mark.promise(
    "TASK finds the run that an older version made of a study that leaves newer phases out; submit makes no second one."
)
def test_a_task_finds_the_run_by_content(
    old: Run, study_file: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = facts.resolve(studies.load(study_file), study_file.parent)
    assert wanted.run_name != old.path.name  # today's code gives this study another id
    found = run.find(runs, wanted)
    assert found is not None
    assert found.path == old.path
    assert run.find(runs, msgspec.structs.replace(wanted, seed=99)) is None
    assert cli.main(["status", f"--task={study_file}", f"--runs={runs}"]) == 0
    assert old.path.name in capsys.readouterr().out
    done = ntkhpc("submit", f"--task={study_file}", f"--runs={runs}", "--cores=1")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in runs.iterdir()] == [old.path.name]


def test_a_task_whose_data_are_gone_finds_the_run_by_what_was_written(
    old: Run, study_file: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_file.write_text(study_file.read_text().replace("../data", "/mnt/data"))
    assert cli.main(["status", f"--task={study_file}", f"--runs={runs}"]) == 0
    assert old.path.name in capsys.readouterr().out


def test_two_runs_of_one_study_are_not_chosen_between(
    old: Run, folder: Path, kind: str, study_file: Path, runs: Path
) -> None:
    twin = older.copy(folder, kind, runs / "other")
    twin.path.rename(runs / f"older-{kind}-0123456789")
    said = ntkhpc("status", f"--task={study_file}", f"--runs={runs}")
    assert said.returncode == 1
    assert "2 runs have the study" in said.stderr
    assert f"RUN={runs}" in said.stderr


def edited(old: Run, name: str, before: str, after: str) -> None:
    path = old.path / name
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.promise("A run that is damaged or cannot be read is named for TASK too, and submit makes no second one.")
@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("study.toml", "seed = ", "seed = 1", "is not the file the run was made with"),
        ("plan.json", "\n", " \n", "is not the file the run was made with"),
        ("manifest.json", '"format"', '"formal"', "does not match its own checksum"),
    ],
)
def test_an_older_run_that_is_damaged_is_found_by_its_task(
    name: str, before: str, after: str, said: str, old: Run, study_file: Path, runs: Path
) -> None:
    edited(old, name, before, after)
    for verb in ("status", "verify", "submit"):
        answer = ntkhpc(verb, f"--task={study_file}", f"--runs={runs}")
        assert answer.returncode != 0, verb
        assert said in answer.stdout + answer.stderr, verb
        assert old.path.name in answer.stdout + answer.stderr, verb
    assert [path.name for path in runs.iterdir()] == [old.path.name]


def test_images_of_archives_are_not_taken_for_loose_ones(runs: Path) -> None:
    """The same text, but the run was made of other files: another study."""
    text = 'name = "c"\n[data]\nsource = "cifar10"\npool = 20\ntest = 5\n[network]\nwidths = [4]\n'
    text += "[ensemble]\nn_train = [8]\nmembers = 4\ntrace_points = 2\n"
    archive = studies.loads(text)
    loose = msgspec.structs.replace(archive, facts=Facts(features=3072, outputs=10, sha256=("ab",)))
    made = run.create(runs, loose)
    assert run.find(runs, archive) is None
    assert run.find(runs, loose) == made
    found = run.find(runs, archive, looked_at=False)
    assert found is not None
    assert found.path == made.path


@pytest.mark.promise("A run that was moved or copied under the name of another study's is not taken for that one.")
def test_a_run_under_another_ones_name_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = make_run(runs), studies.loads(tiny_text(seed=6))
    one.path.rename(runs / other.run_name)
    for refused in (run.find, run.create):
        with pytest.raises(RunError, match=f"holds a run of another one, {one.path.name}"):
            refused(runs, other)
    (tmp_path / "study.toml").write_text(tiny_text(seed=6))
    for verb in ("submit", "status", "verify", "report", "resume"):
        assert cli.main([verb, f"--task={tmp_path / 'study.toml'}", f"--runs={runs}"]) == 1
        assert f"rename it to {one.path.name}" in capsys.readouterr().err
    (runs / other.run_name).rename(one.path)
    assert run.find(runs, one.study) is not None
    assert run.find(runs, other) is None

"""Whatever sbatch answers, a job that SLURM took is known, and a refusal says what helps."""

import os
from pathlib import Path

import pytest
from support.job_arrays import layout, planned, profile

from ntkhpc.errors import SchedulerError
from ntkhpc.launch import answers, cluster, container, sbatch, tasks

BANNER = "-----\n  Welcome\n--> Enforcing max jobs per user...OK\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Submitted batch job 7000\n", "7000"),
        ("7000\n", "7000"),
        ("7000;alpha\n", "7000"),
        ("Submitted batch job 7000 on cluster alpha\n", "7000"),
        (f"{BANNER}Submitted batch job 7000\nThank you for job 12\n", "7000"),
        ("NOTE: this is your job 3 of 50 allowed today\nSubmitted batch job 7000\n", "7000"),
        (f"{BANNER}7000\n", "7000"),
        ("job 3 of 50\n", None),
        ("", None),
    ],
)
def test_the_id_is_that_of_the_line_that_has_one(text: str, found: str | None) -> None:
    assert answers.job_id(text) == found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", "by its name"),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "by its name",
        ),
        ("no line of its answer has a job id: 'queued'", "by its name"),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Job violates accounting/QOS policy",
            "limits.tasks = N",
        ),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", "limits.tasks = N"),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Job violates accounting/QOS policy", "minutes"),
        ("sbatch: error: Memory specification can not be satisfied", 'memory = "none"'),
        ("sbatch: error: invalid partition specified: nowhere", "mend the profile"),
    ],
)
def test_a_refusal_says_what_helps(words: str, says: str) -> None:
    assert says in answers.refusal(words).todo


def executor(tmp_path: Path, **fields: object) -> sbatch.ArrayExecutor:
    made, wanted = planned(), profile(**fields)
    intent = cluster.intend(layout(made), made, wanted, {"law": made.of_phase("law")}, tasks.Experience(), None, None)
    (tmp_path / "submissions" / intent.id).mkdir(parents=True)
    return sbatch.executor(container.Place(tmp_path, tmp_path), intent, intent.arrays[0], wanted, [])


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH for an sbatch and a squeue of a test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(sbatch, "LOOKS", (0.0, 0.1))
    return folder


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


TIMED_OUT = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


@pytest.mark.parametrize("answer", [TIMED_OUT, "echo queued"])
def test_a_job_that_slurm_took_without_saying_so_is_found_by_its_name(answer: str, tmp_path: Path, slurm: Path) -> None:
    made = executor(tmp_path)
    program(slurm, "sbatch", answer)
    program(slurm, "squeue", f"echo '7000_[0]|PENDING|{made.array_name}|Priority'")
    assert sbatch.submit(made) == "7000"


@pytest.mark.parametrize("queue", ["true", "exit 1"])
def test_a_job_that_nobody_sees_is_not_called_refused(queue: str, tmp_path: Path, slurm: Path) -> None:
    made = executor(tmp_path)
    program(slurm, "sbatch", TIMED_OUT)
    program(slurm, "squeue", queue)
    with pytest.raises(SchedulerError, match="gave no job id") as caught:
        sbatch.submit(made)
    assert "looks for the job by its name before it submits again" in str(caught.value)


def test_a_clear_refusal_asks_no_queue(tmp_path: Path, slurm: Path) -> None:
    made = executor(tmp_path)
    program(slurm, "sbatch", "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1")
    program(slurm, "squeue", f"touch '{tmp_path}/asked'")
    with pytest.raises(SchedulerError, match="sbatch refused"):
        sbatch.submit(made)
    assert not (tmp_path / "asked").exists()


def test_a_cluster_that_schedules_no_memory_is_asked_for_none(tmp_path: Path) -> None:
    assert "#SBATCH --mem=" in executor(tmp_path / "a").text
    assert "--mem" not in executor(tmp_path / "b", memory="none").text

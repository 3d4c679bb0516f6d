"""A submission records what was handed to SLURM, which job ids it got, and how its tasks ended.

    submissions/<id>/intent.json         written before sbatch is called: arrays, their tasks, what was asked for
    submissions/<id>/<array>.sbatch      the script
    submissions/<id>/<array>.job         the job id, once SLURM has given one
    submissions/<id>/ends/<array>.<task>.<restart>    exit code, seconds, host: written by the host side of the task

An array whose `.job` is missing was never submitted, or its submitter died. The next submission looks for its name,
which no other array has.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec import Struct, convert, to_builtins

from ntkhpc import files
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError


class JobArray(Struct, frozen=True, kw_only=True):
    """A job array. Element i runs the shards `tasks[i]` in `workers` processes; memory and time are of one element."""

    name: str
    phase: str
    partition: str
    tasks: tuple[tuple[str, ...], ...]
    workers: int
    cpus: int
    gpu: bool
    memory_mb: int
    minutes: int
    needs: tuple[str, ...]


class Intent(Struct, frozen=True, kw_only=True):
    """One call of submit or resume. `image` (a path) and its sha256 are None where jobs run without containers."""

    id: str
    created: str
    user: str
    host: str
    profile: str
    image: str | None
    image_digest: str | None
    arrays: tuple[JobArray, ...]


class End(Struct, frozen=True, kw_only=True):
    """How one execution of a task ended: the host side of its job writes it."""

    array: str
    task: int
    restart: int
    code: int
    seconds: int
    host: str
    job: str


@dataclass(frozen=True)
class Submission:
    """A folder below `submissions/`."""

    path: Path

    @cached_property
    def intent(self) -> Intent:
        """What was asked for. It is read once, as nothing changes it."""
        return convert(files.read_sealed(self.path / "intent.json"), Intent)

    def job(self, array: JobArray) -> str | None:
        """Return the job id of an array. It is None if its submitter died before it knew it, or sbatch refused."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / f"{array.name}.job").read_text().strip() or None
        return None

    def record_job(self, array: JobArray, job: str) -> None:
        files.write_atomic(self.path / f"{array.name}.job", f"{job}\n".encode())

    def never_submitted(self, array: JobArray) -> bool:
        """Return whether SLURM was asked for an array without a job id and did not know it."""
        return (self.path / f"{array.name}.never").exists()

    def record_absence(self, array: JobArray) -> None:
        files.write_atomic(self.path / f"{array.name}.never", b"")

    def ends(self) -> list[End]:
        """Return every recorded end, in no order. A line that is half written counts as none."""
        found = []
        for entry in _entries(self.path / "ends"):
            with contextlib.suppress(ValueError, FileNotFoundError):
                array, task, restart = entry.name.rsplit(".", 2)
                code, seconds, host, job = Path(entry.path).read_text().split()
                found.append(
                    End(
                        array=array,
                        task=int(task),
                        restart=int(restart),
                        code=int(code),
                        seconds=int(seconds),
                        host=host,
                        job=job,
                    )
                )
        return found


def folder(run: Run) -> Path:
    """Return the folder of the submissions of a run. A run that was never on a cluster has none."""
    return run.path / "submissions"


def create(run: Run, intent: Intent) -> Submission:
    """Write an intent. Its folder belongs to its user, and only tasks of that user write ends into it."""
    submission = Submission(folder(run) / intent.id)
    (submission.path / "ends").mkdir(parents=True, exist_ok=True)
    files.write_atomic(submission.path / "intent.json", files.seal(to_builtins(intent)))
    return submission


def read(run: Run) -> list[Submission]:
    """Read every submission with its intent, oldest first: ids begin with their time.

    Raises DamagedError for an intent that is not what was written: its jobs could not be told from nothing.
    """
    found = []
    for entry in sorted(_entries(folder(run)), key=lambda entry: entry.name):
        submission = Submission(Path(entry.path))
        if (submission.path / "intent.json").exists():  # else its submitter died before anything was asked of SLURM
            try:
                _ = submission.intent
            except DamagedError as error:
                raise DamagedError(
                    "the intent of a submission is damaged: which shards its jobs have cannot be told",
                    where=submission.path / "intent.json",
                    cause="it was edited, truncated, or damaged on disk",
                    todo=f"scancel its jobs, whose names hold {submission.path.name}, then move that folder away",
                ) from error
            found.append(submission)
    return found


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        yield from [entry for entry in entries if not entry.name.startswith(".")]

"""A claim says who is computing a shard now.

A claim is a file `<shard>.<generation>` that only one process can create. A claim whose owner is gone is not removed
but outbid by the next generation, which again only one process can create: so two that find the same dead owner cannot
both win.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from msgspec import ValidationError, convert, structs, to_builtins

from ntkhpc import files, gates
from ntkhpc.engine import processes
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.processes import Life, Process
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError


class Owner(Process, frozen=True, kw_only=True):
    """A process that computes, once: `attempt` is its own."""

    attempt: str
    job: str | None = None
    cluster: str | None = None
    restart: int = 0
    node: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", job {self.job}" if self.job else "")


@dataclass(frozen=True)
class Claim:
    path: Path
    owner: Owner

    def holds(self) -> bool:
        """Return whether nobody has taken this claim over."""
        return not self.lost()

    def lost(self) -> str:
        """Say why this claim does not hold; nothing if it does."""
        if gates.exists(_generation(self.path, 1)):
            return TAKEN_OVER
        owner = _read(self.path)
        if owner == self.owner:
            return ""
        return GONE if owner is None else TAKEN_OVER

    def release(self, *, finished: bool) -> None:
        """Give the claim up. A shard that is finished loses its outbid claims too, as a receipt stands in for them."""
        if self.holds():
            self.path.unlink(missing_ok=True)
        if finished:
            for step in itertools.count(-1, -1):
                older = _generation(self.path, step)
                if not gates.exists(older):
                    break
                older.unlink(missing_ok=True)


TAKEN_OVER = "another job took this shard over; its result is left to it"
GONE = "the claim of this worker is gone or damaged, so another may compute this shard too; nothing more was written"


def take(run: Run, shard: Shard, owner: Owner, gone: Callable[[Owner], bool]) -> Claim | Owner:
    """Claim a shard. Returns the claim, or the live owner who has it. `gone` says whether an owner no longer exists."""
    return acquire(run.path / "claims" / shard.phase / shard.id, owner, gone)


def acquire(name: Path, owner: Owner, gone: Callable[[Owner], bool]) -> Claim | Owner:
    """Claim whatever `name` stands for, by files beside it."""
    path = name.with_name(f"{name.name}.0")
    while True:
        try:
            made = files.publish(path, files.seal(to_builtins(owner)))
        except OSError:
            with contextlib.suppress(OSError):  # it was made, and its directory could not be synced: nobody works by it
                if _read(path) == owner:
                    path.unlink()
            raise
        if made:
            return Claim(path, owner)
        holder = _read(path)
        if holder == owner:
            return Claim(path, owner)  # it was made, and the reply said that it had been there
        if holder is None and not gates.exists(path):
            continue  # released between the two looks
        if holder is not None and not gone(holder):
            return holder
        path = _generation(path, 1)


def live(run: Run, phase: str, gone: Callable[[Owner], bool]) -> dict[str, Owner]:
    """Return the shards of a phase that a living process claims, by id."""
    return {shard: owner for shard, owner in every(run, phase) if not gone(owner)}


def every(run: Run, phase: str) -> list[tuple[str, Owner]]:
    """Return shard id and owner of every claim of a phase. Outbid claims of a shard come before its latest one."""
    paths = sorted((run.path / "claims" / phase).glob("[!.]*"), key=lambda path: (len(path.name), path.name))
    return [(path.name.rpartition(".")[0], owner) for path in paths if (owner := _read(path)) is not None]


def drop(run: Run, phases: Iterable[str], which: Callable[[Owner], bool]) -> list[Owner]:
    """Remove the claims of the owners for whom `which` holds. Returns those owners."""
    dropped = []
    for phase in phases:
        for path in (run.path / "claims" / phase).glob("[!.]*"):
            owner = _read(path)
            if owner is not None and which(owner):
                path.unlink(missing_ok=True)
                dropped.append(owner)
    return dropped


def _generation(path: Path, step: int) -> Path:
    shard, _, number = path.name.rpartition(".")
    return path.with_name(f"{shard}.{int(number) + step}")


def _read(path: Path) -> Owner | None:
    """Return the owner, or None for a claim that vanished or cannot be read: it protects nobody."""
    with contextlib.suppress(FileNotFoundError, DamagedError):
        return read(path)
    return None


def read(path: Path) -> Owner:
    """Return the owner of a claim. Raises DamagedError for a file that is none."""
    try:
        return convert(files.read_sealed(path), Owner)
    except ValidationError as error:
        raise DamagedError(f"is no claim: {error}", where=path, cause="another record was copied there") from error


def this_process(attempt: str) -> Owner:
    environment = os.environ
    return Owner(
        **structs.asdict(processes.this()),
        attempt=attempt,
        job=_job(),
        cluster=environment.get("SLURM_CLUSTER_NAME"),
        restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
        node=environment.get("SLURMD_NODENAME"),
    )


def _job() -> str | None:
    """Return this array element, or job, of SLURM. An element keeps its name when it is requeued."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    return environment.get("SLURM_JOB_ID")


def gone_from_here(owner: Owner) -> bool:
    """Return whether an owner no longer exists, as far as can be told without asking SLURM.

    Owners of whom nothing can be known here are taken to live. Only an earlier life of this very array element is gone:
    SLURM has requeued it.
    """
    ours = owner.cluster in (None, os.environ.get("SLURM_CLUSTER_NAME"))  # two clusters count their jobs from 1 each
    if owner.job is not None and owner.job == _job() and ours:
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if owner.restart < restart:
            return True
    return processes.life(owner) is Life.GONE


def is_foreign(owner: Owner) -> bool:
    """Return whether nobody here can know whether an owner lives: it is on another machine, or hidden from us."""
    return processes.life(owner) is Life.UNKNOWN

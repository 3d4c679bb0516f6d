"""A claim says who is computing a shard now.

A claim is a file `<shard>.<generation>` made by link(). A claim whose owner is gone is not removed but outbid by the
next generation, which again only one process can create: so two that find the same dead owner cannot both win.
"""

import contextlib
import itertools
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct, convert, to_builtins

from ntkhpc import files
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError


class Owner(Struct, frozen=True, kw_only=True):
    """A process. Its name cannot be mistaken for that of a later process with the same id."""

    attempt: str
    host: str
    boot: str
    pid: int
    started: str
    job: str | None = None
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
        return _read(self.path) == self.owner and not _generation(self.path, 1).exists()

    def release(self, *, finished: bool) -> None:
        """Give the claim up. A shard that is finished loses its outbid claims too, as a receipt stands in for them."""
        if self.holds():
            self.path.unlink(missing_ok=True)
        if finished:
            for step in itertools.count(-1, -1):
                older = _generation(self.path, step)
                if not older.exists():
                    break
                older.unlink(missing_ok=True)


def take(run: Run, shard: Shard, owner: Owner, gone: Callable[[Owner], bool]) -> Claim | Owner:
    """Claim a shard. Returns the claim, or the live owner who has it. `gone` says whether an owner no longer exists."""
    return acquire(run.path / "claims" / shard.phase / shard.id, owner, gone)


def acquire(name: Path, owner: Owner, gone: Callable[[Owner], bool]) -> Claim | Owner:
    """Claim whatever `name` stands for, by files beside it."""
    path = name.with_name(f"{name.name}.0")
    while True:
        if files.publish(path, files.seal(to_builtins(owner))):
            return Claim(path, owner)
        holder = _read(path)
        if holder is None and not path.exists():
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
        return convert(files.read_sealed(path), Owner)
    return None


def this_process(attempt: str) -> Owner:
    return Owner(
        attempt=attempt,
        host=platform.node(),
        boot=_boot_id(),
        pid=os.getpid(),
        started=_start_time(os.getpid()) or "",
        job=_job(),
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        node=os.environ.get("SLURMD_NODENAME"),
    )


def _job() -> str | None:
    """Return this array element, or job, of SLURM. An element keeps its name when it is requeued."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    return environment.get("SLURM_JOB_ID")


def gone_from_here(owner: Owner) -> bool:
    """Return whether an owner no longer exists, as far as can be told without asking SLURM.

    Owners on other hosts are taken to live. Only an earlier life of this very array element is gone: SLURM has requeued
    it.
    """
    if owner.job is not None and owner.job == _job():
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if owner.restart < restart:
            return True
    if is_foreign(owner):
        return False
    return owner.boot != _boot_id() or _start_time(owner.pid) != owner.started


def is_foreign(owner: Owner) -> bool:
    """Return whether an owner is on another host, where nobody here can know whether it lives."""
    return owner.host != platform.node()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time that the kernel has of a process, or None if there is none, or only its zombie."""
    try:
        stat: Any = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        try:  # no /proc (macOS): existence alone
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return ""
    return None if stat[0] in "ZX" else stat[19]

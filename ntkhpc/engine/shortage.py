"""What a worker is told that found no more memory: what was projected, what it held, and what to do."""

import errno
from pathlib import Path

from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import OutOfMemoryError

_OF_JAX = ("JaxRuntimeError", "XlaRuntimeError")
_OF_DASK = ("KilledWorker",)


def is_one(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that memory was refused.

    Python and NumPy have a class for it, the system a number. JAX says it in words, on a CPU and on a device; Dask says
    of a task that it killed several workers, which is what its memory limit, or the system's, does.
    """
    named = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if named & {*_OF_JAX} and any(word in str(error) for word in ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc")):
        return True
    if named & {*_OF_DASK}:
        return True
    return error.__cause__ is not None and is_one(error.__cause__)


def explain(run: Run, shard: Shard, what: str, held: int) -> OutOfMemoryError:
    """The error of a shard whose worker had no more memory, and had held `held` bytes at most (0: nobody knows)."""
    phase = run.layout.phases[shard.phase]
    projected = run.plan.memory_bytes[shard.phase]
    known = (
        f"this one held {held / 2**20:,.0f} MiB at most, before what was refused" if held else "what it held is lost"
    )
    return OutOfMemoryError(
        f"no more memory: {what}",
        where=f"{shard.phase}/{shard.id}",
        cause=f"a worker of phase {shard.phase} was projected to hold {projected / 2**20:,.0f} MiB; {known}",
        todo="make resume, which asks a cluster for more; on this machine with fewer workers side by side: CORES=1; or "
        f"lower {phase.lower} in a new study",
    )


def held(pid: int | str = "self") -> int:
    """The largest resident size of a process so far in bytes; 0 where it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):  # gone, a zombie, or no /proc
        return 0


def descendants(pid: int | str) -> list[int]:
    """Processes that a process started, and those that they did."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return children + [one for child in children for one in descendants(child)]

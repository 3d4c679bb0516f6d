"""The part of a file that is still on its way, in the hands of one process at a time."""

import contextlib
import fcntl
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def reserve(destination: Path, say: Callable[[str], object]) -> Iterator[Path]:
    """The path of the part of `destination`, ours until the block ends; waits for a process that has it.

    `NAME.part` stays when the block fails or the process is killed, and the next one continues it. On a file system
    without locks the part has a name of its own and goes with the block: nothing to continue, nothing to corrupt.

    Raises OSError if the folder cannot be written.
    """
    # The lock file stays: whoever removes one lets in two, the next to come and the one that waits on the old inode.
    with destination.with_name(f".{destination.name}.lock").open("ab") as lock:
        if _lock(lock.fileno(), lambda: say(f"waiting for another process that fetches {destination}")):
            yield destination.with_name(f"{destination.name}.part")
            return
        own = destination.with_name(f"{destination.name}.{uuid.uuid4().hex[:12]}.part")
        try:
            yield own
        finally:
            own.unlink(missing_ok=True)


def _lock(descriptor: int, before_waiting: Callable[[], object]) -> bool:
    """Hold the lock until the descriptor is closed, also by a kill; False where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        before_waiting()
    except OSError:  # ENOLCK, ENOSYS or EOPNOTSUPP: NFS without its lock daemon, Lustre mounted without flock
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # the lock daemon went away meanwhile
        return False
    return True

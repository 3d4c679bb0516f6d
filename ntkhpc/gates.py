"""Exclusive publication on file systems that have no hard links: FAT, some FUSE, SMB and object stores.

What is left of POSIX is enough: rename() of a directory never replaces one that is not empty. So a file passes a gate.

1. The file is written into a box, a directory of its own, and the box is renamed to the gate `.<name>.gate`.
2. Whoever has the gate looks whether `name` exists. If not, the content is renamed from the gate to `name`.
3. Whoever finds the gate taken finishes step 2 for its holder, who may be dead, and tries again. The content has a name
   that no other has, so it goes through once, whoever renames it.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
"""What rename() of a directory says about one that is not empty."""

_TRIES = 1000

SUFFIX = ".tmp"
"""The end of the names of staged files."""


def exists(path: Path) -> bool:
    """Whether there is anything of that name. Raises OSError where that cannot be told: an error is no answer."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def publish(path: Path, data: bytes, stage: Callable[[Path, bytes], Path]) -> bool:
    """Create `path` with `data` unless it exists; True if it was this call that created it.

    `stage` writes a file whole, beside the path that it is given, under a name of its own. Raises OSError if the file
    system refuses that too; it may be tried again.
    """
    gate = path.with_name(f".{path.name}.gate")
    box = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.box")
    box.mkdir()
    try:
        staged = stage(box / path.name, data)
        for _ in range(_TRIES):
            if exists(path):
                return False
            try:
                os.rename(box, gate)
            except OSError as error:
                # The reply to a rename that was done may be lost, and its repetition fails.
                if not exists(gate / staged.name):
                    if error.errno not in TAKEN:
                        raise
                    _let_through(gate, path)
                    continue
            return _pass(gate, staged.name, path, data)
        raise OSError(errno.EBUSY, "other processes hold the gate of a file", str(path))
    finally:
        shutil.rmtree(box, ignore_errors=True)


def _pass(gate: Path, name: str, path: Path, data: bytes) -> bool:
    """What the holder of the gate does. Returns whether its content is what `path` holds now."""
    try:
        if exists(path):
            (gate / name).unlink()
            return False
        os.rename(gate / name, path)
        return True
    except FileNotFoundError:  # another process did one of the two for us
        return holds(path, data)
    except OSError:
        if holds(path, data):
            return True
        with contextlib.suppress(OSError):  # nobody shall publish what this call says that it did not
            (gate / name).unlink()
        raise
    finally:
        with contextlib.suppress(OSError):  # gone, or in the hands of the next one
            gate.rmdir()


def _let_through(gate: Path, path: Path) -> None:
    """Finish what the holder of the gate began."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(gate):
            if not name.endswith(SUFFIX):
                continue  # what NFS keeps of a file that was removed while it was open
            with contextlib.suppress(FileNotFoundError):
                if exists(path):
                    (gate / name).unlink()
                else:
                    os.rename(gate / name, path)
    with contextlib.suppress(OSError):
        gate.rmdir()


def holds(path: Path, data: bytes) -> bool:
    """Whether a file can be read and has this content."""
    with contextlib.suppress(OSError):
        return path.is_file() and path.read_bytes() == data
    return False

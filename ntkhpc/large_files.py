"""Files of hundreds of MiB: written from parts, read and compared without copies.

Memory that is asked for anew costs more than what a disk or a hash does, as the system clears it: so a file is read
into an array, for which the system has large pages, or into the memory of one that was read before, and compared
through a small buffer.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ntkhpc import files

_BUFFER = 1 << 20


class _Memory:
    """Memory of files that were read and that nobody looks at any more: of two, all of one size."""

    _KEPT = 2

    def __init__(self) -> None:
        self._lock = threading.RLock()  # memory comes back in whatever thread collects garbage, this one too
        self._free: list[np.ndarray] = []
        self.uses = 0
        """How many ask that it is kept: none, and all of it is given back."""

    def array(self, size: int) -> np.ndarray:
        """An array (size,) of bytes, which gives its memory back here once there is no view of it left."""
        with self._lock:
            self._free = [one for one in self._free if len(one) == size]
            owner = self._free.pop() if self._free else np.empty(size, np.uint8)
        lent = np.frombuffer(owner.data, np.uint8)  # views of it keep it, and not `owner` alone
        weakref.finalize(lent, self._take_back, owner)
        return lent

    def _take_back(self, owner: np.ndarray) -> None:
        with self._lock:
            if self.uses and len(self._free) < self._KEPT:
                self._free.append(owner)

    def keep(self, count: int) -> None:
        """So many more, or less, ask that memory is kept."""
        with self._lock:
            self.uses += count
            if not self.uses:
                self._free.clear()


_memory = _Memory()


@contextmanager
def reused() -> Iterator[None]:
    """Meanwhile the memory of what was read, up to that of two files of one size, is kept for what is read next."""
    _memory.keep(1)
    try:
        yield
    finally:
        _memory.keep(-1)


def place(staged: Path, path: Path) -> None:
    """Give a file that `files.stage` made its name, which another one may have: it is there whole or not at all.

    Its bytes survive a power cut once this returns; its name does once its directory was synced. It is not tried again.
    """
    try:
        os.replace(staged, path)
    except BaseException:  # Ctrl-C too leaves no staged file behind; it goes on up
        files.discard(staged)
        raise


def read(path: Path) -> np.ndarray:
    """The bytes of a file (n,) as uint8. Raises DamagedError for what is no file."""
    return files.patiently(lambda: _read(path))


def _read(path: Path) -> np.ndarray:
    files.require_file(path)
    with path.open("rb", buffering=0) as file:
        found = _memory.array(os.fstat(file.fileno()).st_size)
        rest = found.data
        while count := file.readinto(rest):
            rest = rest[count:]
        return found[: len(found) - len(rest)]


def holds(path: Path, *data: bytes | memoryview) -> bool:
    """Whether a file has these bytes and no others. Raises DamagedError for what is no file."""
    return files.patiently(lambda: _holds(path, data))


def _holds(path: Path, data: tuple[bytes | memoryview, ...]) -> bool:
    files.require_file(path)
    buffer = np.empty(_BUFFER, np.uint8)
    with path.open("rb", buffering=0) as file:
        for part in data:
            expected = np.frombuffer(part, np.uint8)
            while len(expected):
                count = file.readinto(buffer.data[: len(expected)])
                if not count or not np.array_equal(buffer[:count], expected[:count]):
                    return False
                expected = expected[count:]
        return not file.read(1)

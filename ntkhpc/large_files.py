"""Files of hundreds of MiB: written from parts, read and compared without copies.

Memory that is asked for anew costs more than what a disk or a hash does: so a file is read into an array, for which
the system has large pages, and compared through a small buffer.
"""

import os
from pathlib import Path

import numpy as np

from ntkhpc import files

_BUFFER = 1 << 20


def write(path: Path, *data: bytes | memoryview) -> None:
    """Write a file that is there whole or not at all, from parts that are not put together first.

    Its bytes survive a power cut once this returns; its name does once its directory was synced. It is not tried again.
    """
    staged = files.stage(path, *data)
    try:
        os.replace(staged, path)
    except BaseException:
        files.discard(staged)
        raise


def read(path: Path) -> np.ndarray:
    """The bytes of a file (n,) as uint8. Raises DamagedError for what is no file."""
    return files.patiently(lambda: _read(path))


def _read(path: Path) -> np.ndarray:
    files.require_file(path)
    with path.open("rb", buffering=0) as file:
        found = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
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

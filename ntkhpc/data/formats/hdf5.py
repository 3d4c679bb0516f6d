"""HDF5 files: opened, looked into and read with errors that name file, key and shape."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

BLOCK_BYTES = 2**25  # of cells held at once while a file is read: what a 10 GB file costs in memory


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading. DataError if it is missing, truncated or not HDF5, also when that shows later."""
    try:
        # Without locks: file systems of clusters refuse them, and nobody writes to these files.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path, todo="correct the path in the study") from error
    except (OSError, RuntimeError) as error:  # h5py raises either for a damaged file
        raise DataError(
            f"the file cannot be read: {error}",
            where=path,
            cause="an interrupted download or copy, or not an HDF5 file",
            todo="fetch it again and compare its size or checksum with the source's",
        ) from error


def keys(file: Any) -> list[str]:
    """Names of all arrays, those in groups as group/key."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def array(file: Any, key: str, where: Path) -> Any:
    """The array of numbers under a key, not read yet; "group/key" reaches into groups. DataError if it is not one."""
    if not isinstance(file.get(key), h5py.Dataset):
        require([key], keys(file), where)
    found = file[key]
    if found.dtype.kind not in "biuf":
        raise DataError(
            f"{key} holds {found.dtype}, not real numbers",
            where=where,
            todo="store numbers, one array per quantity (real and imaginary parts apart)",
        )
    return found


def column(file: Any, key: str, where: Path) -> np.ndarray:
    """An array of shape (n,) or (n, 1), as (n,)."""
    found = array(file, key, where)
    if found.ndim == 0 or found.size != found.shape[0]:
        raise DataError(f"{key} has shape {found.shape}; it needs one number per row: (n,) or (n, 1)", where=where)
    return np.asarray(found[()]).reshape(-1)


def same_rows(where: Path, **arrays: Any) -> None:
    """Raise DataError unless all arrays have as many rows."""
    rows = {name: len(values) for name, values in arrays.items()}
    if len(set(rows.values())) > 1:
        raise DataError(
            "the arrays differ in length: " + ", ".join(f"{name} {count}" for name, count in rows.items()),
            where=where,
            cause="the file was written in parts and one is missing, or two files were mixed",
        )


def block_rows(row_bytes: int, chunk: int = 1) -> int:
    """Rows to read at once: BLOCK_BYTES of them, in whole chunks where that many fit."""
    rows = max(1, BLOCK_BYTES // row_bytes)
    # A compressed chunk that lies in two blocks is unpacked twice.
    return rows - rows % chunk if chunk <= rows else rows

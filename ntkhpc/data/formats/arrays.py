"""Columns from named arrays: .npz and HDF5, whose arrays are (n,) or (n, columns)."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from ntkhpc.data.formats import hdf5
from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

Columns = tuple[np.ndarray, tuple[str, ...]]  # (n, columns) float64, and a name for each


def read(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[Columns, Columns]:
    """The arrays named in x side by side, and those in y. Raises DataError as `describe` does."""
    describe(path, x, y)
    arrays = _values(path, (*x, *y))
    return _side_by_side(x, arrays), _side_by_side(y, arrays)


def describe(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[int, int, int]:
    """(rows, columns of x, columns of y), from the headers of the arrays alone.

    Raises DataError for an unknown name, an array that is not of real numbers or has not 1 or 2 dimensions, and arrays
    of different lengths.
    """
    if "*" in x:
        raise DataError('x = ["*"] stands for columns of a .csv or .parquet file', where=path, todo="name the arrays")
    headers = _headers(path)
    require((*x, *y), headers, where=path)
    for name in (*x, *y):
        shape, dtype = headers[name]
        if dtype.kind not in "biuf":
            raise DataError(
                f"{name} holds {dtype}, not real numbers{_example(path, name, dtype)}",
                where=path,
                todo="store numbers: real and imaginary parts as two columns, text as numbers, objects as plain arrays",
            )
        if len(shape) not in (1, 2):
            raise DataError(
                f"{name} has shape {shape}; it needs 1 or 2 dimensions, rows first",
                where=path,
                todo="reshape it to (rows, columns) in the file",
            )
    rows = {name: headers[name][0][0] for name in (*x, *y)}
    if len(set(rows.values())) > 1:
        raise DataError(
            "x and y differ in length: " + ", ".join(f"{name} {count}" for name, count in rows.items()),
            where=path,
            cause="arrays of different samples, or columns first where rows are meant to be",
        )
    width = {name: int(np.prod(headers[name][0][1:])) for name in rows}
    return rows[y[0]], sum(width[name] for name in x), sum(width[name] for name in y)


def _side_by_side(names: tuple[str, ...], arrays: dict[str, np.ndarray]) -> Columns:
    parts, labels = [], []
    for name in names:
        values = np.asarray(arrays[name], np.float64)
        labels += [name] if values.ndim == 1 else [f"{name}[{column}]" for column in range(values.shape[1])]
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts, axis=1), tuple(labels)


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of every array in the file."""
    if path.suffix != ".npz":
        with hdf5.opened(path) as file:
            return {name: (file[name].shape, file[name].dtype) for name in hdf5.keys(file)}
    try:
        with ZipFile(path) as members:
            return {
                name.removesuffix(".npy"): _header(members, name)
                for name in members.namelist()
                if name.endswith(".npy")
            }
    except (BadZipFile, EOFError, OSError, ValueError, ZlibError) as error:
        raise _unreadable(path, error) from error


def _header(members: ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with members.open(name) as member:
        version = np.lib.format.read_magic(member)
        reader: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(member)
    return shape, dtype


def _values(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if path.suffix != ".npz":
        with hdf5.opened(path) as file:
            return {name: file[name][()] for name in names}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (BadZipFile, EOFError, OSError, ValueError, ZlibError) as error:
        raise _unreadable(path, error) from error


def _example(path: Path, name: str, dtype: np.dtype) -> str:
    """The first value, for a message; nothing where reading it would run code that the file brings along."""
    if path.suffix == ".npz" and dtype.hasobject:
        return ""
    first = np.ravel(_values(path, (name,))[name])[:1]
    return f", for example {first[0]!r}" if len(first) else ""


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"the file cannot be read: {error}",
        where=path,
        cause="an interrupted download or copy, or not a file of numpy.savez",
        todo="write or fetch it again",
    )

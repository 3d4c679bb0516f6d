"""Columns from named arrays: .npz and HDF5, whose arrays are (n,) or (n, columns)."""

import math
import struct
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from ntkhpc.data.formats import capacity, hdf5
from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

Columns = tuple[np.ndarray, tuple[str, ...]]  # (n, columns) float64, and a name for each
Header = tuple[tuple[int, ...], np.dtype]

_DAMAGE = (
    BadZipFile, EOFError, OSError, ValueError, ZlibError, struct.error, OverflowError, RecursionError, MemoryError,
    TypeError, NotImplementedError, RuntimeError, SyntaxError, TokenError,
)  # fmt: skip
"""What zipfile, zlib and NumPy raise for a damaged file, for a password, and for a header that means harm."""


def read(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[Columns, Columns]:
    """The arrays named in x side by side, and those in y. Raises DataError as `describe` does."""
    describe(path, x, y)
    arrays = _values(path, (*x, *y))
    return _side_by_side(x, arrays), _side_by_side(y, arrays)


def describe(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[int, int, int]:
    """(rows, columns of x, columns of y), from the headers of the arrays alone.

    Raises DataError for an unknown name, an array that is not of real numbers or has not 1 or 2 dimensions, arrays
    of different lengths, and those that memory does not hold.
    """
    if "*" in x:
        raise DataError('x = ["*"] stands for columns of a .csv or .parquet file', where=path, todo="name the arrays")
    headers = _headers(path, (*x, *y))
    for name, (shape, dtype) in headers.items():
        if dtype.kind not in "biuf":
            raise DataError(
                f"{name} holds {dtype}, not real numbers{_example(path, name, shape, dtype)}",
                where=path,
                todo="store numbers: real and imaginary parts as two columns, text as numbers, objects as plain arrays",
            )
        if len(shape) not in (1, 2):
            raise DataError(
                f"{name} has shape {shape}; it needs 1 or 2 dimensions, rows first",
                where=path,
                todo="reshape it to (rows, columns) in the file",
            )
        if shape[1:] == (0,):
            raise DataError(
                f"{name} has shape {shape}: rows without a column",
                where=path,
                cause="the program that wrote it had nothing to fill it with",
                todo="leave it out of x, or write it again",
            )
    rows = {name: headers[name][0][0] for name in (*x, *y)}
    if len(set(rows.values())) > 1:
        raise DataError(
            "x and y differ in length: " + ", ".join(f"{name} {count}" for name, count in rows.items()),
            where=path,
            cause="arrays of different samples, or columns first where rows are meant to be",
            todo="write arrays with a row for each sample, in the same order",
        )
    width = {name: math.prod(headers[name][0][1:]) for name in rows}
    capacity.require(
        3 * 8 * rows[y[0]] * sum(width.values()),
        path,
        f"a table of {rows[y[0]]:,} rows and {sum(width.values()):,} columns",
        "write a file of the columns that x and y name, and of no more rows than pool and test need; or use a machine "
        "with more memory",
    )
    return rows[y[0]], sum(width[name] for name in x), sum(width[name] for name in y)


def _side_by_side(names: tuple[str, ...], arrays: dict[str, np.ndarray]) -> Columns:
    parts, labels = [], []
    for name in names:
        with np.errstate(over="ignore"):  # of long doubles; what is infinite is refused with its row
            values = np.asarray(arrays[name], np.float64)
        labels += [name] if values.ndim == 1 else [f"{name}[{column}]" for column in range(values.shape[1])]
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts, axis=1), tuple(labels)


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _headers(path: Path, names: tuple[str, ...]) -> dict[str, Header]:
    """Shape and dtype of the named arrays."""
    if not _is_npz(path):
        with hdf5.opened(path) as file:
            found = {name: hdf5.dataset(file, name, path) for name in names}
            return {name: (array.shape, array.dtype) for name, array in found.items()}
    try:
        with ZipFile(path) as members:
            there = [name.removesuffix(".npy") for name in members.namelist() if name.endswith(".npy")]
            require(names, there, where=path)
            if twice := [name for name in names if there.count(name) > 1]:
                raise DataError(
                    f"the array {twice[0]!r} is there twice", where=path, todo="write the file again, each array once"
                )
            return {name: _header(members, name, path) for name in names}
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _header(members: ZipFile, name: str, path: Path) -> Header:
    info = members.getinfo(f"{name}.npy")
    with members.open(info) as member:
        version = np.lib.format.read_magic(member)
        reader: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(member)
        values = info.file_size - member.tell()
    if any(n < 0 for n in shape) or (not dtype.hasobject and values != math.prod(shape) * dtype.itemsize):
        raise DataError(
            f"{name} says that it has shape {shape} of {dtype}, and {values:,} bytes follow",
            where=path,
            cause="the file was cut short or damaged, or was made to mislead",
            todo="write or fetch it again",
        )
    return shape, dtype


def _values(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not _is_npz(path):
        with hdf5.opened(path) as file:
            return {name: hdf5.values(hdf5.dataset(file, name, path)) for name in names}
    try:
        with ZipFile(path) as members:
            return {name: _array(members, name) for name in names}
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _array(members: ZipFile, name: str) -> np.ndarray:
    with members.open(f"{name}.npy") as member:
        found: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # zipfile compares the checksum at the end of the member
    return found


def _example(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """The first value, for a message; nothing where reading it would run code that the file brings along, or long."""
    if (_is_npz(path) and dtype.hasobject) or math.prod(shape) * dtype.itemsize > 2**24:
        return ""
    first = np.ravel(_values(path, (name,))[name])[:1]
    return f", for example {str(first[0])[:60]!r}" if len(first) else ""


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"the file cannot be read: {error or type(error).__name__}",
        where=path,
        cause="an interrupted download or copy, or not a file of numpy.savez",
        todo="write or fetch it again",
    )

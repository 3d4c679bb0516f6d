"""Columns from tables: .csv with a header line, and .parquet.

x = ("*",) stands for all columns of numbers that are not in y; row numbers that pandas wrote along, a nameless first
column, are not meant by it.
"""

import os
import re
import shlex
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ntkhpc.data.formats import capacity
from ntkhpc.data.formats.arrays import Columns
from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

_SMALLER = (
    "write a file of the columns that x and y name, and of no more rows than pool and test need; or use a machine with "
    "more memory"
)
_DAMAGE = (OSError, ValueError, pa.ArrowException, MemoryError, OverflowError, RuntimeError, TypeError, KeyError)
"""What pandas and Arrow raise for a damaged file, and for one that needs what they were built without."""

_ROW_NUMBERS = re.compile(r"Unnamed: \d+|__index_level_\d+__")

KEPT_BYTES = 256 * 2**20
"""Of columns that `describe` read, and keeps for `read`."""

_State = tuple[str, int, int, int, int]
_kept: dict[tuple[_State, tuple[str, ...], tuple[str, ...]], tuple[Columns, Columns]] = {}


def read(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[Columns, Columns]:
    """The columns of x and those of y. A missing value is NaN.

    Raises DataError for an unknown name, a column of text, one number misspelt in a column of numbers, a missing header
    and a file that cannot be parsed.
    """
    found = _kept.pop((_state(path), x, y), None)
    _kept.clear()
    return found or _read(path, x, y)


def _read(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[Columns, Columns]:
    names = _candidates(path, x, y)
    frame = _frame(path, [*names, *y])
    # Under "*", columns of text are no features; a column somebody named must be numbers.
    columns = {name: _numbers(frame[name], name, path, named="*" not in x or name in y) for name in [*names, *y]}
    x_names = tuple(name for name in names if columns[name] is not None)
    return (_stacked(columns, x_names, len(frame)), x_names), (_stacked(columns, y, len(frame)), y)


def describe(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[int, int, int]:
    """(rows, columns of x, columns of y), from header and metadata where these tell.

    Where the columns must be read for it, they are kept for `read`, which takes them if the file is the same.
    """
    if "*" in x or not _is_parquet(path):
        state = _state(path)
        found = _read(path, x, y)
        (values, names), (targets, _) = found
        _kept.clear()
        if values.nbytes + targets.nbytes <= KEPT_BYTES:
            _kept[state, x, y] = found
        return len(values), len(names), len(y)
    _candidates(path, x, y)
    rows = _opened(path).metadata.num_rows
    _require_room(path, rows, len(x) + len(y))
    return rows, len(x), len(y)


def notes(path: Path) -> tuple[str, ...]:
    """What should be said of a .csv that can be read: one that was cut short in its last number has no other sign."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) in b"\r\n":
            return ()
    return (
        f"note: the last line of {path.name} does not end: if the file was cut short there, its last number is another",
    )


def _candidates(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> list[str]:
    """Names of the columns to read for x."""
    there = _header(path)
    if twice := sorted({name for name in there if there.count(name) > 1}):
        raise DataError(f"the column {twice[0]!r} is there twice", where=path, todo="give each column its own name")
    require([name for name in (*x, *y) if name != "*"], there, path, "column")
    return list(x) if "*" not in x else [name for name in there if name not in y and not _ROW_NUMBERS.fullmatch(name)]


def _header(path: Path) -> list[str]:
    if _is_parquet(path):
        return list(_opened(path).schema_arrow.names)
    # By itself first: pandas renames columns of one name, and says little of other separators.
    first = _csv(path, nrows=1, header=None, dtype=str, keep_default_na=False).iloc[0]
    names = [name or f"Unnamed: {i}" for i, name in enumerate(first)]  # as pandas calls one without a name
    if len(names) == 1 and (separator := next((c for c in ";\t|" if c in names[0]), None)):
        raise DataError(
            f"the header line is one name: {names[0]!r}",
            where=path,
            cause=f"columns separated by {separator!r}; this reader takes commas, and points in decimals",
            todo="write it with commas, and points in decimals; then name the new file",
        )
    if all(map(_is_number, names)):
        raise DataError(
            f"the first line is numbers: {', '.join(names[:3])}...",
            where=path,
            cause="a file without a header line",
            todo="write the columns' names, separated by commas, above it",
        )
    return names


def _frame(path: Path, names: list[str]) -> Any:
    if not _is_parquet(path):
        # All columns: with usecols, pandas is silent about rows that are longer than the header, as by decimal commas.
        return _csv(path)[names]
    file = _opened(path, names)
    rows = file.metadata.num_rows
    _require_room(path, rows, len(names), _unpacked(file, names))
    try:
        # Without pandas' notes, which would make an index of a column that is asked for.
        frame = file.read(columns=names).to_pandas(ignore_metadata=True)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if len(frame) != rows:
        raise _unreadable(path, ValueError(f"it says that it has {rows:,} rows, and {len(frame):,} are in it"))
    return frame


def _csv(path: Path, **how: Any) -> Any:
    # Numbers take at most as much memory as their text; text and what pandas does on its way take as much again.
    capacity.require(
        2 * path.stat().st_size, path, f"a table of {capacity.amount(path.stat().st_size)} of text", _SMALLER
    )
    try:
        if "nrows" not in how:
            _require_text(_state(path))
        with warnings.catch_warnings():
            # It warns of rows longer than the header, and drops their last values.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, index_col=False, skipinitialspace=True, low_memory=False, compression=None, **how)
    except (*_DAMAGE, pd.errors.ParserWarning) as error:
        raise _unreadable(path, error) from error


def _state(path: Path) -> _State:
    """What changes when a file is written or replaced, together with its name."""
    found = path.stat()
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=64)
def _require_text(state: _State) -> None:
    """Raises DataError for a zero byte, at which pandas would end a number. Each state of a file is looked at once."""
    path = Path(state[0])
    with path.open("rb") as file:
        before = 0
        while block := file.read(2**22):
            if (at := block.find(b"\0")) >= 0:
                raise DataError(
                    f"byte {before + at:,} is zero: this is no text",
                    where=path,
                    cause="a block that was lost in a crash, or another format than .csv",
                    todo="write or fetch the file again",
                )
            before += len(block)


def _opened(path: Path, names: Sequence[str] = ()) -> Any:
    """The Parquet file. Columns of text among `names` will be read as categories: a text that repeats is kept once."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        text = [name for name in names if _is_text(file.schema_arrow.field(name).type)]
        file = pq.ParquetFile(path, read_dictionary=text, page_checksum_verification=True) if text else file
        parts = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        others = {part.column(j).file_path for part in parts for j in range(part.num_columns)} - {""}
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if others:
        raise DataError(
            f"the values of this Parquet file are in others: {', '.join(sorted(others)[:4])}",
            where=path,
            cause="it is the table of contents of a table in parts (_metadata), as Dask and Spark write",
            todo="name the directory of the parts, and the message says how to make one file of it",
        )
    return file


def _unpacked(file: Any, names: Sequence[str]) -> int:
    """Bytes of the columns when they are unpacked, as the file says."""
    metadata = file.metadata
    parts = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [part.column(j) for part in parts for j in range(part.num_columns)]
    return sum(one.total_uncompressed_size for one in columns if one.path_in_schema.split(".")[0] in names)


def _require_room(path: Path, rows: int, columns: int, unpacked: int = 0) -> None:
    capacity.require(
        max(3 * 8 * rows * columns, 2 * unpacked), path, f"a table of {rows:,} rows and {columns:,} columns", _SMALLER
    )


def _is_text(kind: Any) -> bool:
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _numbers(column: Any, name: str, where: Path, *, named: bool) -> np.ndarray | None:
    """(n,) float64; None for a column of text, times or the like that nobody named."""
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
    given = column.notna().to_numpy()
    numbers = np.full(len(column), np.nan)
    if isinstance(column.dtype, pd.CategoricalDtype):  # each text once, however often it comes
        codes = column.cat.codes.to_numpy()
        numbers[codes >= 0] = _coerced(column.cat.categories.to_series())[codes[codes >= 0]]
    elif column.dtype.kind == "O":  # text, integers beyond 64 bits, decimals
        numbers = _coerced(column)
    bad = np.flatnonzero(given & np.isnan(numbers))
    if not len(bad):
        return numbers
    partly = len(bad) < given.sum()
    if not partly and not named:
        return None
    raise DataError(
        f"column {name!r} is not {'all ' if partly else ''}numbers: row {bad[0]} has {repr(column.iloc[bad[0]])[:80]} "
        f"({len(bad)} such rows of {len(column)}, counted from 0 below the header)",
        where=where,
        cause="a misspelt number or a mark for a missing one" if partly else "a column of text, times or categories",
        todo="mend or remove these rows" if partly else "leave it out, or write it as numbers",
    )


def _coerced(column: Any) -> np.ndarray:
    """(n,) float64; NaN for what is no number."""
    with suppress(TypeError, OverflowError):  # raised for lists and structures, and for integers beyond all floats
        return np.asarray(pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64, na_value=np.nan))
    return np.full(len(column), np.nan)


def _stacked(columns: dict[str, np.ndarray | None], names: tuple[str, ...], rows: int) -> np.ndarray:
    chosen = [values for name in names if (values := columns[name]) is not None]
    return np.stack(chosen, axis=1) if chosen else np.empty((rows, 0))


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() != ".csv"


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _place(path: Path) -> str:
    """Where the first byte that is no UTF-8 stands; pandas counts from the beginning of a value."""
    before = 0
    with suppress(OSError), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f": byte {before + error.start:,} of it, in line {number:,}, is {line[error.start]:#04x}"
            before += len(line)
    return ""


def _unreadable(path: Path, error: BaseException) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(
            f"the file is not UTF-8 text{_place(path)}",
            where=path,
            cause="it was saved in another encoding, often Latin-1 or that of Windows",
            todo=f"write it as UTF-8: iconv -f LATIN1 -t UTF-8 {shlex.quote(str(path))} > NEW, and name the new file",
        )
    return DataError(
        f"the file cannot be parsed: {str(error)[:400] or type(error).__name__}",
        where=path,
        cause="an interrupted download or copy, or damage"
        if _is_parquet(path)
        else "rows longer than the header line, a quotation mark left open, or an interrupted download or copy",
        todo="open it where the message says, or write it again",
    )

"""Columns from tables: .csv with a header line, and .parquet.

x = ("*",) stands for all columns of numbers that are not in y; row numbers that pandas wrote along, a nameless first
column, are not meant by it.
"""

import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ntkhpc.data.formats.arrays import Columns
from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

_ROW_NUMBERS = re.compile(r"Unnamed: \d+|__index_level_\d+__")


def read(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[Columns, Columns]:
    """The columns of x and those of y. A missing value is NaN.

    Raises DataError for an unknown name, a column of text, one number misspelt in a column of numbers, a missing header
    and a file that cannot be parsed.
    """
    names = _candidates(path, x, y)
    frame = _frame(path, [*names, *y])
    # Under "*", columns of text are no features; a column somebody named must be numbers.
    columns = {name: _numbers(frame[name], name, path, named="*" not in x or name in y) for name in [*names, *y]}
    x_names = tuple(name for name in names if columns[name] is not None)
    return (_stacked(columns, x_names, len(frame)), x_names), (_stacked(columns, y, len(frame)), y)


def describe(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[int, int, int]:
    """(rows, columns of x, columns of y), from header and metadata where these tell."""
    if "*" in x:
        (values, names), _ = read(path, x, y)
        return len(values), len(names), len(y)
    _candidates(path, x, y)
    rows = _opened(path).metadata.num_rows if _is_parquet(path) else len(_csv(path, usecols=[y[0]]))
    return rows, len(x), len(y)


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
    try:
        # Without pandas' notes, which would make an index of a column that is asked for.
        return _opened(path).read(columns=names).to_pandas(ignore_metadata=True)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _csv(path: Path, **how: Any) -> Any:
    try:
        with warnings.catch_warnings():
            # It warns of rows longer than the header, and drops their last values.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, index_col=False, skipinitialspace=True, low_memory=False, **how)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise _unreadable(path, error) from error


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _numbers(column: Any, name: str, where: Path, *, named: bool) -> np.ndarray | None:
    """(n,) float64; None for a column of text, times or the like that nobody named."""
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
    given = column.notna().to_numpy()
    numbers = np.full(len(column), np.nan)
    if column.dtype.kind == "O":  # text, integers beyond 64 bits, decimals, categories
        with suppress(TypeError):  # raised for lists and structures
            numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero(given & np.isnan(numbers))
    if not len(bad):
        return numbers
    partly = len(bad) < given.sum()
    if not partly and not named:
        return None
    raise DataError(
        f"column {name!r} is not {'all ' if partly else ''}numbers: row {bad[0]} has {column.iloc[bad[0]]!r} "
        f"({len(bad)} such rows of {len(column)}, counted from 0 below the header)",
        where=where,
        cause="a misspelt number or a mark for a missing one" if partly else "a column of text, times or categories",
        todo="mend or remove these rows" if partly else "leave it out, or write it as numbers",
    )


def _stacked(columns: dict[str, np.ndarray | None], names: tuple[str, ...], rows: int) -> np.ndarray:
    chosen = [values for name in names if (values := columns[name]) is not None]
    return np.stack(chosen, axis=1) if chosen else np.empty((rows, 0))


def _is_parquet(path: Path) -> bool:
    return path.suffix != ".csv"


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _unreadable(path: Path, error: Exception | Warning) -> DataError:
    return DataError(
        f"the file cannot be parsed: {error}",
        where=path,
        cause="rows longer than the header line, text that is not UTF-8, or an interrupted download or copy",
        todo="open it where the message says, or write it again",
    )

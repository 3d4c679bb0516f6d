"""A user's own data: inputs and outputs by name, from .npz, .h5, .hdf5, .csv or .parquet.

`read` gives what the file says, `drop_duplicates` may follow, and `check` refuses what no kernel can be fitted to.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.data.formats import content
from ntkhpc.data.formats.names import listed
from ntkhpc.errors import DataError

# Imported when a file needs them: pandas and pyarrow would cost every worker a third of a second.
_FORMATS = {
    ".npz": "ntkhpc.data.formats.arrays",
    ".h5": "ntkhpc.data.formats.arrays",
    ".hdf5": "ntkhpc.data.formats.arrays",
    ".csv": "ntkhpc.data.formats.frames",
    ".parquet": "ntkhpc.data.formats.frames",
}
_SIGNS = {".npz": "zip", ".h5": "HDF5", ".hdf5": "HDF5", ".csv": None, ".parquet": "Parquet"}
"""What the first bytes of each must say; nothing of text."""

EXACT = 2**53
"""Up to which every whole number is one of float64."""

FEWEST_ROWS = 4  # a training pool and test points of two each


@dataclass(frozen=True, eq=False)
class NamedColumns:
    """x (n, d) and y (n, k), float64; one name for each of their columns; numbers (n,) of the rows in the file."""

    x: np.ndarray
    y: np.ndarray
    x_names: tuple[str, ...]
    y_names: tuple[str, ...]
    rows: np.ndarray

    def take(self, keep: np.ndarray) -> "NamedColumns":
        """Some of the rows, which are chosen by a mask (n,)."""
        return replace(self, x=self.x[keep], y=self.y[keep], rows=self.rows[keep])


def read(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> NamedColumns:
    """x and y as named: arrays of 1 or 2 dimensions ("group/key" in HDF5), or columns of .csv and .parquet.

    x = ("*",) stands for all columns of numbers of a .csv or .parquet that are not in y. Integers and booleans become
    float64. Raises DataError for a file that cannot be read, an unknown name, values that are not numbers, and arrays
    of different lengths; values that are NaN are left to `check`.
    """
    (x_values, x_names), (y_values, y_names) = _format(path, x, y).read(path, x, y)
    return NamedColumns(x_values, y_values, x_names, y_names, np.arange(len(x_values)))


def describe(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> tuple[int, int, int]:
    """(rows, features, outputs) that `read` will give, from headers where these tell."""
    rows, features, outputs = _format(path, x, y).describe(path, x, y)
    return rows, features, outputs


def notes(path: Path) -> tuple[str, ...]:
    """What should be said of a file that `read` takes."""
    return import_module(_FORMATS[".csv"]).notes(path) if path.suffix.lower() == ".csv" else ()


def check(table: NamedColumns, where: object) -> None:
    """Raise DataError, naming columns and rows (counted from 0), unless the table can be learned from.

    Refused: no features, fewer than 4 rows, values that are not finite, a constant feature or target, and rows of x
    that are the same.
    """
    if not table.x_names or not table.y_names:
        raise DataError(
            f"there are {len(table.x_names)} features and {len(table.y_names)} outputs",
            where=where,
            cause="no column of numbers, or an array without columns",
            todo="name at least one column in x and one in y",
        )
    if len(table.x) < FEWEST_ROWS:
        raise DataError(
            f"{len(table.x)} rows; at least {FEWEST_ROWS} are needed", where=where, todo="take a longer table"
        )
    _check_finite(np.hstack([table.x, table.y]), (*table.x_names, *table.y_names), where)
    if same := _constant(table.x, table.x_names):
        raise DataError(
            f"constant in all {len(table.x)} rows: {listed(same)}",
            where=where,
            cause=_rounded(table.x) or "such a column carries no information",
            todo="drop it from x, or, if its numbers differ in the file, subtract the least of them there",
        )
    if same := _constant(table.y, table.y_names):
        raise DataError(
            f"constant target: {listed(same)}",
            where=where,
            cause=_rounded(table.y) or "nothing can be learned from it",
            todo="name another column in y, or, if its numbers differ in the file, subtract the least of them there",
        )
    if given := _equal(table.y, table.y_names, table.x, table.x_names):
        raise DataError(
            f"the target among the inputs, in every row: {listed(f'{x} equals {y}' for y, x in given)}",
            where=where,
            cause="the same column under another name, which gives the answer away",
            todo="leave it out of x",
        )
    _check_duplicates(table, where)


def equal_inputs(table: NamedColumns) -> list[tuple[str, str]]:
    """Names of each input that an earlier one equals in every row, behind that of the earlier one."""
    first = first_like(np.ascontiguousarray(table.x.T))
    return [(table.x_names[i], table.x_names[j]) for j, i in enumerate(first) if i != j]


def drop_duplicates(table: NamedColumns) -> NamedColumns:
    """The table without rows whose x an earlier row has; their y are dropped too, whether the same or not."""
    return table.take(first_like(table.x) == np.arange(len(table.x)))


def without(table: NamedColumns, values: tuple[float, ...]) -> NamedColumns:
    """The table without rows in which a column of x or y has one of the values, in float32 or float64."""
    stored = np.unique([*values, *(float(np.float32(value)) for value in values if abs(value) < 1e38)])
    marked = np.isin(table.x, stored).any(axis=1) | np.isin(table.y, stored).any(axis=1)
    return table.take(np.asarray(~marked))


def _format(path: Path, x: tuple[str, ...], y: tuple[str, ...]) -> Any:
    """The module that reads the file, once the names make sense."""
    ending = path.suffix.lower()
    content.refuse_packed(path)
    if ending not in _FORMATS:
        if path.is_dir():
            content.require_file(path)
        raise DataError(f"no reader for files {path.suffix!r}", where=path, todo=f"write one of {', '.join(_FORMATS)}")
    content.require(path, _SIGNS[ending])
    names = [*x, *y]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not x or not y or twice or "*" in y or ("*" in x and len(x) > 1):
        raise DataError(
            f"x = {list(x)} and y = {list(y)} cannot be read" + (f": {listed(twice)} twice" if twice else ""),
            where=path,
            cause="a target among the inputs gives the answer away" if set(x) & set(y) else None,
            todo='name at least one column in x and one in y, each once; "*" stands alone, in x',
        )
    return import_module(_FORMATS[ending])


def _check_finite(values: np.ndarray, names: tuple[str, ...], where: object) -> None:
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    row, column = np.argwhere(bad)[0]
    counts = bad.sum(axis=0)
    raise DataError(
        f"row {row} (from 0) of {names[column]} is {values[row, column]}; values that are not finite, by column: "
        + listed([f"{names[c]} {counts[c]}" for c in np.flatnonzero(counts)], 5),
        where=where,
        cause="a missing measurement, a division by zero, or the logarithm of something not positive",
        todo=f"remove these {int(bad.any(axis=1).sum())} rows or fill them in; or leave the columns out of x",
    )


def _constant(values: np.ndarray, names: tuple[str, ...]) -> list[str]:
    return [name for name, varies in zip(names, (values != values[:1]).any(axis=0), strict=True) if not varies]


def _equal(
    left: np.ndarray, left_names: tuple[str, ...], right: np.ndarray, right_names: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Names of the columns of both that are equal in every row."""
    ends = [right[[row]] == left[[row]].T for row in (0, -1)]  # few are left to be compared whole
    pairs = np.argwhere(ends[0] & ends[1])
    return [(left_names[i], right_names[j]) for i, j in pairs if (left[:, i] == right[:, j]).all()]


def _rounded(values: np.ndarray) -> str | None:
    """The cause where whole numbers may have become equal as float64."""
    if (np.abs(values) <= EXACT).all():
        return None
    return f"whole numbers beyond 2^53 = {EXACT:,} are rounded to double precision, and may become equal"


def _check_duplicates(table: NamedColumns, where: object) -> None:
    first = first_like(table.x)
    again = np.flatnonzero(first != np.arange(len(first)))
    if not len(again):
        return
    differ = int((table.y[again] != table.y[first[again]]).any(axis=1).sum())
    raise DataError(
        f"{len(again)} rows of x equal an earlier row, first row {again[0]} (from 0) as row {first[again[0]]}; "
        + (f"the y of {differ} of them differ" if differ else "their y are the same, too"),
        where=where,
        cause=_rounded(table.x[again])
        or "repeated measurements or rows copied twice; equal inputs make the kernel's matrix singular",
        todo='remove them, or set duplicates = "drop" to keep the first of each',
    )


def first_like(x: np.ndarray) -> np.ndarray:
    """(rows,) the number of the first row that is equal to each."""
    # Zero is added because -0.0 equals 0.0 in all but its bytes.
    whole = np.ascontiguousarray(x + 0.0).view(np.dtype((np.void, x.shape[1] * x.itemsize)))
    _, first, like = np.unique(whole[:, 0], return_index=True, return_inverse=True)
    return np.asarray(first[like])

"""A user's own table as a source of data."""

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from msgspec import Meta, structs

from ntkhpc import files, seeds
from ntkhpc.data import marks, staging, table
from ntkhpc.data.formats.names import listed
from ntkhpc.data.source import FAINT, MEBIBYTE, Facts, Source
from ntkhpc.data.split import SCALED, Split, regression
from ntkhpc.errors import DataError
from ntkhpc.words import count, joined, named, numbers

Names = Annotated[tuple[str, ...], Meta(min_length=1)]

PACKAGES = 65 * MEBIBYTE
"""pandas and PyArrow, imported."""

TABLES, TABLES_OF_PARQUET = 4.7, 8.6
"""Sizes of the columns that are used, held while they are read and looked at: as read, side by side, and sorted to find
equal rows; with Parquet, also as Arrow and pandas have them. A .csv has all of its columns, which take less than twice
its text."""

READ_AGAIN = 64 * MEBIBYTE
"""What may be taken, by a worker that has other things to do, to say which rows of the table are those of the pool."""

HOLES = 20 * MEBIBYTE
"""What the allocator keeps of the smaller arrays of the reading, when the split is made."""


class TableFile(Source, frozen=True, kw_only=True, tag="file"):
    """Regression on columns `y` from columns `x` of the user's own .npz, .h5, .csv or .parquet file."""

    path: str
    x: Names
    y: Names
    order: Literal["permuted", "file"] = "permuted"
    target: Literal["linear", "log"] = "linear"
    scaling: Literal["global", "feature"] = "global"
    duplicates: Literal["refuse", "drop"] = "refuse"
    target_unit: str = "1"
    missing: tuple[float, ...] = ()
    meant: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if both := sorted(set(self.missing) & set(self.meant)):
            raise ValueError(
                f"missing and meant both name {both[0]:g}: rows with it are left out, or it is a measurement"
            )

    @property
    def slow_to_check(self) -> bool:
        return True

    @property
    def unit(self) -> str:
        return self.target_unit

    @property
    def log_target(self) -> bool:
        return self.target == "log"

    @property
    def mixed_units(self) -> bool:
        return True

    @property
    def keeps_file_order(self) -> bool:
        return self.order == "file"

    def located(self, folder: Path) -> Self:
        return structs.replace(self, path=str(staging.absolute(self.path, folder)))

    def examine(self) -> Facts:
        """The file's checksum and size, and how many rows and columns it has."""
        path = Path(self.path)
        rows, features, outputs = table.describe(path, self.x, self.y)
        _require_enough(self, rows, rows)
        sha256 = files.sha256_file(path)
        return Facts(features=features, outputs=outputs, rows=rows, bytes=path.stat().st_size, sha256=(sha256,))

    def origin(self, facts: Facts) -> str:
        sha256 = f", sha256 {facts.sha256[0][:12]}" if facts.sha256 else ""
        dropped = " Of rows with equal inputs the first is kept." if self.duplicates == "drop" else ""
        left_out = ""
        if self.missing:
            left_out = (
                f" Rows in which a column that is used is {numbers(self.missing, 'or')} are left out: it was missing."
            )
        return f"The data are the table {Path(self.path).name} ({facts.rows:,} rows{sha256}).{left_out}{dropped}"

    def preparation(self, facts: Facts) -> str:
        columns = "all columns of numbers but the targets" if self.x == ("*",) else named(self.x)
        unit = "" if self.target_unit == "1" else f" in {self.target_unit}"
        target = named(self.y) + unit
        learned = f"the logarithm of {target}" if self.log_target else target
        return (
            f"The {count(facts.features, 'input')} of a network are {columns}, {SCALED[self.scaling]}. It learns "
            f"{learned}, standardised over the pool."
        )

    def folders(self) -> tuple[Path, ...]:
        return (Path(self.path).parent,)

    def packages_bytes(self, facts: Facts) -> int:
        return PACKAGES if self._is_frame() else 0

    def making_bytes(self, facts: Facts) -> int:
        times = TABLES_OF_PARQUET if self._is_frame() and not self._is_text() else TABLES
        read = int(times * 8 * facts.rows * (facts.features + facts.outputs))
        return HOLES + max(read, 2 * facts.bytes if self._is_text() else 0)

    def _is_text(self) -> bool:
        return Path(self.path).suffix.lower() == ".csv"

    def _is_frame(self) -> bool:
        return self._is_text() or Path(self.path).suffix.lower() == ".parquet"

    def check(self, facts: Facts) -> tuple[str, ...]:
        """Say also how many rows are left out, and which inputs networks would hardly see."""
        found, left_out = _read(self, facts)
        deviation = self._split(found, facts).x_train.std(axis=0)
        notes = [*table.notes(Path(self.path))]
        if self.missing:
            notes.append(
                f"note: {left_out:,} of {facts.rows:,} rows have a value of data.missing in a column that is used, and "
                f"are left out; {len(found.x):,} remain"
            )
        if same := table.equal_inputs(found):
            notes.append(
                "note: inputs that are equal in every row, each a further weight of one: "
                + listed(f"{j} and {i}" for i, j in same)
            )
        if faint := int((deviation < FAINT * deviation.max()).sum()):
            notes.append(
                f"note: {faint} of {len(deviation)} inputs vary by less than {FAINT:g} of the one that varies most; "
                'data.scaling = "feature" gives each the same weight'
            )
        return tuple(notes)

    def load(self, facts: Facts) -> Split:
        """`pool` rows and then `test` rows, in file order or after a seeded permutation."""
        return self._split(_read(self, facts)[0], facts)

    def _split(self, found: table.NamedColumns, facts: Facts) -> Split:
        _require_enough(self, len(found.x), facts.rows)
        rows = self._order(len(found.x))
        try:
            return regression(found.x[rows], found.y[rows], self.pool, log_target=self.log_target, scaling=self.scaling)
        except DataError as error:
            what = error.what
            if error.at is not None:
                what += f": {self._place(*error.at, found, rows)}"
            raise DataError(what, where=self.path, cause=error.cause, todo=error.todo) from error

    def rows_in_files(self, facts: Facts, rows: tuple[int, ...]) -> str:
        if not self.missing and self.duplicates == "refuse":
            numbers = self._order(facts.rows)[list(rows)]
        elif self.making_bytes(facts) <= READ_AGAIN:
            found = _read(self, facts)[0]
            numbers = found.rows[self._order(len(found.x))[list(rows)]]
        else:
            return ""
        return f"{'rows' if len(rows) > 1 else 'row'} {joined(numbers)} (from 0) of {Path(self.path).name}"

    def _order(self, rows: int) -> np.ndarray:
        """Those that are used of so many rows: of the pool, then of the test points."""
        order = np.arange(rows)
        if not self.keeps_file_order:
            order = seeds.generator(self.seed, seeds.ROWS).permutation(order)
        return order[: self.used_rows]

    def _place(self, part: str, split_row: int | None, column: int, found: table.NamedColumns, rows: np.ndarray) -> str:
        """Name the column of the table, and where one row of the split is meant, that of the table and its value."""
        values, names = (found.x, found.x_names) if part.startswith("x") else (found.y, found.y_names)
        name = f"column {names[column]}"
        if split_row is None:
            return name
        row = int(rows[split_row + (self.pool if part.endswith("test") else 0)])
        return f"{name} is {values[row, column]:.12g} in row {found.rows[row]} (from 0)"


def _read(section: TableFile, facts: Facts) -> tuple[table.NamedColumns, int]:
    """The whole table, and how many rows were left out of it because a value is missing.

    Raises DataError if it is another one by now, or nothing can be learned from it.
    """
    path = Path(section.path)
    with staging.staged(path, *facts.sha256) as copy:
        found = table.read(copy, section.x, section.y)
    rows = len(found.x)
    if section.missing:
        found = table.without(found, section.missing)
        if not len(found.x):
            raise DataError(
                f"every one of the {rows:,} rows has a value of data.missing in a column that is used",
                where=path,
                todo="leave out the columns that are mostly missing",
            )
    left_out = rows - len(found.x)
    if section.duplicates == "drop":
        found = table.drop_duplicates(found)
    table.check(found, path)
    _check_marks(section, found)
    if section.log_target and (low := np.argwhere(found.y <= 0)).size:
        row, column = low[0]
        raise DataError(
            f"row {row} (from 0) of {found.y_names[column]} is {found.y[row, column]}, of which there is no logarithm "
            f"({len(low):,} such values)",
            where=path,
            todo='use target = "linear", or take these rows out',
        )
    return found, left_out


def _check_marks(section: TableFile, found: table.NamedColumns) -> None:
    """Raises DataError if a value stands for a missing one, as far as one can see."""
    names = (*found.x_names, *found.y_names)
    marked = [
        marks.Mark(one.column + first, one.value, one.count, one.low, one.high)
        for first, values in ((0, found.x), (len(found.x_names), found.y))
        for one in marks.find(values, section.meant)
    ]
    if not marked:
        return
    values = ", ".join(dict.fromkeys(repr(one.value) for one in marked))
    raise DataError(
        "values that look like marks of a missing measurement: "
        + listed(
            (
                f"{names[one.column]} is {one.value:.12g} in {one.count:,} of {len(found.x):,} rows and {one.low:.6g} "
                f"to {one.high:.6g} in the others"
                for one in marked
            ),
            4,
        ),
        where=section.path,
        cause="a value far outside of all others, which comes again exactly or is one that programs write for a gap",
        todo=f"missing = [{values}] in [data] leaves such rows out and says how many; meant = [{values}] takes them as "
        "measured; or leave the column out of x",
    )


def _require_enough(section: TableFile, rows: int, stored: int) -> None:
    """Raises DataError if the study wants more than the `rows` that are left of those that are `stored`."""
    if section.used_rows > rows:
        raise DataError(
            f"data.pool + data.test = {section.used_rows:,} rows are asked for, there are {rows:,}",
            where=section.path,
            cause=f"of {stored:,} rows, those with the inputs of an earlier one, or with a missing value, were left out"
            if rows < stored
            else None,
            todo="lower one of them",
        )

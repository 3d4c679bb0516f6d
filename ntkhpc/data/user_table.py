"""A user's own table as a source of data."""

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from msgspec import Meta, structs

from ntkhpc import files, seeds
from ntkhpc.data import staging, table
from ntkhpc.data.source import FAINT, MEBIBYTE, Facts, Source
from ntkhpc.data.split import SCALED, Split, regression
from ntkhpc.errors import DataError
from ntkhpc.words import count, named

Names = Annotated[tuple[str, ...], Meta(min_length=1)]


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
        return structs.replace(self, path=str((folder / Path(self.path).expanduser()).resolve()))

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
        return f"The data are the table {Path(self.path).name} ({facts.rows:,} rows{sha256}).{dropped}"

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

    def making_bytes(self, facts: Facts) -> int:
        return 3 * 8 * facts.rows * (facts.features + facts.outputs) + 2 * facts.bytes + 64 * MEBIBYTE

    def prepare(self, facts: Facts) -> None:
        """Say also which inputs networks would hardly see."""
        deviation = self.load(facts).x_train.std(axis=0)
        if faint := int((deviation < FAINT * deviation.max()).sum()):
            print(
                f"note: {faint} of {len(deviation)} inputs vary by less than {FAINT:g} of the one that varies most; "
                'data.scaling = "feature" gives each the same weight'
            )

    def load(self, facts: Facts) -> Split:
        """`pool` rows and then `test` rows, in file order or after a seeded permutation."""
        found = _read(self, facts)
        _require_enough(self, len(found.x), facts.rows)
        order = np.arange(len(found.x))
        if not self.keeps_file_order:
            order = seeds.generator(self.seed, seeds.ROWS).permutation(order)
        rows = order[: self.used_rows]
        return regression(found.x[rows], found.y[rows], self.pool, log_target=self.log_target, scaling=self.scaling)


def _read(section: TableFile, facts: Facts) -> table.NamedColumns:
    """The whole table. Raises DataError if it is another one by now, or nothing can be learned from it."""
    path = Path(section.path)
    with staging.staged(path, *facts.sha256) as copy:
        found = table.read(copy, section.x, section.y)
    if section.duplicates == "drop":
        found = table.drop_duplicates(found)
    table.check(found, path)
    if section.log_target and (low := np.argwhere(found.y <= 0)).size:
        row, column = low[0]
        raise DataError(
            f"row {row} (from 0) of {found.y_names[column]} is {found.y[row, column]}, of which there is no logarithm "
            f"({len(low):,} such values)",
            where=path,
            todo='use target = "linear", or take these rows out',
        )
    return found


def _require_enough(section: TableFile, rows: int, stored: int) -> None:
    """Raises DataError if the study wants more than the `rows` that are left of those that are `stored`."""
    if section.used_rows > rows:
        raise DataError(
            f"data.pool + data.test = {section.used_rows:,} rows are asked for, there are {rows:,}",
            where=section.path,
            cause=f"of {stored:,} rows, those with the inputs of an earlier one were dropped"
            if rows < stored
            else None,
            todo="lower one of them",
        )

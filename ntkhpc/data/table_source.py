"""A user's own table as a source of data."""

from pathlib import Path

import numpy as np
from msgspec import structs

from ntkhpc import files, seeds
from ntkhpc.data import staging, table
from ntkhpc.data.sources import Table
from ntkhpc.data.split import Split, regression
from ntkhpc.errors import DataError

FAINT = 0.01


def resolve(section: Table, folder: Path) -> Table:
    """The section with an absolute path, the file's checksum and size. Raises DataError for a file it cannot be."""
    path = (folder / Path(section.path).expanduser()).resolve()
    rows, features, outputs = table.describe(path, section.x, section.y)
    _require_enough(section, rows, path)
    return structs.replace(
        section,
        path=str(path),
        sha256=files.sha256_file(path),
        bytes=path.stat().st_size,
        rows=rows,
        features=features,
        outputs=outputs,
    )


def prepare(section: Table) -> None:
    """Raises DataError if the study cannot be run with the file; says which inputs networks would hardly see."""
    deviation = load(section).x_train.std(axis=0)
    if faint := int((deviation < FAINT * deviation.max()).sum()):
        print(
            f"note: {faint} of {len(deviation)} inputs vary by less than {FAINT:g} of the one that varies most; "
            'data.scaling = "feature" gives each the same weight'
        )


def load(section: Table) -> Split:
    """`pool` rows and then `test` rows, in file order or after a seeded permutation."""
    path = Path(section.path)
    with staging.staged(path, section.sha256) as copy:
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
    _require_enough(section, len(found.x), path)
    order = np.arange(len(found.x))
    if not section.keeps_file_order:
        order = seeds.generator(section.seed, seeds.ROWS).permutation(order)
    rows = order[: section.pool + section.test]
    return regression(
        found.x[rows], found.y[rows], section.pool, log_target=section.log_target, scaling=section.scaling
    )


def _require_enough(section: Table, rows: int, path: Path) -> None:
    if section.pool + section.test > rows:
        raise DataError(
            f"data.pool + data.test = {section.pool + section.test:,} rows are asked for, there are {rows:,}",
            where=path,
            cause=f"of {section.rows:,} rows, those with the inputs of an earlier one were dropped"
            if rows < section.rows
            else None,
            todo="lower one of them",
        )

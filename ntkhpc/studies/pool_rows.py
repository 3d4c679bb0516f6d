"""Rows of the pool, and of a user's files, for what science says of the inputs of a draw."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ntkhpc.errors import DataError
from ntkhpc.studies.base import Study
from ntkhpc.words import joined

FEW = 2
"""Rows that are named one by one; more are those among which the ones at fault are."""


@contextmanager
def named(study: Study, draw: int, chosen: np.ndarray) -> Iterator[None]:
    """Names of the inputs at fault, of a DataError within, also the rows of the pool and of the files that they are.

    The samples (n,) that are `chosen` of the pool are those of a draw, in their order.
    """
    try:
        yield
    except DataError as error:
        where = f"draw {draw}, its first {len(chosen):,} samples" + _inputs(study, chosen, error.rows)
        raise DataError(error.what, rows=error.rows, where=where, cause=error.cause, todo=error.todo) from error


def _inputs(study: Study, chosen: np.ndarray, rows: tuple[int, ...]) -> str:
    if not rows:
        return ""
    if len(rows) > FEW:
        return f"; training inputs {rows[0]:,} to {rows[-1]:,} of these, counted from 0"
    pool = tuple(int(chosen[row]) for row in rows)
    one, are = f"training input{'s' * (len(rows) > 1)}", "are rows" if len(rows) > 1 else "is row"
    return f"; {one} {joined(rows)} of these, counted from 0, {are} {joined(pool)} of the pool (x_train)" + _in_files(
        study, pool
    )


def _in_files(study: Study, pool: tuple[int, ...]) -> str:
    """Of files that are not there any more nothing is said: the error that is told is another one."""
    try:
        found = study.data.rows_in_files(study.known, pool)
    except Exception:  # noqa: BLE001  whatever is wrong with the files now
        return ""
    return f", {found}" if found else ""

"""Every array of the store: name, dimensions, type, chunks, unit and meaning. The only place that knows them.

The README's table is `markdown()`; a test keeps the two equal.
"""

import math

from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.posterior.study import BayesStudy
from ntkhpc.studies.schema import bayes, common, ensemble
from ntkhpc.studies.schema.array import Array, Region
from ntkhpc.studies.schema.dimensions import CELL, PROBABILITIES, TIMES, coordinates
from ntkhpc.studies.schema.dimensions import sizes as dimension_sizes
from ntkhpc.studies.schema.ensemble import DIVERGED, MISSING, OK

__all__ = [
    "CELL", "DIVERGED", "MISSING", "OK", "PROBABILITIES", "TIMES", "Array", "Region", "arrays", "chunk_bytes",
    "chunk_count", "coordinates", "dimension_sizes", "markdown",
]  # fmt: skip


def arrays(study: AnyStudy, phase: str | None = None) -> tuple[Array, ...]:
    """The arrays of a study's store, or those that one phase writes."""
    ours = bayes.ARRAYS if isinstance(study, BayesStudy) else ensemble.ARRAYS
    return tuple(
        array
        for array in (*common.ARRAYS, *ours)
        if phase in (None, array.phase)
        and (not array.only_if or getattr(getattr(study, "ensemble", None), array.only_if))
        and math.prod(array.shape(study))
    )


def chunk_count(array: Array, study: AnyStudy) -> int:
    pairs = zip(array.shape(study), array.chunks(study), strict=True)
    return math.prod(math.ceil(size / chunk) for size, chunk in pairs)


def chunk_bytes(array: Array, study: AnyStudy) -> int:
    """Size of one chunk file: chunks are stored whole, uncompressed, with a 4-byte crc32c."""
    return math.prod(array.chunks(study)) * array.itemsize + 4


def markdown() -> str:
    """The tables of the README."""
    tables = {
        "Every study": common.ARRAYS,
        "Studies of kind `ensemble`": ensemble.ARRAYS,
        "Studies of kind `bayes`": bayes.ARRAYS,
    }
    return "\n".join(f"{whose}:\n\n{_table(found)}" for whose, found in tables.items())


def _table(found: tuple[Array, ...]) -> str:
    rows = ["| array | dimensions | type | unit | written by | meaning |", "|---|---|---|---|---|---|"]
    for array in found:
        dims = ", ".join(array.dims)
        cells = (f"`{array.name}`", dims, array.dtype, array.unit, array.phase, array.meaning)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"

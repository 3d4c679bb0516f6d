"""One array of the store: its place among the dimensions, and what its chunks are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.schema import dimensions

TARGET_UNIT = "that of the data"

Region = Mapping[str, tuple[int, int]]
"""Half-open index range per dimension; a dimension that is not named is meant whole."""

ROW_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Array:
    """One array. `phase` names the phase that writes it; "create" means: with the run directory."""

    name: str
    phase: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str
    only_if: str = ""

    def shape(self, study: AnyStudy) -> tuple[int, ...]:
        sizes = dimensions.sizes(study)
        return tuple(sizes[dim] for dim in self.dims)

    def chunks(self, study: AnyStudy) -> tuple[int, ...]:
        """A shard's whole range for what shards write, rows of at most 16 MB for data, everything otherwise."""
        cut, shape = dimensions.cuts(study, self.phase), self.shape(study)
        chunks = [max(1, min(size, cut.get(dim, size))) for dim, size in zip(self.dims, shape, strict=True)]
        if self.phase == "data" and chunks:
            row_bytes = math.prod(chunks[1:]) * self.itemsize
            chunks[0] = max(1, min(chunks[0], ROW_CHUNK_BYTES // row_bytes))
        return tuple(chunks)

    def region(self, study: AnyStudy, region: Region) -> tuple[slice, ...]:
        """The part of this array that belongs to a shard's region."""
        sizes = dimensions.sizes(study)
        return tuple(slice(*region.get(dim, (0, sizes[dim]))) for dim in self.dims)

    def unit_in(self, study: AnyStudy) -> str:
        return study.data.unit if self.unit == TARGET_UNIT else self.unit

    @property
    def itemsize(self) -> int:
        return int(self.dtype[-1])

    @property
    def fill_value(self) -> float | int:
        """What is read where nothing was written."""
        return float("nan") if self.dtype.startswith("f") else -1

"""One array of the store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TARGET_UNIT = "that of the data"
"""Stands for the unit of the study's own targets."""

Region = Mapping[str, tuple[int, int]]
"""Half-open index range per dimension; a dimension that is not named is meant whole."""


def always(study: Any) -> bool:
    return True


@dataclass(frozen=True)
class Array:
    """One array: its dimensions, type, unit and meaning.

    `when` tells of which studies' stores it is a part. `values` makes the values of an array that is a function of the
    study alone and is written with the run directory; the phase that lists any other array writes it. A `scratch` array
    is kept in kernel.zarr, beside the store, until what is made from it is there; its chunks are large, and each is
    confirmed by itself.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str
    when: Callable[[Any], bool] = always
    values: Callable[[Any], Sequence[Any]] | None = None
    scratch: bool = False

    @property
    def itemsize(self) -> int:
        return int(self.dtype[-1])

    @property
    def fill_value(self) -> float | int:
        """What is read where nothing was written."""
        return float("nan") if self.dtype.startswith("f") else -1

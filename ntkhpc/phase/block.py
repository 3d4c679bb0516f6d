"""The part of a phase that one shard computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ntkhpc.phase.array import Region


@dataclass(frozen=True)
class Block:
    """Index ranges along the dimensions that a phase is cut along, and what stands there.

    `axes` maps a dimension to the values along all of it.
    """

    region: Region
    axes: Mapping[str, Sequence[Any]]

    def index(self, dim: str) -> int:
        """The first index along a dimension: the only one, unless shards hold several."""
        return self.region[dim][0]

    def range(self, dim: str) -> range:
        return range(*self.region[dim])

    def value(self, dim: str) -> Any:
        """What stands at the first index: a width, a training-set size."""
        return self.axes[dim][self.index(dim)]

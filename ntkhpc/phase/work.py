"""What the computation of a phase is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ntkhpc.phase.block import Block

S = TypeVar("S", covariant=True)

Values = Mapping[str, np.ndarray]
"""Arrays by name."""


class Inputs(Protocol):
    """Arrays that earlier phases wrote, by name."""

    def __getitem__(self, name: str) -> np.ndarray:
        """All of an array, in memory."""

    def open(self, name: str) -> Any:
        """An array whose parts are read as they are indexed."""


class KeptTiles(Protocol):
    """Finished parts of a shard, which outlive an attempt at it."""

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """None for a part that must be computed."""

    def save(self, number: int, values: Values) -> None: ...


@dataclass(frozen=True)
class Work(Generic[S]):
    """One shard's work: the study, the shard's block, the arrays that its phase reads, and its finished tiles.

    A wide phase may use so many `threads`, whose number must not change a bit of the values. `accelerated` says that
    the device of JAX is not this host, but a GPU.

    A computation returns the values of the block for every array that the phase writes, of shape
    `shape(array)[block]`: dimensions that the phase is cut along keep their place, with the length of the block.
    """

    study: S
    block: Block
    inputs: Inputs
    tiles: KeptTiles | None = None
    threads: int = 1
    accelerated: bool = False

    def tile(self, number: int, make: Callable[[], Values]) -> dict[str, np.ndarray]:
        """The values of a tile: from an earlier attempt under the same fingerprint, or made and kept.

        Raises KeyboardInterrupt, once they are kept, if this process was told to stop.
        """
        values = None if self.tiles is None else self.tiles.load(number)
        if values is None:
            values = dict(make())
            if self.tiles is not None:
                self.tiles.save(number, values)
        return values

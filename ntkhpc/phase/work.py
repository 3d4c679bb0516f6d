"""What the computation of a phase is given."""

from collections.abc import Callable, Mapping, Sequence
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


class KnownChunks(Protocol):
    """Chunks of scratch arrays that runs of other studies have."""

    def find(self, array: str, number: int, made_from: Sequence[str]) -> np.ndarray | None:
        """None for a chunk that must be computed."""


class FinishedChunks(Protocol):
    """Chunks of scratch arrays that are final before their block is."""

    def take(self, array: str, number: int, values: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Work(Generic[S]):
    """One shard's work: the study, the shard's block, the arrays that its phase reads, its finished tiles, and what
    runs of other studies have of it.

    A wide phase may use so many `threads`, whose number must not change a bit of the values. `accelerated` says that
    the launcher gave the worker a GPU, which is then the device of JAX. Members that are trained at once may take
    `lane_bytes` of its memory; None on a CPU.

    A computation returns the values of the block for every array that the phase writes, of shape
    `shape(array)[block]`: dimensions that the phase is cut along keep their place, with the length of the block.
    """

    study: S
    block: Block
    inputs: Inputs
    tiles: KeptTiles | None = None
    threads: int = 1
    accelerated: bool = False
    lane_bytes: int | None = None
    others: KnownChunks | None = None
    finished: FinishedChunks | None = None

    def finish(self, array: str, number: int, values: np.ndarray) -> None:
        """Say that a chunk of a scratch array is as the block will have it: it is hashed and written meanwhile.

        `number` counts the chunks of the block, in the order of their files. The block's values have it too.
        """
        if self.finished is not None:
            self.finished.take(array, number, values)

    def known(self, array: str, number: int, made_from: Sequence[str]) -> np.ndarray | None:
        """A chunk of what the block has of an array, as a run of another study has it; None if it must be computed.

        `made_from` are digests and words that decide its values, with the study (see `Shared.decides`) and the
        fingerprint. The receipt says them, so that others can take the chunk.
        """
        return None if self.others is None else self.others.find(array, number, made_from)

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

"""One phase of a study: what it reads, writes and computes, how it is cut into shards, and what a shard costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntkhpc.phase.array import Array, always
from ntkhpc.phase.block import Block
from ntkhpc.phase.dimension import one
from ntkhpc.phase.shared import Shared
from ntkhpc.phase.work import Values, Work


@dataclass(frozen=True)
class Phase:
    """One phase. Which phases it needs follows from the arrays that it `reads`.

    A shard is a block of the dimensions in `blocks`, in that order: the last one varies fastest. `chunked` names the
    dimensions along which chunks are cut too although one shard writes them all. Seconds are projected for one
    reference core, of a block; `tile_seconds` are those of the start and the longest tile, without which an attempt
    leaves the next one as much to do: a phase without it keeps no tiles. `memory_bytes` is the peak resident size of
    one worker. `compute` is None where a room above this package computes.

    `prefix` begins the names of its shards, which must differ from those of all other phases; None is its own name.
    `fewer`, `lower` and `shorten` say what in a study makes its shards fewer, smaller in memory, and its tiles quicker.
    `probed` phases are those whose speed on a device is timed. Each tile of a `sequential` one goes on where
    the one before ended. Shards share compiled programs where they agree in the dimensions `compiled`. A shard of a
    `chained` phase needs the one before it along the last of its dimensions. One is computed by as
    many cores of its task as `wide` says, at most: 1 for most phases. `lanes` says how many members a shard trains at
    once, from the bytes that they may take of a GPU (see `Work`), and stands in its receipt. Chunks of a phase that is
    `shared` are taken from runs of other studies that have them; all that it writes are scratch arrays then, of one
    chunk for each name.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[Array, ...]
    seconds: Callable[[Any, Block], float]
    memory_bytes: Callable[[Any], int]
    compute: Callable[[Work[Any]], Values] | None
    blocks: tuple[str, ...] = ()
    chunked: tuple[str, ...] = ()
    tile_seconds: Callable[[Any, Block], float] | None = None
    when: Callable[[Any], bool] = always
    prefix: str | None = None
    fewer: str = ""
    lower: str = "data.test"
    shorten: str = ""
    probed: bool = False
    sequential: bool = False
    compiled: tuple[str, ...] = ()
    chained: bool = False
    wide: Callable[[Any], int] = one
    lanes: Callable[[Any, Block, int | None], int] | None = None
    shared: Shared | None = None

    @property
    def keeps_tiles(self) -> bool:
        """Whether a shard that was told to stop goes on later where it was."""
        return self.tile_seconds is not None

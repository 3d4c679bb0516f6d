"""What lets a run take finished chunks of a scratch array from the run of another study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ntkhpc.phase.block import Block


@dataclass(frozen=True)
class Shared:
    """How the chunks that a phase writes are told from those of other studies.

    `decides(study)` is all of a study that decides them, as JSON would hold it, but the rows that each is made of: they
    are in `names(study, block)`, a name for each chunk of a block in the order of its files. By both a chunk is looked
    for in other runs, and a plan says what will be found. Whether it is the same is told by what it was made from (see
    `Work.known`). `seconds(study, block, known)` is what a shard costs whose chunks are known or not, a flag for each.
    """

    decides: Callable[[Any], Any]
    names: Callable[[Any, Block], Sequence[str]]
    seconds: Callable[[Any, Block, Sequence[bool]], float]

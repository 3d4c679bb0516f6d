"""Study -> shards: pure and fast, with projected time, memory, bytes and files.

A shard is what one task computes and what one receipt confirms. Its region says which part of the store is its own.
"""

import sys
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from ntkhpc import studies
from ntkhpc.errors import StudyError
from ntkhpc.phase.array import Array
from ntkhpc.phase.layout import Layout
from ntkhpc.studies.base import Study

MAX_SHARDS = 1_000_000


_SHARD_BYTES = 400
"""What a worker keeps of each line of the plan that is not its own: text while it is read, then name and cost."""


class Shard(Struct, frozen=True):
    """One unit of work. `seconds` is projected for one core, `tile_seconds` too: where finished tiles are kept, for the
    start and the longest tile, without which an attempt leaves the next one as much to do. 0 is unknown."""

    id: str
    phase: str
    region: dict[str, tuple[int, int]]
    seconds: float
    tile_seconds: float = 0.0


class Plan(Struct, frozen=True):
    """A function of the study alone."""

    study_id: str
    run_name: str
    shards: tuple[Shard, ...]
    memory_bytes: dict[str, int]
    store_bytes: int
    files: int

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that the study had when it was planned, in an order in which they can be run."""
        return tuple(self.memory_bytes)

    def of_phase(self, phase: str) -> tuple[Shard, ...]:
        return tuple(shard for shard in self.shards if shard.phase == phase)

    @property
    def seconds(self) -> float:
        return sum(shard.seconds for shard in self.shards)


def make(study: Study) -> Plan:
    """The plan of a study. Raises StudyError, before it makes any shard, if there would be more than a million."""
    layout = studies.layout(study)
    _require_few(layout)
    shards = tuple(shard for phase in layout.phases for shard in _shards(layout, phase))
    lines = _SHARD_BYTES * len(shards)
    store = [array for array in layout.arrays() if not array.scratch]
    chunks, size = _amount(layout, store)
    return Plan(
        study_id=study.id,
        run_name=study.run_name,
        shards=shards,
        memory_bytes={name: phase.memory_bytes(study) + lines for name, phase in layout.phases.items()},
        store_bytes=size,
        files=chunks + len(store) + 1 + len(shards),
    )


def scratch(layout: Layout) -> tuple[int, int]:
    """Files and bytes of kernel.zarr; 0 where a study has no scratch arrays."""
    arrays = [array for array in layout.arrays() if array.scratch]
    chunks, size = _amount(layout, arrays)
    return (chunks + len(arrays) + 1 if arrays else 0), size


def _amount(layout: Layout, arrays: list[Array]) -> tuple[int, int]:
    """Chunks of these arrays, and bytes."""
    counts = [layout.chunk_count(array) for array in arrays]
    return sum(counts), sum(n * layout.chunk_bytes(array) for n, array in zip(counts, arrays, strict=True))


def _require_few(layout: Layout) -> None:
    counts = {phase.name: layout.count(phase) for phase in layout.phases.values()}
    if sum(counts.values()) > MAX_SHARDS:
        largest = layout.phases[max(counts, key=counts.__getitem__)]
        raise StudyError(
            f"the study has {sum(counts.values()):,} shards; at most {MAX_SHARDS:,} are planned",
            cause=f"phase {largest.name} has {counts[largest.name]:,} of them",
            todo=largest.fewer,
        )


def _shards(layout: Layout, name: str) -> list[Shard]:
    phase, study = layout.phases[name], layout.study
    return [
        Shard(
            layout.shard_name(phase, block),
            name,
            dict(block.region),
            phase.seconds(study, block),
            phase.tile_seconds(study, block) if phase.tile_seconds else 0.0,
        )
        for block in layout.blocks(phase)
    ]


def dumps(plan: Plan) -> bytes:
    return msgspec.json.encode(plan) + b"\n"


def loads(data: bytes, regions: Collection[str] | None = None) -> Plan:
    """Read a plan. With `regions` only these shards, by id, have their regions, which take most of the memory.

    The process of a few shards needs of all others names and costs alone: it can ask no more of them.
    """
    if regions is None:
        return msgspec.json.decode(data, type=Plan)
    read = msgspec.json.decode(data, type=_Unread)
    brief, whole = msgspec.json.Decoder(_Brief), msgspec.json.Decoder(Shard)
    shards = []
    for text in read.shards:
        one = brief.decode(text)
        if one.id in regions:
            shards.append(whole.decode(text))
        else:
            shards.append(Shard(one.id, sys.intern(one.phase), _NOT_READ, one.seconds, one.tile_seconds))
    return Plan(read.study_id, read.run_name, tuple(shards), read.memory_bytes, read.store_bytes, read.files)


def of_phase(data: bytes, phase: str) -> Iterator[Shard]:
    """The shards of one phase, each with its region, one after another: none of the others is kept."""
    brief, whole = msgspec.json.Decoder(_Brief), msgspec.json.Decoder(Shard)
    for text in msgspec.json.decode(data, type=_Unread).shards:
        if brief.decode(text).phase == phase:
            yield whole.decode(text)


class _Unread(Struct, frozen=True):
    """A plan whose shards are the text that they are in the file."""

    study_id: str
    run_name: str
    shards: list[msgspec.Raw]
    memory_bytes: dict[str, int]
    store_bytes: int
    files: int


class _Brief(Struct, frozen=True):
    """A shard without its region."""

    id: str
    phase: str
    seconds: float
    tile_seconds: float = 0.0


class _RegionNotRead:
    """Stands for the region of a shard that is another process's: it has nothing of a dict, so no use of it passes."""


_NOT_READ: Any = _RegionNotRead()


def longest_first(layout: Layout, shards: list[Shard]) -> list[Shard]:
    """The order in which workers take shards: it keeps the last one from running alone. Chains stay in their order."""
    return [shard for chain in chains(layout, shards) for shard in chain]


def chains(layout: Layout, shards: list[Shard]) -> list[list[Shard]]:
    """Shards of chained phases that come one after another, in order; all others alone. The longest comes first."""
    found: dict[str, list[Shard]] = {}
    for shard in shards:
        # Of a shard's chain the last one that is not finished; none where all before it are.
        last = next((one for one in reversed(layout.before(shard.phase, shard.region)) if one in found), "")
        found[shard.id] = [*found.pop(last, []), shard]
    return sorted(found.values(), key=lambda chain: (-sum(shard.seconds for shard in chain), chain[0].id))

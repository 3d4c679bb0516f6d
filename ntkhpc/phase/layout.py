"""What a kind makes of one study: its phases in order, the arrays of its store, and how shards and chunks cut them."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from ntkhpc.phase.array import TARGET_UNIT, Array, Region
from ntkhpc.phase.block import Block
from ntkhpc.phase.dimension import Dim
from ntkhpc.phase.kind import Kind
from ntkhpc.phase.phase import Phase

CREATE = "create"
"""What stands in the place of a phase for arrays that are written with the run directory."""

ROW_CHUNK_BYTES = 16 * 2**20
"""An array that is not cut along its first dimension is stored in rows of about this size."""


@dataclass(frozen=True)
class Layout:
    """The phases and arrays of one study."""

    kind: Kind
    study: Any

    @cached_property
    def dims(self) -> dict[str, Dim]:
        return {dim.name: dim for dim in self.kind.dims}

    @cached_property
    def sizes(self) -> dict[str, int]:
        return {dim.name: dim.length(self.study) for dim in self.kind.dims}

    @cached_property
    def phases(self) -> dict[str, Phase]:
        """The phases by name, in an order in which they can be run."""
        return {phase.name: phase for phase in self.kind.phases if phase.when(self.study)}

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """The phases that write what a phase reads, by its name; without those that another one of them needs."""
        return {name: self.needed(name, self.phases) for name in self.phases}

    def needed(self, phase: str, among: Collection[str]) -> tuple[str, ...]:
        """What a phase needs directly in a run that has only some of the phases, as an older version planned it."""
        needed = [one for one in self.closure(phase) if one in among]
        implied = {before for one in needed for before in self.closure(one)}
        return tuple(one for one in needed if one not in implied)

    def closure(self, phase: str) -> tuple[str, ...]:
        """Every phase that a phase needs, directly or not, in order."""
        return self._closures[phase]

    @cached_property
    def _closures(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name, phase in self.phases.items():  # in order: a phase reads what earlier ones write
            direct = [one for one in found if {array.name for array in self.phases[one].writes} & set(phase.reads)]
            needed = {*direct, *(before for one in direct for before in found[one])}
            found[name] = tuple(one for one in self.phases if one in needed)
        return found

    @cached_property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Phases that can be run side by side, in order."""
        depth: dict[str, int] = {}
        for name in self.phases:
            depth[name] = max((depth[one] + 1 for one in self.needs[name]), default=0)
        return tuple(tuple(n for n in self.phases if depth[n] == d) for d in sorted(set(depth.values())))

    @cached_property
    def _by_phase(self) -> dict[str, tuple[Array, ...]]:
        constants = (*(dim.coordinate for dim in self.kind.dims), *self.kind.constants)
        found = {CREATE: tuple(array for array in constants if array is not None)}
        found |= {name: phase.writes for name, phase in self.phases.items()}
        return {
            name: tuple(array for array in arrays if array.when(self.study) and 0 not in self.shape(array))
            for name, arrays in found.items()
        }

    def arrays(self, phase: str | None = None) -> tuple[Array, ...]:
        """The arrays of the store, or those that one phase writes; with CREATE those written with the run directory."""
        if phase is not None:
            return self._by_phase.get(phase, ())
        return tuple(array for arrays in self._by_phase.values() for array in arrays)

    @cached_property
    def writers(self) -> dict[str, str]:
        """The phase that writes an array, or CREATE, by the array's name."""
        return {array.name: phase for phase, arrays in self._by_phase.items() for array in arrays}

    def shape(self, array: Array) -> tuple[int, ...]:
        return tuple(self.sizes[dim] for dim in array.dims)

    def chunks(self, array: Array) -> tuple[int, ...]:
        """A shard's whole range for what shards write, rows of at most 16 MiB where an array is not cut."""
        cuts = self._cuts(self.writers[array.name])
        shape = self.shape(array)
        chunks = [max(1, min(size, cuts.get(dim, size))) for dim, size in zip(array.dims, shape, strict=True)]
        if chunks and array.dims[0] not in cuts and self.writers[array.name] != CREATE:
            row_bytes = math.prod(chunks[1:]) * array.itemsize
            chunks[0] = max(1, min(chunks[0], ROW_CHUNK_BYTES // row_bytes))
        return tuple(chunks)

    def chunk_count(self, array: Array) -> int:
        pairs = zip(self.shape(array), self.chunks(array), strict=True)
        return math.prod(math.ceil(size / chunk) for size, chunk in pairs)

    def chunk_bytes(self, array: Array) -> int:
        """Size of one chunk file: chunks are stored whole, uncompressed, with a 4-byte crc32c."""
        return math.prod(self.chunks(array)) * array.itemsize + 4

    def region(self, array: Array, region: Region) -> tuple[slice, ...]:
        """The part of an array that belongs to a shard's region."""
        return tuple(slice(*region.get(dim, (0, self.sizes[dim]))) for dim in array.dims)

    def unit(self, array: Array) -> str:
        return str(self.study.data.unit) if array.unit == TARGET_UNIT else array.unit

    def _cuts(self, phase: str) -> dict[str, int]:
        """How much of a dimension a chunk of a phase's arrays holds, where that is not all of it."""
        if phase == CREATE:
            return {}
        names = (*self.phases[phase].blocks, *self.phases[phase].chunked)
        every = {name: self.dims[name].every(self.study) for name in names}
        for dim in self.kind.dims:
            if dim.follows in every:
                step = dim.every(self.study)
                every[dim.name] = every[dim.follows] // step if dim.span is None else step
        return every

    def count(self, phase: Phase) -> int:
        """How many shards a phase has."""
        return math.prod(math.ceil(self.sizes[name] / self.dims[name].every(self.study)) for name in phase.blocks)

    def blocks(self, phase: Phase) -> Iterator[Block]:
        """What the shards of a phase compute, the last of its dimensions varying fastest."""
        every = {name: self.dims[name].every(self.study) for name in phase.blocks}
        starts = (range(0, self.sizes[name], every[name]) for name in phase.blocks)
        followers = [dim for dim in self.kind.dims if dim.follows in every]
        for corner in product(*starts):
            region = {
                name: (start, min(start + every[name], self.sizes[name]))
                for name, start in zip(phase.blocks, corner, strict=True)
            }
            for dim in followers:
                (start, stop), step = region[dim.follows], dim.every(self.study)
                if dim.span is None:
                    region[dim.name] = (start // step, math.ceil(stop / step))
                else:
                    region[dim.name] = (dim.span(self.study, start)[0], dim.span(self.study, stop - 1)[1])
            yield self.block(region)

    def block(self, region: Region) -> Block:
        return Block(region, self._axes)

    @cached_property
    def _axes(self) -> dict[str, Sequence[Any]]:
        return {dim.name: dim.values(self.study) for dim in self.kind.dims if dim.values is not None}

    def before(self, phase: str, region: Region) -> tuple[str, ...]:
        """The shards of a chained phase that must be finished before the one of this region, in order; none else."""
        described = self.phases.get(phase)
        if described is None or not described.chained:
            return ()
        dim = described.blocks[-1]
        every = self.dims[dim].every(self.study)
        earlier = (self.block({**region, dim: (start, start + every)}) for start in range(0, region[dim][0], every))
        return tuple(self.shard_name(described, block) for block in earlier)

    def shard_name(self, phase: Phase, block: Block) -> str:
        """The id of a shard, made of values so that a person can tell what failed; unique because values are."""
        prefix = phase.name if phase.prefix is None else phase.prefix
        labels = [f"{d.label}{block.value(d.name)}" for d in self.kind.dims if d.label and d.name in phase.blocks]
        return "-".join([*([prefix] if prefix else []), *(labels or ["0"])])

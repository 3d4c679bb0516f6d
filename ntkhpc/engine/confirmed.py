"""Arrays of the store as their receipts confirm them: values are hashed as they are read, shard by shard.

Whoever computes or reports from a run reads through here. What was removed, damaged, exchanged or computed again since
its receipt was written is an error that names the file, and what has no receipt reads as missing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ntkhpc.engine import arrays, receipts, store
from ntkhpc.engine.arrays import METADATA, SCRATCH, Stored
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Read, Receipt
from ntkhpc.engine.run import Manifest, Run
from ntkhpc.errors import DamagedError, RunError
from ntkhpc.phase.phase import Phase


class BeyondBlockError(LookupError):
    """What is asked of an array was written by shards of which nothing is known."""


@dataclass(frozen=True)
class Parts:
    """The parts of one array, each written by one shard of `phase`: its id, where it begins and ends along every
    dimension (part, dimension), and the digest that its receipt has; None without a receipt.

    Of a scratch array each chunk is a part. `said` is what the receipt says of all that its shard wrote of the array.
    """

    phase: str
    shards: tuple[str, ...]
    begin: np.ndarray
    end: np.ndarray
    digests: tuple[str | None, ...]
    said: tuple[str | None, ...]

    def overlapping(self, begin: np.ndarray, end: np.ndarray) -> list[int]:
        """Numbers of the parts that a box touches."""
        touched = ((self.begin < end) & (self.end > begin)).all(axis=1)
        return [int(number) for number in np.flatnonzero(touched)]

    def region(self, number: int) -> tuple[slice, ...]:
        return tuple(slice(int(a), int(b)) for a, b in zip(self.begin[number], self.end[number], strict=True))


@dataclass(frozen=True)
class Confirmed:
    """One array of a store. Indexed with integers and slices it gives values that were compared with their receipts.

    A part is read whole, whatever is asked of it. `advice` says what to do about one that is not as its receipt says;
    `seen` is told the phase, shard and digest of each part that was read. Where it is `needed` whole, a part without a
    receipt is an error.
    """

    stored: Stored
    parts: Parts
    advice: str
    seen: Callable[[str, str, str], None] | None = None
    needed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.stored.dtype)

    @property
    def ndim(self) -> int:
        return len(self.stored.shape)

    @cached_property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Lengths along each dimension of the blocks that no part crosses, as Dask wants them: shards are a grid."""
        edges = [
            np.unique(np.concatenate([[0, size], begin, end])) if size else np.array([0, 0])
            for size, begin, end in zip(self.shape, self.parts.begin.T, self.parts.end.T, strict=True)
        ]
        return tuple(tuple(int(step) for step in np.diff(one)) for one in edges)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Raises DamagedError, with the file, for a part that is not what its receipt says."""
        box, within = _box(key, self.shape)
        begin, end = np.array([a for a, _ in box], int), np.array([b for _, b in box], int)
        touched = self.parts.overlapping(begin, end)
        if len(touched) == 1 and self.parts.region(touched[0]) == tuple(slice(a, b) for a, b in box):
            return self._read(touched[0])[within]
        found, known = np.full(tuple(b - a for a, b in box), self.stored.fill, self.dtype), 0
        for number in touched:
            first = self.parts.begin[number]
            low, high = np.maximum(begin, first), np.minimum(end, self.parts.end[number])
            here = tuple(slice(a, b) for a, b in zip(low - begin, high - begin, strict=True))
            there = tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))
            found[here] = self._read(number)[there]
            known += int(np.prod(high - low))
        if known != found.size:
            raise BeyondBlockError(f"{self.stored.name}[{key}] is beyond what is known of it here")
        return found[within]

    def digest(self, *index: int) -> str:
        """The digest, by its receipt, of the chunk of a scratch array that has this first element; it is not read.

        Whatever was made from it is told by it as from its values: it counts as seen.
        """
        begin = np.array([*index, *[0] * (self.ndim - len(index))], int)
        touched = self.parts.overlapping(begin, begin + 1)
        if len(touched) != 1:
            raise BeyondBlockError(f"{self.stored.name}{list(index)} is beyond what is known of it here")
        number = touched[0]
        digest, shard = self.parts.digests[number], self.parts.shards[number]
        if digest is None:
            raise self._without_receipt(number)
        if self.seen is not None:
            self.seen(self.parts.phase, shard, self.parts.said[number] or digest)
        return digest

    def __reduce__(self) -> Any:  # for Dask's workers in other processes: what is open stays here
        return Confirmed, (self.stored, self.parts, self.advice, None, self.needed)

    def _read(self, number: int) -> np.ndarray:
        region, digest = self.parts.region(number), self.parts.digests[number]
        if digest is None and self.needed:
            raise self._without_receipt(number)
        if digest is None:
            return np.full(tuple(part.stop - part.start for part in region), self.stored.fill, self.dtype)
        name, shard = self.stored.name, self.parts.shards[number]
        try:
            values = store.part(self.stored, region, hashed=self.stored.scratch)
        except DamagedError as error:
            raise DamagedError(error.what, where=error.where, todo=self.advice) from error
        if store.digest(values) != digest:
            raise DamagedError(
                f"the values of {self.parts.phase}/{shard} in {name} are not those of its receipt",
                where=self._place(region),
                cause="the file was exchanged or written again, or the receipt is of another execution",
                todo=self.advice,
            )
        if self.seen is not None:
            self.seen(self.parts.phase, shard, self.parts.said[number] or digest)
        return values

    def _without_receipt(self, number: int) -> RunError:
        return RunError(
            f"{self.parts.phase}/{self.parts.shards[number]} has no receipt, and {self.stored.name} is read of it",
            where=self._place(self.parts.region(number)),
            todo=self.advice,
        )

    def _place(self, region: tuple[slice, ...]) -> Path:
        """The chunk that holds a part, or the array where there are several."""
        spans = {dim: (one.start, one.stop) for dim, one in zip(self.stored.dims, region, strict=True)}
        chunks = self.stored.chunk_files(spans)
        return chunks[0] if len(chunks) == 1 else self.stored.folder


class Confirmations:
    """What the receipts of a run say of its arrays. Each receipt is read once: of a run under way, at some moment.

    With `block` it knows no parts but those that a shard of this region may be made from: the same along every
    dimension that both are cut along. Raises DamagedError for metadata and receipts that are not as they were written.
    """

    def __init__(self, run: Run, block: Mapping[str, tuple[int, int]] | None = None):
        self._run, self._block = run, block or {}
        self._manifest = run.manifest
        self._receipts: dict[str, Receipt | None] = {}
        self._shards: dict[str, list[Shard]] = {}
        self._there: dict[str, set[str]] = {}

    @cached_property
    def writers(self) -> dict[str, str]:
        """The phase that writes an array, by its name."""
        return writers(self._run, arrays.names(self._run.store), self._manifest)

    def array(
        self, name: str, seen: Callable[[str, str, str], None] | None = None, *, needed: bool = False
    ) -> Confirmed:
        """An array that a phase of the plan writes."""
        run, phase = self._run, self.writers[name]
        stored = arrays.of(run.store, name)
        run.require_made_with(str((stored.folder / METADATA).relative_to(run.path)))
        found = [one for shard in self._of_phase(phase) for one in self._parts_of(shard, stored)]
        shape = (len(found), len(stored.shape))
        parts = Parts(
            phase,
            tuple(one.shard for one in found),
            np.array([[part.start for part in one.region] for one in found], int).reshape(shape),
            np.array([[part.stop for part in one.region] for one in found], int).reshape(shape),
            tuple(one.digest for one in found),
            tuple(one.said for one in found),
        )
        return Confirmed(stored, parts, receipts.advice(run), seen, needed)

    def _parts_of(self, shard: Shard, stored: Stored) -> "Iterator[_Part]":
        receipt = self._receipt(shard)
        said = None if receipt is None else receipt.values.get(stored.name)
        if not stored.scratch:
            yield _Part(shard.id, stored.region(shard.region), said, said)
            return
        boxes = list(stored.chunks_of(shard.region))
        digests: Sequence[str | None] = [None] * len(boxes)
        if receipt is not None and said is not None:
            digests = receipt.chunks.get(stored.name, ())
            if len(digests) != len(boxes) or receipts.digests_hash(receipt.chunks[stored.name]) != said:
                raise DamagedError(
                    f"the receipt does not say what is in each chunk of {stored.name}",
                    where=self._run.receipt(shard),
                    todo=receipts.advice(self._run),
                )
        for box, digest in zip(boxes, digests, strict=True):
            yield _Part(shard.id, box, digest, said)

    def _of_phase(self, phase: str) -> list[Shard]:
        if phase not in self._shards:
            self._shards[phase] = [shard for shard in self._run.regions(phase) if self._touches(shard)]
        return self._shards[phase]

    def _touches(self, shard: Shard) -> bool:
        shared = self._block.keys() & shard.region.keys()
        return all(
            shard.region[dim][0] < self._block[dim][1] and shard.region[dim][1] > self._block[dim][0] for dim in shared
        )

    def _receipt(self, shard: Shard) -> "Receipt | None":
        if shard.phase not in self._there:
            self._there[shard.phase] = self._run.finished(shard.phase)
        if shard.id not in self._receipts:
            known = shard.id in self._there[shard.phase]
            self._receipts[shard.id] = receipts.own(self._run, shard, self._manifest) if known else None
        return self._receipts[shard.id]


class _Part(NamedTuple):
    shard: str
    region: tuple[slice, ...]
    digest: str | None
    said: str | None


def writers(run: Run, there: "frozenset[str]", manifest: Manifest) -> dict[str, str]:
    """The phase that writes each of these arrays: by the first sound receipt of each phase, and where there is none by
    today's description of the study. So what newer code adds to a phase, or no longer knows, changes no older run."""
    found: dict[str, str] = {}
    for phase in run.layout.phases:
        found |= dict.fromkeys((array.name for array in run.layout.arrays(phase) if array.name in there), phase)
    for phase in dict.fromkeys(shard.phase for shard in run.plan.shards):
        if (receipt := _first_sound(run, phase, manifest)) is not None:
            found |= dict.fromkeys(receipt.values, phase)
    return found


def _first_sound(run: Run, phase: str, manifest: Manifest) -> "Receipt | None":
    there = run.finished(phase)  # one listing: a phase under way has thousands of shards without a receipt
    for shard in run.plan.of_phase(phase):
        if shard.id not in there:
            continue
        try:
            if (receipt := receipts.own(run, shard, manifest)) is not None:
                return receipt
        except (DamagedError, OSError):
            continue  # it is named where it is read
    return None


def load(run: Run, name: str) -> np.ndarray:
    """A whole array."""
    return Confirmations(run).array(name)[...]


def require_metadata(run: Run, phase: Phase | None = None) -> None:
    """Raises DamagedError unless the metadata of the store, and what was written with it, are as they were made.

    Those of kernel.zarr too, where a phase is given that reads or writes scratch arrays.
    """
    made, rooms = run.manifest.files, [run.store.name]
    scratch = {array.name for one in run.layout.phases for array in run.layout.arrays(one) if array.scratch}
    if phase is not None and scratch & {*phase.reads, *(array.name for array in phase.writes)}:
        rooms.append(SCRATCH)
    run.require_made_with(*(name for name in made if name.startswith(tuple(f"{room}/" for room in rooms))))


def read_of(run: Run, phase: str, digests: Mapping[str, str]) -> Read:
    """What a shard says of an array of which it read the parts of these shards of a phase."""
    planned = [shard.id for shard in run.plan.of_phase(phase)]
    mine = [shard for shard in planned if shard in digests]
    values = receipts.digests_hash(digests[shard] for shard in mine)
    return Read(phase=phase, shards=() if len(mine) == len(planned) else tuple(mine), values=values)


def _box(key: Any, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """The range along each dimension that an index needs, and the index within it."""
    given = key if isinstance(key, tuple) else (key,)
    if any(one is Ellipsis for one in given):
        at = next(number for number, one in enumerate(given) if one is Ellipsis)
        given = (*given[:at], *[slice(None)] * (len(shape) - len(given) + 1), *given[at + 1 :])
    given = (*given, *[slice(None)] * (len(shape) - len(given)))
    box: list[tuple[int, int]] = []
    within: list[Any] = []
    for one, size in zip(given, shape, strict=True):
        numbers = range(size)[one] if isinstance(one, slice) else range(size)[one : one + 1 or None]
        if not isinstance(one, slice) and not numbers:
            raise IndexError(f"{one} is none of {size}")
        low, high = (min(numbers), max(numbers) + 1) if numbers else (0, 0)
        box.append((low, high))
        if not isinstance(one, slice):
            within.append(0)
        elif not numbers:
            within.append(slice(0, 0))
        else:
            stop = numbers[-1] - low + (1 if numbers.step > 0 else -1)
            within.append(slice(numbers[0] - low, None if stop < 0 else stop, numbers.step))
    return box, tuple(within)

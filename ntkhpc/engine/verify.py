"""Check a run bit by bit: every file of its making, every chunk, every receipt.

A run is described by what it holds itself: its manifest, the metadata of its store, and its receipts.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntkhpc import files
from ntkhpc.engine import arrays, receipts, store
from ntkhpc.engine.arrays import Stored
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError, NtkhpcError

DAMAGED_CHUNK = "is damaged: its checksum does not match"


@dataclass(frozen=True)
class Discrepancy:
    """What is not as it was written. `shard` is set where computing that shard again mends it."""

    path: Path
    what: str
    shard: Shard | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def problems(run: Run) -> Iterator[Discrepancy]:
    """Everything about a run that is not as it was written. A run still under way may be checked too.

    Raises RunError for a run that this code cannot read.
    """
    try:
        manifest = run.manifest
    except DamagedError as error:
        yield Discrepancy(run.path / "manifest.json", error.what)
        return
    damaged: set[str] = set()
    for name, digest in sorted(manifest.files.items()):
        path = run.path / name
        if not path.is_file():
            yield Discrepancy(path, "is missing")
            damaged.add(name)
        elif files.sha256_file(path) != digest:
            yield Discrepancy(path, "is not the file the run was made with")
            damaged.add(name)
    if damaged & {"study.toml", "plan.json"}:
        return  # nothing more can be said without them
    if run.plan.study_id != manifest.study_id:
        yield Discrepancy(
            run.path / "plan.json", f"is the plan of study {run.plan.study_id}, not of {manifest.study_id}"
        )
    layout = _layout(run, manifest.study_id, damaged)
    inputs = {phase: _inputs(run, phase) for phase in run.layout.phases}
    known = {run.path / name for name in manifest.files}
    for shard in run.plan.shards:
        known.add(run.receipt(shard))
        for array in layout.of_phase(shard.phase):
            known.update(array.chunk_files(run.store, shard.region))
        yield from _shard_problems(run, shard, manifest.study_id, layout, inputs.get(shard.phase))
    for chunk in layout.chunks_of_no_phase(run.store):
        if chunk not in known and layout.is_checksummed(chunk) and not store.is_intact(chunk):
            yield Discrepancy(chunk, DAMAGED_CHUNK)
        known.add(chunk)
    for room in ("store.zarr", "receipts", "code"):
        for path in files.tree(run.path / room):
            if path not in known and not is_leftover(path) and "__pycache__" not in path.parts:
                yield Discrepancy(path, "belongs to nothing in the plan; if it is not yours to keep, delete it")
    for path in files.tree(run.path / "conflicts"):
        yield Discrepancy(path, "two executions of a shard gave different bytes; compare the fingerprints in it")


@dataclass(frozen=True)
class _Layout:
    """The arrays of a run's store, and which phase writes each. The values of those that are `readable` can be had."""

    arrays: dict[str, Stored]
    readable: frozenset[str]
    phases: dict[str, str]

    def of_phase(self, phase: str) -> list[Stored]:
        return [array for name, array in self.arrays.items() if self.phases.get(name) == phase]

    def is_checksummed(self, chunk: Path) -> bool:
        array = self.arrays.get(chunk.parent.name)
        return array is None or array.checksummed

    def chunks_of_no_phase(self, path: Path) -> list[Path]:
        """Chunks of arrays whose metadata are damaged, or of which nothing tells what phase writes them."""
        folders = [one for one in sorted(path.glob("*")) if one.is_dir()]
        placed = {name for name in self.arrays if name in self.phases}
        return [chunk for folder in folders if folder.name not in placed for chunk in sorted(folder.glob("c*"))]


def _layout(run: Run, study_id: str, damaged: set[str]) -> _Layout:
    """By the first sound receipt of each phase; where there is none, by today's description of the study.

    So an array that newer code adds to a phase, or no longer knows, makes no older run look damaged.
    """
    own = arrays.stored(run.store)
    readable = frozenset(name for name in own if f"{run.store.name}/{name}/{arrays.METADATA}" not in damaged)
    copies = {} if f"{run.store.name}/{arrays.METADATA}" in damaged else arrays.consolidated(run.store)
    there = copies | {name: own[name] for name in readable}
    phases: dict[str, str] = {}
    for phase in run.layout.phases:
        described = [array.name for array in run.layout.arrays(phase)]
        phases |= dict.fromkeys(arrays.of_phase(described, there), phase)
    for phase in dict.fromkeys(shard.phase for shard in run.plan.shards):
        sound = (receipt for shard in run.plan.of_phase(phase) if (receipt := _sound(run, shard, study_id)))
        if (receipt := next(sound, None)) is not None:
            phases |= dict.fromkeys(receipt.values, phase)
    return _Layout(there, readable, phases)


def _sound(run: Run, shard: Shard, study_id: str) -> Receipt | None:
    """The receipt of a shard, if it has one that is intact and its own."""
    with contextlib.suppress(NtkhpcError):
        receipt = receipts.read(run, shard)
        return receipt if receipt is not None and _is_own(receipt, shard, study_id) else None
    return None


def _is_own(receipt: Receipt, shard: Shard, study_id: str) -> bool:
    return (receipt.shard, receipt.phase, receipt.study_id) == (shard.id, shard.phase, study_id)


def _inputs(run: Run, phase: str) -> str | None:
    """Hash of what a phase reads; None where a receipt of the phase before is damaged, which is reported as such."""
    try:
        return receipts.inputs_hash(run, phase)
    except NtkhpcError:
        return None


def is_leftover(path: Path) -> bool:
    """Whether a file is what a killed process left of an atomic write: harmless, never read."""
    return (path.name.startswith(".") and path.name.endswith(".tmp")) or path.name.endswith(".partial")


def _shard_problems(
    run: Run, shard: Shard, study_id: str, layout: _Layout, inputs: str | None
) -> Iterator[Discrepancy]:
    """Every chunk by its own checksum, finished or not; then the values against the receipt, if there is one."""
    path, receipt = run.receipt(shard), None
    try:
        if (receipt := receipts.read(run, shard)) and not _is_own(receipt, shard, study_id):
            yield Discrepancy(path, "is the receipt of another shard or study", shard)
    except NtkhpcError as error:
        yield Discrepancy(path, error.what, shard)
    if receipt is not None and inputs not in (None, receipt.inputs):
        yield Discrepancy(path, "was computed from other values than the phases before it have now", shard)
    written = receipt.values if receipt is not None else {}
    for array in layout.of_phase(shard.phase):
        chunks = array.chunk_files(run.store, shard.region)
        absent = [chunk for chunk in chunks if not chunk.exists()]
        bad = [chunk for chunk in chunks if array.checksummed and chunk not in absent and not store.is_intact(chunk)]
        yield from (Discrepancy(chunk, DAMAGED_CHUNK, shard) for chunk in bad)
        if array.name not in written:
            continue
        yield from (Discrepancy(chunk, "is missing, though its shard has a receipt", shard) for chunk in absent)
        if array.name in layout.readable and not bad and not absent and not _holds(run, shard, array, written):
            yield Discrepancy(run.store / array.name, f"the values of {shard.id} are not those of its receipt", shard)


def _holds(run: Run, shard: Shard, array: Stored, written: dict[str, str]) -> bool:
    """Whether a shard's part of an array has the values of its receipt."""
    try:
        values = np.asarray(store.open_array(run.store, array.name)[array.region(shard.region)])
    except (ValueError, RuntimeError):  # zarr's words for a chunk of the wrong length
        return False
    return store.digests({array.name: values})[array.name] == written[array.name]


def remarks(run: Run) -> tuple[str, ...]:
    """What a user must know of a complete run before using its results."""
    return run.layout.kind.remarks(run.study, lambda name: store.load(run.store, name)[name])


def set_aside(run: Run, found: list[Discrepancy]) -> list[Shard]:
    """Move the receipts of damaged shards to `quarantine/`, so that `resume` computes them again."""
    shards = {problem.shard.id: problem.shard for problem in found if problem.shard is not None}
    if shards:
        # What is cheap follows: its input may come out different if the code was changed meanwhile.
        damaged = {shard.phase for shard in shards.values()}
        layout = run.layout
        cheap = [name for name, one in layout.phases.items() if not one.blocks and damaged & set(layout.closure(name))]
        shards |= {shard.id: shard for phase in cheap for shard in run.plan.of_phase(phase)}
    quarantine = run.path / "quarantine"
    for shard in shards.values():
        quarantine.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it never had a receipt, or another hand set it aside
            run.receipt(shard).rename(quarantine / f"{shard.phase}-{shard.id}.json")
    return list(shards.values())

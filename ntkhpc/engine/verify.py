"""Check a run bit by bit: every file of its making, every chunk, every receipt."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ntkhpc import files, studies
from ntkhpc.engine import receipts, store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import NtkhpcError


@dataclass(frozen=True)
class Problem:
    """One finding. `shard` is set where computing that shard again mends it."""

    path: Path
    what: str
    shard: Shard | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def problems(run: Run) -> Iterator[Problem]:
    """Everything about a run that is not as it was written. A run still under way may be checked too."""
    manifest_path = run.path / "manifest.json"
    try:
        manifest = run.manifest
    except NtkhpcError as error:
        yield Problem(manifest_path, error.what)
        return
    damaged: set[str] = set()
    for name, digest in sorted(manifest.files.items()):
        path = run.path / name
        if not path.is_file():
            yield Problem(path, "is missing")
            damaged.add(name)
        elif files.sha256_file(path) != digest:
            yield Problem(path, "is not the file the run was made with")
            damaged.add(name)
    if damaged & {"study.toml", "plan.json"}:
        return  # nothing more can be said without them
    if studies.load(run.path / "study.toml").id != manifest.study_id:
        yield Problem(run.path / "study.toml", f"its id is not {manifest.study_id}")
    readable = {array.name for array in run.layout.arrays() if f"store.zarr/{array.name}/zarr.json" not in damaged}
    inputs = {phase: _inputs(run, phase) for phase in run.layout.phases}
    known = {run.path / name for name in manifest.files}
    for shard in run.plan.shards:
        known.update([run.receipt(shard), *store.chunk_files(run.store, run.study, shard)])
        yield from _shard_problems(run, shard, readable, inputs)
    for room in ("store.zarr", "receipts", "code"):
        for path in files.tree(run.path / room):
            if path not in known and not is_leftover(path) and "__pycache__" not in path.parts:
                yield Problem(path, "belongs to nothing in the plan; if it is not yours to keep, delete it")
    for path in files.tree(run.path / "conflicts"):
        yield Problem(path, "two executions of a shard gave different bytes; compare the fingerprints in it")


def _inputs(run: Run, phase: str) -> str | None:
    """Hash of what a phase reads; None where a receipt of the phase before is damaged, which is reported as such."""
    try:
        return receipts.inputs_hash(run, phase)
    except NtkhpcError:
        return None


def is_leftover(path: Path) -> bool:
    """Whether a file is what a killed process left of an atomic write: harmless, never read."""
    return (path.name.startswith(".") and path.name.endswith(".tmp")) or path.name.endswith(".partial")


def _shard_problems(run: Run, shard: Shard, readable: set[str], inputs: dict[str, str | None]) -> Iterator[Problem]:
    """Every chunk by its own checksum, finished or not; then the values against the receipt, if there is one."""
    path = run.receipt(shard)
    expected: dict[str, str] | None = None
    receipt = None
    try:
        if receipt := receipts.read(run, shard):
            expected = receipt.values
            if (receipt.shard, receipt.phase, receipt.study_id) != (shard.id, shard.phase, run.study.id):
                yield Problem(path, "is the receipt of another shard or study", shard)
    except NtkhpcError as error:
        yield Problem(path, error.what, shard)
    if expected is not None and receipt is not None and inputs[shard.phase] not in (None, receipt.inputs):
        yield Problem(path, "was computed from other values than the phases before it have now", shard)
    for array in store.written(run.store, run.study, shard.phase):
        chunks = store.chunk_files(run.store, run.study, shard, array)
        bad = [chunk for chunk in chunks if chunk.exists() and not store.is_intact(chunk)]
        yield from (Problem(chunk, "is damaged: its checksum does not match", shard) for chunk in bad)
        if expected is None:
            continue
        absent = [chunk for chunk in chunks if not chunk.exists()]
        yield from (Problem(chunk, "is missing, though its shard has a receipt", shard) for chunk in absent)
        if array.name in readable and not bad and not absent:
            values = store.read(run.store, run.study, shard, array)
            if store.digests({array.name: values})[array.name] != expected.get(array.name):
                yield Problem(run.store / array.name, f"the values of {shard.id} are not those of its receipt", shard)


def remarks(run: Run) -> tuple[str, ...]:
    """What a user must know of a complete run before using its results."""
    return run.layout.kind.remarks(run.study, lambda name: store.load(run.store, name)[name])


def set_aside(run: Run, found: list[Problem]) -> list[Shard]:
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

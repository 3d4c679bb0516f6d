"""Check a run bit by bit: every file of its making, every chunk, every receipt, the report and the records beside.

A run is described by what it holds itself: its manifest, the metadata of its store, and its receipts.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ntkhpc import files, gates
from ntkhpc.engine import (
    arrays,
    claims,
    confirmed,
    conflicts,
    frozen_code,
    kernels,
    published,
    receipts,
    store,
    tiles,
)
from ntkhpc.engine.arrays import Stored
from ntkhpc.engine.discrepancies import (
    COMPUTED_AGAIN,
    DELETE,
    FROM_A_COPY,
    MADE_AGAIN,
    OF_NOBODY,
    REPORTED_AGAIN,
    SETTLE_FIRST,
    Discrepancy,
    unreadable,
)
from ntkhpc.engine.lineage import Staleness
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Manifest, Run
from ntkhpc.errors import DamagedError, NtkhpcError
from ntkhpc.studies import analysis

DAMAGED_CHUNK = "is damaged: its checksum does not match"

_BAD = (NtkhpcError, OSError)
"""What keeps a record from being read. Whoever looks at that record itself says so."""


def problems(run: Run) -> Iterator[Discrepancy]:
    """Everything about a run that is not as it was written. A run still under way may be checked too.

    Raises RunError for a run that this code cannot read.
    """
    try:
        manifest = run.manifest
    except DamagedError as error:
        yield Discrepancy(run.path / "manifest.json", error.what, todo=FROM_A_COPY)
        return
    except OSError as error:
        yield unreadable(run.path / "manifest.json", error)
        return
    yield from _room_problems(run)
    damaged: set[str] = set()
    freed = kernels.are_freed(run)
    for name, digest in sorted(manifest.files.items()):
        if (problem := _of_making(run.path / name, digest)) is not None:
            yield problem
            damaged.add(name)
    if damaged & {"study.toml", "plan.json"}:
        return  # nothing more can be said without them
    if run.plan.study_id != manifest.study_id:
        what = f"is the plan of study {run.plan.study_id}, not of {manifest.study_id}"
        yield Discrepancy(run.path / "plan.json", what, todo=FROM_A_COPY)
    layout = _layout(run, manifest, damaged, freed=freed)
    known = {run.path / name for name in manifest.files}
    stale = Staleness(run)
    for shard in run.plan.shards:
        known.add(run.receipt(shard))
        for array in layout.of_phase(shard.phase):
            known.update(array.chunk_files(shard.region))
        yield from _shard_problems(run, shard, manifest, layout, stale)
    for chunk in layout.chunks_of_no_phase(run, manifest):
        if chunk not in known:
            yield from _chunk_problems(chunk, layout.is_checksummed(chunk))
        known.add(chunk)
    for room in ("store.zarr", "receipts", *(() if freed else (arrays.SCRATCH,))):
        for path in _foreign(run.path / room, known):
            yield Discrepancy(path, OF_NO_PLAN, todo=OF_NOBODY)
    yield from _code_problems(run, manifest, known, damaged)
    unsettled = []
    with contextlib.suppress(OSError):  # a folder that cannot be listed is named above
        unsettled = list(conflicts.unsettled(run))
    for conflict in unsettled:
        yield Discrepancy(conflict.path, conflict.what, conflict.shard, conflicts.ADVICE)
    yield from _report_problems(run)
    yield from _record_problems(run)
    yield from _conflict_problems(run, {conflict.shard.id for conflict in unsettled})


OF_NO_PLAN = "belongs to nothing in the plan"


def _room_problems(run: Run) -> Iterator[Discrepancy]:
    """Of folders that cannot be listed, where nothing would be found, and of what stands in the place of one."""
    for path in (run.path / name for name in _ROOMS if "." not in name or name.endswith(".zarr")):
        try:
            if gates.exists(path) and not path.is_dir():
                yield Discrepancy(path, "is no directory", todo=OF_NOBODY)
            elif path.is_dir():
                files.patiently(partial(os.listdir, path))
        except OSError as error:
            yield unreadable(path, error)


def _of_making(path: Path, digest: str) -> Discrepancy | None:
    """What is wrong with a file that the manifest names."""
    try:
        if files.sha256_file(path) != digest:
            return Discrepancy(path, "is not the file the run was made with", todo=MADE_AGAIN)
    except DamagedError as error:
        return Discrepancy(path, error.what, todo=MADE_AGAIN)
    except FileNotFoundError:
        return Discrepancy(path, "is missing", todo=MADE_AGAIN)
    except OSError as error:
        return unreadable(path, error, todo=MADE_AGAIN)
    return None


def _code_problems(run: Run, manifest: Manifest, known: set[Path], damaged: set[str]) -> Iterator[Discrepancy]:
    """Of what lies beside the frozen code. Whatever keeps workers from starting is named, as they say it if need be."""
    named = any(name.startswith("code/") for name in damaged)
    for path in _foreign(run.path / "code", known, code=True):
        named = True
        yield Discrepancy(path, OF_NO_PLAN, todo=OF_NOBODY)
    if named:
        return
    try:
        frozen_code.require_intact(run.code, manifest.code)
    except DamagedError as error:
        yield Discrepancy(run.code, error.what, todo=OF_NOBODY)
    except OSError as error:
        yield unreadable(run.code, error)


def _foreign(room: Path, known: set[Path], *, code: bool = False) -> Iterator[Path]:
    """What lies in a room and is none of the files known: files, links and pipes, and empty folders in code.

    What killed writes left is harmless, but not beside code, where a name that Python can import is enough.
    """
    folders = {folder for path in known for folder in path.parents}
    for place, inner, names in os.walk(room):
        here = Path(place)
        loose = not code or here == room
        for name in sorted([*names, *(name for name in inner if (here / name).is_symlink())]):
            path = here / name
            if path not in known and path not in folders and not (loose and is_leftover(path)):
                yield path
        inner[:] = sorted(name for name in inner if not (loose and is_leftover(here / name)))
        if code and here != room and not inner and not names:
            yield here


def _report_problems(run: Run) -> Iterator[Discrepancy]:
    """Of the files in analysis/."""
    own = next(iter(run.plan.of_phase(analysis.NAME)), None)
    for path, what in published.problems(run):
        if isinstance(what, str):
            yield Discrepancy(path, what, own, COMPUTED_AGAIN if what == files.A_FOLDER else REPORTED_AGAIN)
        else:
            yield unreadable(path, what, todo=REPORTED_AGAIN)
    for path in published.strangers(run):
        if not is_leftover(path):
            yield Discrepancy(path, "is no file of the report", todo=OF_NOBODY)


def _record_problems(run: Run) -> Iterator[Discrepancy]:
    """Of tiles, claims, and records of failures, conflicts and submissions."""
    for path in files.tree(run.path / "partial"):
        try:
            sound = is_leftover(path) or tiles.is_intact(path) or tiles.is_of_older_code(path)
        except OSError as error:
            yield unreadable(path, error, todo=DELETE)
            continue
        if not sound:
            yield Discrepancy(path, "is damaged; no worker uses it", todo="a tile that is damaged: delete it")
    patterns = ("claims/*/*", "failures/*.json", "submissions/*/intent.json")
    for path in (path for pattern in patterns for path in sorted(run.path.glob(pattern))):
        if not path.name.startswith("."):
            read = claims.read if path.is_relative_to(run.path / "claims") else files.read_sealed
            yield from _sealed_problems(path, read, DELETE)


def _conflict_problems(run: Run, unsettled: set[str]) -> Iterator[Discrepancy]:
    """Of records of conflicts. One that is damaged is all that tells of its conflict until that is settled."""
    done = {shard for phase in run.plan.phases for shard in run.finished(phase)} - unsettled
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found = conflicts.records(run)
    for path in found:
        todo = DELETE if conflicts.shard_of(path) in done else SETTLE_FIRST
        yield from _sealed_problems(path, files.read_sealed, todo)


def _sealed_problems(path: Path, read: Callable[[Path], object], todo: str) -> Iterator[Discrepancy]:
    try:
        read(path)
    except FileNotFoundError:
        return  # a claim that was released meanwhile
    except DamagedError as error:
        yield Discrepancy(path, error.what, todo=todo)
    except OSError as error:
        yield unreadable(path, error, todo=todo)


def notes(run: Run) -> list[str]:
    """What cannot be checked, as an older version recorded too little, and what lies beside the run's own files."""
    found = []
    with contextlib.suppress(*_BAD):
        known = published.record(run)
        if known is not None and "results" not in known:
            found.append("the report is of an older version, which recorded no hashes of its files: make report does")
        if known is None and any(not is_leftover(path) for path in files.tree(published.folder(run))):
            found.append("analysis/ has files of a report whose making was interrupted: none of them is shown")
    older = sum(receipt is not None and not receipt.study for receipt in _readable(run))
    if older:
        found.append(f"{older} receipts are of an older version, which recorded no hashes of what each shard had read")
    if strange := sorted(path.name for path in run.path.iterdir() if path.name not in _ROOMS and not is_leftover(path)):
        found.append(f"beside the run's own files there are: {', '.join(strange)}")
    return found


_ROOMS = (
    "study.toml", "plan.json", "manifest.json", "launch.json", "code", "store.zarr", "receipts", "claims", "partial",
    "failures", "logs", "submissions", "analysis", "conflicts", "quarantine", arrays.SCRATCH, kernels.FREED,
)  # fmt: skip


def _readable(run: Run) -> Iterator[Receipt | None]:
    for shard in run.plan.shards:
        with contextlib.suppress(*_BAD):
            yield receipts.read(run, shard)


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

    def chunks_of_no_phase(self, run: Run, manifest: Manifest) -> list[Path]:
        """Chunks of arrays that the store was made with, whose metadata are damaged or whose phase nothing tells."""
        made = {(run.path / name).parent for name in manifest.files}
        rooms = (run.store,) if kernels.are_freed(run) else (run.store, arrays.scratch(run.store))
        folders = [one for room in rooms for one in sorted(room.glob("*")) if one in made and one.is_dir()]
        placed = {name for name in self.arrays if name in self.phases}
        return [chunk for folder in folders if folder.name not in placed for chunk in sorted(folder.glob("c*"))]


def _layout(run: Run, manifest: Manifest, damaged: set[str], *, freed: bool) -> _Layout:
    """By the first sound receipt of each phase; where there is none, by today's description of the study.

    So an array that newer code adds to a phase, or no longer knows, makes no older run look damaged. What is left of
    kernels that were `freed` is no part of it: whoever freed them was killed meanwhile.
    """
    own = arrays.stored(run.store)
    readable = frozenset(
        name for name in own if f"{own[name].folder.parent.name}/{name}/{arrays.METADATA}" not in damaged
    )
    copies: dict[str, Stored] = {}
    for room in arrays.rooms(run.store):
        if f"{room.name}/{arrays.METADATA}" not in damaged:
            copies |= arrays.consolidated(room)
    there = {name: one for name, one in (copies | {n: own[n] for n in readable}).items() if not (freed and one.scratch)}
    return _Layout(there, readable, confirmed.writers(run, frozenset(there), manifest))


def is_leftover(path: Path) -> bool:
    """Whether a file or folder is what a killed process left of a write or of a look at the file system: never read."""
    name = path.name
    hidden = name.startswith(".") and name.endswith((".tmp", ".box", ".gate"))
    return hidden or name.startswith(".ntkhpc-") or name.endswith(".partial")


def _shard_problems(
    run: Run, shard: Shard, manifest: Manifest, layout: _Layout, stale: Staleness
) -> Iterator[Discrepancy]:
    """Every chunk by its own checksum, finished or not; then the values against the receipt, if there is one."""
    path, receipt = run.receipt(shard), None
    try:
        if (receipt := receipts.read(run, shard)) and not receipts.is_own(receipt, shard, manifest):
            yield Discrepancy(path, receipts.OF_ANOTHER, shard)
        if receipt is None and gates.exists(path) and not files.is_there(path):
            yield Discrepancy(path, "is a link that leads nowhere", shard)
    except NtkhpcError as error:
        yield Discrepancy(path, error.what, shard)
    except OSError as error:
        yield unreadable(path, error, shard)
    if receipt is not None and stale.is_stale(receipt):
        yield Discrepancy(path, "was computed from other values than the phases before it have now", shard)
    written = receipt.values if receipt is not None else {}
    for array in layout.of_phase(shard.phase):
        chunks = array.chunk_files(shard.region)
        finished = array.name in written
        found = [one for chunk in chunks for one in _chunk_problems(chunk, array.checksummed, shard, finished=finished)]
        yield from found
        if finished and array.name in layout.readable and not found:
            try:
                same = receipt is not None and _holds(shard, array, receipt)
            except OSError as error:
                yield unreadable(array.folder, error, shard)
                continue
            if not same:
                what = f"the values of {shard.id} are not those of its receipt"
                yield Discrepancy(array.folder, what, shard)


def _chunk_problems(
    chunk: Path, checksummed: bool, shard: Shard | None = None, *, finished: bool = False
) -> Iterator[Discrepancy]:
    todo = FROM_A_COPY if shard is None else COMPUTED_AGAIN
    try:
        if not files.is_there(chunk):
            if finished:
                yield Discrepancy(chunk, "is missing, though its shard has a receipt", shard)
        elif checksummed and not store.is_intact(chunk):
            yield Discrepancy(chunk, DAMAGED_CHUNK, shard, todo)
    except DamagedError as error:
        yield Discrepancy(chunk, error.what, shard, todo)
    except OSError as error:
        yield unreadable(chunk, error, shard, todo)


def _holds(shard: Shard, array: Stored, receipt: Receipt) -> bool:
    """Whether a shard's part of an array has the values of its receipt."""
    said = receipt.values[array.name]
    try:
        if not array.scratch:
            return store.digest(store.part(array, array.region(shard.region))) == said
        found = tuple(store.digest(store.part(array, box)) for box in array.chunks_of(shard.region))
    except DamagedError:
        return False
    return found == receipt.chunks.get(array.name) and receipts.digests_hash(found) == said


def remarks(run: Run) -> tuple[str, ...]:
    """What a user must know of a complete run before using its results."""
    return run.layout.kind.remarks(run.study, lambda name: confirmed.load(run, name))

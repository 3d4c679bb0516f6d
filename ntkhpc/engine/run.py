"""A run directory: where everything is, how it comes into being, and what it was made from.

    runs/<study>-<id>/  study.toml  plan.json  manifest.json  code/<hash>/  store.zarr/
                        receipts/<phase>/<shard>.json  claims/  partial/  conflicts/  failures/  logs/

It is made beside its place and renamed into it: there is a whole run directory, or none. `manifest.json` holds the
hash of every file made then; shards hold their own in receipts. A run outlives the code that made it: it is what its
manifest says, and its id is never computed again.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ntkhpc import files, gates, studies
from ntkhpc.engine import failpoints, frozen_code, packages, plan, processes
from ntkhpc.engine.plan import Plan, Shard
from ntkhpc.errors import DamagedError, NtkhpcError, RunError, SurroundingsError
from ntkhpc.phase.layout import Layout
from ntkhpc.studies import facts, frozen
from ntkhpc.studies.base import Study
from ntkhpc.studies.frozen import FORMAT, FORMATS

ABANDONED_SECONDS = 86400
"""Making a run directory takes seconds; where nobody can ask after its maker, one that is a day old was left."""

_MAKER = ".maker.json"
"""The process that makes a run directory, in the directory until it has its name."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a run was made from. `files` maps each file, relative to the run, to its sha256."""

    format: int
    study_id: str
    code: str
    lock: str
    versions: dict[str, str]
    git: dict[str, Any] | None
    files: dict[str, str]
    changes: list[dict[str, Any]] = []


@dataclass(frozen=True)
class Run:
    """Paths of a run directory and its frozen contents.

    `given` names the shards of a process that computes only these: its plan has no regions of others.
    """

    path: Path
    given: frozenset[str] | None = None

    @cached_property
    def study(self) -> Study:
        """Raises DamagedError unless it is the study the run was made with, RunError if this code cannot read it."""
        return frozen.loads(self._made_with("study.toml").decode(), self.path / "study.toml", self.manifest.format)

    @property
    def described(self) -> Study:
        """The same, also where study.toml is damaged: the store holds its text too. Nothing else of the run is read."""
        try:
            return self.study
        except DamagedError:
            path = self.store / "zarr.json"
            try:
                said = json.loads(files.read(path))["attributes"]
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedError(f"the attributes of the store cannot be read: {error!r}", where=path) from error
            return frozen.loads(said["study_toml"], path, said.get("format", 1))

    @cached_property
    def plan(self) -> Plan:
        """Raises DamagedError unless it is the plan the run was made with, RunError if this code cannot read it."""
        path, content = self.path / "plan.json", self._made_with("plan.json")
        try:
            found = plan.loads(content, self.given)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise frozen.too_new(f"its plan cannot be read: {error}", path) from error
        if unknown := sorted({shard.phase for shard in found.shards} - set(studies.phase_names())):
            raise frozen.too_new(f"its plan has the phase {unknown[0]}, which this code does not know", path)
        return found

    @property
    def manifest(self) -> Manifest:
        """Read anew each time: an accepted change rewrites it. Raises RunError for a format this code cannot read."""
        path = self.path / "manifest.json"
        record = files.read_sealed(path)
        found = record.get("format")
        if not isinstance(found, int) or found > FORMAT:
            raise frozen.too_new(f"it has format {found}, this code reads up to {FORMAT}", path)
        if found not in FORMATS:
            raise frozen.too_old(f"it has format {found}, this code reads {min(FORMATS)} to {FORMAT}", path)
        return msgspec.convert(record, Manifest)

    def regions(self, phase: str) -> Iterator[Shard]:
        """The shards of a phase with their regions, also in the process of a few shards, which keeps no others.

        Raises DamagedError as `plan` does.
        """
        if self.given is None:
            return iter(self.plan.of_phase(phase))
        return plan.of_phase(self._made_with("plan.json"), phase)

    def require_made_with(self, *names: str) -> None:
        """Raises DamagedError unless these files, relative to the run, are those that the manifest names."""
        manifest = self.manifest
        for name in names:
            self._made_with(name, manifest)

    def _made_with(self, name: str, manifest: Manifest | None = None) -> bytes:
        """The content of a file. Raises DamagedError unless it is the one that the manifest names."""
        path = self.path / name
        content = files.read(path) if files.is_there(path) else None
        if content is None or files.sha256(content) != (manifest or self.manifest).files.get(name):
            raise DamagedError(
                "is missing" if content is None else "is not the file the run was made with",
                where=path,
                cause="the file was edited, removed, or damaged on disk",
                todo=f"make verify RUN={self.path} says what else is, and what can be made again",
            )
        return content

    @property
    def store(self) -> Path:
        return self.path / "store.zarr"

    @property
    def code(self) -> Path:
        """The frozen package that jobs import."""
        return self.path / "code" / self.manifest.code[:12]

    def receipt(self, shard: Shard) -> Path:
        return self.path / "receipts" / shard.phase / f"{shard.id}.json"

    def finished(self, phase: str) -> set[str]:
        """Ids of the shards of a phase that have a receipt: one directory listing, no file is opened."""
        return _stems(self.path / "receipts" / phase, ".json")

    @property
    def layout(self) -> Layout:
        """Its phases and the arrays of its store."""
        return studies.layout(self.study)

    def require_there(self) -> None:
        """Raises SurroundingsError if the directory is no longer where it was: an empty listing would say nothing."""
        if not files.is_there(self.path / "manifest.json"):
            raise SurroundingsError(
                "the run directory has vanished",
                where=self.path,
                cause="it was moved or removed, or its file system is no longer mounted",
                todo="put it back, or go on where it is now: make resume RUN=/path. What was finished is in it",
            )

    def make_rooms(self, phase: str) -> None:
        """Make the folders of claims and receipts, which a copy loses that leaves out empty ones; never the run."""
        for room in (self.path / "claims", self.path / "receipts"):
            for place in (room, room / phase):
                place.mkdir(exist_ok=True)

    def missing(self, phase: str) -> list[Shard]:
        finished = self.finished(phase)
        return [shard for shard in self.plan.of_phase(phase) if shard.id not in finished]


def _stems(directory: Path, suffix: str) -> set[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        return {e.name[: -len(suffix)] for e in entries if e.name.endswith(suffix) and not e.name.startswith(".")}
    return set()


def load(path: Path, *, damaged: bool = False, given: Iterable[str] | None = None) -> Run:
    """An existing run, for a process that computes the shards `given`, or for any other use.

    Raises RunError if `path` is none or this code cannot read it.

    Raises DamagedError if its study or plan are not those it was made with, unless `damaged` allows it.
    """
    if not files.is_there(path / "manifest.json"):
        raise RunError(
            "this is no run directory: it has no manifest.json"
            if files.is_there(path)
            else "there is no such run directory",
            where=path,
            cause="the study was never submitted with this content, or RUN or RUNS points elsewhere",
            todo="make submit TASK=... makes it",
        )
    found = Run(path.resolve(), None if given is None else frozenset(given))
    for read in (lambda: found.manifest, lambda: found.study, lambda: found.plan):
        with contextlib.suppress(*([DamagedError] if damaged else [])):
            read()
    return found


def find(runs: Path, wanted: Study, *, looked_at: bool = True, damaged: bool = False) -> Run | None:
    """The run of a study, whatever id an older version gave it; None if there is none.

    A study whose data files were not `looked_at`, as they are not there, is compared as its user wrote it. Raises
    RunError if several runs have this very study, if the directory of its name holds another study's run, and if a run
    of its name cannot be compared with it: to make another one could compute everything again. A run that is found is
    loaded as `load` does.
    """
    if files.is_there(runs / wanted.run_name):
        return _load_named(runs, wanted, damaged=damaged)
    found: list[Path] = []
    unreadable: list[tuple[Path, Exception]] = []
    for manifest in sorted(runs.glob(f"{wanted.name}-{'[0-9a-f]' * 10}/manifest.json")):
        try:
            if _is_of(Run(manifest.parent).described, wanted, manifest.parent, looked_at=looked_at):
                found.append(manifest.parent)
        except (NtkhpcError, OSError) as error:
            unreadable.append((manifest.parent, error))
    if len(found) > 1:
        raise RunError(
            f"{len(found)} runs have the study {wanted.name!r}",
            where=", ".join(map(str, found)),
            cause="older versions gave it other ids" if looked_at else "their data files are not there to tell which",
            todo=f"name one of them: make status RUN={found[0]}, make resume RUN={found[0]}",
        )
    if found:
        return load(found[0], damaged=damaged)
    if unreadable:
        path, why = unreadable[0]
        raise RunError(
            f"a run of the name {wanted.name!r} cannot be read, so nobody knows whether it is this study's: "
            f"{why.what if isinstance(why, NtkhpcError) else why}",
            where=path,
            cause="it is damaged, of another version, or its file system does not answer",
            todo=f"look at it: make verify RUN={path}; to begin anew all the same, choose another place: RUNS=/path",
        ) from why
    return None


def _load_named(runs: Path, wanted: Study, *, damaged: bool = False) -> Run:
    """The run in the directory that a study gives its name. Raises RunError if it is another study's."""
    found = load(runs / wanted.run_name, damaged=damaged)
    with contextlib.suppress(*([DamagedError] if damaged else [])):
        if (other := found.manifest.study_id) != wanted.id:
            name = f"{found.described.name}-{other}"
            raise RunError(
                f"the directory of this study holds a run of another one, {name}",
                where=found.path,
                cause="a run was moved or copied there under the name of this one",
                todo=f"rename it to {name}, or choose another place with RUNS=/path; make status RUN={found.path}",
            )
    return found


def _is_of(theirs: Study, wanted: Study, path: Path, *, looked_at: bool) -> bool:
    if looked_at:
        return theirs.content == wanted.content
    return facts.unresolved(theirs, path).content == wanted.content


def create(runs: Path, wanted: Study) -> Run:
    """Make the run directory of a study, or return the one that is there.

    Two processes may do so at once: rename() lets one of them win, and the other takes the winner's.
    """
    from ntkhpc.engine import store  # zarr takes half a second to import; planning and status do without

    path = runs / wanted.run_name
    if files.is_there(path):
        return _load_named(runs, wanted)
    runs.mkdir(parents=True, exist_ok=True)
    staged = runs / f".{wanted.run_name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        staged.mkdir()
        (staged / _MAKER).write_bytes(files.seal(msgspec.to_builtins(processes.this())))
        for other in runs.glob(f".{wanted.run_name}.*.tmp"):
            if other != staged and _is_abandoned(other, staged):
                shutil.rmtree(other, ignore_errors=True)
        (staged / "study.toml").write_bytes(studies.dumps(wanted))
        (staged / "plan.json").write_bytes(plan.dumps(plan.make(wanted)))
        store.create(staged / "store.zarr", wanted)
        code = frozen_code.freeze(staged)
        failpoints.reach("code-frozen", staged)
        for phase in studies.layout(wanted).phases:
            for kind in ("receipts", "claims"):
                (staged / kind / phase).mkdir(parents=True)
        manifest = Manifest(
            format=FORMAT,
            study_id=wanted.id,
            code=code,
            lock=files.sha256_file(staged / "code" / code[:12] / "requirements.lock"),
            versions=packages.versions((*packages.PACKAGES, *wanted.packages)),
            git=frozen_code.git(),
            files={
                str(file.relative_to(staged)): files.sha256_file(file)
                for file in files.tree(staged)
                if file.name != _MAKER
            },
        )
        (staged / "manifest.json").write_bytes(files.seal(msgspec.to_builtins(manifest)))
        for file in files.tree(staged):
            files.sync_file(file)
        (staged / _MAKER).unlink(missing_ok=True)
        failpoints.reach("run-staged", staged)
        try:
            os.rename(staged, path)
        except OSError:
            # rename() never replaces a directory that is not empty: then somebody else was faster.
            if not gates.exists(path):
                raise
        files.sync_directory(runs)
        failpoints.reach("run-created", path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return _load_named(runs, wanted)


def _is_abandoned(staged: Path, now: Path) -> bool:
    """Return whether the maker of a staged directory is gone; the age of one that cannot be asked after decides.

    Ages are by the file system's own clock, which made `now` just now: the clocks of machines differ, and jump.
    """
    try:
        life = processes.life(msgspec.convert(files.read_sealed(staged / _MAKER), processes.Process))
        if life is not processes.Life.UNKNOWN:
            return life is processes.Life.GONE
    except (OSError, DamagedError, msgspec.ValidationError):
        pass  # it has its name in a moment, or a killed process had not come to write it
    try:
        return now.stat().st_mtime - staged.stat().st_mtime > ABANDONED_SECONDS
    except FileNotFoundError:
        return False

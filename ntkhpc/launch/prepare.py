"""Everything checked before any job starts: room on disk, memory, and that the code is the run's own."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ntkhpc import data, files
from ntkhpc.engine import plan, run
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError, SurroundingsError
from ntkhpc.launch import container, speed, tasks
from ntkhpc.launch.profile import Profile
from ntkhpc.studies.base import AnyStudy


def open_run(runs: Path, study: AnyStudy, profile: Profile | None = None) -> Run:
    """The run of a study, made if there is none; `profile` is that of the cluster on which it will run.

    Raises, before anything is made, SurroundingsError or ProfileError if it cannot fit, DataError if its data cannot
    be used.
    """
    there = runs / study.run_name
    with files.explain_refusals(runs):
        if new := not there.exists():
            planned = plan.make(study)
            if profile is not None:
                container.require_plain_path(container.Place(there, there, data.reads(study)))
                shards = {phase: planned.of_phase(phase) for phase in plan.PHASES}
                experience = tasks.Experience(speed=speed.speeds(profile, study.id))
                tasks.arrays(planned, shards, profile, "", array_size=1000, experience=experience)
            elif text := too_large(planned):
                raise SurroundingsError(
                    text,
                    todo=f"lower {tasks.SMALLER.get(_heaviest(planned), 'data.pool or data.test')} in the study",
                )
            _require_room(runs, planned)
            data.prepare(study)
        made = run.create(runs, study)
        if not new and made.missing("data"):
            data.prepare(made.study)  # the same data may lie elsewhere by now
        return made


def _require_room(runs: Path, wanted: plan.Plan) -> None:
    there = runs
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    # Partial tiles of running shards and the frozen code come on top of the store.
    needed = wanted.store_bytes * 1.1 + 8 * 2**20
    if free < needed:
        raise SurroundingsError(
            f"the run needs about {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free",
            where=there,
            todo="make room, choose another place with RUNS=/path, or lower data.test or ensemble.members",
        )
    inodes = os.statvfs(there)
    if inodes.f_files and inodes.f_favail < wanted.files * 1.5:
        raise SurroundingsError(
            f"the run needs about {wanted.files:,} files and {inodes.f_favail:,} inodes are free",
            where=there,
            todo="choose another place with RUNS=/path, or raise ensemble.shard_members",
        )


def workers_that_fit(wanted: plan.Plan, phases: tuple[str, ...], cores: int) -> int:
    """How many one-thread workers of these phases this machine's memory holds, at most `cores` and at least one."""
    largest = max(wanted.memory_bytes[phase] for phase in phases)
    return max(1, min(cores, int(0.9 * _memory() // largest)))


def too_large(wanted: plan.Plan) -> str | None:
    """What says that a worker of some phase does not fit this machine's memory; None if all fit."""
    phase = _heaviest(wanted)
    if wanted.memory_bytes[phase] <= _memory():
        return None
    return (
        f"a worker of phase {phase} needs about {wanted.memory_bytes[phase] / 2**30:,.1f} GiB, "
        f"this machine has {_memory() / 2**30:,.1f} GiB"
    )


def _heaviest(wanted: plan.Plan) -> str:
    """The phase whose workers need most memory."""
    return max(wanted.memory_bytes, key=wanted.memory_bytes.__getitem__)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def accept_change(existing: Run, why: str) -> None:
    """Let the shards that are missing run with today's code and packages; recorded in the manifest and the report."""
    manifest = existing.manifest
    code = run.freeze_code(existing.path)
    frozen = existing.path / "code" / code[:12]
    change = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": why,
        "code": [manifest.code, code],
        "versions": [manifest.versions, run.versions()],
    }
    new = {str(path.relative_to(existing.path)): files.sha256_file(path) for path in files.tree(frozen)}
    manifest = msgspec.structs.replace(
        manifest,
        code=code,
        lock=files.sha256_file(frozen / "requirements.lock"),
        versions=run.versions(),
        files={**manifest.files, **new},
        changes=[*manifest.changes, change],
    )
    files.write_atomic(existing.path / "manifest.json", files.seal(msgspec.to_builtins(manifest)))


def differences(existing: Run) -> list[str]:
    """How today's code and packages differ from those the run was made with."""
    manifest = existing.manifest
    found = []
    if run.code_hash() != manifest.code:
        found.append("the code of this checkout is not the code frozen in the run")
    return found + [f"{name} {old} became {new}" for name, old, new in run.changed_versions(manifest.versions)]


def require_same_packages(existing: Run) -> None:
    """Raises RunError if shards are missing and the packages have other versions than the run was made with."""
    changed = [text for text in differences(existing) if " became " in text]
    if changed and any(existing.missing(phase) for phase in plan.PHASES):
        raise RunError(
            f"packages changed since the run was made: {', '.join(changed)}",
            where=existing.path,
            cause="the missing shards would not have the bits of the finished ones",
            todo="go back to the old environment, or accept and record it: make resume ACCEPT_CHANGE=1",
        )

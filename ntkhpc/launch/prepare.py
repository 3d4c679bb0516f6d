"""This checks room on disk, memory and code before any job starts."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ntkhpc import files, studies
from ntkhpc.engine import frozen_code, packages, plan, run
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError, SurroundingsError
from ntkhpc.launch import container, speed, tasks
from ntkhpc.launch.profile import Profile
from ntkhpc.studies.base import Study


def open_run(runs: Path, study: Study, profile: Profile | None = None) -> Run:
    """The run of a study, whatever version made it, or a new one; `profile` is that of the cluster it will run on.

    Raises, before anything is made, SurroundingsError or ProfileError if it cannot fit, DataError if its data cannot
    be used.
    """
    there = runs / study.run_name
    with files.explain_refusals(runs):
        existing = run.find(runs, study)
        if existing is None:
            container.require_packages(profile)
            planned = plan.make(study)
            if profile is not None:
                container.require_plain_path(container.Place(there, there, study.data.folders()))
                shards = {phase: planned.of_phase(phase) for phase in planned.phases}
                experience = tasks.Experience(speed=speed.speeds(profile, study.id))
                tasks.arrays(
                    studies.layout(study), planned, shards, profile, "", array_size=1000, experience=experience
                )
            elif text := too_large(planned):
                raise SurroundingsError(
                    text,
                    todo=f"lower {studies.layout(study).phases[_heaviest(planned)].lower} in the study",
                )
            _require_room(runs, study, planned)
            study.data.prepare(study.known)
            return run.create(runs, study)
        if existing.missing("data"):
            existing.study.data.prepare(existing.study.known)  # the same data may lie elsewhere by now
        return existing


def _require_room(runs: Path, study: Study, wanted: plan.Plan) -> None:
    layout = studies.layout(study)
    most = layout.phases[max(layout.phases, key=lambda name: len(wanted.of_phase(name)))]
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
            todo=f"make room, choose another place with RUNS=/path, or lower {layout.kind.smaller} in the study",
        )
    inodes = os.statvfs(there)
    if inodes.f_files and inodes.f_favail < wanted.files * 1.5:
        raise SurroundingsError(
            f"the run needs about {wanted.files:,} files and {inodes.f_favail:,} inodes are free",
            where=there,
            todo=f"choose another place with RUNS=/path, or {most.fewer or 'lower ' + layout.kind.smaller}",
        )


def workers_that_fit(wanted: plan.Plan, phases: tuple[str, ...], cores: int) -> int:
    """Return how many workers of these phases this machine's memory holds: at least one, at most `cores`."""
    largest = max(wanted.memory_bytes[phase] for phase in phases)
    return max(1, min(cores, int(0.9 * _memory() // largest)))


def too_large(wanted: plan.Plan) -> str | None:
    """Say which phase has workers that do not fit this machine's memory. Returns None if all fit."""
    phase = _heaviest(wanted)
    if wanted.memory_bytes[phase] <= _memory():
        return None
    return (
        f"a worker of phase {phase} needs about {wanted.memory_bytes[phase] / 2**30:,.1f} GiB, "
        f"this machine has {_memory() / 2**30:,.1f} GiB"
    )


def _heaviest(wanted: plan.Plan) -> str:
    """Return the phase whose workers need most memory."""
    return max(wanted.memory_bytes, key=wanted.memory_bytes.__getitem__)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def accept_change(existing: Run, why: str) -> None:
    """Let the missing shards run with today's code and packages. The manifest records it, and the report says it."""
    manifest = existing.manifest
    code = frozen_code.freeze(existing.path)
    frozen = existing.path / "code" / code[:12]
    change = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": why,
        "code": [manifest.code, code],
        "versions": [manifest.versions, packages.versions()],
    }
    new = {str(path.relative_to(existing.path)): files.sha256_file(path) for path in files.tree(frozen)}
    manifest = msgspec.structs.replace(
        manifest,
        code=code,
        lock=files.sha256_file(frozen / "requirements.lock"),
        versions=packages.versions(),
        files={**manifest.files, **new},
        changes=[*manifest.changes, change],
    )
    files.write_atomic(existing.path / "manifest.json", files.seal(msgspec.to_builtins(manifest)))


def differences(existing: Run) -> list[str]:
    """Say how today's code and packages differ from those with which the run was made."""
    manifest = existing.manifest
    found = []
    if frozen_code.current_hash() != manifest.code:
        found.append("the code of this checkout is not the code frozen in the run")
    return found + [f"{name} {old} became {new}" for name, old, new in packages.changed_versions(manifest.versions)]


def require_same_packages(existing: Run) -> None:
    """Raises RunError if shards are missing and the packages have other versions than the run was made with.

    Workers compare them too, but only after they were started.
    """
    changed = [text for text in differences(existing) if " became " in text]
    if changed and any(existing.missing(phase) for phase in existing.plan.phases):
        raise RunError(
            f"packages changed since the run was made: {', '.join(changed)}",
            where=existing.path,
            cause="the missing shards would not have the bits of the finished ones",
            todo="go back to the old environment, or accept and record it: make resume ACCEPT_CHANGE=1",
        )

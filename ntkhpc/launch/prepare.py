"""This checks room on disk, memory and code before any job starts."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ntkhpc import files, filesystem, studies
from ntkhpc.data.formats import capacity
from ntkhpc.engine import frozen_code, packages, plan, run
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError, SurroundingsError
from ntkhpc.launch import container, room, speed, tasks
from ntkhpc.launch.profile import Profile
from ntkhpc.phase.layout import Layout
from ntkhpc.studies.base import Study
from ntkhpc.studies.memory import MARGIN


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
            if profile is None:
                container.require_device()
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
            _require_room(runs, study, planned, profile)
            runs.mkdir(parents=True, exist_ok=True)
            filesystem.require(runs)
            study.data.prepare(study.known)
            return run.create(runs, study)
        if existing.missing("data"):
            existing.study.data.prepare(existing.study.known)  # the same data may lie elsewhere by now
        return existing


def _require_room(runs: Path, study: Study, wanted: plan.Plan, profile: Profile | None) -> None:
    if text := no_room(runs, study, wanted, profile):
        raise SurroundingsError(text[0], where=room.existing(runs), cause=text[1], todo=text[2])


def no_room(runs: Path, study: Study, wanted: plan.Plan, profile: Profile | None) -> tuple[str, str, str] | None:
    """Say what a run does not fit, what fills it, and what to do. Returns None if it fits all that is known."""
    layout = studies.layout(study)
    most = layout.phases[max(layout.phases, key=lambda name: len(wanted.of_phase(name)))]
    needed_bytes, needed_files = needed(layout, wanted)
    commands = room.Commands()
    for limit in room.limits(runs, profile, commands):
        if refusal := limit.refusal(needed_bytes, needed_files):
            smaller = f"lower {layout.kind.smaller} in the study"
            fewer = most.fewer or smaller
            other = room.elsewhere(runs, needed_bytes, needed_files, commands) or "RUNS=/path"
            of_files = refusal.of == "files"
            cause = (
                f"the store has a file for each chunk, {wanted.files:,} in all for {len(wanted.shards):,} shards"
                if of_files
                else f"the store alone has {wanted.store_bytes / 2**20:,.0f} MiB"
            )
            tiles = plan.scratch(layout)[1]
            if not of_files and tiles > wanted.store_bytes:
                cause = f"the kernels of its curve have {tiles / 2**20:,.0f} MiB (kernel.zarr)"
                smaller = "lower infinite_width.n_train in the study"
            return (
                refusal.text,
                cause,
                f"make room, choose another place with {other}, or {fewer if of_files else smaller}",
            )
    return None


RECEIPT_BYTES = 8 * 2**10
"""A receipt, and what a file system takes beside the content of a file of some kilobytes."""


def needed(layout: Layout, wanted: plan.Plan) -> tuple[float, float]:
    """Bytes and files of a whole run: the store and its receipts; tiles and claims of running shards; code and logs.

    Kernels beyond one tile come on top.
    """
    shards, (files, size) = len(wanted.shards), plan.scratch(layout)
    return wanted.store_bytes * 1.1 + RECEIPT_BYTES * shards + 8 * 2**20 + size, wanted.files * 1.5 + 500 + files


def workers_that_fit(wanted: plan.Plan, phases: tuple[str, ...], cores: int) -> int:
    """Return how many workers of these phases this machine's memory holds: at least one, at most `cores`."""
    largest = max(wanted.memory_bytes[phase] for phase in phases)
    return max(1, min(cores, int(capacity.at_hand() // (MARGIN * largest))))


def too_large(wanted: plan.Plan, phase: str = "") -> str | None:
    """Say that workers of a phase, or of that which needs most, do not fit this machine. Returns None if they fit."""
    phase = phase or _heaviest(wanted)
    asked, there = MARGIN * wanted.memory_bytes[phase], capacity.at_hand()
    if asked <= there:
        return None
    return (
        f"a worker of phase {phase} needs about {capacity.amount(asked)} of memory with its margin of "
        f"{MARGIN - 1:.0%}, this machine has {capacity.amount(there)}"
    )


def _heaviest(wanted: plan.Plan) -> str:
    """Return the phase whose workers need most memory."""
    return max(wanted.memory_bytes, key=wanted.memory_bytes.__getitem__)


def accept_change(existing: Run, why: str) -> None:
    """Let the missing shards run with today's code and packages. The manifest records it, and the report says it."""
    manifest = existing.manifest
    code = frozen_code.freeze(existing.path)
    frozen = existing.path / "code" / code[:12]
    here = packages.versions((*packages.PACKAGES, *existing.study.packages))
    change = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": why,
        "code": [manifest.code, code],
        "versions": [manifest.versions, here],
    }
    new = {str(path.relative_to(existing.path)): files.sha256_file(path) for path in files.tree(frozen)}
    manifest = msgspec.structs.replace(
        manifest,
        code=code,
        lock=files.sha256_file(frozen / "requirements.lock"),
        versions=here,
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

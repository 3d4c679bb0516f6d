"""This submits what is missing of a run to SLURM, once.

A submission goes in this order: lock, ask the queue, adopt arrays whose submitter died, write the intent, call sbatch,
write down the job ids. Whoever dies in between leaves an intent by which the next one finds its arrays.
"""

import contextlib
import os
import platform
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ntkhpc import files, filesystem, surroundings
from ntkhpc.engine import claims, failpoints, frozen_code, status
from ntkhpc.engine.claims import Owner
from ntkhpc.engine.plan import Plan, Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import ProfileError, RunError, SchedulerError
from ntkhpc.launch import container, queue, retry, sbatch, slurm, speed, submissions, tasks
from ntkhpc.launch.profile import Profile
from ntkhpc.launch.queue import Queue, states
from ntkhpc.launch.submissions import Intent, Submission
from ntkhpc.phase.layout import Layout

SETTLE_SECONDS = 10.0
"""An intent without a job id whose jobs are not in the queue after that time was never submitted."""


def submit(run: Run, profile: Profile, console: Console, *, accept: bool = False, retry_bugs: bool = False) -> bool:
    """Submit what is missing and not in the queue. Returns whether everything that is missing is in the queue now.

    Raises RunError if another submission is under way, ProfileError if something does not fit, SchedulerError if SLURM
    refuses or is silent; nothing is lost then, and nothing runs twice afterwards.
    """
    container.require_plain_path(container.place(run))
    filesystem.require(run.path, of_run=True)
    frozen_code.remove_bytecode(run.code)
    frozen_code.require_intact(run.code, run.manifest.code)
    with files.explain_refusals(run.path), _lock(run):
        sif, digest = _image(run, profile, accept=accept)
        made = submissions.read(run)
        _adopt(made, console)
        there = queue.ask(run, made)
        if _withdraw(run, there, _missing(run, there), console, everything=accept):
            there = queue.ask(run, made)
        claims.drop(run, run.plan.phases, there.gone)
        missing = _missing(run, there)
        if queued := len(there.shards):
            console.print(f"{queued:,} shards are in the queue already; they stay there")
        verdict = retry.verdict(
            run,
            [s for shards in missing.values() for s in shards],
            states(run, made),
            retry_bugs=retry_bugs,
            speed=speed.speeds(profile, run.study.id),
            made=made,
        )
        for line in retry.said(verdict):
            console.print(line, markup=False)
        missing = _without(run.layout, missing, verdict.stopped)
        if not any(missing.values()):
            return not verdict.stopped
        intent = intend(run.layout, run.plan, profile, missing, verdict.experience, sif, digest, _by_phase(there))
        _send(run, intent, profile, verdict.experience, there, console)
        return not verdict.stopped


def _image(run: Run, profile: Profile, *, accept: bool) -> tuple[Path | None, str | None]:
    """Return the image and its sha256, and record them in the run, before anything is asked of SLURM."""
    sif = container.image(profile)
    container.require_runtime(profile)
    if profile.analysis.dask == "slurm" and container.BRIDGE in os.environ:
        raise ProfileError(
            "Dask's workers as jobs of their own need Python 3.11 on login and compute nodes; there is none here",
            where=f"profile {profile.name}, analysis.dask",
            todo='set analysis.dask = "local", or load a Python module',
        )
    container.require_packages(profile)
    digest = container.digest(sif) if sif else None
    container.require_same(run, digest, accept=accept)
    return sif, digest


def _without(layout: Layout, missing: dict[str, list[Shard]], stopped: frozenset[str]) -> dict[str, list[Shard]]:
    """Leave out shards that are stopped, and the phases that need them and so could not be complete."""
    halted = {phase for phase, shards in missing.items() if any(shard.id in stopped for shard in shards)}
    return {
        phase: []
        if any(before in halted for before in layout.closure(phase))
        else [shard for shard in shards if shard.id not in stopped]
        for phase, shards in missing.items()
    }


def intend(
    layout: Layout,
    planned: Plan,
    profile: Profile,
    missing: Mapping[str, Iterable[Shard]],
    experience: tasks.Experience,
    sif: Path | None,
    digest: str | None,
    existing: Mapping[str, Iterable[str]] | None = None,
) -> Intent:
    """Make the intent to submit these shards. Raises ProfileError if something does not fit."""
    identity = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    arrays = tasks.arrays(
        layout,
        planned,
        missing,
        profile,
        prefix=f"ntk-{planned.run_name}-{identity}",
        array_size=profile.limits.array_size or slurm.max_array_size(),
        experience=experience,
        existing=existing,
    )
    return Intent(
        id=identity,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        user=surroundings.user(),
        host=platform.node(),
        profile=profile.name,
        image=str(sif) if sif else None,
        image_digest=digest,
        arrays=tuple(arrays),
    )


def _by_phase(there: Queue) -> dict[str, list[str]]:
    """Return the names of the arrays in the queue, by phase."""
    names = {one.name for one in there.elements}
    found: dict[str, list[str]] = {}
    for submission in there.made:
        for array in submission.intent.arrays:
            if array.name in names:
                found.setdefault(array.phase, []).append(array.name)
    return found


def _send(
    run: Run,
    intent: Intent,
    profile: Profile,
    experience: tasks.Experience,
    there: Queue,
    console: Console,
) -> None:
    submission, place = submissions.create(run, intent), container.place_of_jobs(run)
    (submission.path / sbatch.START).write_bytes(surroundings.START.read_bytes())
    failpoints.reach("intent-written", submission.path)
    jobs = {one.name: one.job for one in there.elements}
    for array in intent.arrays:
        dependencies = [jobs[name] for name in array.needs]
        made = sbatch.executor(place, intent, array, profile, dependencies, experience.exclude)
        (submission.path / f"{array.name}.sbatch").write_text(made.text)
        # If sbatch fails the array may exist all the same; the next submission looks for it by name.
        jobs[array.name] = sbatch.submit(made)
        failpoints.reach("sbatch-called", submission.path)
        submission.record_job(array, jobs[array.name])
        console.print(
            f"  {array.phase:9} job {jobs[array.name]}: {len(array.tasks):,} tasks x {array.workers} workers, "
            f"{array.memory_mb:,} MB, {status.duration(array.minutes * 60)} at most, partition {array.partition}"
        )
    console.print(f"submitted {len(intent.arrays)} arrays")


def _withdraw(run: Run, there: Queue, missing: dict[str, list[Shard]], console: Console, *, everything: bool) -> bool:
    """Take later phases that still wait out of the queue, to submit them anew: they must wait for what is added now.

    With `everything` it takes out whatever waits, because that was submitted with code that is no longer the run's. An
    array of somebody else cannot be taken out. It stays, finds its earlier phases incomplete or its code changed, says
    so and ends.
    """
    names = {
        name
        for phase, arrays in _by_phase(there).items()
        if everything or any(missing[before] for before in run.layout.closure(phase))
        for name in arrays
    }
    waiting = sorted({one.job for one in there.elements if one.name in names and not one.running})
    withdrawn = 0
    for job in waiting:
        try:
            slurm.cancel_waiting(job)
            withdrawn += 1
        except SchedulerError as error:
            console.print(f"job {job} waits in the queue and could not be taken out of it: {error}", markup=False)
    if withdrawn:
        console.print(f"{withdrawn} waiting arrays taken out of the queue, to wait for more or run other code")
    return bool(waiting)


def _missing(run: Run, there: Queue) -> dict[str, list[Shard]]:
    return {phase: [one for one in run.missing(phase) if one.id not in there.shards] for phase in run.plan.phases}


def _adopt(made: Iterable[Submission], console: Console) -> None:
    """Find the jobs of arrays whose submitter did not live to write their ids down."""
    orphans = [
        (submission, array)
        for submission in made
        for array in submission.intent.arrays
        if submission.job(array) is None and not submission.never_submitted(array)
    ]
    if not orphans:
        return
    time.sleep(SETTLE_SECONDS)  # whatever the clock says about the intent's age: clocks differ, and jump
    there = {one.name: one.job for one in slurm.queue([array.name for _, array in orphans], ended=True)}
    for submission, array in orphans:
        if array.name in there:
            submission.record_job(array, there[array.name])
            console.print(f"found job {there[array.name]} of an interrupted submission: {escape(array.name)}")
        else:
            submission.record_absence(array)


@contextlib.contextmanager
def _lock(run: Run) -> Iterator[None]:
    """Let one submission at a time pass. Raises RunError that names the other one, unless its process is gone."""
    path = run.path / "submissions" / ".lock"
    path.parent.mkdir(exist_ok=True)
    claim = claims.acquire(path, claims.this_process(uuid.uuid4().hex[:12]), claims.gone_from_here)
    if isinstance(claim, Owner):
        raise RunError(
            f"another submission of this run is under way: {claim}",
            where=path.parent,
            todo=f"wait for it; if that process is gone (on another login node): rm {path}.*",
        )
    try:
        yield
    finally:
        claim.release(finished=False)

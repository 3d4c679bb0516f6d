"""This shows the scripts and the task hours of a submission before it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ntkhpc import studies
from ntkhpc.engine import frozen_code, siblings, status
from ntkhpc.engine.plan import Plan, Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import NtkhpcError
from ntkhpc.launch import cluster, container, sbatch, speed, tasks
from ntkhpc.launch.container import Place
from ntkhpc.launch.profile import Profile
from ntkhpc.launch.speed import Probe
from ntkhpc.launch.submissions import Intent, JobArray
from ntkhpc.studies.base import Study


@dataclass(frozen=True)
class Preview:
    """What would be submitted: shards of a study that is planned, in a run with its code."""

    study: Study
    plan: Plan
    shards: Mapping[str, Sequence[Shard]]
    place: Place


def first(wanted: Study, planned: Plan, target: Path) -> Preview:
    """Return the submission of a run that would be made in `target`."""
    found = frozen_code.current_hash()
    code = target.resolve() / "code" / found[:12]
    shards = {phase: planned.of_phase(phase) for phase in planned.phases}
    beside = siblings.givers(target.resolve().parent, None, studies.layout(wanted), found)
    return Preview(wanted, planned, shards, Place(target.resolve(), code, wanted.data.folders(), found, beside=beside))


def next_of(run: Run) -> Preview:
    """Return the submission of what is missing of a run, which goes on in its own code."""
    shards = {phase: run.missing(phase) for phase in run.plan.phases}
    return Preview(run.study, run.plan, shards, container.place_of_jobs(run))


def show(made: Preview, profile: Profile, console: Console) -> None:
    """Print the exact scripts, what each array asks for, and the task hours."""
    if not any(made.shards.values()):
        console.print("  nothing is missing, and nothing would be submitted")
        return
    wanted, planned = made.study, made.plan
    probe = speed.probe(wanted, profile)
    experience = tasks.Experience(speed=speed.speeds(profile, wanted.id))
    intent = cluster.intend(studies.layout(wanted), planned, profile, made.shards, experience, image(profile), None)
    for array, text in scripts(made.place, intent, profile):
        console.rule(f"{array.phase}: {len(array.tasks):,} tasks")
        print(text, end="")
    console.rule()
    for array in intent.arrays:
        limit = profile.partitions[array.partition].memory_gb * 1024
        console.print(
            f"  {array.phase:9} {len(array.tasks):6,} tasks x {array.workers} workers, {array.memory_mb:,} MB of "
            f"{limit:,.0f} MB, at most {status.duration(60 * array.minutes)}, partition {array.partition}"
        )
    hours = task_hours(planned, intent, profile, probe)
    # A GPU is no multiple of a core that anybody could guess.
    said = ", ".join(
        f"{label} unknown before it was timed: make doctor PROFILE={profile.name} TASK=..."
        if profile.partitions[label].gpu and label not in probe.speed
        else f"{label} {one:,.2f}"
        for label, one in hours.items()
    )
    console.print(f"  task hours: {said}; speed against the reference core: {escape(probe.said)}")


def image(profile: Profile) -> Path | None:
    """Return the image, or the place where it is still to be built."""
    try:
        return container.image(profile)
    except NtkhpcError:
        return Path(profile.container.image or "IMAGE-TO-BE-BUILT.sif")


def scripts(place: Place, made: Intent, profile: Profile) -> list[tuple[JobArray, str]]:
    """Return the exact text for sbatch of each array. Names stand for the job ids, which SLURM gives."""
    return [
        (array, sbatch.executor(place, made, array, profile, [f"<{name}>" for name in array.needs]).text)
        for array in made.arrays
    ]


def task_hours(planned: Plan, made: Intent, profile: Profile, probe: Probe) -> dict[str, float]:
    """Return the hours that tasks take in each partition."""
    hours: dict[str, float] = {}
    for phase, seconds in tasks.task_seconds(planned, made.arrays).items():
        label = profile.partition_of(phase)
        hours[label] = hours.get(label, 0.0) + seconds / probe.speed.get(label, 1.0) / 3600
    return hours

"""What a submission would look like: scripts, and task hours."""

from pathlib import Path

from ntkhpc import run
from ntkhpc.errors import NtkhpcError
from ntkhpc.launch import container, sbatch, tasks
from ntkhpc.launch.profile import Profile
from ntkhpc.launch.speed import Probe
from ntkhpc.plan import Plan
from ntkhpc.submissions import Array, Intent


def image(profile: Profile) -> Path | None:
    """The image, also where it is still to be built."""
    try:
        return container.image(profile)
    except NtkhpcError:
        return Path(profile.container.image or "IMAGE-TO-BE-BUILT.sif")


def scripts(target: Path, made: Intent, profile: Profile, reads: tuple[Path, ...] = ()) -> list[tuple[Array, str]]:
    """The exact text for sbatch of each array; job ids, which SLURM gives, are written as names."""
    place = container.Place(target, target / "code" / run.code_hash()[:12], reads)
    return [
        (array, sbatch.executor(place, made, array, profile, [f"<{name}>" for name in array.needs]).text)
        for array in made.arrays
    ]


def task_hours(planned: Plan, made: Intent, profile: Profile, probe: Probe) -> dict[str, float]:
    """Hours of one task, by partition."""
    hours: dict[str, float] = {}
    for phase, seconds in tasks.task_seconds(planned, made.arrays).items():
        label = profile.partition_of(phase)
        hours[label] = hours.get(label, 0.0) + seconds / probe.speed.get(label, 1.0) / 3600
    return hours

"""What a submission would look like: scripts, node hours by a timed probe, and what would not fit."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ntkhpc import run, study
from ntkhpc.errors import NtkhpcError
from ntkhpc.fingerprint import PINNED
from ntkhpc.launch import container, sbatch, tasks
from ntkhpc.launch.profile import Profile, folders
from ntkhpc.plan import Plan
from ntkhpc.study import Study
from ntkhpc.submissions import Array, Intent

PROBE_SECONDS = 180


@dataclass(frozen=True)
class Probe:
    """How fast each partition is against the reference core, and how that is known."""

    speed: dict[str, float]
    said: str


def speeds(profile: Profile, study_id: str) -> dict[str, float]:
    """Of each partition (by label) that `make doctor` has timed for this study."""
    try:
        kept = json.loads(probe_file(profile).read_text())[study_id]
        return {label: float(one["speed"]) for label, one in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def probe(wanted: Study, profile: Profile) -> Probe:
    """What is known of the speed of this profile's nodes: by `make doctor`, else timed here and now.

    Scripts go by the former or the reference core, never by the latter: they must not depend on how busy this is.
    """
    if kept := speeds(profile, wanted.id):
        return Probe(kept, ", ".join(f"{label} {one:.2f}" for label, one in kept.items()) + ", timed by make doctor")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.toml"
        file.write_bytes(study.dumps(wanted))
        checkout = str(Path(__file__).resolve().parent.parent.parent)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "ntkhpc.probe", str(file)],
                env={**os.environ, **PINNED, "PYTHONPATH": checkout, "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=True,
            )
            speed = float(json.loads(done.stdout.splitlines()[-1])["speed"])
        except (subprocess.SubprocessError, ValueError, IndexError):
            return Probe({}, "not timed: the reference core is assumed")
    said = f"{speed:.2f}, timed on this machine; make doctor PROFILE={profile.name} TASK=... times nodes"
    return Probe(dict.fromkeys(profile.partitions, speed), said)


def probe_file(profile: Profile) -> Path:
    return folders()[1].parent / "probes" / f"{profile.name}.json"


def image(profile: Profile) -> Path | None:
    """The image, also where it is still to be built."""
    try:
        return container.image(profile)
    except NtkhpcError:
        return Path(profile.container.image or "IMAGE-TO-BE-BUILT.sif")


def scripts(target: Path, made: Intent, profile: Profile) -> list[tuple[Array, str]]:
    """The exact text for sbatch of each array; job ids, which SLURM gives, are written as names."""
    place = container.Place(target, target / "code" / run.code_hash()[:12])
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

"""Speeds of a profile's partitions against the reference core: `make doctor` times them, or `probe` here and now."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ntkhpc import studies, surroundings
from ntkhpc.launch.profile import Profile, folders
from ntkhpc.studies.base import Study

PROBE_SECONDS = 180


@dataclass(frozen=True)
class Probe:
    """How fast each partition is against the reference core, and how that is known."""

    speed: dict[str, float]
    said: str


def speeds(profile: Profile, study_id: str) -> dict[str, float]:
    """Return the speed of each partition (by label) that `make doctor` has timed for this study."""
    try:
        kept = json.loads(probe_file(profile).read_text())[study_id]
        return {label: float(one["speed"]) for label, one in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def probe(wanted: Study, profile: Profile) -> Probe:
    """Return the speeds that `make doctor` has measured, else the speed of this machine, measured now.

    Scripts use the former or the reference core. They never use the speed of this machine, which may be busy.
    """
    if kept := speeds(profile, wanted.id):
        return Probe(kept, ", ".join(f"{label} {one:.2f}" for label, one in kept.items()) + ", timed by make doctor")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.toml"
        file.write_bytes(studies.dumps(wanted))
        checkout = Path(__file__).resolve().parent.parent.parent
        python = surroundings.python(sys.executable, checkout, "-", {"JAX_PLATFORMS": "cpu"})
        try:
            done = subprocess.run(
                [*python, "-m", "ntkhpc.launch.probe", str(file)],
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
            speed = float(json.loads(done.stdout.splitlines()[-1])["speed"])
        except subprocess.TimeoutExpired:
            return _untimed(f"no answer in {PROBE_SECONDS} s")
        except (ValueError, IndexError, KeyError, TypeError):
            words = done.stderr.strip().splitlines()
            return _untimed(words[-1] if words else f"the probe ended with exit status {done.returncode}")
    said = f"{speed:.2f}, timed on this machine; make doctor PROFILE={profile.name} TASK=... times nodes"
    return Probe(dict.fromkeys(profile.partitions, speed), said)


def _untimed(why: str) -> Probe:
    return Probe({}, f"not timed ({why}): the reference core is assumed")


def probe_file(profile: Profile) -> Path:
    return folders()[1].parent / "probes" / f"{profile.name}.json"

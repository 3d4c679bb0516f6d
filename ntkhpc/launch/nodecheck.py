"""What a compute node sees: `python -m ntkhpc.launch.nodecheck FOLDER TOKEN [STUDY]` prints one line of JSON.

FOLDER is where run directories are; TOKEN the name of a file in it that the login node has just written.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from ntkhpc import filesystem

MARK = "ntkhpc-nodecheck:"
"""The line of the answer begins with it; prologues and modules print other lines."""


def file_system(folder: Path) -> dict[str, bool | str]:
    """Say whether the folder can hold runs, and if not why."""
    try:
        why = filesystem.fault(folder)
    except OSError as error:
        why = str(error)
    return {"ok": not why, "why": why}


def look(folder: Path, token: str, study_file: str | None) -> dict[str, Any]:
    from ntkhpc.engine.packages import versions

    found: dict[str, Any] = {
        "host": os.environ.get("SLURMD_NODENAME") or platform.node(),
        "versions": versions(),
        "token": (folder / token).exists(),
        "file_system": file_system(folder),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    try:
        import jax

        device = jax.devices()[0]
        found |= {"platform": device.platform, "device": device.device_kind}
    except Exception as error:  # noqa: BLE001  whatever a driver does to an import is an answer too
        return found | {"platform": "none", "device": f"{type(error).__name__}: {error}"}
    return found | (timed(Path(study_file)) if study_file else {})


def timed(study_file: Path) -> dict[str, Any]:
    """Time the device with a study as `studies.dumps` wrote it: its speed, or why there is none."""
    from ntkhpc import studies
    from ntkhpc.studies import frozen

    try:
        wanted = frozen.loads(study_file.read_text(encoding="utf-8"), study_file)
        return {"speed": round(studies.kind_of(wanted).probe(wanted), 3)}
    except Exception as error:  # noqa: BLE001  what a device does under load is an answer too, and the device was seen
        return {"untimed": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    print(
        MARK, json.dumps(look(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)), flush=True
    )

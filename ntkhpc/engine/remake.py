"""Files of a run's making that can be made again: what has the hash in the manifest is the file that was there."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ntkhpc import files
from ntkhpc.engine import arrays, frozen_code, plan, store
from ntkhpc.engine.run import Run
from ntkhpc.errors import NtkhpcError


def restore(run: Run, names: Iterable[str]) -> list[str]:
    """Write those of these files, relative to the run, that can be made again byte for byte; their names."""
    wanted = sorted(set(names), key=lambda name: (name != "study.toml", name != "plan.json", name))
    made = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in wanted:
            for content in _candidates(Run(run.path), name, Path(scratch)):
                if files.sha256(content) == run.manifest.files.get(name):
                    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
                    files.write_atomic(run.path / name, content)
                    made.append(name)
                    break
    return made


def _candidates(run: Run, name: str, scratch: Path) -> Iterator[bytes]:
    """What may be the content of a file: of the study by the store, of the rest by the study and by this code."""
    try:
        if name == "study.toml":
            yield json.loads(files.read(run.store / "zarr.json"))["attributes"]["study_toml"].encode()
        elif name == "plan.json":
            yield plan.dumps(plan.make(run.study))
        elif name.startswith((f"{run.store.name}/", f"{arrays.SCRATCH}/")):
            if not (scratch / run.store.name).exists():
                store.create(scratch / run.store.name, run.study)
            yield (scratch / name).read_bytes()
        elif name.startswith("code/"):
            yield frozen_code.source(name.split("/", 2)[2])
    except (NtkhpcError, OSError, ValueError, TypeError, KeyError):
        return  # it cannot be made again: whoever asked is told so

"""Why shards failed: `failures/<shard>-<attempt>.json`, one record an attempt.

The kind decides what a retry does: memory is asked for anew and larger, a device is avoided, surroundings are tried
again as they are, and a bug is not tried again before somebody looked.
"""

import contextlib
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from ntkhpc import files
from ntkhpc.engine.claims import Owner
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError, DeviceError, DivergedError, NtkhpcError

Kind = Literal["bug", "memory", "device", "surroundings"]


def kind_of(error: BaseException) -> Kind:
    if isinstance(error, DeviceError):
        return "device"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, ChildProcessError | DivergedError):  # it would crash, or diverge, again
        return "bug"
    return "surroundings" if isinstance(error, NtkhpcError | OSError) else "bug"


def record(run: Run, shard: Shard, owner: Owner, error: BaseException) -> None:
    """Write down why an attempt failed; says so on the log where that cannot be written either."""
    content = {
        "phase": shard.phase,
        "shard": shard.id,
        "error": type(error).__name__,
        "kind": kind_of(error),
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "owner": msgspec.to_builtins(owner),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        path = run.path / "failures" / f"{shard.id}-{owner.attempt}.json"
        path.parent.mkdir(exist_ok=True)
        files.write_atomic(path, files.seal(content))
    except OSError as unwritable:
        print(f"{shard.phase}/{shard.id} failed, and the failure cannot be recorded: {unwritable}", flush=True)


def paths(run: Run) -> list[Path]:
    """Every record, oldest first; none is opened."""
    return sorted((run.path / "failures").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)


def shards(run: Run) -> set[str]:
    """Ids of the shards of which an attempt failed."""
    return {path.name.rpartition("-")[0] for path in paths(run)}


def open_records(run: Run) -> Iterator[dict[str, Any]]:
    """Records of shards that still have no receipt, oldest first."""
    finished = set().union(*(run.finished(phase) for phase in run.layout.phases))
    for path in paths(run):
        if path.name.rpartition("-")[0] in finished:
            continue
        # One that is damaged, or gone since it was listed, tells nothing: its shard still counts as missing.
        with contextlib.suppress(DamagedError, FileNotFoundError):
            yield files.read_sealed(path)

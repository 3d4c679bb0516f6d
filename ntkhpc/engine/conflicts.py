"""Conflicts: two executions of one shard whose values differ, each in a record of `conflicts/`.

A conflict is settled by a further execution: once the receipt of the shard has the values of another execution too,
these are what is repeated. Until then neither can be told from an accident, and status and reports say so.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ntkhpc import files
from ntkhpc.engine import receipts
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError


@dataclass(frozen=True)
class Conflict:
    """One that is not settled. `what` says how it stands, `path` is its latest record."""

    shard: Shard
    what: str
    path: Path


def folder(run: Run) -> Path:
    return run.path / "conflicts"


def record(run: Run, shard: Shard, ours: Receipt, theirs: Receipt) -> tuple[Path, list[str]]:
    """Write down two executions by their receipts, of which one stands. The record, and arrays that differ."""
    differing = sorted(name for name in ours.values if theirs.values.get(name) != ours.values[name])
    path = folder(run) / f"{shard.id}-{ours.attempt}.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "shard": shard.id,
        "phase": shard.phase,
        "differing": differing,
        "ours": to_builtins(ours),
        "theirs": to_builtins(theirs),
    }
    files.write_atomic(path, files.seal(content))
    return path, differing


def records(run: Run) -> list[Path]:
    """The records of all conflicts. Raises OSError where they cannot be listed: that is no answer."""
    try:
        names = files.patiently(lambda: os.listdir(folder(run)))
    except FileNotFoundError:
        return []
    return [folder(run) / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def unsettled(run: Run) -> Iterator[Conflict]:
    """Conflicts of shards that have a receipt whose values no other execution has: one for each shard.

    What waits for a further execution is missing, and counted as such.
    """
    shards = {shard.id: shard for shard in run.plan.shards}
    latest: dict[str, Path] = {}
    for path in sorted(records(run), key=_time):
        if (shard_id := shard_of(path)) in shards:
            latest[shard_id] = path
    for shard_id, path in latest.items():
        shard = shards[shard_id]
        try:
            receipt = receipts.read(run, shard)
        except (DamagedError, OSError):
            continue  # it is reported as such
        if receipt is None:
            continue
        others = [one for one in _executions(run, shard) if one[0] != receipt.attempt]
        if any(values == receipt.values for _, values in others):
            continue
        if not others:
            yield Conflict(shard, f"the record of a conflict of {shard.phase}/{shard.id} is damaged: {LOST}", path)
            continue
        count = 1 + len({attempt for attempt, _ in others})
        names = sorted(
            {name for _, values in others for name in receipt.values if values.get(name) != receipt.values[name]}
        )
        what = f"{count} executions of {shard.phase}/{shard.id} gave {count} results: they differ in {', '.join(names)}"
        yield Conflict(shard, what, path)


LOST = "what it said is lost"


def shard_of(path: Path) -> str:
    """The id of the shard that a record is about, by its name."""
    return path.stem.rpartition("-")[0]


def _time(path: Path) -> float:
    with contextlib.suppress(OSError):  # removed since it was listed
        return path.stat().st_mtime
    return 0.0


def _executions(run: Run, shard: Shard) -> list[tuple[str, dict[str, str]]]:
    """Attempt and values of every execution that a record of a conflict or a receipt that was set aside tells of."""
    found = []
    for path in sorted(folder(run).glob(f"{shard.id}-*.json")):
        if known := _sealed(path):
            found += [_execution(known.get("ours")), _execution(known.get("theirs"))]
    for path in sorted((run.path / "quarantine").glob(f"{shard.phase}-{shard.id}*.json")):
        known = _sealed(path)
        if known and (known.get("phase"), known.get("shard")) == (shard.phase, shard.id):
            found.append(_execution(known))
    return [one for one in found if one is not None]


def _execution(known: Any) -> tuple[str, dict[str, str]] | None:
    if not isinstance(known, dict) or not isinstance(known.get("values"), dict) or not known["values"]:
        return None
    owner = known.get("owner")
    attempt = known.get("attempt") or (owner.get("attempt") if isinstance(owner, dict) else "")
    return str(attempt or ""), known["values"]


def _sealed(path: Path) -> dict[str, Any] | None:
    try:
        return files.read_sealed(path)
    except (DamagedError, OSError):
        return None


def sentence(run: Run) -> str:
    """What a reader of results must know of conflicts; empty if there is none."""
    found = list(unsettled(run))
    if not found:
        return ""
    shown = "; ".join(one.what for one in found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
    return f"CONFLICT: {shown}. The result of the first to end is used here; nobody knows which is right: {ADVICE}"


ADVICE = "make verify SET_ASIDE=1 and make resume compute it once more, and what two executions agree on settles it"

"""Where a run stands: its plan minus its receipts, and who is at work. Opens no receipt: 10^4 shards cost nothing."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ntkhpc import claims, files, plan
from ntkhpc.claims import Owner
from ntkhpc.errors import DamagedError
from ntkhpc.run import Run


@dataclass(frozen=True)
class PhaseStatus:
    """Shards of one phase. `failed` counts those not done, not running, whose last attempts left failure records."""

    phase: str
    total: int
    done: int
    running: int
    failed: int
    seconds_left: float

    @property
    def missing(self) -> int:
        return self.total - self.done - self.running - self.failed

    @property
    def complete(self) -> bool:
        return self.done == self.total


def phases(run: Run, gone: Callable[[Owner], bool] = claims.gone_from_here) -> list[PhaseStatus]:
    """The status of every phase, in order."""
    failed = {path.name.rpartition("-")[0] for path in failure_files(run)}
    result = []
    for phase in plan.PHASES:
        shards = run.plan.of_phase(phase)
        finished = run.finished(phase)
        running = set(claims.live(run, phase, gone)) - finished
        open_shards = [shard for shard in shards if shard.id not in finished]
        result.append(
            PhaseStatus(
                phase,
                total=len(shards),
                done=len(shards) - len(open_shards),
                running=sum(shard.id in running for shard in open_shards),
                failed=sum(shard.id in failed and shard.id not in running for shard in open_shards),
                seconds_left=sum(shard.seconds for shard in open_shards),
            )
        )
    return result


def owners(run: Run, gone: Callable[[Owner], bool] = claims.gone_from_here) -> list[Owner]:
    """Who is at work on the run."""
    found = {owner.attempt: owner for phase in plan.PHASES for owner in claims.live(run, phase, gone).values()}
    return list(found.values())


def is_complete(run: Run) -> bool:
    return all(not run.missing(phase) for phase in plan.PHASES)


def failure_files(run: Run) -> list[Path]:
    return sorted((run.path / "failures").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)


def failures(run: Run) -> list[dict[str, Any]]:
    """Failure records of shards that still have no receipt, oldest first."""
    records = []
    for path in failure_files(run):
        try:
            record = files.read_sealed(path)
        except (DamagedError, FileNotFoundError):
            continue
        if record["shard"] not in run.finished(record["phase"]):
            records.append(record)
    return records


def table(run: Run) -> Table:
    """One row per phase; the remaining cost is projected for one core."""
    result = Table(title=f"{run.path}", title_justify="left", title_style="bold")
    for column in ("phase", "done", "running", "failed", "missing", "of", "core time left"):
        result.add_column(column, justify="left" if column == "phase" else "right")
    for row in phases(run):
        left = duration(row.seconds_left) if not row.complete else "-"
        counts = (row.done, row.running, row.failed, row.missing, row.total)
        result.add_row(row.phase, *map(str, counts), left)
    return result


def causes(run: Run) -> list[str]:
    """One line per cause of failure, with how many shards it hit and the latest of them."""
    records = failures(run)
    counts = Counter(record["error"] for record in records)
    latest = {record["error"]: record for record in records}
    return [
        f"{count} x {error}, last in {latest[error]['phase']}/{latest[error]['shard']}:\n{latest[error]['message']}"
        for error, count in counts.items()
    ]


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

"""Where a run stands: its plan minus its receipts, and who is at work. Opens no receipt: 10^4 shards cost nothing."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from rich.table import Table

from ntkhpc.engine import claims, failures
from ntkhpc.engine.claims import Owner
from ntkhpc.engine.run import Run


@dataclass(frozen=True)
class PhaseStatus:
    """Shards of one phase. `failed` counts those not done, at work or queued, whose attempts left failure records.

    `queued` counts those that wait in a scheduler's queue.
    """

    phase: str
    total: int
    done: int
    running: int
    queued: int
    failed: int
    seconds_left: float

    @property
    def missing(self) -> int:
        return self.total - self.done - self.running - self.queued - self.failed

    @property
    def complete(self) -> bool:
        return self.done == self.total


class Waiting(Protocol):
    """What a scheduler says: which shards are in its queue, those at work among them, and whether an owner is gone."""

    @property
    def queued(self) -> Collection[str]: ...
    @property
    def running(self) -> Collection[str]: ...
    def gone(self, owner: Owner) -> bool: ...


class _Nothing:
    """No scheduler."""

    queued: Collection[str] = frozenset()
    running: Collection[str] = frozenset()

    def gone(self, owner: Owner) -> bool:
        return claims.gone_from_here(owner)


def phases(run: Run, waiting: Waiting | None = None) -> list[PhaseStatus]:
    """The status of every phase of the study, in order.

    A shard is at work if a living process claims it, or its task runs and has not come to it yet.
    """
    waiting = waiting or _Nothing()
    failed = failures.shards(run)
    result = []
    for phase in run.plan.phases:
        shards = run.plan.of_phase(phase)
        finished = run.finished(phase)
        running = (set(claims.live(run, phase, waiting.gone)) | set(waiting.running)) - finished
        queued = set(waiting.queued) - running
        open_shards = [shard for shard in shards if shard.id not in finished]
        result.append(
            PhaseStatus(
                phase,
                total=len(shards),
                done=len(shards) - len(open_shards),
                running=sum(shard.id in running for shard in open_shards),
                queued=sum(shard.id in queued for shard in open_shards),
                failed=sum(shard.id in failed and shard.id not in running | queued for shard in open_shards),
                seconds_left=sum(shard.seconds for shard in open_shards),
            )
        )
    return result


def owners(run: Run, gone: Callable[[Owner], bool] = claims.gone_from_here) -> list[Owner]:
    """Who is at work on the run."""
    found = {owner.attempt: owner for phase in run.plan.phases for owner in claims.live(run, phase, gone).values()}
    return list(found.values())


def is_complete(run: Run) -> bool:
    return all(not run.missing(phase) for phase in run.plan.phases)


def table(run: Run, waiting: Waiting | None = None, *, unknown: bool = False) -> Table:
    """One row per phase; the remaining cost is projected for one core.

    With a scheduler a column for what is queued; `unknown` if it did not answer.
    """
    result = Table(title=f"{run.path}", title_justify="left", title_style="bold")
    scheduled = unknown or waiting is not None
    columns = ("phase", "done", "running", *(["queued"] if scheduled else []), "failed", "missing", "of")
    for column in (*columns, "core time left"):
        result.add_column(column, justify="left" if column == "phase" else "right")
    for row in phases(run, waiting):
        left = duration(row.seconds_left) if not row.complete else "-"
        counts = [row.done, row.running, *([row.queued] if scheduled else []), row.failed, row.missing, row.total]
        cells = [str(count) for count in counts]
        if unknown and not row.complete:  # what has no receipt may be at work, queued, failed or lost: nobody says
            cells[1:-1] = ["unknown"] * (len(cells) - 2)
        result.add_row(row.phase, *cells, left)
    return result


def causes(run: Run) -> list[str]:
    """One line per cause of failure, with how many shards it hit and the latest of them."""
    records = list(failures.open_records(run))
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

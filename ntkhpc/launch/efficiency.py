"""This compares what tasks asked for with what they used, by receipts and recorded ends, without accounting."""

from collections import defaultdict
from dataclasses import dataclass

from ntkhpc.engine import receipts
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Run
from ntkhpc.engine.status import duration
from ntkhpc.launch import submissions
from ntkhpc.launch.submissions import End, JobArray


@dataclass(frozen=True)
class Use:
    """Seconds of the ended tasks of one phase, summed, and their largest shares of memory and time."""

    tasks: int
    elapsed: float
    core_seconds: float
    used_core_seconds: float
    memory_share: float
    memory_mb: int
    time_share: float
    minutes: int


def uses(run: Run) -> dict[str, Use]:
    """Return the use of each phase of which a task has ended. A task that was requeued counts each time."""
    found: defaultdict[str, list[Use]] = defaultdict(list)
    shards = {shard.id: shard for shard in run.plan.shards}
    for submission in submissions.read(run):
        arrays = {array.name: array for array in submission.intent.arrays}
        for end in submission.ends():
            array = arrays[end.array]
            done = [r for name in array.tasks[end.task] if (r := receipts.read(run, shards[name])) is not None]
            found[array.phase].append(_use(array, end, [receipt for receipt in done if _made_by(receipt, end)]))
    return {phase: _together(all_of) for phase, all_of in found.items()}


def _made_by(receipt: Receipt, end: End) -> bool:
    names = (receipt.environment.get(name) for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"))
    return "_".join(str(name) for name in names) == end.job and receipt.restart_count == end.restart


def _use(array: JobArray, end: End, done: list[Receipt]) -> Use:
    # Workers run side by side, so their peaks may add up.
    peaks = sorted((receipt.peak_memory_bytes for receipt in done), reverse=True)[: array.workers]
    return Use(
        tasks=1,
        elapsed=end.seconds,
        core_seconds=end.seconds * array.cpus,
        used_core_seconds=sum(receipt.seconds for receipt in done),
        memory_share=sum(peaks) / 2**20 / array.memory_mb,
        memory_mb=array.memory_mb,
        time_share=end.seconds / 60 / array.minutes,
        minutes=array.minutes,
    )


def _together(found: list[Use]) -> Use:
    return Use(
        tasks=len(found),
        elapsed=sum(one.elapsed for one in found),
        core_seconds=sum(one.core_seconds for one in found),
        used_core_seconds=sum(one.used_core_seconds for one in found),
        memory_share=max(one.memory_share for one in found),
        memory_mb=max(one.memory_mb for one in found),
        time_share=max(one.time_share for one in found),
        minutes=max(one.minutes for one in found),
    )


def lines(found: dict[str, Use]) -> list[str]:
    """Say it in one line a phase."""
    said = []
    for phase, one in found.items():
        busy = 100 * min(one.used_core_seconds / one.core_seconds if one.core_seconds else 0.0, 1.0)
        said.append(
            f"{phase:9} {one.tasks:4,} tasks, {duration(one.elapsed)}: cores {busy:.0f} % busy; memory "
            f"{one.memory_mb:,} MB asked, at most {100 * one.memory_share:.0f} % used; time "
            f"{duration(60 * one.minutes)} asked, at most {100 * one.time_share:.0f} % used"
        )
    return said

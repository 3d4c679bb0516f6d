"""What of a run SLURM has: its elements in the queue, why they wait, and how those that are gone ended."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ntkhpc.engine import claims, exits, failures
from ntkhpc.engine.claims import Owner
from ntkhpc.engine.run import Run
from ntkhpc.launch import retry, slurm, submissions, tasks
from ntkhpc.launch.slurm import Element
from ntkhpc.launch.submissions import JobArray, Submission


@dataclass(frozen=True)
class Queue:
    """The elements of a run's arrays that are in the queue, and which shards they have."""

    elements: tuple[Element, ...]
    shards: dict[str, Element]
    arrays: frozenset[str] = frozenset()
    """Job ids of the run's own arrays, in the queue or not."""
    made: tuple[Submission, ...] = ()
    """Every submission of the run so far."""

    @property
    def queued(self) -> list[str]:
        return list(self.shards)

    @property
    def running(self) -> list[str]:
        return [name for name, one in self.shards.items() if one.running]

    @cached_property
    def jobs(self) -> set[str]:
        return {f"{one.job}_{one.task}" for one in self.elements}

    def gone(self, owner: Owner) -> bool:
        """Return whether an owner no longer exists: an element of the run's arrays that is not in the queue, or a
        process of this host that ended. Others, such as a run by hand inside another job, are taken to live."""
        if owner.job is not None and owner.job.partition("_")[0] in self.arrays:
            return owner.job not in self.jobs
        return claims.gone_from_here(owner)


def ask(run: Run, made: Sequence[Submission] | None = None) -> Queue:
    """Ask SLURM what it has of a run. Raises SchedulerError if it does not answer.

    `made` is what `submissions.read` gave, where it was called already.
    """
    made = submissions.read(run) if made is None else made
    arrays, jobs = {}, set()
    done = _finished(run)
    for submission in made:
        for array in submission.intent.arrays:
            jobs.add(submission.job(array) or "")
            if any(name not in done for task in array.tasks for name in task):
                arrays[array.name] = array
    elements = tuple(slurm.queue(sorted(arrays)))
    shards = {
        name: one
        for one in elements
        if one.name in arrays and one.task < len(arrays[one.name].tasks)
        for name in arrays[one.name].tasks[one.task]
    }
    return Queue(elements, shards, frozenset(jobs | {one.job for one in elements}) - {""}, tuple(made))


def _finished(run: Run) -> set[str]:
    """Return the ids of all shards that have a receipt. Each phase costs one listing of a directory."""
    return set().union(*(run.finished(phase) for phase in run.plan.phases))


def states(run: Run, made: Iterable[Submission]) -> dict[tuple[str, int], retry.State]:
    """Return state and node of every element of arrays that have shards without a receipt, by accounting."""
    done = _finished(run)
    jobs = [
        job
        for submission in made
        for array in submission.intent.arrays
        if (job := submission.job(array)) and any(name not in done for task in array.tasks for name in task)
    ]
    return slurm.states(jobs)


def hours_left(run: Run, there: Queue) -> float:
    """Return the hours that the shards without a receipt take on reference cores, in tasks like the last ones."""
    at_once = {array.phase: tasks.at_once(array) for one in there.made for array in one.intent.arrays}
    return sum(s.seconds / at_once.get(phase, 1) for phase in run.plan.phases for s in run.missing(phase)) / 3600


def reasons(waiting: Queue) -> list[str]:
    """Say why SLURM lets tasks wait, one line a reason."""
    counts = Counter(one.reason for one in waiting.elements if not one.running)
    return [f"{count:,} tasks wait: {reason}" for reason, count in counts.most_common()]


def lost(run: Run, waiting: Queue) -> list[str]:
    """Say how the tasks ended whose shards are missing and not in the queue, one line a cause.

    The best witness there is decides: the task's own record, its exit status, or accounting. Where nobody knows, the
    line says so.
    """
    failed, accounted, done = failures.shards(run), states(run, waiting.made), _finished(run)
    latest: dict[str, str] = {}
    for submission in waiting.made:
        ends = {(end.array, end.task): end for end in sorted(submission.ends(), key=lambda end: end.restart)}
        for array in submission.intent.arrays:
            job = submission.job(array)
            for task, names in enumerate(array.tasks):
                state, _ = accounted.get((job or "", task), ("", ""))
                end = ends.get((array.name, task))
                cause = _cause(end, state, known=job is not None)
                if state == "OUT_OF_MEMORY" or (end is not None and end.code == retry.KILLED):
                    cause += _asked(run, array)
                latest.update({name: cause for name in names if name not in done})
    causes = Counter(cause for name, cause in latest.items() if name not in waiting.shards and name not in failed)
    return [f"{count:,} shards without a result: {cause}" for cause, count in causes.most_common()]


def _cause(end: submissions.End | None, state: str, *, known: bool) -> str:
    if state and state not in ("COMPLETED", "FAILED"):
        return f"SLURM says {state}"
    if end is not None:
        return ENDS.get(end.code, f"the task ended with status {end.code}")
    if state:
        return f"SLURM says {state}"
    return "unknown: it left no word, and accounting has none" if known else "was never submitted"


def _asked(run: Run, array: JobArray) -> str:
    """Say what was asked for and what was projected, where that did not suffice."""
    projected = run.plan.memory_bytes[array.phase] / 2**20
    return (
        f" (phase {array.phase} asked {array.memory_mb:,} MB for {array.workers} workers, each projected to "
        f"hold {projected:,.0f} MiB; make resume asks for {tasks.MORE_MEMORY:g} times as much)"
    )


ENDS = {
    exits.STOPPED: "told to stop, and not requeued any more (limits.restarts of the profile)",
    exits.TOO_SHORT: "ran into its time limit; make resume asks for more",
    exits.INCOMPLETE: "an earlier phase was incomplete",
    retry.KILLED: "killed, most likely for want of memory",
}
"""What exit statuses of tasks say."""

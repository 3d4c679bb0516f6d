"""What earlier attempts teach the next one. Classes of errors say what a retry does; here it is done, on a cluster.

Nothing is tried for ever: a shard runs again only when a user submits or resumes, and then it is said why.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ntkhpc.engine import exits, failures
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import Retry
from ntkhpc.launch import container, submissions
from ntkhpc.launch.submissions import Submission
from ntkhpc.launch.tasks import MORE_MEMORY, MORE_TIME, Experience

BAD_NODE = 2
"""A node is avoided after so many failures of its own or of a device: a first one may be the image's fault."""

KILLED = 137

OF_STATES = {"NODE_FAIL": "node", "OUT_OF_MEMORY": "memory", "TIMEOUT": "time"}
"""These states of accounting say why a task ended that could not say so itself."""

State = tuple[str, str]
"""State and node of an array element, by accounting."""


@dataclass(frozen=True)
class Verdict:
    """Shards that are not tried again before somebody looked, and what the others are given.

    `failed` counts the missing shards by what their latest failure record asks for.
    """

    stopped: frozenset[str]
    experience: Experience
    failed: Mapping[str, int]


def verdict(
    run: Run,
    shards: Iterable[Shard],
    states: Mapping[tuple[str, int], State],
    *,
    retry_bugs: bool,
    speed: Mapping[str, float] | None = None,
    made: Sequence[Submission] | None = None,
) -> Verdict:
    """Judge the missing shards by their failure records, how their tasks ended, and what accounting says, if it does.

    Memory or time that did not suffice is raised. A device or a node that failed twice is avoided. A bug is stopped
    after one attempt. What the surroundings refused is tried again as it is. An accepted change of code or image, or
    `retry_bugs`, forgives bugs and devices. `made` is what `submissions.read` gave, where it was called already.
    """
    wanted = {shard.id for shard in shards}
    changes = [change["time"] for change in run.manifest.changes]
    changed = max([*changes, container.accepted(run)])
    # Kills count by execution, as all workers of a task may fail at one shard. Failures of a node count by array job,
    # as a fault of a submission is one fault.
    kills: defaultdict[str, set[Execution]] = defaultdict(set)
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    slow: Counter[str] = Counter()
    latest: dict[str, str] = {}
    bugs: set[str] = set()
    made = submissions.read(run) if made is None else made
    task_of = {f"{one.job(a)}_{i}": names for one in made for a in one.intent.arrays for i, names in enumerate(a.tasks)}
    for record in failures.open_records(run):
        shard, kind, owner = record["shard"], record["kind"], record["owner"]
        if shard not in wanted:
            continue
        latest[shard] = kind if kind in AGAIN else Retry.SURROUNDINGS  # a word of a later version
        job = owner["job"] or owner["attempt"]
        if kind == Retry.MEMORY:  # the others of its task, which it kept from being tried, are of its kind
            for name in wanted.intersection(task_of.get(job, (shard,))):
                kills[name].add((job, owner["restart"]))
        elif not retry_bugs and record["time"] >= changed:
            if kind == Retry.DEVICE and owner["node"]:
                nodes[owner["node"]].add(job.partition("_")[0])
            elif kind == Retry.BUG:
                bugs.add(shard)
    for submission in made:
        for names, cause, execution, node in _ends(submission, states):
            missing = [name for name in names if name in wanted]
            if cause == "memory":
                for name in missing:
                    kills[name].add(execution)
            elif cause == "time":
                slow.update(missing)
            elif missing and node and not retry_bugs:
                nodes[node].add(execution[0].partition("_")[0])
    return Verdict(
        stopped=frozenset(bugs),
        experience=Experience(
            memory={shard: MORE_MEMORY ** len(executions) for shard, executions in kills.items()},
            time={shard: MORE_TIME**count for shard, count in slow.items()},
            exclude=tuple(sorted(node for node, jobs in nodes.items() if len(jobs) >= BAD_NODE)),
            speed=speed or {},
        ),
        failed=Counter(kind for shard, kind in latest.items() if shard not in bugs),
    )


AGAIN = {
    Retry.BUG: "failed by a bug and are tried once more",
    Retry.MEMORY: "had too little memory and are tried again with more",
    Retry.DEVICE: "found no working device and are tried again; a node where that happens twice is avoided",
    Retry.SURROUNDINGS: "were refused by their surroundings and are tried again as they are; if nothing was mended "
    "they fail again: make status says what refused them",
}


def said(found: Verdict) -> list[str]:
    """Say what is done with shards that failed, one line a kind."""
    lines = [f"{found.failed[kind]:,} shards {text}" for kind, text in AGAIN.items() if found.failed.get(kind)]
    if found.experience.exclude:
        lines.append(f"nodes that failed twice are avoided: {', '.join(found.experience.exclude)}")
    if found.stopped:
        lines.append(
            f"{len(found.stopped):,} shards failed by a bug and are not tried again: mend it and `make resume "
            "ACCEPT_CHANGE=1`, or try once more as it is: `make resume RETRY=1`"
        )
    return lines


Execution = tuple[str, int]
"""Array element, as `123_4`, and its restart."""


def _ends(
    submission: Submission, states: Mapping[tuple[str, int], State]
) -> Iterable[tuple[tuple[str, ...], str, Execution, str]]:
    """(shards, cause, execution, node) of what ended for want of memory or time, or with its node."""
    ends, arrays = submission.ends(), submission.intent.arrays
    tasks = {array.name: array.tasks for array in arrays}
    last = {(end.array, end.task): end for end in sorted(ends, key=lambda end: end.restart)}
    for end in ends:
        names = tasks[end.array][end.task] if end.array in tasks else ()
        if end.code == KILLED:
            yield names, "memory", (end.job, end.restart), ""
        elif end.code == exits.TOO_SHORT and end is last[end.array, end.task]:
            yield names, "time", (end.job, end.restart), ""
    for array in arrays:
        job = submission.job(array) or ""
        for task, names in enumerate(array.tasks):
            state, node = states.get((job, task), ("", ""))
            if (array.name, task) not in last and state in OF_STATES:  # killed before its host side could write an end
                yield names, OF_STATES[state], (f"{job}_{task}", 0), node

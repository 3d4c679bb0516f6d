"""What earlier attempts teach the next one, by class of error; one place decides about retries."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ntkhpc import failures, submissions
from ntkhpc.launch.tasks import MORE_MEMORY, MORE_TIME, Experience
from ntkhpc.plan import Shard
from ntkhpc.run import Run
from ntkhpc.submissions import End, Submission

BAD_NODE = 2
"""Failures on one node, of its own or of a device, before it is avoided: a first one may be the image's fault."""

KILLED = 137

OF_STATES = {"NODE_FAIL": "node", "OUT_OF_MEMORY": "memory", "TIMEOUT": "time"}
"""States of accounting that say why a task ended without saying so itself."""

State = tuple[str, str]
"""State and node of an array element, by accounting."""


@dataclass(frozen=True)
class Verdict:
    """Shards that are not tried again before somebody looked, and what the others are given."""

    stopped: frozenset[str]
    experience: Experience


def verdict(
    run: Run,
    shards: Iterable[Shard],
    states: Mapping[tuple[str, int], State],
    *,
    retry_bugs: bool,
    speed: Mapping[str, float] | None = None,
) -> Verdict:
    """Judge the missing shards by their failure records, how their tasks ended, and what accounting says, if it does.

    memory, time: more is asked for. A device or a node that failed twice is avoided. A bug is stopped after one. An
    accepted change of code or image, or `retry_bugs`, forgives bugs and devices.
    """
    wanted = {shard.id for shard in shards}
    changed = max((change["time"] for change in run.manifest.changes), default="")
    kills: Counter[str] = Counter()
    slow: Counter[str] = Counter()
    nodes: Counter[str] = Counter()
    bugs: set[str] = set()
    for record in failures.open_records(run):
        shard, kind = record["shard"], record["kind"]
        if shard not in wanted:
            continue
        if kind == "memory":
            kills[shard] += 1
        elif not retry_bugs and record["time"] >= changed:
            if kind == "device" and record["owner"]["node"]:
                nodes[record["owner"]["node"]] += 1
            elif kind == "bug":
                bugs.add(shard)
    recorded = set(kills)
    for submission in submissions.read(run):
        for names, cause, node in _ends(submission, states):
            missing = [name for name in names if name in wanted]
            if cause == "memory":
                kills.update(name for name in missing if name not in recorded)
            elif cause == "time":
                slow.update(missing)
            elif missing and node:
                nodes[node] += 1
    return Verdict(
        stopped=frozenset(bugs),
        experience=Experience(
            memory={shard: MORE_MEMORY**count for shard, count in kills.items()},
            time={shard: MORE_TIME**count for shard, count in slow.items()},
            exclude=tuple(sorted(node for node, count in nodes.items() if count >= BAD_NODE)),
            speed=speed or {},
        ),
    )


def _ends(
    submission: Submission, states: Mapping[tuple[str, int], State]
) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """(shards, cause, node) of the tasks of a submission that ended for want of memory or time, or with their node."""
    recorded: dict[tuple[str, int], End] = {}
    for one in sorted(submission.ends(), key=lambda end: end.restart):
        recorded[one.array, one.task] = one
    for array in submission.intent.arrays:
        job = submission.job(array)
        for task, names in enumerate(array.tasks):
            end = recorded.get((array.name, task))
            state, node = states.get((job or "", task), ("", ""))
            if end is not None and end.code == submissions.TOO_SHORT:
                yield names, "time", ""
            elif end is not None and end.code == KILLED:
                yield names, "memory", ""
            elif state in OF_STATES:
                yield names, OF_STATES[state], node

"""What earlier attempts teach the next: which shards are tried again, and with what."""

import errno
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from support.job_arrays import arrays, layout, planned, profile
from support.runs import make_run

from ntkhpc import files
from ntkhpc.engine import claims, exits, failures, run
from ntkhpc.engine.plan import Shard
from ntkhpc.launch import cluster, queue, retry, sbatch, slurm, submissions, tasks
from ntkhpc.launch.profile import Container, Limits
from ntkhpc.launch.submissions import End, Intent


def fail(target: run.Run, shard: Shard, error: Exception, node: str | None = None, times: int = 1) -> None:
    for attempt in range(times):
        owner = claims.this_process(f"{attempt:012d}")
        failures.record(target, shard, msgspec.structs.replace(owner, node=node), error)


def submission(
    target: run.Run, name: str = "20260101-000000-abcdef", task_minutes: float = 0.001
) -> submissions.Submission:
    made = arrays(target.plan, profile(limits=Limits(task_minutes=task_minutes)))
    intent = Intent(
        id=name, created="", user="u", host="h", profile="mine", image=None, image_digest=None, arrays=tuple(made)
    )
    return submissions.create(target, intent)


@pytest.mark.promise(
    "A bug stops its shard, memory that did not suffice is raised, and a node is avoided after two array jobs failed "
    "there by its GPU."
)
def test_errors_are_retried_by_their_class(runs: Path) -> None:
    from ntkhpc.errors import DeviceError, SurroundingsError

    target = make_run(runs)
    bug, memory, device, disk = target.plan.of_phase("ensemble")
    fail(target, bug, KeyError("x"))
    fail(target, memory, MemoryError("killed"), times=2)
    fail(target, device, DeviceError("no GPU"), node="node7", times=2)
    for task in range(2):  # of one array job
        owner = msgspec.structs.replace(claims.this_process(f"{9 + task:012d}"), node="node8", job=f"77_{task}")
        failures.record(target, device, owner, DeviceError("no GPU"))
    fail(target, disk, SurroundingsError("disk full"))
    found = retry.verdict(target, target.plan.shards, {}, retry_bugs=False)
    assert found.stopped == {bug.id}
    assert found.experience.memory == {memory.id: pytest.approx(tasks.MORE_MEMORY**2)}
    assert found.experience.exclude == ("node7",)
    again = retry.verdict(target, target.plan.shards, {}, retry_bugs=True)
    assert (again.stopped, again.experience.exclude) == (frozenset(), ())


def test_what_is_done_with_failed_shards_is_said(runs: Path) -> None:
    from ntkhpc.errors import SurroundingsError

    target = make_run(runs)
    bug, memory, disk, weather = target.plan.of_phase("ensemble")
    fail(target, bug, KeyError("x"))
    fail(target, memory, MemoryError("killed"))
    fail(target, disk, SurroundingsError("disk full"), times=3)
    fail(target, weather, OSError(errno.ESTALE, "stale file handle"))
    found = retry.verdict(target, target.plan.shards, {}, retry_bugs=False)
    assert found.failed == {"memory": 1, "surroundings": 2}
    lines = retry.said(found)
    assert any(line.startswith("2 shards were refused by their surroundings and are tried again") for line in lines)
    assert any("RETRY=1" in line for line in lines)
    again = retry.said(retry.verdict(target, target.plan.shards, {}, retry_bugs=True))
    assert "1 shards failed by a bug and are tried once more" in again
    assert not any("RETRY=1" in line for line in again)


def test_an_intent_is_read_once_however_many_tasks_ended(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_run(runs, members=60, shard_members=2)
    made = [submission(target, f"20260101-00000{number}-abcdef") for number in range(2)]
    for one in made:
        for array in one.intent.arrays:
            one.record_job(array, "77")
            for task in range(len(array.tasks)):
                (one.path / "ends" / f"{array.name}.{task}.0").write_text(f"137 12 node1 77_{task}\n")
    assert sum(len(one.ends()) for one in made) > 100
    opened = []
    real = files.read_sealed
    monkeypatch.setattr(files, "read_sealed", lambda path: opened.append(path.name) or real(path))
    monkeypatch.setattr(slurm, "queue", lambda names, ended=False: [])
    monkeypatch.setattr(slurm, "states", lambda jobs: {})
    assert retry.verdict(target, target.plan.shards, {}, retry_bugs=False).experience.memory
    assert opened.count("intent.json") == len(made)
    opened.clear()
    there = queue.ask(target)
    assert queue.lost(target, there)
    assert queue.hours_left(target, there) > 0
    assert opened.count("intent.json") == len(made)


def test_a_submission_reads_each_intent_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_run(runs)
    made = submission(target)
    for array in made.intent.arrays:
        made.record_job(array, "77")
    opened = []
    real = files.read_sealed
    monkeypatch.setattr(files, "read_sealed", lambda path: opened.append(path.name) or real(path))
    monkeypatch.setattr(slurm, "queue", lambda names, ended=False: [])
    monkeypatch.setattr(slurm, "states", lambda jobs: {})
    monkeypatch.setattr(sbatch, "submit", lambda made: "78")
    none = Container(runtime="none")
    assert cluster.submit(target, msgspec.structs.replace(profile(), container=none), Console(quiet=True))
    assert opened.count("intent.json") == 1
    assert len(submissions.read(target)) == 2


def test_a_dead_claim_is_dropped_and_a_live_one_kept(runs: Path) -> None:
    target = make_run(runs)
    shards = target.plan.of_phase("ensemble")
    mine = claims.this_process("000000000000")
    owners = [
        msgspec.structs.replace(mine, pid=2**22 - 1),  # a local worker that was killed
        mine,  # a run by hand on this host
        msgspec.structs.replace(mine, host="node1", job="9_0"),  # an element of the run that is gone
        msgspec.structs.replace(mine, host="node1", job="9_1"),  # one that is at work
    ]
    for shard, owner in zip(shards, owners, strict=True):
        assert not isinstance(claims.take(target, shard, owner, lambda _: False), claims.Owner)
    there = queue.Queue((slurm.Element("9", 1, "RUNNING", "a", ""),), {}, frozenset({"9"}))
    dropped = claims.drop(target, ["ensemble"], there.gone)
    assert sorted(map(str, dropped)) == sorted(map(str, (owners[0], owners[2])))
    by_hand = msgspec.structs.replace(mine, job="777")  # inside a job of the user's own
    assert not there.gone(by_hand)


def test_time_that_did_not_suffice_is_doubled_where_nothing_is_kept(runs: Path) -> None:
    target = make_run(runs)
    made = submission(target)
    (law,) = [array for array in made.intent.arrays if array.phase == "law"]
    (made.path / "ends" / f"{law.name}.0.0").write_text(f"{exits.TOO_SHORT} 300 node1 7_0\n")
    found = retry.verdict(target, target.plan.shards, {}, retry_bugs=False).experience
    assert found.time == dict.fromkeys(law.tasks[0], tasks.MORE_TIME)
    slow = msgspec.structs.replace(
        target.plan,
        shards=tuple(msgspec.structs.replace(s, seconds=1800.0) for s in target.plan.shards),
    )
    shards = {"law": [s for s in slow.of_phase("law") if s.id in law.tasks[0]]}
    wanted = profile(minutes=6000, cores=1)
    one, two = (
        tasks.arrays(layout(slow), slow, shards, wanted, "n", 9, experience)[0].minutes
        for experience in (tasks.Experience(), found)
    )
    assert two > 1.7 * one


def test_tasks_that_left_no_record_are_judged_by_their_end_or_by_accounting(runs: Path) -> None:
    target = make_run(runs)
    made = submission(target)
    (array,) = [array for array in made.intent.arrays if array.phase == "ensemble"]
    made.record_job(array, "77")
    (made.path / "ends" / f"{array.name}.0.0").write_text("137 12 node1 77_0\n")
    (made.path / "ends" / f"{array.name}.1.0").write_text("half a li")
    found = retry.verdict(target, target.plan.shards, {("77", 2): ("OUT_OF_MEMORY", "node2")}, retry_bugs=False)
    assert set(found.experience.memory) == {array.tasks[0][0], array.tasks[2][0]}
    assert [end.task for end in made.ends()] == [0]
    assert made.ends()[0] == End(array=array.name, task=0, restart=0, code=137, seconds=12, host="node1", job="77_0")


def test_a_worker_killed_for_memory_asks_for_more_for_its_whole_task(runs: Path) -> None:
    """The others were kept from being tried; one by one they would fail in as many submissions."""
    target = make_run(runs)
    made = submission(target, task_minutes=60)
    (array,) = [array for array in made.intent.arrays if array.phase == "ensemble"]
    made.record_job(array, "77")
    assert len(array.tasks[0]) > 1
    killed = next(shard for shard in target.plan.shards if shard.id == array.tasks[0][0])
    owner = msgspec.structs.replace(claims.this_process("0" * 12), job="77_0")
    for _ in range(2):  # by both of its workers: once
        failures.record(target, killed, owner, MemoryError("killed"))
    found = retry.verdict(target, target.plan.shards, {}, retry_bugs=False).experience
    assert found.memory == dict.fromkeys(array.tasks[0], tasks.MORE_MEMORY)


@pytest.mark.promise("What became of a shard without a result is said, or called unknown.")
def test_what_became_of_lost_shards_is_said_or_called_unknown(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_run(runs)
    made = submission(target)
    for number, array in enumerate(made.intent.arrays):
        if array.phase != "curve":
            made.record_job(array, str(70 + number))
    law = next(array for array in made.intent.arrays if array.phase == "law")
    (made.path / "ends" / f"{law.name}.0.0").write_text("3 1 node1 x\n")
    known = {("71", 0): ("NODE_FAIL", "n"), ("70", 0): ("COMPLETED", "n")}
    monkeypatch.setattr(queue.slurm, "states", lambda jobs: known)
    lines = queue.lost(target, queue.Queue((), {}, made=(made,)))
    assert "1 shards without a result: SLURM says NODE_FAIL" in lines
    assert "1 shards without a result: an earlier phase was incomplete" in lines
    assert "1 shards without a result: was never submitted" in lines
    assert any("unknown" in line for line in lines)


def test_phases_that_a_stopped_shard_keeps_incomplete_are_not_submitted() -> None:
    made = planned()
    missing = {phase: list(made.of_phase(phase)) for phase in made.memory_bytes}
    left = cluster._without(layout(made), missing, frozenset({made.of_phase("law")[0].id}))
    assert [phase for phase, shards in left.items() if shards] == [
        "data",
        "ensemble",
        "law",
        "curve",
        "redraws",
        "finalise",
        "recheck",
    ]
    assert len(left["law"]) == 1

"""From shards to job arrays, and what earlier attempts teach the next."""

import json
import math
import os
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from conftest import make_run, tiny_text

from ntkhpc import claims, failures, plan, run, study, submissions
from ntkhpc.errors import ProfileError
from ntkhpc.launch import cluster, container, retry, sbatch, slurm, speed, tasks
from ntkhpc.launch.profile import Limits, Partition, Profile
from ntkhpc.plan import Plan, Shard
from ntkhpc.submissions import Array, End, Intent

DEFAULTS = Limits()


def profile(*, limits: Limits = DEFAULTS, **fields: object) -> Profile:
    settings = {"partition": "main", "cores": 2, "memory_gb": 8.0, "minutes": 60, **fields}
    return Profile(partitions={"main": Partition(**settings)}, limits=limits, name="mine")  # type: ignore[arg-type]


def planned(**changes: object) -> Plan:
    return plan.make(study.loads(tiny_text(**changes)))  # type: ignore[arg-type]


def arrays(made: Plan, wanted: Profile, size: int = 1000, **settings: object) -> list[Array]:
    shards = {phase: made.of_phase(phase) for phase in plan.PHASES}
    return tasks.arrays(made, shards, wanted, "ntk", size, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("task_minutes", [0.001, 1.0, 600.0])
def test_every_shard_is_in_exactly_one_task_and_no_array_is_too_long(size: int, task_minutes: float) -> None:
    made = planned(members=74, shard_members=2)
    found = arrays(made, profile(limits=Limits(task_minutes=task_minutes, tasks=50)), size)
    counts = Counter(name for array in found for task in array.tasks for name in task)
    assert counts == Counter(shard.id for shard in made.shards)
    assert max(len(array.tasks) for array in found) <= size
    assert sum(len(array.tasks) for array in found if array.phase == "ensemble") <= 50
    assert len({array.name for array in found}) == len(found)


def test_a_phase_waits_for_every_array_of_the_phases_it_needs() -> None:
    made = planned(members=74, shard_members=2)
    found = arrays(made, profile(limits=Limits(task_minutes=0.001)), 4, existing={"data": ["there"]})
    needs = {array.phase: set(array.needs) for array in found}
    names = {phase: {array.name for array in found if array.phase == phase} for phase in plan.PHASES}
    assert needs["ensemble"] == names["data"] | {"there"}
    assert needs["finalise"] == names["ensemble"]
    assert needs["analysis"] == names["law"] | names["curve"] | names["finalise"]
    order = [array.name for array in found]
    assert all(order.index(need) < order.index(a.name) for a in found for need in a.needs if need != "there")


def test_a_task_asks_for_the_memory_of_its_workers_and_a_gpu_task_has_one() -> None:
    made = planned()
    (data, ensemble, *_) = arrays(made, profile(cores=8, memory_gb=64.0))
    assert ensemble.workers == 4  # shards of the phase
    worker = made.memory_bytes["ensemble"] / 2**20
    assert 4 * worker < ensemble.memory_mb < 1.4 * 4 * worker + tasks.SUPERVISOR_MB
    assert data.workers == 1
    (_, tight, *_) = arrays(made, profile(cores=8, memory_gb=1.5))
    assert tight.workers == 2
    assert tight.memory_mb <= 1.5 * 1024
    (_, gpu, *_) = arrays(made, profile(cores=8, gpu="--gres=gpu:1"))
    assert (gpu.workers, gpu.gpu) == (1, True)


def test_what_cannot_fit_is_refused_naming_what_to_change() -> None:
    with pytest.raises(ProfileError, match=r"network\.widths.*larger|larger(?s:.)*") as error:
        arrays(planned(), profile(memory_gb=0.7))
    assert "partitions.main.memory_gb" in str(error.value)
    made = planned()
    slow = msgspec.structs.replace(
        made, shards=tuple(msgspec.structs.replace(s, seconds=7200.0) if s.phase == "curve" else s for s in made.shards)
    )
    with pytest.raises(ProfileError, match="cannot be stopped and continued"):
        arrays(slow, profile())
    slow = msgspec.structs.replace(
        made,
        shards=tuple(msgspec.structs.replace(s, seconds=7200.0) if s.phase == "ensemble" else s for s in made.shards),
    )
    assert {array.minutes for array in arrays(slow, profile()) if array.phase == "ensemble"} == {60}


SLOW_CHAINS = """
kind = "bayes"
name = "slow"
[data]
source = "calorimeter"
pool = 1000
test = 100
[network]
widths = [1000]
[posterior]
n_train = [1000]
[sampling]
chains = 4
warmup = {warmup}
tile = {tile}
draws = {draws}
"""
"""Of each draw of its four chains about 25 s on one core."""


def slow_chains(**sampling: int) -> Plan:
    return plan.make(study.loads(SLOW_CHAINS.format(**sampling)))


def slow_ensemble(**changes: int) -> Plan:
    """Of each of its members about ten minutes."""
    text = tiny_text(members=20, shard_members=20, **changes)  # type: ignore[arg-type]
    return plan.make(study.loads(text.replace("factor = 1.0", "factor = 1e7")))


@pytest.mark.parametrize(
    ("made", "phase", "field"),
    [
        (slow_chains(warmup=200, tile=10, draws=10), "chains", "sampling.warmup"),
        (slow_chains(warmup=10, tile=200, draws=200), "chains", "sampling.tile"),
        (slow_ensemble(tile=10), "ensemble", "ensemble.tile"),
    ],
)
def test_a_tile_that_would_never_be_finished_is_refused(made: Plan, phase: str, field: str) -> None:
    with pytest.raises(ProfileError, match=f"a tile of phase {phase}") as error:
        arrays(made, profile())
    assert field in str(error.value)
    assert "partitions.main.minutes" in str(error.value)
    stop, longest = Limits().stop_seconds, max(shard.tile_seconds for shard in made.shards)
    arrays(made, profile(minutes=math.ceil((longest + stop) / 60)))
    arrays(made, profile(), experience=tasks.Experience(speed={"main": 2.0}))
    arrays(made, profile(gpu="--gres=gpu:1"))  # of unknown speed


@pytest.mark.parametrize(
    ("made", "phase"),
    [(slow_chains(warmup=100, tile=100, draws=1000), "chains"), (slow_ensemble(tile=2), "ensemble")],
)
def test_a_shard_that_fits_by_the_tile_is_accepted(made: Plan, phase: str) -> None:
    assert min(shard.seconds for shard in made.of_phase(phase)) > 3600
    assert {array.minutes for array in arrays(made, profile()) if array.phase == phase} == {60}


def test_a_plan_of_before_tiles_were_projected_is_read_and_refuses_nothing() -> None:
    table = json.loads(plan.dumps(slow_ensemble(tile=10)))
    for shard in table["shards"]:
        del shard["tile_seconds"]
    arrays(plan.loads(json.dumps(table).encode()), profile())


def test_a_shard_that_was_killed_for_memory_asks_for_more_up_to_the_partition() -> None:
    made = planned()
    first = made.of_phase("ensemble")[0].id
    normal, more = (
        next(a for a in arrays(made, profile(cores=1), experience=e) if first in a.tasks[0])
        for e in (tasks.Experience(), tasks.Experience(memory={first: 1.6}))
    )
    assert more.memory_mb > 1.4 * normal.memory_mb
    largest = 8 * 1024 / (made.memory_bytes["ensemble"] * tasks.MARGIN / 2**20)
    last = tasks.Experience(memory={first: 1.2 * largest})
    assert next(a for a in arrays(made, profile(), experience=last) if first in a.tasks[0]).memory_mb == 8 * 1024
    with pytest.raises(ProfileError, match=r"has 8\.0 GiB"):  # all there is was not enough
        arrays(made, profile(), experience=tasks.Experience(memory={first: 1.2 * largest * tasks.MORE_MEMORY}))


def fail(target: run.Run, shard: Shard, error: Exception, node: str | None = None, times: int = 1) -> None:
    for attempt in range(times):
        owner = claims.this_process(f"{attempt:012d}")
        failures.record(target, shard, msgspec.structs.replace(owner, node=node), error)


def test_errors_are_retried_by_their_class(runs: Path) -> None:
    from ntkhpc.errors import DeviceError, SurroundingsError

    target = make_run(runs)
    bug, memory, device, disk = target.plan.of_phase("ensemble")
    fail(target, bug, KeyError("x"))
    fail(target, memory, MemoryError("killed"), times=2)
    fail(target, device, DeviceError("no GPU"), node="node7", times=2)
    fail(target, disk, SurroundingsError("disk full"))
    found = retry.verdict(target, target.plan.shards, {}, retry_bugs=False)
    assert found.stopped == {bug.id}
    assert found.experience.memory == {memory.id: pytest.approx(tasks.MORE_MEMORY**2)}
    assert found.experience.exclude == ("node7",)
    again = retry.verdict(target, target.plan.shards, {}, retry_bugs=True)
    assert (again.stopped, again.experience.exclude) == (frozenset(), ())


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
    there = cluster.Queue((slurm.Element("9", 1, "RUNNING", "a", ""),), {}, frozenset({"9"}))
    dropped = claims.drop(target, ["ensemble"], there.gone)
    assert sorted(map(str, dropped)) == sorted(map(str, (owners[0], owners[2])))
    by_hand = msgspec.structs.replace(mine, job="777")  # inside a job of the user's own
    assert not there.gone(by_hand)


def test_phases_that_a_stopped_shard_keeps_incomplete_are_not_submitted() -> None:
    made = planned()
    missing = {phase: list(made.of_phase(phase)) for phase in plan.PHASES}
    left = cluster._without(missing, frozenset({made.of_phase("law")[0].id}))
    assert [phase for phase, shards in left.items() if shards] == ["data", "ensemble", "law", "curve", "finalise"]
    assert len(left["law"]) == 1


def test_time_that_did_not_suffice_is_doubled_where_nothing_is_kept(runs: Path) -> None:
    target = make_run(runs)
    made = submission(target)
    (law,) = [array for array in made.intent.arrays if array.phase == "law"]
    (made.path / "ends" / f"{law.name}.0.0").write_text(f"{submissions.TOO_SHORT} 300 node1 7_0\n")
    found = retry.verdict(target, target.plan.shards, {}, retry_bugs=False).experience
    assert found.time == dict.fromkeys(law.tasks[0], tasks.MORE_TIME)
    slow = msgspec.structs.replace(
        target.plan,
        shards=tuple(msgspec.structs.replace(s, seconds=1800.0) for s in target.plan.shards),
    )
    shards = {"law": [s for s in slow.of_phase("law") if s.id in law.tasks[0]]}
    wanted = profile(minutes=6000, cores=1)
    one, two = (
        tasks.arrays(slow, shards, wanted, "n", 9, experience)[0].minutes for experience in (tasks.Experience(), found)
    )
    assert two > 1.7 * one


def submission(
    target: run.Run, name: str = "20260101-000000-abcdef", task_minutes: float = 0.001
) -> submissions.Submission:
    made = arrays(target.plan, profile(limits=Limits(task_minutes=task_minutes)))
    intent = Intent(
        id=name, created="", user="u", host="h", profile="mine", image=None, image_digest=None, arrays=tuple(made)
    )
    return submissions.create(target, intent)


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


def test_what_became_of_lost_shards_is_said_or_called_unknown(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_run(runs)
    made = submission(target)
    for number, array in enumerate(made.intent.arrays):
        if array.phase != "curve":
            made.record_job(array, str(70 + number))
    law = next(array for array in made.intent.arrays if array.phase == "law")
    (made.path / "ends" / f"{law.name}.0.0").write_text("3 1 node1 x\n")
    known = {("71", 0): ("NODE_FAIL", "n"), ("70", 0): ("COMPLETED", "n")}
    monkeypatch.setattr(cluster.slurm, "states", lambda jobs: known)
    lines = cluster.lost(target, cluster.Queue((), {}))
    assert "1 shards without a result: SLURM says NODE_FAIL" in lines
    assert "1 shards without a result: an earlier phase was incomplete" in lines
    assert "1 shards without a result: was never submitted" in lines
    assert any("unknown" in line for line in lines)


def test_a_script_asks_and_runs_what_its_array_says(tmp_path: Path) -> None:
    made = planned()
    wanted = profile(account="abc", constraint="skylake|icelake", directives=("--mail-type=END", "--exclusive"))
    intent = cluster.intend(made, wanted, {"law": made.of_phase("law")}, tasks.Experience(), None, None)
    place = container.Place(tmp_path / "it's $(id)", tmp_path / "it's $(id)" / "code")
    text = sbatch.executor(place, intent, intent.arrays[0], wanted, ["8", "9"], exclude=("node3",)).text
    head, _, body = text.partition("# setup")
    for line in (
        "#SBATCH --account=abc", "#SBATCH --constraint='skylake|icelake'", "#SBATCH --mail-type=END",
        "#SBATCH --exclusive", "#SBATCH --dependency=afterany:8:9", "#SBATCH --exclude=node3", "#SBATCH --requeue",
        "#SBATCH --cpus-per-task=2", "#SBATCH --array=0-0%1", "#SBATCH --signal=USR2@120",
    ):  # fmt: skip
        assert line in head.splitlines(), head
    assert "$(id)" not in head
    assert "'\"'\"'" in body  # the quote of the path, quoted
    assert body.rstrip().endswith('exit "$code"')
    assert 'scontrol requeue "$element"' in body


def test_scratch_of_the_node_is_bound_and_is_where_temporary_files_go(tmp_path: Path) -> None:
    made = planned()
    wanted = msgspec.structs.replace(profile(), scratch="$SLURM_TMPDIR/ntkhpc")
    intent = cluster.intend(made, wanted, {"law": made.of_phase("law")}, tasks.Experience(), None, None)
    text = sbatch.executor(container.Place(tmp_path, tmp_path), intent, intent.arrays[0], wanted, []).text
    script = text.partition("# setup")[2].partition("# command")[0]
    (tmp_path / "node").mkdir()
    ran = subprocess.run(
        ["bash", "-c", f'{script}\necho "$TMPDIR|$APPTAINER_BIND|$APPTAINERENV_TMPDIR"'],
        env={"PATH": os.environ["PATH"], "SLURM_TMPDIR": str(tmp_path / "node")}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ran.stdout.split("|") == [one := f"{tmp_path}/node/ntkhpc", one, f"{one}\n"]
    assert (tmp_path / "node" / "ntkhpc").is_dir()


def test_the_image_and_its_environment_are_named_in_the_command(tmp_path: Path) -> None:
    place, wanted = container.Place(tmp_path, tmp_path / "code"), profile(gpu="--gres=gpu:1")
    words = container.command(place, wanted.container, Path("/i.sif"), {"X": "1"}, gpu=True)
    assert words[:4] == ["apptainer", "exec", "--no-home", "--nv"]
    assert words[-2:] == ["/i.sif", "python3"]
    for pair in (("--env", f"PYTHONPATH={tmp_path / 'code'}"), ("--env", "NPROC=1"), ("--bind", str(tmp_path))):
        assert pair in list(pairwise(words))


@pytest.mark.parametrize("bad", ["a,b", "a:b", "a%j", "a\nb", "$(touch owned)", "`id`", 'a"b', "a\\b"])
def test_paths_that_jobs_cannot_be_given_are_refused(tmp_path: Path, bad: str) -> None:
    from ntkhpc.errors import RunError

    with pytest.raises(RunError, match="cannot be given"):
        container.require_plain_path(container.Place(tmp_path / bad, tmp_path))


def test_another_image_is_refused_until_accepted(runs: Path) -> None:
    from ntkhpc.errors import RunError

    target = make_run(runs)
    container.require_same(target, "a" * 64, accept=False)
    container.require_same(target, "a" * 64, accept=False)
    with pytest.raises(RunError, match="begun with image aaaaaaaaaaaa"):
        container.require_same(target, "b" * 64, accept=False)
    container.require_same(target, "b" * 64, accept=True)
    record = json.loads((target.path / "launch.json").read_text())
    assert [image["sha256"][0] for image in record["images"]] == ["a", "b"]


def test_a_probe_is_a_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    wanted = study.loads(tiny_text())
    here = speed.probe(wanted, profile())
    assert here.speed["main"] > 0
    assert speed.speeds(profile(), wanted.id) == {}  # scripts do not go by it
    assert "on this machine" in here.said
    path = speed.probe_file(profile())
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({wanted.id: {"main": {"speed": 3.5, "host": "node1", "device": "cpu"}}}))
    assert speed.probe(wanted, profile()).speed == speed.speeds(profile(), wanted.id) == {"main": 3.5}

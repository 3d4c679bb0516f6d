"""From shards to job arrays: what a task takes, asks for, and what is refused."""

import json
import math
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from support.job_arrays import arrays, planned, profile
from support.lab import on_table
from support.runs import tiny_text

from ntkhpc import studies
from ntkhpc.engine import plan
from ntkhpc.engine.plan import Plan
from ntkhpc.errors import ProfileError
from ntkhpc.launch import speed, tasks
from ntkhpc.launch.profile import Limits
from ntkhpc.studies import facts


@pytest.mark.promise(
    "Every shard is in exactly one task of one job array, and no array is longer than the cluster allows."
)
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


@pytest.mark.promise("A phase waits for every job array of the phases that it needs.")
def test_a_phase_waits_for_every_array_of_the_phases_it_needs() -> None:
    made = planned(members=74, shard_members=2)
    found = arrays(made, profile(limits=Limits(task_minutes=0.001)), 4, existing={"data": ["there"]})
    needs = {array.phase: set(array.needs) for array in found}
    names = {phase: {array.name for array in found if array.phase == phase} for phase in made.memory_bytes}
    assert needs["ensemble"] == names["data"] | {"there"}
    assert needs["finalise"] == needs["recheck"] == names["ensemble"]
    last = names["finalise"] | names["recheck"]
    assert needs["analysis"] == names["law"] | names["curve"] | names["redraws"] | last
    order = [array.name for array in found]
    assert all(order.index(need) < order.index(a.name) for a in found for need in a.needs if need != "there")


def test_a_task_asks_for_the_memory_of_its_workers_and_a_gpu_task_has_one() -> None:
    made = planned()
    (data, ensemble, *_) = arrays(made, profile(cores=8, memory_gb=64.0))
    assert ensemble.workers == 4  # shards of the phase
    worker = made.memory_bytes["ensemble"] / 2**20
    assert 4 * worker < ensemble.memory_mb < 1.4 * 4 * worker + tasks.SUPERVISOR_MB
    assert data.workers == 1
    (_, tight, *_) = arrays(made, profile(cores=8, memory_gb=1.3))
    assert tight.workers == 2
    assert tight.memory_mb <= 1.3 * 1024
    (_, gpu, *_) = arrays(made, profile(cores=8, gpu="--gres=gpu:1"))
    assert (gpu.workers, gpu.gpu) == (1, True)


def test_a_worker_of_several_cores_has_them_to_itself() -> None:
    """A column of tiles of 1,024 rows is work for two cores, 1,200 test points are work for three."""
    section = '[infinite_width]\nn_train = [500, 3000]\ntimes = ["infinite"]\ntile = 1024\n'
    text = (
        tiny_text().replace("pool = 40\ntest = 15", "pool = 4000\ntest = 1200").replace("[infinite_width]\n", section)
    )
    layout = studies.layout(studies.loads(text))
    made = plan.make(layout.study)
    shards = {phase: made.of_phase(phase) for phase in made.phases}
    found = {
        one.phase: one for one in tasks.arrays(layout, made, shards, profile(cores=16, memory_gb=64.0), "ntk", 1000)
    }
    assert (found["factor"].workers, found["factor"].cpus, len(found["factor"].tasks)) == (1, 2, 1)
    assert found["factor"].tasks[0] == tuple(shard.id for shard in made.of_phase("factor"))
    assert (found["curve"].workers, found["curve"].cpus) == (1, 3)
    assert found["kernel"].workers == found["kernel"].cpus == len(made.of_phase("kernel"))
    held = tasks.task_seconds(made, found.values())
    assert held["factor"] == pytest.approx(sum(s.seconds for s in made.of_phase("factor")) / (2 * tasks.WIDE))

    older = [msgspec.structs.replace(shards["curve"][0], region={"curve_draw": (0, 1)})]
    (one,) = tasks.arrays(layout, made, {"curve": older}, profile(cores=16, memory_gb=64.0), "ntk", 1000)
    assert (one.workers, one.cpus) == (1, 1)


@pytest.mark.promise(
    "A task that exceeds its partition's memory or time is refused with the name of the field to change."
)
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
"""A study each of whose draws of four chains takes about 25 s on one core."""


def slow_chains(**sampling: int) -> Plan:
    return plan.make(studies.loads(SLOW_CHAINS.format(**sampling)))


def slow_ensemble(**changes: int) -> Plan:
    """A plan each of whose members takes about ten minutes."""
    text = tiny_text(members=20, shard_members=20, **changes)
    return plan.make(studies.loads(text.replace("factor = 1.0", "factor = 1e7")))


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
    assert more.memory_mb > 1.3 * normal.memory_mb
    largest = 8 * 1024 / (made.memory_bytes["ensemble"] * tasks.MARGIN / 2**20)
    last = tasks.Experience(memory={first: 1.2 * largest})
    assert next(a for a in arrays(made, profile(), experience=last) if first in a.tasks[0]).memory_mb == 8 * 1024
    with pytest.raises(ProfileError, match=r"has 8\.0 GiB"):  # all there is was not enough
        arrays(made, profile(), experience=tasks.Experience(memory={first: 1.2 * largest * tasks.MORE_MEMORY}))


def test_a_probe_is_a_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    wanted = studies.loads(tiny_text())
    here = speed.probe(wanted, profile())
    assert here.speed["main"] > 0
    assert speed.speeds(profile(), wanted.id) == {}  # scripts do not go by it
    assert "on this machine" in here.said
    table = facts.resolve(studies.loads(on_table("table", tmp_path)), tmp_path)
    assert table.facts  # which no file of a user has
    assert speed.probe(table, profile()).speed["main"] > 0
    path = speed.probe_file(profile())
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({wanted.id: {"main": {"speed": 3.5, "host": "node1", "device": "cpu"}}}))
    assert speed.probe(wanted, profile()).speed == speed.speeds(profile(), wanted.id) == {"main": 3.5}


def test_a_probe_that_failed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(studies, "dumps", lambda wanted: b"no study")
    found = speed.probe(studies.loads(tiny_text()), profile())
    assert found.speed == {}
    assert found.said.startswith("not timed (the study cannot be read: ")
    assert found.said.endswith("): the reference core is assumed")
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.001)
    assert "no answer in 0.001 s" in speed.probe(studies.loads(tiny_text()), profile()).said

"""The same member is the same bytes, whatever the cores, the shard layout and the order of work."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.runs import all_shards, make_run, run_shards, store_bytes

from ntkhpc.engine import store
from ntkhpc.engine.run import Run
from ntkhpc.studies.ensemble.train import OK


@pytest.mark.promise("One visible core gives the same stored bytes as all cores of the machine.")
def test_one_core_and_all_cores_visible_give_equal_bits(runs: Path, finished: Run) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine shows one core: there is nothing to compare")
    target = make_run(runs)
    pinned = run_shards(target, all_shards(target), first="import os; os.sched_setaffinity(0, {0})")
    assert pinned.returncode == 0, pinned.stderr
    assert store_bytes(target) == store_bytes(finished)


@pytest.mark.promise("Shards of 2, 4, 6 or 12 networks, computed forwards or backwards, store the same bits.")
@pytest.mark.parametrize("shard_members", [2, 4, 12])
def test_any_shard_layout_and_order_gives_equal_bits(shard_members: int, runs: Path, finished: Run) -> None:
    target = make_run(runs, shard_members=shard_members)
    ensemble = [shard.id for shard in target.plan.of_phase("ensemble")]
    order = ["data-0", *reversed(ensemble), *(shard for shard in all_shards(target) if shard not in ensemble)]
    done = run_shards(target, order)
    assert done.returncode == 0, done.stderr
    names = [array.name for array in target.layout.arrays()]
    ours, theirs = store.load(target.store, *names), store.load(finished.store, *names)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in names)


@pytest.mark.promise(
    "A network has the same loss before training at every training-set size: it starts from the same weights."
)
def test_a_member_starts_from_the_same_weights_at_every_size(finished: Run) -> None:
    trace = store.load(finished.store, "test_loss_trace")["test_loss_trace"]
    np.testing.assert_array_equal(trace[0, 0, :, :, 0], trace[0, 1, :, :, 0])


@pytest.mark.promise("A worker that was not started with one thread refuses to compute.")
def test_unpinned_workers_are_refused(runs: Path) -> None:
    target = make_run(runs)
    ran = run_shards(target, ["data-0"], environment={"NPROC": "2"})
    assert ran.returncode != 0
    assert "not started with one thread: {'NPROC': '2'}" in ran.stderr


@pytest.mark.promise("Stored losses, bias and variance follow from the stored predictions.")
def test_everything_stored_follows_from_the_predictions(finished: Run) -> None:
    """The values are recomputed here from the store alone, as an outsider would."""
    a = store.load(finished.store, *(array.name for array in finished.layout.arrays()))
    f = a["prediction"].astype(np.float64)
    point_loss = ((f - a["y_test"]) ** 2).sum(-1) / 2
    np.testing.assert_allclose(a["test_point_loss"], point_loss, rtol=1e-6)
    np.testing.assert_array_equal(a["test_loss"], a["test_point_loss"].mean(-1, dtype=np.float64))
    np.testing.assert_allclose(a["test_loss_trace"][..., -1], a["test_loss"], rtol=1e-5)
    np.testing.assert_allclose(a["variance"], f.var(axis=3, ddof=1).sum(-1) / 2, rtol=1e-10)
    np.testing.assert_allclose(a["bias2"] + a["variance"], point_loss.mean(axis=3), rtol=1e-10)
    assert (a["members_used"] == finished.study.ensemble.members).all()
    assert (a["status"] == OK).all()

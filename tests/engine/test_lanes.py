"""How many networks were trained at once stands in receipts; what decides it on a GPU is part of the fingerprint."""

import numpy as np
import pytest
from support.runs import make_run, run_shards

from ntkhpc.engine import receipts, store
from ntkhpc.engine.run import Run

ON_A_GPU = "from ntkhpc import lanes; lanes.device_bytes = lambda: {usable}"
"""A worker that trains as on a GPU of so many bytes, on the CPU of this machine."""


def receipt(target: Run, phase: str, number: int = 0) -> receipts.Receipt:
    found = receipts.read(target, target.plan.of_phase(phase)[number])
    assert found is not None
    return found


@pytest.mark.promise("The receipt of a shard says how many networks were trained at once.")
def test_receipts_say_how_many_networks_were_trained_at_once(finished: Run) -> None:
    """The tiles of two small networks of a CPU; other phases train none."""
    for number in range(len(finished.plan.of_phase("ensemble"))):
        found = receipt(finished, "ensemble", number)
        assert found.lanes == finished.study.ensemble.tile == 2
        assert "lane_bytes" not in found.fingerprint
    assert receipt(finished, "data").lanes == receipt(finished, "law").lanes == 0


@pytest.mark.promise(
    "On a GPU the memory for networks trained at once is in the fingerprint: other memory, no old tiles."
)
def test_a_shard_goes_on_with_its_tiles_where_as_many_networks_are_trained_at_once(runs: Run, finished: Run) -> None:
    """Killed after a tile: with as much memory it is used, with less it is computed again. Values agree to rounding."""
    target = make_run(runs)
    first, second = (shard.id for shard in target.plan.of_phase("ensemble")[:2])
    large, small = (ON_A_GPU.format(usable=usable) for usable in (2**30, 2**12))
    assert run_shards(target, ["data-0"], first=large).returncode == 0
    for shard in (first, second):
        assert run_shards(target, [shard], first=large, failpoint="tile-saved:1:kill").returncode != 0
    for shard, worker in ((first, large), (second, small)):
        done = run_shards(target, [shard], first=worker)
        assert done.returncode == 0, done.stderr
    one, other = (receipt(target, "ensemble", number) for number in (0, 1))
    assert (one.fingerprint["lane_bytes"], one.lanes, one.tiles_reused) == (2**30, 2, 1)
    assert (other.fingerprint["lane_bytes"], other.lanes, other.tiles_reused) == (2**12, 1, 0)
    assert one.fingerprint["id"] != other.fingerprint["id"]
    ours, theirs = (store.load(each.store, "test_loss")["test_loss"] for each in (target, finished))
    np.testing.assert_allclose(ours[0, 0, 0], theirs[0, 0, 0], rtol=1e-4)

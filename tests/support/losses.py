"""A finished ensemble of as many members and test points as are asked for: its losses are drawn, nothing is trained."""

from pathlib import Path

import msgspec
import numpy as np
from support.runs import run_shards

from ntkhpc import studies
from ntkhpc.engine import receipts, run, store
from ntkhpc.engine.run import Run
from ntkhpc.phase.work import Values
from ntkhpc.studies.ensemble.train import OK

STUDY = """
name = "drawn"
seed = 5
[data]
source = "calorimeter"
pool = 40
test = {test}
[network]
widths = [4]
[training.steps]
factor = 1.0
[ensemble]
n_train = [8]
members = {members}
shard_members = {shard_members}
trace_points = 4
recheck = 0.0
[infinite_width]
redraws = 2
"""


def make_drawn(folder: Path, members: int, test: int, shard_members: int = 100) -> Run:
    """Its phases `data`, `ensemble` and `finalise` are complete, with chunks and receipts as a worker writes them."""
    target = run.create(folder, studies.loads(STUDY.format(members=members, test=test, shard_members=shard_members)))
    _work(target, "data")
    made = receipts.read(target, target.plan.of_phase("data")[0])
    assert made is not None
    rng, y = np.random.default_rng(0), store.load(target.store, "y_test")["y_test"][:, 0]
    wrong, modes = 0.3 * rng.normal(size=test), rng.normal(size=(6, test)) / np.arange(1, 7)[:, None]
    for shard in target.plan.of_phase("ensemble"):
        count = shard.region["member"][1] - shard.region["member"][0]
        f = y + wrong + 0.2 * rng.normal(size=(count, 6)) @ modes
        values = _values(target, f, y)
        store.write(target.store, target.study, shard, values)
        own = msgspec.structs.replace(made, phase=shard.phase, shard=shard.id, values=store.digests(values), read={})
        assert receipts.publish(target, shard, own)
    _work(target, "finalise")
    return target


def _work(target: Run, phase: str) -> None:
    done = run_shards(target, [shard.id for shard in target.plan.of_phase(phase)])
    assert done.returncode == 0, done.stdout + done.stderr


def _values(target: Run, f: np.ndarray, y: np.ndarray) -> Values:
    """Of predictions f (member, test_point) in float64: every array of the phase `ensemble`."""
    losses, tile = ((f - y) ** 2 / 2).astype(np.float32), 10
    each = [f[start : start + tile] for start in range(0, len(f), tile)]
    mean = np.array([one.mean(axis=0) for one in each])
    m2 = np.array([((one - own) ** 2).sum(axis=0) for one, own in zip(each, mean, strict=True)])
    found = {
        "test_point_loss": losses,
        "test_loss": losses.mean(axis=1, dtype=np.float64),
        "status": np.full(len(f), OK),
        "prediction_mean": mean[..., None],
        "prediction_m2": m2[..., None],
    }
    sizes, values = {**target.layout.sizes, "member": len(f), "tile": len(each)}, {}
    for array in store.written(target.store, target.study, "ensemble"):
        other = np.zeros([sizes[dim] for dim in array.dims[3:]])
        values[array.name] = found.get(array.name, other)[None, None, None].astype(array.dtype)
    return values

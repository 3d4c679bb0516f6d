"""Inputs that make a kernel singular are named by their rows of the pool and of the user's file, by every method."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.runs import run_shards

from ntkhpc import studies
from ntkhpc.engine import run, store
from ntkhpc.engine.run import Run
from ntkhpc.studies import facts
from ntkhpc.studies.base import Study

ONE, TWO = 7, 33
"""Rows of the pool, of which the second is three times the first."""

MISSING = 2
"""Rows at the beginning of the file that are left out."""

STUDY = """
name = "parallel"
[data]
source = "file"
path = "t.csv"
x = ["a", "b", "c"]
y = ["y"]
order = "{order}"
missing = [-9999]
pool = 40
test = 15
[network]
widths = [4]
[ensemble]
n_train = [4]
members = 10
shard_members = 10
[infinite_width]
n_train = [10, 40]
times = ["infinite"]
redraws = 0
draws = 2
"""

METHODS = {
    "whole matrices": "",
    "tiles": "tile = 16\n",
    "tiles in float32": 'tile = 16\nfactor_precision = "float32"\n',
    "iterated": 'method = "iterative"\n',
}

POSTERIOR = {"whole matrices": "", "tiles": "tile = 16\n"}


def write(folder: Path, order: str = "file", more: str = "", time: str = "infinite") -> Study:
    """A table of which the first 40 rows that are used have the mean zero, so that parallel ones stay parallel."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 3))
    x[TWO] = 3 * x[ONE]
    x[-1] -= x.sum(axis=0)
    x = np.concatenate([np.full((MISSING, 3), -9999.0), x, rng.normal(size=(15, 3))])
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=rng.normal(size=len(x)))
    frame.to_csv(folder / "t.csv", index=False, float_format="%.17g")
    text = STUDY.format(order=order).replace('["infinite"]', f'["{time}"]')
    return facts.resolve(studies.loads(text + more), folder)


def refused(target: Run) -> str:
    """What the first of its phases says that meets a kernel without an inverse."""
    for phase in ("data", "kernel", "factor", "nngp_factor", "curve"):
        shards = [shard.id for shard in target.plan.of_phase(phase)] if phase in target.plan.phases else []
        if shards and (done := run_shards(target, shards)).returncode:
            return done.stderr
    raise AssertionError("nothing was refused")


@pytest.mark.promise("Samples that make a kernel singular are named by their rows of the pool and of the user's table.")
@pytest.mark.parametrize("method", METHODS)
def test_parallel_inputs_are_named_by_their_rows_of_the_pool_and_of_the_file(method: str, tmp_path: Path) -> None:
    """Of the first draw, which is the pool as it is."""
    said = refused(run.create(tmp_path / "runs", write(tmp_path, more=METHODS[method])))
    assert f"training inputs {ONE} and {TWO} are equal, " in said
    assert f"draw 0, its first 40 samples; training inputs {ONE} and {TWO} of these, counted from 0, are" in said
    assert f"are rows {ONE} and {TWO} of the pool (x_train), rows {ONE + MISSING} and {TWO + MISSING} (from 0)" in said


@pytest.mark.parametrize("method", POSTERIOR)
def test_parallel_inputs_are_named_where_a_posterior_has_no_noise_for_them(method: str, tmp_path: Path) -> None:
    said = refused(run.create(tmp_path / "runs", write(tmp_path, more=POSTERIOR[method], time="posterior")))
    assert f"draw 0, its first 40 samples; training inputs {ONE} and {TWO} of these, counted from 0, are" in said
    assert f"are rows {ONE} and {TWO} of the pool (x_train), rows {ONE + MISSING} and {TWO + MISSING} (from 0)" in said
    assert "infinite_width.noise" in " ".join(said.split())


@pytest.mark.parametrize("method", ["whole matrices", "tiles", "iterated"])
def test_a_ridge_makes_a_law_of_parallel_inputs_as_the_refusal_advises(method: str, tmp_path: Path) -> None:
    target = run.create(tmp_path / "runs", write(tmp_path, more=METHODS[method] + "ridge = 0.1\n"))
    for phase in ("data", "kernel", "factor", "curve"):
        if shards := [shard.id for shard in target.plan.shards if shard.phase == phase]:
            assert run_shards(target, shards).returncode == 0
    assert np.isfinite(store.load(target.store, "curve_mu")["curve_mu"]).all()


def test_rows_of_another_draw_are_found_by_its_permutation(tmp_path: Path) -> None:
    target = run.create(tmp_path / "runs", write(tmp_path, more=METHODS["tiles"]))
    for phase in ("data", "kernel"):
        assert run_shards(target, [shard.id for shard in target.plan.of_phase(phase)]).returncode == 0
    second = [shard.id for shard in target.plan.of_phase("factor") if shard.region["curve_draw"][0] == 1]
    said = run_shards(target, second).stderr
    assert "draw 1, its first 40 samples" in said
    assert f"are rows {ONE} and {TWO} of the pool" in said or f"are rows {TWO} and {ONE} of the pool" in said


def test_rows_of_a_file_are_not_told_where_it_is_gone(tmp_path: Path) -> None:
    target = run.create(tmp_path / "runs", write(tmp_path))
    assert run_shards(target, [shard.id for shard in target.plan.of_phase("data")]).returncode == 0
    (tmp_path / "t.csv").unlink()
    said = refused(target)
    assert f"rows {ONE} and {TWO} of the pool (x_train)\n" in said


@pytest.mark.parametrize("marked", [True, False], ids=["missing", "whole"])
@pytest.mark.parametrize("order", ["file", "permuted"])
def test_rows_of_the_pool_have_the_values_of_their_rows_of_the_file(order: str, marked: bool, tmp_path: Path) -> None:
    study = write(tmp_path, order)
    if not marked:
        frame = pd.read_csv(tmp_path / "t.csv")[MISSING:]
        frame.to_csv(tmp_path / "t.csv", index=False, float_format="%.17g")
        text = STUDY.format(order=order).replace("missing = [-9999]\n", "")
        study = facts.resolve(studies.loads(text), tmp_path)
    written, split = pd.read_csv(tmp_path / "t.csv"), study.data.load(study.known)
    for row in range(40):
        one, _, _, name = study.data.rows_in_files(study.known, (row,)).removeprefix("row ").split(" ", 3)
        assert name == "of t.csv"
        assert split.target_train[row, 0] == written.y[int(one)]

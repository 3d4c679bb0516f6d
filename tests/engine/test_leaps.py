"""Runs with networks in leaps, from plan to report: the same networks, whatever the shards and the kills."""

from pathlib import Path

import numpy as np
import pytest
import xarray
from support.runs import all_shards, made_once, run_shards, tiny_text

from ntkhpc import leaps, library, studies, twins
from ntkhpc.engine import receipts, run, verify
from ntkhpc.engine.run import Run
from ntkhpc.studies.ensemble import train
from ntkhpc.studies.ensemble.study import EnsembleStudy

MEMBERS = 11


def text(fields: str, members: int, shard_members: int) -> str:
    found = tiny_text(widths="[8]", members=members, shard_members=shard_members, redraws=0, predictions="false")
    found = found.replace("[8, 12]", "[12]").replace("factor = 1.0", "factor = 4.0")
    return found.replace("trace_points", f"{fields}\ntrace_points")


def run_all(target: Run) -> None:
    for shards in (all_shards(target), ["analysis-0"]):
        done = run_shards(target, shards)
        assert done.returncode == 0, done.stdout + done.stderr


def make_leapt(folder: Path) -> Run:
    """Four trained networks, and eleven in leaps, in shards of ten and one."""
    target = run.create(folder, studies.loads(text(f"leap_members = {MEMBERS}\ntwin = true", 4, 2)))
    assert len(target.plan.of_phase("leaps")) == 2
    run_all(target)
    return target


@pytest.fixture(scope="module")
def leapt(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Tests only read it."""
    return made_once(tmp_path_factory, "leapt", make_leapt)


@pytest.fixture(scope="module")
def arrays(leapt: Run) -> xarray.Dataset:
    return xarray.open_zarr(leapt.store).load()


@pytest.mark.promise(
    "A network in leaps is the trained one of its number: its loss is near, with all other networks far."
)
def test_networks_in_leaps_are_those_that_are_trained(arrays: xarray.Dataset) -> None:
    trained, in_leaps = arrays.test_loss.values[..., None], arrays.leap_loss.values[..., None, :]
    apart = abs(np.log(in_leaps / trained))[0, 0, 0]  # (member, leap_member)
    assert np.diagonal(apart).max() < 0.1
    assert (apart.argmin(axis=-1) == np.arange(4)).all()
    assert (arrays.leap_status.values == 0).all()
    assert (arrays.leap_count.values < arrays.n_steps.values[None, :, None, None]).all()
    assert arrays.leap_member.values.tolist() == list(range(MEMBERS))


def test_the_store_has_what_the_science_computes(leapt: Run, arrays: xarray.Dataset) -> None:
    """All members in one call, of the stored samples at the stored rate."""
    study, n_train = leapt.study.of_kind(EnsembleStudy), 12
    cell = arrays.isel(width=0, n_train=0, draw=0)
    chosen = arrays.permutation.values[0, :n_train]
    data = [arrays.x_train.values[chosen], arrays.y_train.values[chosen], arrays.x_test.values, arrays.y_test.values]
    program = train.program(study, 8, (0, 4 * n_train))
    given = {"learning_rate": float(cell.learning_rate), "seed": study.seed, "members": range(MEMBERS)}
    found = leaps.leap_tile(program, *data, **given, tolerance=0.1)
    linearised = twins.twin_tile(program, *data, **given)
    for name, predictions in (("leap_loss", found.predictions), ("twin_loss", linearised.predictions)):
        loss = ((predictions - arrays.y_test.values) ** 2).mean(axis=(1, 2)) / 2
        np.testing.assert_allclose(cell[name].values, loss, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(cell.leap_train_loss.values, found.train_loss, rtol=1e-3)
    np.testing.assert_allclose(cell.twin_kernel.values, linearised.kernel, rtol=1e-4)
    assert cell.leap_count.values.tolist() == found.leaps.tolist()


@pytest.mark.promise(
    "A run that was killed between networks in leaps, and one of other shards, store the bits of a run that was not."
)
def test_kills_and_shards_change_no_bit(leapt: Run, arrays: xarray.Dataset, runs: Path) -> None:
    """All members in leaps and four trained as well, in one shard a cell: another study, with the same networks."""
    target = run.create(runs, studies.loads(text('method = "leaps"\nvalidation = 4', MEMBERS, 4)))
    (shard,) = target.plan.of_phase("leaps")
    killed = run_shards(target, ["data-0", shard.id], failpoint="tile-saved:2:kill")
    assert killed.returncode != 0
    run_all(target)
    receipt = receipts.read(target, shard)
    assert receipt is not None
    assert (receipt.tiles_reused, receipt.seeds["members"]) == (2, [0, MEMBERS])
    assert list(verify.problems(target)) == []
    found = xarray.open_zarr(target.store).load()
    assert found.sizes["member"] == 4
    assert "twin_loss" not in found
    leap_arrays = [str(name) for name in found.data_vars if str(name).startswith("leap_")]
    assert len(leap_arrays) == 6
    for name in (*leap_arrays, "test_loss", "prediction_mean", "bias2"):
        np.testing.assert_array_equal(found[name].values, arrays[name].values, err_msg=name)
    shown = library.OpenRun(target.path)
    assert (shown.moments().members == 4).all()
    assert (
        "ensembles of 4 networks trained step by step and 11 in leaps (4 are both) of width 8"
        in (target.path / "analysis" / "report.html").read_text()
    )


def test_a_report_is_made_with_networks_in_leaps_and_twins(leapt: Run) -> None:
    assert (leapt.path / "analysis" / "report.html").is_file()
    assert (library.OpenRun(leapt.path).moments().members == 4).all()

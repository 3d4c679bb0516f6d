"""The store: its labels, its checksums, its refusal of anything but whole chunks."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from support.runs import ROOT, make_run

from ntkhpc.engine import store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError


def values_of(target: Run, shard: Shard) -> dict[str, np.ndarray]:
    return {a.name: store.read(target.store, target.study, shard, a) for a in target.layout.arrays(shard.phase)}


@pytest.mark.promise("xarray opens the store as it is, with dimensions, coordinates and units.")
def test_xarray_opens_labelled_arrays_without_a_warning(finished: Run) -> None:
    data = xarray.open_zarr(finished.store)
    assert data.test_point_loss.dims == ("width", "n_train", "draw", "member", "test_point")
    assert data.width.values.tolist() == [4]
    assert data.test_loss.sel(width=4, n_train=12, draw=0).sizes == {"member": 11}
    assert data.target_test.attrs["units"] == "GeV"
    assert np.isfinite(data.test_point_loss).all()


@pytest.mark.promise("A loss that is not computed yet reads as NaN, its status as -1.")
def test_what_is_not_computed_yet_reads_as_missing(runs: Path) -> None:
    data = xarray.open_zarr(make_run(runs).store)
    assert np.isnan(data.test_loss).all()
    assert (data.status == -1).all()


def test_a_shard_writes_all_its_arrays_in_their_shape_and_type_or_none(runs: Path, finished: Run) -> None:
    target = make_run(runs)
    shard = target.plan.of_phase("ensemble")[0]
    good = values_of(finished, shard)
    for bad in (
        {name: value for name, value in good.items() if name != "status"},
        {**good, "status": good["status"].astype(np.int64)},
        {**good, "test_loss": good["test_loss"][..., :-1]},
    ):
        with pytest.raises(ValueError, match=shard.id):
            store.write(target.store, target.study, shard, bad)


def test_a_region_that_cuts_a_chunk_is_refused(finished: Run) -> None:
    shard = Shard("odd", "ensemble", {**finished.plan.of_phase("ensemble")[0].region, "member": (1, 6)}, 0.0)
    with pytest.raises(ValueError, match="does not end at chunks of 6"):
        store.chunk_files(finished.store, finished.study, shard)


def test_a_chunk_of_fill_values_exists_once_written(runs: Path) -> None:
    target = make_run(runs)
    shard = target.plan.of_phase("finalise")[0]
    fill = {a.name: np.full(target.layout.shape(a), a.fill_value, a.dtype) for a in target.layout.arrays("finalise")}
    store.write(target.store, target.study, shard, fill)
    assert all(path.exists() for path in store.chunk_files(target.store, target.study, shard))


@pytest.mark.promise(
    "A chunk with a flipped bit, a cut one and a missing one are errors that name the file, never values."
)
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_chunk_is_never_read_as_values(harm: str, tmp_path: Path, finished: Run) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    shard = copy.plan.of_phase("ensemble")[1]
    chunk = next(
        path for path in store.chunk_files(copy.store, copy.study, shard) if path.parent.name == "test_point_loss"
    )
    data = bytearray(chunk.read_bytes())
    if harm == "flip":
        data[17] ^= 32
    chunk.write_bytes(data[:50] if harm == "truncate" else data)
    if harm == "remove":
        chunk.unlink()
    with pytest.raises(DamagedError) as caught:
        values_of(copy, shard)
    assert str(chunk) in str(caught.value)


@pytest.mark.promise("Two processes that write neighbouring chunks at the same time lose nothing.")
def test_writers_of_neighbouring_chunks_lose_nothing(runs: Path, finished: Run) -> None:
    """Two processes write every shard of the phase, interleaved."""
    target = make_run(runs)
    script = (
        "import sys; from pathlib import Path\n"
        "from ntkhpc.engine import store; from ntkhpc.engine.run import Run\n"
        "ours, theirs = Run(Path(sys.argv[1])), Run(Path(sys.argv[2]))\n"
        "for shard in ours.plan.of_phase('ensemble')[int(sys.argv[3])::2]:\n"
        "    store.write(ours.store, ours.study, shard, {a.name: store.read(theirs.store, theirs.study, shard, a)\n"
        "        for a in ours.layout.arrays('ensemble')})\n"
    )
    command = [sys.executable, "-c", script, str(target.path), str(finished.path)]
    writers = [subprocess.Popen([*command, str(i)], cwd=ROOT) for i in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    for shard in target.plan.of_phase("ensemble"):
        assert store.digests(values_of(target, shard)) == store.digests(values_of(finished, shard))


def test_an_array_whose_folder_is_lost_is_damage_and_not_an_older_store(runs: Path) -> None:
    target = make_run(runs)
    shard = target.plan.of_phase("finalise")[0]
    fill = {a.name: np.full(target.layout.shape(a), a.fill_value, a.dtype) for a in target.layout.arrays("finalise")}
    shutil.rmtree(target.store / "variance")
    with pytest.raises(DamagedError, match="variance"):
        store.write(target.store, target.study, shard, fill)

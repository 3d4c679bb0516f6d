"""Showers of the public layouts: what was written is read, in GeV."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from support.runs import ROOT
from support.shower_arrays import ccc_arrays, lcd_arrays, step_arrays, write

from ntkhpc.data import shower_files
from ntkhpc.data.formats import calochallenge, hdf5, lcd, steps
from ntkhpc.data.shower_files import ShowerBlock
from ntkhpc.errors import DataError

ODD = ROOT.parent / "shared" / "data" / "calorimeter"
needs_odd = pytest.mark.skipif(not ODD.is_dir(), reason=f"the Geant4 steps of the Open Data Detector are not at {ODD}")


@pytest.mark.parametrize(("side", "hcal"), [(25, 5), (51, 11), (51, None)])
def test_lcd_layers_rings_and_cells(tmp_path: Path, side: int, hcal: int | None) -> None:
    arrays = lcd_arrays(side=side, hcal=hcal)
    path = write(tmp_path / "a.h5", arrays)
    energy, layers = shower_files.read(path, "lcd")
    np.testing.assert_array_equal(energy, arrays["energy"])
    windows = [arrays[key].astype(float) for key in ("ECAL", "HCAL") if key in arrays]
    np.testing.assert_allclose(layers, np.concatenate([w.sum(axis=(1, 2)) for w in windows], axis=1), rtol=1e-12)
    _, cells = shower_files.read(path, "lcd", inputs="cells")
    np.testing.assert_array_equal(cells, np.concatenate([w.reshape(len(w), -1) for w in windows], axis=1))
    _, rings = shower_files.read(path, "lcd", inputs="rings")
    middle, per_layer = side // 2, side // 2 + 1
    np.testing.assert_array_equal(rings[:, 0], windows[0][:, middle, middle, 0])
    square = windows[0][:, middle - 1 : middle + 2, middle - 1 : middle + 2, 7]
    np.testing.assert_allclose(
        rings[:, 7 * per_layer + 1], square.sum(axis=(1, 2)) - windows[0][:, middle, middle, 7], rtol=1e-12
    )
    for inputs, values in {"layers": layers, "rings": rings, "cells": cells}.items():
        assert shower_files.describe(path, "lcd", inputs=inputs) == values.shape
        assert shower_files.median_response(energy, values) == pytest.approx(0.02)


def test_older_lcd_files_have_the_energy_in_the_target(tmp_path: Path) -> None:
    arrays = lcd_arrays(hcal=None)
    energy = arrays.pop("energy")
    path = write(tmp_path / "a.h5", arrays | {"target": np.stack([np.full(6, 11), energy], axis=1)})
    np.testing.assert_array_equal(shower_files.read(path, "lcd")[0], energy)
    write(path, arrays | {"target": np.ones((6, 5))})
    with pytest.raises(DataError, match=r"target has shape \(6, 5\)(.|\n)*key `energy`"):
        shower_files.describe(path, "lcd")


def test_lcd_files_scaled_by_50_are_noticed_and_undone(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.h5", lcd_arrays())
    scaled = write(tmp_path / "scaled.h5", lcd_arrays(factor=50))
    with pytest.raises(DataError, match=r"sum to 1 of(.|\n)*scaled\.h5(.|\n)*set scale = 50"):
        shower_files.read(scaled, "lcd")
    np.testing.assert_allclose(
        shower_files.read(scaled, "lcd", scale=50)[1], shower_files.read(plain, "lcd")[1], rtol=1e-6
    )
    energy, layers = shower_files.read(scaled, "lcd", scale=1)
    assert shower_files.median_response(energy, layers) == pytest.approx(1)
    with pytest.raises(DataError, match="scale = 0"):
        shower_files.read(plain, "lcd", scale=0)
    write(plain, lcd_arrays(factor=1000))
    with pytest.raises(DataError, match="set scale to what they are scaled by"):
        shower_files.read(plain, "lcd")


@pytest.mark.parametrize("binning", calochallenge.BINNINGS, ids=lambda b: b.name)
def test_calochallenge_in_mev_with_the_radial_bin_fastest(tmp_path: Path, binning: calochallenge.Binning) -> None:
    arrays = ccc_arrays(binning)
    path = write(tmp_path / "a.hdf5", arrays, compression="gzip", compression_opts=1)
    energy, layers = shower_files.read(path, "calochallenge", pdg=(binning.pdg,))
    np.testing.assert_allclose(energy, arrays["incident_energies"][:, 0] / 1000, rtol=1e-14)
    _, rings = shower_files.read(path, "calochallenge", inputs="rings")
    first = ring = 0
    for number, (radial, angular) in enumerate(binning.layers):
        layer = arrays["showers"][:, first : first + radial * angular].reshape(-1, angular, radial) / 1000
        np.testing.assert_allclose(layers[:, number], layer.sum(axis=(1, 2)), rtol=1e-12)
        np.testing.assert_allclose(rings[:, ring : ring + radial], layer.sum(axis=1), rtol=1e-12)
        first, ring = first + radial * angular, ring + radial
    assert (first, ring) == (binning.voxels, rings.shape[1])
    assert shower_files.describe(path, "calochallenge", inputs="rings") == rings.shape
    assert shower_files.median_response(energy, layers) == pytest.approx(0.8)


def test_the_voxels_of_the_calochallenge_are_those_published() -> None:
    assert [binning.voxels for binning in calochallenge.BINNINGS] == [368, 533, 6480, 40500]


def test_calochallenge_with_mixed_units_is_refused(tmp_path: Path) -> None:
    arrays = ccc_arrays(calochallenge.BINNINGS[0])
    path = write(tmp_path / "a.hdf5", arrays | {"showers": arrays["showers"] / 1000})
    with pytest.raises(DataError, match=r"sum to 0\.0008 of the incident energy"):
        shower_files.read(path, "calochallenge")


def test_steps_fall_into_layers_and_rings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", step_arrays())
    energy, rings = shower_files.read(path, "steps", inputs="rings")
    np.testing.assert_array_equal(energy, 10)
    filled = {(row, ring // steps.RINGS, ring % steps.RINGS): rings[row, ring] for row, ring in np.argwhere(rings)}
    assert filled == pytest.approx({(0, 0, 0): 0.1, (0, 47, 1): 0.05, (0, 48, 0): 0.03, (1, 0, 3): 0.2})
    _, layers = shower_files.read(path, "steps", pdg=(11,))
    assert layers.shape == (1, 84)
    assert layers[0, 0] == pytest.approx(0.2)


def test_layers_of_steps_are_planes_and_not_cylinders(tmp_path: Path) -> None:
    """At a side's edge the radius is 1 / cos(11.25 degrees) = 1.0196 of the depth: 31 mm at the first HCAL layer."""
    arrays = step_arrays()
    position = np.array(arrays["steps/position"])
    for side in range(16):
        normal, edge = side * np.pi / 8, side * np.pi / 8 + 0.99 * np.pi / 16
        radius = 1647.0 / np.cos(edge - normal)
        position[2] = radius * np.cos(edge), radius * np.sin(edge), 100
        path = write(tmp_path / "a.h5", arrays | {"steps/position": position})
        assert shower_files.read(path, "steps")[1][0, 48] == pytest.approx(0.03)


@needs_odd
@pytest.mark.parametrize(("name", "pdg", "fraction"), [("gamma", 22, 0.026), ("pionM", -211, 0.0206)])
def test_geant4_steps_agree_with_the_cell_ids_of_the_detector(name: str, pdg: int, fraction: float) -> None:
    path = ODD / f"ODD_{name}_10ev_10GeV_steps.h5"
    energy, layers = shower_files.read(path, "steps", pdg=(pdg,))
    np.testing.assert_allclose(energy, 10, rtol=2e-4)
    with h5py.File(path) as file:
        step = {key: file["steps"][key][()] for key in ("event_id", "energy", "subdetector", "cell_id")}
    # system:8, barrel:3, module:4, stave:1, layer:6, ...; layers are numbered from 1
    layer = (step["cell_id"] >> np.uint64(16) & np.uint64(63)).astype(int) - 1 + 48 * (step["subdetector"] == 2)
    expected = np.zeros((10, 84))
    np.add.at(expected, (step["event_id"], layer), step["energy"])
    np.testing.assert_allclose(layers, expected, atol=1e-6)
    assert shower_files.median_response(energy, layers) == pytest.approx(fraction, rel=0.01)
    for inputs in shower_files.INPUTS:
        shape = shower_files.describe(path, "steps", inputs=inputs)
        assert shape == shower_files.read(path, "steps", inputs=inputs)[1].shape


def test_energies_particles_and_rows_are_chosen_in_the_order_of_the_files(tmp_path: Path) -> None:
    first, second = lcd_arrays(7, hcal=None, seed=3), lcd_arrays(5, hcal=None, seed=4)
    paths = (write(tmp_path / "b.h5", first), write(tmp_path / "a.h5", second))
    energy = np.concatenate([first["energy"], second["energy"]])
    pdg = np.concatenate([first["pdgID"], second["pdgID"]])
    sums = np.concatenate([first["ECAL"], second["ECAL"]]).astype(float).sum(axis=(1, 2))
    keep = (energy >= 50) & (energy <= 450) & (pdg == 11)
    choice = {"energy_min": 50, "energy_max": 450, "pdg": (11,)}
    found, layers = shower_files.read(paths, "lcd", **choice)
    assert 2 < keep.sum() < 12
    np.testing.assert_array_equal(found, energy[keep])
    np.testing.assert_allclose(layers, sums[keep], rtol=1e-12)
    some = shower_files.read(paths, "lcd", rows=2, **choice)
    np.testing.assert_array_equal(some[1], layers[:2])
    assert shower_files.describe(paths, "lcd", rows=2, **choice) == (2, 25)
    for limits in ({"pdg": (13, -11)}, {"rows": 13}, {"energy_min": 501}):
        with pytest.raises(DataError, match=r"particles 11, 211; energies \d+\.\d+ to \d+"):
            shower_files.describe(paths, "lcd", **limits)


def test_the_size_of_a_block_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "lcd": write(tmp_path / "l.h5", lcd_arrays(9), chunks=True),
        "calochallenge": write(tmp_path / "c.h5", ccc_arrays(calochallenge.BINNINGS[2], 9)),
        "steps": write(tmp_path / "s.h5", step_arrays()),
    }
    for layout, path in files.items():
        kept = {"energy_min": 50} if layout != "steps" else {}
        whole = [shower_files.read(path, layout, inputs=inputs, **kept)[1] for inputs in shower_files.INPUTS]
        for size in (1, 2**18):
            monkeypatch.setattr(hdf5, "BLOCK_BYTES", size)
            for inputs, values in zip(shower_files.INPUTS, whole, strict=True):
                np.testing.assert_array_equal(shower_files.read(path, layout, inputs=inputs, **kept)[1], values)
        monkeypatch.undo()


def test_memory_goes_with_blocks_and_not_with_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    monkeypatch.setattr(hdf5, "BLOCK_BYTES", 2**20)
    init = ShowerBlock.__init__

    def watched(self: ShowerBlock, energy: np.ndarray, cells: np.ndarray, grid: object) -> None:
        nonlocal largest
        largest = max(largest, cells.nbytes)
        init(self, energy, cells, grid)

    monkeypatch.setattr(ShowerBlock, "__init__", watched)
    path = write(tmp_path / "a.h5", lcd_arrays(40, hcal=None))  # 5 MB of cells in float64
    shower_files.read(path, "lcd")
    assert 0 < largest <= 2**20


def test_whole_chunks_are_read_where_they_fit() -> None:
    assert hdf5.block_rows(hdf5.BLOCK_BYTES // 100, chunk=30) == 90
    assert hdf5.block_rows(hdf5.BLOCK_BYTES // 100, chunk=101) == 100
    assert hdf5.block_rows(2 * hdf5.BLOCK_BYTES) == 1


def test_a_sum_of_a_fraction_tells_scaled_from_unscaled() -> None:
    low, high = lcd.RESPONSE
    assert low < 0.02 < high < 50 * low < 1 < 50 * high

"""Showers of the public layouts: what was written is read, in GeV, and what cannot be meant is refused."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT

from ntkhpc.data import shower_files
from ntkhpc.data.formats import calochallenge, hdf5, lcd, steps
from ntkhpc.data.shower_files import Showers
from ntkhpc.errors import DataError

ODD = ROOT.parent / "shared" / "data" / "calorimeter"
needs_odd = pytest.mark.skipif(not ODD.is_dir(), reason=f"the Geant4 steps of the Open Data Detector are not at {ODD}")


def write(path: Path, arrays: dict[str, object], **how: object) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file.create_dataset(key, data=values, **how)
    return path


def lcd_arrays(
    n: int = 6, side: int = 25, hcal: int | None = 5, factor: float = 1.0, seed: int = 1
) -> dict[str, np.ndarray]:
    """Deposits that sum to 0.02 of the energy, times a factor."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(10, 500, n)
    found = {"ECAL": rng.random((n, side, side, 25)), "energy": energy}
    if hcal:
        found["HCAL"] = 0.1 * rng.random((n, hcal, hcal, 60))
    total = sum(found[key].sum(axis=(1, 2, 3)) for key in ("ECAL", "HCAL") if key in found)
    for key in ("ECAL", "HCAL"):
        if key in found:
            found[key] = (found[key] * (factor * 0.02 * energy / total)[:, None, None, None]).astype(np.float32)
    return found | {"pdgID": np.where(np.arange(n) % 2, 211, 11)}


def ccc_arrays(binning: calochallenge.Binning, n: int = 5) -> dict[str, np.ndarray]:
    """0.8 of the incident energy in voxels, all in MeV."""
    rng = np.random.default_rng(2)
    energy, showers = rng.uniform(1e3, 1e6, (n, 1)), rng.random((n, binning.voxels))
    return {"incident_energies": energy, "showers": 0.8 * energy * showers / showers.sum(axis=1, keepdims=True)}


def step_arrays() -> dict[str, object]:
    """Two events of 10 GeV along y; a step in the first ECAL layer, in the last, in the first HCAL layer, on a ring."""
    y = np.array([1252.4, 1489.7, 1647.0, 1252.4])
    position = np.stack([[0.0, 0, 0, 30], y, [0.0, 7, 0, 0]], axis=1)
    return {
        "steps/event_id": np.array([3, 3, 3, 5], np.int32),
        "steps/energy": np.array([0.1, 0.05, 0.03, 0.2], np.float32),
        "steps/position": position.astype(np.float32),
        "steps/subdetector": np.array([0, 0, 2, 0], np.uint8),
        "primary/event_id": np.array([3, 5], np.int32),
        "primary/pdg": np.array([22, 11], np.int32),
        "primary/momentum": np.array([[0, 10, 0], [0, 10, 0]], np.float32),
        "primary/vertex": np.array([[0, 1250, 0], [0, 1250, 0]], np.float32),
        "metadata/subdetector_names": ["ECalBarrelCollection", "ECalEndcapCollection", "HCalBarrelCollection"],
    }


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
    init = Showers.__init__

    def watched(self: Showers, energy: np.ndarray, cells: np.ndarray, grid: object) -> None:
        nonlocal largest
        largest = max(largest, cells.nbytes)
        init(self, energy, cells, grid)  # type: ignore[arg-type]

    monkeypatch.setattr(Showers, "__init__", watched)
    path = write(tmp_path / "a.h5", lcd_arrays(40, hcal=None))  # 5 MB of cells in float64
    shower_files.read(path, "lcd")
    assert 0 < largest <= 2**20


def test_whole_chunks_are_read_where_they_fit() -> None:
    assert hdf5.block_rows(hdf5.BLOCK_BYTES // 100, chunk=30) == 90
    assert hdf5.block_rows(hdf5.BLOCK_BYTES // 100, chunk=101) == 100
    assert hdf5.block_rows(2 * hdf5.BLOCK_BYTES) == 1


def spoil(key: str, place: object, value: float) -> Callable[[dict], dict]:
    def change(arrays: dict) -> dict:
        values = np.array(arrays[key])
        values[place] = value
        return arrays | {key: values}

    return change


def without(key: str) -> Callable[[dict], dict]:
    return lambda arrays: {name: values for name, values in arrays.items() if name != key}


LCD_FAULTS = [
    (without("ECAL"), r"no key 'ECAL'(.|\n)*'HCAL', 'energy', 'pdgID'"),
    (without("energy"), r"no key 'energy'(.|\n)*'ECAL'"),
    (lambda a: a | {"ECAL": a["ECAL"][:, :24]}, r"ECAL has shape \(6, 24, 25, 25\)(.|\n)*\(n, 25, 25, 25\)"),
    (lambda a: a | {"HCAL": a["HCAL"][..., :59]}, r"HCAL has shape \(6, 5, 5, 59\)"),
    (lambda a: a | {"energy": a["energy"][:4]}, "energy 4, ECAL 6, HCAL 6, pdgID 6"),
    (lambda a: a | {"energy": np.ones((6, 2))}, r"energy has shape \(6, 2\)"),
    (lambda a: a | {"energy": a["energy"] + 1j}, "energy holds complex128"),
    (lambda a: {key: values[:0] for key, values in a.items()}, "no showers"),
    (spoil("energy", 4, -3.0), r"row 4 has incident energy -3\.0 \(1 such rows of 6"),
    (spoil("energy", 5, np.nan), "row 5 has incident energy nan"),
    (spoil("ECAL", (3, 0, 0, 2), np.nan), r"row 3 has a deposit of nan GeV in cell 2 \(1 such"),
    (spoil("HCAL", (2, 0, 0, 0), -1e-3), r"row 2 has a deposit of -0\.001\d* GeV in cell 15625"),
    (spoil("ECAL", (1, 0, 0, 0), np.inf), "row 1 has a deposit of inf"),
]


@pytest.mark.parametrize(("change", "said"), LCD_FAULTS)
def test_lcd_files_with_faults_are_refused_by_name(tmp_path: Path, change: Callable, said: str) -> None:
    path = write(tmp_path / "bad.h5", change(lcd_arrays()))
    with pytest.raises(DataError, match=said) as caught:
        shower_files.read(path, "lcd")
    assert caught.value.where == path


STEP_FAULTS = [
    (without("steps/position"), r"no key 'steps/position'(.|\n)*'steps/subdetector'"),
    (without("metadata/subdetector_names"), "no key 'metadata/subdetector_names'"),
    (lambda a: a | {"metadata/subdetector_names": ["A", "B"]}, "subdetectors are A, B"),
    (lambda a: a | {"steps/event_id": [3, 5, 3, 5]}, "event_id is not in order"),
    (lambda a: a | {"steps/event_id": [3, 3, 3, 6]}, "an event that primary/event_id has not"),
    (lambda a: a | {"primary/event_id": [3, 3]}, "several primaries"),
    (lambda a: a | {"primary/momentum": np.ones((2, 4))}, r"momentum has shape \(2, 4\)"),
    (lambda a: a | {"primary/momentum": np.zeros((2, 3))}, r"row 0 has incident energy 0\.0"),
    (lambda a: a | {"steps/position": np.array(a["steps/position"]) / 10}, "outside the 48 layers"),
    (lambda a: a | {"steps/subdetector": [0, 1, 2, 0]}, "13% of the energy(.|\n)*endcaps"),
    (lambda a: a | {"steps/energy": np.array(a["steps/energy"]) * 1000}, "in another unit than GeV"),
    (spoil("steps/energy", 1, -1e-3), r"step 1 has energy -0\.001"),
    (spoil("steps/position", (3, 1), np.nan), r"step 3 has energy 0\.2\d* GeV at \[30\.0, nan"),
]


@pytest.mark.parametrize(("change", "said"), STEP_FAULTS)
def test_step_files_with_faults_are_refused_by_name(tmp_path: Path, change: Callable, said: str) -> None:
    path = write(tmp_path / "bad.h5", change(step_arrays()))
    with pytest.raises(DataError, match=said) as caught:
        shower_files.read(path, "steps")
    assert caught.value.where == path


def test_calochallenge_files_with_faults_are_refused_by_name(tmp_path: Path) -> None:
    arrays = ccc_arrays(calochallenge.BINNINGS[0])
    path = write(tmp_path / "bad.h5", arrays | {"showers": arrays["showers"][:, :367]})
    with pytest.raises(DataError, match=r"\(5, 367\)(.|\n)*368 \(dataset 1, photons\)"):
        shower_files.describe(path, "calochallenge")
    write(path, {"showers": arrays["showers"], "incident_energy": arrays["incident_energies"]})
    with pytest.raises(DataError, match="no key 'incident_energies'; 'incident_energy' is there"):
        shower_files.describe(path, "calochallenge")


@pytest.mark.parametrize("size", [0, 100, 5000, -2000])
def test_truncated_and_foreign_files_are_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "bad.h5", lcd_arrays())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"cannot be read(.|\n)*bad\.h5(.|\n)*interrupted download"):
        shower_files.read(path, "lcd")
    with pytest.raises(DataError, match="no such file"):
        shower_files.read(tmp_path / "none.h5", "lcd")


def test_a_damaged_block_of_compressed_cells_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.h5", lcd_arrays(hcal=None), compression="gzip", chunks=None, shuffle=True)
    with h5py.File(path) as file:
        place = file["ECAL"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[place.byte_offset + 20 : place.byte_offset + 60] = bytes(40)
    path.write_bytes(raw)
    assert shower_files.describe(path, "lcd") == (6, 25)
    with pytest.raises(DataError, match="cannot be read"):
        shower_files.read(path, "lcd")


def test_what_the_files_cannot_give_is_refused(tmp_path: Path) -> None:
    small, large = lcd_arrays(hcal=None), lcd_arrays(hcal=5)
    paths = (write(tmp_path / "a.h5", small), write(tmp_path / "b.h5", large))
    with pytest.raises(DataError, match=r"17125 cells are not those of .*a\.h5 \(15625\)"):
        shower_files.read(paths, "lcd")
    write(paths[0], without("pdgID")(small))
    with pytest.raises(DataError, match="does not say which it holds"):
        shower_files.read(paths[0], "lcd", pdg=(11,))
    with pytest.raises(DataError, match="choose from layers, rings, cells"):
        shower_files.describe(paths[0], "lcd", inputs="layer")
    with pytest.raises(DataError, match="layouts: lcd, calochallenge, steps"):
        shower_files.describe(paths[0], "LCD")
    with pytest.raises(DataError, match="no files"):
        shower_files.describe((), "lcd")


def test_a_sum_of_a_fraction_tells_scaled_from_unscaled() -> None:
    low, high = lcd.RESPONSE
    assert low < 0.02 < high < 50 * low < 1 < 50 * high

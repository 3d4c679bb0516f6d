"""Shower files that cannot be meant are refused, and the message names what is wrong where."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.shower_arrays import ccc_arrays, lcd_arrays, step_arrays, write

from ntkhpc.data import shower_files
from ntkhpc.data.formats import calochallenge
from ntkhpc.errors import DataError


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


@pytest.mark.promise("Shower files with wrong keys, shapes, negative energies or NaN are refused with the row or key.")
@pytest.mark.parametrize(
    ("layout", "arrays", "change", "said"),
    [("lcd", lcd_arrays, *fault) for fault in LCD_FAULTS] + [("steps", step_arrays, *fault) for fault in STEP_FAULTS],
)
def test_files_with_faults_are_refused_by_name(
    tmp_path: Path, layout: str, arrays: Callable, change: Callable, said: str
) -> None:
    path = write(tmp_path / "bad.h5", change(arrays()))
    with pytest.raises(DataError, match=said) as caught:
        shower_files.read(path, layout)
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

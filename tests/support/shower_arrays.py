"""Small arrays of the public shower layouts, and files of them."""

from pathlib import Path

import h5py
import numpy as np

from ntkhpc.data.formats import calochallenge


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

"""LCD/CLIC showers: windows of 25 ECAL and 60 HCAL layers about the shower (arXiv:1912.06794; 3DGAN's files).

Keys: ECAL (n, a, a, 25), axes phi, z, layer; HCAL (n, b, b, 60), optional; energy (n,) or (n, 1) in GeV, in older files
the last column of target (n, 2); pdgID (n,) or (n, 1), optional. a is 25 or 51, b 5 or 11.

Cells are visible GeV, that is about 0.02 of the incident energy, in some files and 50 times that in others.
Rings are square: the cells at the same distance max(|phi|, |z|) from the window's central cell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.data.formats import hdf5
from ntkhpc.data.formats.grid import Grid, stack
from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

# The sampling fraction is about 0.02. A factor of 5 either way spans particles, energies and leakage, and still tells
# a file scaled by 50 (about 1) from one that is not.
RESPONSE = (0.2 * 0.02, 5 * 0.02)

# GeV; the public files have 2 to 510. Narrower than a factor of 1000: energies in MeV or TeV lie outside, all of them.
ENERGIES = (0.9, 800.0)

_WINDOWS = {"ECAL": ((25, 25, 25), (51, 51, 25)), "HCAL": ((5, 5, 60), (11, 11, 60))}


@dataclass(frozen=True, eq=False)
class Lcd:
    """An open LCD file; see grid.GridFile."""

    energy: np.ndarray
    pdg: np.ndarray | None
    grid: Grid
    windows: tuple[Any, ...]
    energies: tuple[float, float] = ENERGIES

    @property
    def block_rows(self) -> int:
        chunk = (self.windows[0].chunks or (1,))[0]
        return hdf5.block_rows(8 * self.grid.cells, chunk)

    def cells(self, first: int, last: int) -> np.ndarray:
        rows = last - first
        parts = [np.asarray(window[first:last], np.float64).reshape(rows, -1) for window in self.windows]
        return np.concatenate(parts, axis=1)


def source(file: Any, where: Path) -> Lcd:
    """Raises DataError for a missing key or a shape that is not one of the layout's."""
    windows = {key: _window(file, key, where) for key in _WINDOWS if key == "ECAL" or hdf5.has(file, key, where)}
    energy = _energy(file, where)
    # pdgID was written as a floating-point number by some.
    pdg = hdf5.column(file, "pdgID", where).astype(np.int64) if hdf5.has(file, "pdgID", where) else None
    hdf5.same_rows(where, energy=energy, **windows, **({} if pdg is None else {"pdgID": pdg}))
    grid = stack(*(_square(*window.shape[2:]) for window in windows.values()))
    return Lcd(energy, pdg, grid, tuple(windows.values()))


def _window(file: Any, key: str, where: Path) -> Any:
    found = hdf5.array(file, key, where)
    if found.shape[1:] not in _WINDOWS[key]:
        known = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in _WINDOWS[key])
        raise DataError(
            f"{key} has shape {found.shape}; the layout lcd has {known}: phi, z, layer",
            where=where,
            cause="another data set, or other axes",
            todo="choose the layout that fits the file, or write its arrays as a table (.npz, .h5) of your own",
        )
    return found


def _energy(file: Any, where: Path) -> np.ndarray:
    if hdf5.has(file, "energy", where):
        return hdf5.column(file, "energy", where).astype(np.float64)
    if not hdf5.has(file, "target", where):
        require(["energy"], hdf5.keys(file), where)
    target = hdf5.array(file, "target", where)
    # With more columns, some files' last one is a momentum: do not guess.
    if target.ndim != 2 or target.shape[1] not in (1, 2):
        raise DataError(
            f"target has shape {target.shape}; the energy is its last column only in (n, 1) and (n, 2)",
            where=where,
            todo="write the energies in GeV to a key `energy` (n,)",
        )
    hdf5.require_room(2 * 8 * target.size, "target", where)
    return np.asarray(target[:, -1], np.float64)


def _square(side: int, layers: int) -> Grid:
    """Cells in the order phi, z, layer (the fastest); square rings about the centre."""
    offset = np.abs(np.arange(side) - side // 2)
    distance = np.maximum(offset[:, None], offset)[:, :, None]
    layer = np.broadcast_to(np.arange(layers), (side, side, layers))
    return Grid(layer.ravel(), (layer * (side // 2 + 1) + distance).ravel())

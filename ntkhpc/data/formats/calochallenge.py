"""CaloChallenge showers (arXiv:2410.21611; the binning files at github.com/CaloChallenge/homepage).

Keys: incident_energies (n, 1) and showers (n, voxels), both in MeV; in a row of voxels the radial bin is the fastest,
then the angular bin, then the layer. The number of voxels tells the data set, and with it the particle. Deposits are
calibrated: their sum is of the order of the incident energy.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.data.formats import hdf5
from ntkhpc.data.formats.grid import Grid, stack
from ntkhpc.errors import DataError

# Wide: only a mixture of MeV and GeV, a factor of 1000 either way, is to be caught.
RESPONSE = (0.02, 5.0)


@dataclass(frozen=True)
class Binning:
    """One of the data sets: pdg code of its particle, and per layer the numbers of (radial, angular) bins."""

    name: str
    pdg: int
    layers: tuple[tuple[int, int], ...]

    @property
    def voxels(self) -> int:
        return sum(radial * angular for radial, angular in self.layers)

    def grid(self) -> Grid:
        return stack(
            *(
                Grid(np.zeros(radial * angular, int), np.tile(np.arange(radial), angular))
                for radial, angular in self.layers
            )
        )


BINNINGS = (
    # ATLAS: layers 0, 1, 2, 3 and 12 see photons, and pions reach 13 and 14.
    Binning("dataset 1, photons", 22, ((8, 1), (16, 10), (19, 10), (5, 1), (5, 1))),
    Binning("dataset 1, pions", 211, ((8, 1), (10, 10), (10, 10), (5, 1), (15, 10), (16, 10), (10, 1))),
    Binning("dataset 2, electrons", 11, ((9, 16),) * 45),
    Binning("dataset 3, electrons", 11, ((18, 50),) * 45),
)

_GEV = 1e-3  # per MeV


@dataclass(frozen=True, eq=False)
class CaloChallenge:
    """An open CaloChallenge file; see grid.GridFile."""

    energy: np.ndarray
    pdg: np.ndarray
    grid: Grid
    showers: Any

    @property
    def block_rows(self) -> int:
        return hdf5.block_rows(8 * self.grid.cells, (self.showers.chunks or (1,))[0])

    def cells(self, first: int, last: int) -> np.ndarray:
        return np.asarray(self.showers[first:last], np.float64) * _GEV


def source(file: Any, where: Path) -> CaloChallenge:
    """Raises DataError for a missing key or a number of voxels that no data set has."""
    showers = hdf5.array(file, "showers", where)
    energy = hdf5.column(file, "incident_energies", where).astype(np.float64) * _GEV
    hdf5.same_rows(where, incident_energies=energy, showers=showers)
    by_voxels = {binning.voxels: binning for binning in BINNINGS}
    if showers.ndim != 2 or showers.shape[1] not in by_voxels:
        raise DataError(
            f"showers has shape {showers.shape}, which is none of the CaloChallenge's data sets",
            where=where,
            cause="another data set, or a shower that was reshaped",
            todo="the layout is (n, voxels) with " + ", ".join(f"{b.voxels} ({b.name})" for b in BINNINGS),
        )
    binning = by_voxels[showers.shape[1]]
    return CaloChallenge(energy, np.full(len(energy), binning.pdg), binning.grid(), showers)

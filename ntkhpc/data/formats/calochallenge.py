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

# GeV, of all data sets. Those of one are in its Binning.
ENERGIES = (0.25, 4300.0)


@dataclass(frozen=True)
class Binning:
    """One of the data sets: pdg code of its particle, per layer the numbers of (radial, angular) bins, and GeV.

    powers: whether its incident energies are powers of 2 in MeV.
    """

    name: str
    pdg: int
    layers: tuple[tuple[int, int], ...]
    energies: tuple[float, float] = ENERGIES
    powers: bool = True

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
    Binning("dataset 2, electrons", 11, ((9, 16),) * 45, (0.99, 1010.0), powers=False),
    Binning("dataset 3, electrons", 11, ((18, 50),) * 45, (0.99, 1010.0), powers=False),
)

_GEV = 1e-3  # per MeV


@dataclass(frozen=True, eq=False)
class CaloChallenge:
    """An open CaloChallenge file; see grid.GridFile."""

    energy: np.ndarray
    pdg: np.ndarray
    grid: Grid
    showers: Any
    energies: tuple[float, float]

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
    stored = energy / _GEV
    if binning.powers and _are_powers(1e3 * stored) and not _are_powers(stored):
        raise DataError(
            f"1000 times the incident energies are powers of 2 ({stored.min():.6g} is the least that is stored)",
            where=where,
            cause=f"those of {binning.name} are powers of 2 in MeV, and this file is in GeV",
            todo="multiply both keys by 1000 in the file",
        )
    return CaloChallenge(energy, np.full(len(energy), binning.pdg), binning.grid(), showers, binning.energies)


def _are_powers(values: np.ndarray) -> bool:
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.log2(values)
    return bool(np.isfinite(exponent).all() and (np.abs(exponent - np.round(exponent)) < 1e-6).all())

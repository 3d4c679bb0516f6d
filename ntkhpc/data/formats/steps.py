"""Geant4 steps in the barrel of the Open Data Detector (step2point, arXiv:2509.22340).

Keys: steps/{event_id, energy [GeV], position [mm], subdetector}, primary/{event_id, pdg, momentum [GeV], vertex [mm]},
metadata/subdetector_names. Energies are those deposited in silicon and scintillator: about 0.025 of the incident one.

Layers are the detector's: 48 of the ECAL, then 36 of the HCAL. The barrel is a prism of 16 sides with plane layers, so
a step's layer follows from its distance along the normal of the side it is in. That is also what its cell_id says, but
the bits of cell_id differ between versions of the detector. A binning in radius puts a fifth of a pion's HCAL energy
into a wrong layer, one in depth along the primary a fifteenth. Deposits in the endcaps leaked from the barrel and are
left out.

Rings are by distance to the primary's straight line, in mm. The files have no cells beyond these: cells are rings.
The incident energy is |momentum|: the files have no masses. No time is cut: late neutrons count.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.data.formats import hdf5
from ntkhpc.data.formats.grid import Grid
from ntkhpc.data.formats.names import listed
from ntkhpc.errors import DataError

# From muons of 100 GeV (a few 1e-4) to electrons (0.03); energies in MeV are a factor of 1000 off.
RESPONSE = (1e-4, 0.5)
ENERGIES = (0.2, 600.0)  # GeV; the public files have 1 to 100
RING_EDGES_MM = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0)  # the last ring is all that lies beyond
ENDCAP_LIMIT = 0.05  # of a block's energy

_SIDES = np.arange(16) * np.pi / 8  # azimuths of their normals
_STEP_BYTES = 600  # of memory per step while a block is binned: distances to 16 planes, three times, and positions


@dataclass(frozen=True)
class Barrel:
    """Layers from `inner` mm (half the width across flats), `pitch` mm apart; `first` is the number of the first."""

    inner: float
    pitch: float
    layers: int
    first: int


BARRELS = {"ECalBarrelCollection": Barrel(1250.0, 5.05, 48, 0), "HCalBarrelCollection": Barrel(1600.0, 51.0, 36, 48)}
LAYERS = sum(barrel.layers for barrel in BARRELS.values())
RINGS = len(RING_EDGES_MM) + 1


@dataclass(frozen=True, eq=False)
class StepFile:
    """An open file of steps; see grid.GridFile.

    vertex (n, 3) in mm, direction (n, 3) of length 1: the primary's line.
    """

    energy: np.ndarray
    pdg: np.ndarray
    grid: Grid
    event: np.ndarray
    vertex: np.ndarray
    direction: np.ndarray
    names: tuple[str, ...]
    steps: dict[str, Any]
    where: Path
    energies: tuple[float, float] = ENERGIES

    @property
    def block_rows(self) -> int:
        return hdf5.block_rows(_STEP_BYTES * (len(self.steps["event_id"]) // max(1, len(self.event)) + 1))

    @cached_property
    def _bounds(self) -> np.ndarray:
        """(n, 2): first step of each event and the one after its last."""
        hdf5.require_room(3 * 8 * len(self.steps["event_id"]), "steps/event_id", self.where)
        event = self.steps["event_id"][()]
        bounds = np.stack([np.searchsorted(event, self.event, side) for side in ("left", "right")], axis=1)
        if (event[1:] < event[:-1]).any() or np.diff(bounds).sum() != len(event):
            raise DataError(
                "steps/event_id is not in order, or names an event that primary/event_id has not",
                where=self.where,
                todo="sort the steps by event, and keep the primaries of all of them",
            )
        return bounds

    def cells(self, first: int, last: int) -> np.ndarray:
        bounds = self._bounds[first:last]
        steps = {name: values[bounds[0, 0] : bounds[-1, 1]] for name, values in self.steps.items()}
        event = np.repeat(np.arange(last - first), bounds[:, 1] - bounds[:, 0])
        energy, position = steps["energy"].astype(np.float64), steps["position"].astype(np.float64)
        self._check(energy, position, int(bounds[0, 0]))
        layer = self._layer(steps["subdetector"], position, energy)
        away = position - self.vertex[first:last][event]
        along = np.einsum("ij,ij->i", away, self.direction[first:last][event])
        distance = np.sqrt(np.maximum(np.einsum("ij,ij->i", away, away) - along**2, 0))
        ring = np.searchsorted(RING_EDGES_MM, distance, side="right")
        kept = layer >= 0
        number = ((event * LAYERS + layer) * RINGS + ring)[kept]
        return np.bincount(number, energy[kept], (last - first) * LAYERS * RINGS).reshape(last - first, -1)

    def _check(self, energy: np.ndarray, position: np.ndarray, first: int) -> None:
        # Here, because the sum over a ring would hide a negative step.
        bad = np.flatnonzero(~((energy >= 0) & (energy < np.inf) & np.isfinite(position).all(axis=1)))
        if len(bad):
            raise DataError(
                f"step {first + bad[0]} has energy {energy[bad[0]]} GeV at {position[bad[0]].tolist()} mm",
                where=self.where,
                cause="a damaged file: a deposit is a positive number at a point",
                todo="write or fetch the file again",
            )

    def _layer(self, subdetector: np.ndarray, position: np.ndarray, energy: np.ndarray) -> np.ndarray:
        """(steps,): number of the layer, -1 outside the barrel."""
        layer = np.full(len(energy), -1)
        for name, barrel in BARRELS.items():
            inside = np.flatnonzero(subdetector == self.names.index(name))
            x, y = position[inside, 0, None], position[inside, 1, None]
            depth = (x * np.cos(_SIDES) + y * np.sin(_SIDES)).max(axis=1, initial=0)
            number = np.floor((depth - barrel.inner) / barrel.pitch).astype(int)
            if not ((number >= 0) & (number < barrel.layers)).all():
                raise DataError(
                    f"{name} has deposits outside the {barrel.layers} layers of the Open Data Detector",
                    where=self.where,
                    cause="another detector, or positions that are not in mm",
                    todo="write positions in mm; another detector has no layout here: make it a table of inputs",
                )
            layer[inside] = barrel.first + number
        lost, total = energy[layer < 0].sum(), energy.sum()
        if lost > ENDCAP_LIMIT * total:
            raise DataError(
                f"{lost / total:.0%} of the energy of a block of events lies outside the barrel",
                where=self.where,
                cause="particles shot at the endcaps, which this layout has no layers for",
                todo="take events with primaries in the barrel",
            )
        return layer


def source(file: Any, where: Path) -> StepFile:
    """Raises DataError for a missing key, several primaries in an event, or subdetectors without a barrel."""
    event = hdf5.column(file, "primary/event_id", where)
    pdg = hdf5.column(file, "primary/pdg", where).astype(np.int64)
    momentum, vertex = (_vectors(file, f"primary/{name}", where) for name in ("momentum", "vertex"))
    hdf5.require_room(6 * 8 * momentum.size + 6 * 8 * vertex.size, "primary", where)
    momentum, vertex = (found[()].astype(np.float64) for found in (momentum, vertex))
    hdf5.same_rows(where, event_id=event, pdg=pdg, momentum=momentum, vertex=vertex)
    if (event[1:] <= event[:-1]).any():  # no difference, which wraps where numbers are unsigned
        raise DataError(
            "primary/event_id does not increase",
            where=where,
            cause="several primaries in an event, or files joined without numbering the events anew",
            todo="write one primary an event, and name each file in path instead of joining them",
        )
    steps = {name: hdf5.array(file, f"steps/{name}", where) for name in ("event_id", "energy", "subdetector")}
    steps["position"] = _vectors(file, "steps/position", where)
    hdf5.same_rows(where, **steps)
    energy = np.linalg.norm(momentum, axis=1)
    # A primary at rest has no line; its energy of zero is refused by the reader.
    direction = momentum / np.where(energy > 0, energy, 1)[:, None]
    number = np.arange(LAYERS * RINGS)
    return StepFile(
        energy, pdg, Grid(number // RINGS, number), event, vertex, direction, _names(file, where), steps, where
    )


def _names(file: Any, where: Path) -> tuple[str, ...]:
    found = np.ravel(hdf5.dataset(file, "metadata/subdetector_names", where)[()])
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
    if not set(BARRELS) <= set(names):
        raise DataError(
            f"the subdetectors are {listed(names)}; this layout reads {listed(BARRELS)}",
            where=where,
            cause="another detector than the Open Data Detector",
            todo="take another file, or make it a table of inputs",
        )
    return names


def _vectors(file: Any, key: str, where: Path) -> Any:
    found = hdf5.array(file, key, where)
    if found.ndim != 2 or found.shape[1] != 3:
        raise DataError(
            f"{key} has shape {found.shape}; it needs three components: (n, 3)",
            where=where,
            todo="reshape it in the file",
        )
    return found

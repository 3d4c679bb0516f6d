"""Cells of a calorimeter: which belong to a layer, which to a ring about the shower's axis."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Grid:
    """layer and ring (cells,), int: of each cell, in the order of the file's row of cells.

    Layers are numbered from 0 with the depth. Rings are numbered through all layers, from the axis outwards within
    each: every ring lies in one layer.
    """

    layer: np.ndarray
    ring: np.ndarray

    @property
    def cells(self) -> int:
        return len(self.layer)

    @property
    def layers(self) -> int:
        return int(self.layer.max()) + 1

    @property
    def rings(self) -> int:
        return int(self.ring.max()) + 1

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells sorted by ring, the first cell of each ring therein, the first ring of each layer."""
        order = np.argsort(self.ring, kind="stable")
        starts = np.searchsorted(self.ring[order], np.arange(self.rings))
        first = np.searchsorted(self.layer[order][starts], np.arange(self.layers))
        return order, starts, first

    def sum_rings(self, cells: np.ndarray) -> np.ndarray:
        """(n, cells) -> (n, rings); a row's sums do not depend on the rows beside it."""
        order, starts, _ = self._order
        return np.add.reduceat(cells[:, order], starts, axis=1)

    def sum_layers(self, cells: np.ndarray) -> np.ndarray:
        """(n, cells) -> (n, layers): the sums of each layer's rings."""
        return np.add.reduceat(self.sum_rings(cells), self._order[2], axis=1)

    def same_as(self, other: "Grid") -> bool:
        return np.array_equal(self.layer, other.layer) and np.array_equal(self.ring, other.ring)


def stack(*parts: Grid) -> Grid:
    """Calorimeters one behind the other, their rows of cells one after the other."""
    layer, ring = [], []
    layers = rings = 0
    for part in parts:
        layer.append(part.layer + layers)
        ring.append(part.ring + rings)
        layers, rings = layers + part.layers, rings + part.rings
    return Grid(np.concatenate(layer), np.concatenate(ring))


class GridFile(Protocol):
    """An open file of showers. Only `cells` reads more than energies, particles and shapes."""

    @property
    def energy(self) -> np.ndarray:
        """(n,) float64: incident energy in GeV."""

    @property
    def energies(self) -> tuple[float, float]:
        """GeV that incident energies of the layout can have."""

    @property
    def pdg(self) -> np.ndarray | None:
        """(n,) int: Monte Carlo code of the incident particle; None where the file does not say."""

    @property
    def grid(self) -> Grid: ...

    @property
    def block_rows(self) -> int:
        """Showers to read at once."""

    def cells(self, first: int, last: int) -> np.ndarray:
        """(last - first, cells) float64 as the grid orders them, GeV before `scale`."""

"""Showers of public calorimeter data sets: incident energies, and layers, rings or cells to tell them from.

Layouts: lcd, calochallenge, steps (see ntkhpc.data.formats). Everything is in GeV. Files are read in blocks, so memory
goes with the features asked for and not with the files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntkhpc.data.formats import calochallenge, hdf5, lcd, steps
from ntkhpc.data.formats.choice import Opener, Part, Wanted, choose, taken
from ntkhpc.data.formats.grid import Grid
from ntkhpc.errors import DataError

# How to open a layout, and between what medians of sum/energy its deposits may lie.
_SOURCES: dict[str, tuple[Opener, tuple[float, float]]] = {
    "lcd": (lcd.source, lcd.RESPONSE),
    "calochallenge": (calochallenge.source, calochallenge.RESPONSE),
    "steps": (steps.source, steps.RESPONSE),
}
LAYOUTS = tuple(_SOURCES)
OUTLIER = 1000.0
"""Times the median of sum/energy: no shower has so much."""

INPUTS = ("layers", "rings", "cells")


@dataclass(frozen=True, eq=False)
class ShowerBlock:
    """energy (n,): incident, GeV; cells (n, grid.cells): deposits divided by `scale`, GeV, as the grid orders them."""

    energy: np.ndarray
    cells: np.ndarray
    grid: Grid

    def layers(self) -> np.ndarray:
        """(n, grid.layers) GeV, in the order of depth."""
        return self.grid.sum_layers(self.cells)

    def rings(self) -> np.ndarray:
        """(n, grid.rings) GeV: the rings of the first layer from the axis outwards, then those of the second..."""
        return self.grid.sum_rings(self.cells)

    def flat(self) -> np.ndarray:
        """(n, grid.cells) GeV."""
        return self.cells


def read(
    path: Path | tuple[Path, ...],
    layout: str,
    *,
    scale: float | None = None,
    energy_min: float = 0.0,
    energy_max: float = np.inf,
    pdg: tuple[int, ...] = (),
    inputs: str = "layers",
    rows: int | None = None,
    take: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """energy (n,) and inputs (n, features), both GeV and float64, of the files in the order given.

    `take` (n,): numbers, in the order wanted, of those showers that pass; no other is read. `scale` divides the stored
    deposits, 1 if there is none. DataError is raised if the median of sum/energy in a file is not one the layout can
    have (for lcd, a file that stores 50 times the visible energy); a scale of 1 says that it can.
    """
    parts = _chosen(path, layout, Wanted(energy_min, energy_max, tuple(pdg), rows))
    order = None
    if take is not None:
        order = np.argsort(take, kind="stable")
        parts = taken(parts, take[order])
    energy = np.concatenate([part.energy for part in parts])
    features = _features(parts[0].grid, inputs)
    hdf5.require_room(
        3 * 8 * len(energy) * features, f"{len(energy):,} showers of {features:,} {inputs}", parts[0].path
    )
    values = np.empty((len(energy), features))
    done = 0
    for part in parts:
        begin = done
        for block in _blocks(part, layout, 1.0 if scale is None else scale):
            last = done + len(block.energy)
            values[done:last] = {"layers": block.layers, "rings": block.rings, "cells": block.flat}[inputs]()
            done = last
        if done > begin:
            _check_outliers(energy[begin:done], values[begin:done], part.path)
        if scale != 1 and done > begin:
            _check_response(median_response(energy[begin:done], values[begin:done]), layout, part.path)
    if order is None:
        return energy, values
    back = np.argsort(order, kind="stable")
    return energy[back], values[back]


def describe(
    path: Path | tuple[Path, ...],
    layout: str,
    *,
    energy_min: float = 0.0,
    energy_max: float = np.inf,
    pdg: tuple[int, ...] = (),
    inputs: str = "layers",
    rows: int | None = None,
) -> tuple[int, int]:
    """(rows, features) that `read` will give; reads shapes, energies and particles, no deposits."""
    parts = _chosen(path, layout, Wanted(energy_min, energy_max, tuple(pdg), rows))
    return sum(len(part.row) for part in parts), _features(parts[0].grid, inputs)


def median_response(energy: np.ndarray, inputs: np.ndarray) -> float:
    """Median over showers of the deposits' sum over the incident energy, of what `read` gave; whatever the inputs."""
    return float(np.median(inputs.sum(axis=1) / energy))


def _features(grid: Grid, inputs: str) -> int:
    if inputs not in INPUTS:
        raise DataError(f"there are no inputs {inputs!r}", todo=f"choose from {', '.join(INPUTS)}")
    return int(getattr(grid, inputs))


def _chosen(path: Path | tuple[Path, ...], layout: str, wanted: Wanted) -> list[Part]:
    paths = path if isinstance(path, tuple) else (path,)
    if layout not in _SOURCES or not paths:
        raise DataError(f"no files, or no layout {layout!r}", where=paths, todo=f"layouts: {', '.join(LAYOUTS)}")
    return choose(paths, _SOURCES[layout][0], wanted)


def _blocks(part: Part, layout: str, scale: float) -> Iterator[ShowerBlock]:
    """The wanted showers of a file in blocks; a block without one is not read."""
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(
            f"scale = {scale}; the deposits are divided by it: it must be a positive number", todo="correct data.scale"
        )
    with hdf5.opened(part.path) as file:
        source = _SOURCES[layout][0](file, part.path)
        size = source.block_rows
        for block in np.unique(part.row // size):
            here = slice(*np.searchsorted(part.row, [block * size, (block + 1) * size]))
            row = part.row[here]
            cells = source.cells(int(row[0]), int(row[-1]) + 1)[row - row[0]]
            _check_deposits(cells, row, part.path)
            yield ShowerBlock(part.energy[here], cells / scale, part.grid)


def _check_deposits(cells: np.ndarray, row: np.ndarray, where: Path) -> None:
    if cells.min() >= 0 and cells.max() < np.inf:  # both are false for NaN
        return
    bad = ~((cells >= 0) & (cells < np.inf))
    first, cell = np.argwhere(bad)[0]
    raise DataError(
        f"row {row[first]} has a deposit of {cells[first, cell]} GeV in cell {cell} "
        f"({int(bad.any(axis=1).sum())} such rows in this block of {len(row)}, counted from 0)",
        where=where,
        cause="a damaged file, or deposits with noise or pedestals subtracted",
        todo="remove these rows, or set negative deposits to zero, in the file",
    )


def _check_outliers(energy: np.ndarray, values: np.ndarray, where: Path) -> None:
    with np.errstate(over="ignore"):
        response = values.sum(axis=1) / energy
    far = np.flatnonzero(response > OUTLIER * max(float(np.median(response)), 1e-6))
    if len(far):
        raise DataError(
            f"the deposits of {len(far):,} showers sum to more than {OUTLIER:,.0f} times what is usual, the first to "
            f"{response[far[0]]:.3g} of its incident energy of {energy[far[0]]:.4g} GeV",
            where=where,
            cause="marks of missing values among the deposits, or a damaged file",
            todo="set these deposits to zero, or take the showers out of the file",
        )


def _check_response(response: float, layout: str, where: Path) -> None:
    low, high = _SOURCES[layout][1]
    if low <= response <= high:
        return
    hint = (
        "set scale = 50" if layout == "lcd" and low <= response / 50 <= high else "set scale to what they are scaled by"
    )
    raise DataError(
        f"the deposits sum to {response:.4g} of the incident energy (median); {low:g} to {high:g} is plausible",
        where=where,
        cause="deposits stored with a factor (LCD files: 50 times the visible energy) or in another unit than GeV",
        todo=f"{hint}; scale = 1 takes them as they are",
    )

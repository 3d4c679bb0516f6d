"""The showers a study wants: chosen by energy, particle and number from the files' energies and particles alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.data.formats import hdf5
from ntkhpc.data.formats.grid import Grid, GridFile
from ntkhpc.data.formats.names import listed
from ntkhpc.errors import DataError

NO_LIMIT = 1e9
"""GeV: an upper limit as high as this is none that a user thought of."""

Opener = Callable[[Any, Path], GridFile]


@dataclass(frozen=True)
class Wanted:
    """Incident energies from energy_min to energy_max (GeV, both included), of the particles `pdg` (all if empty; exact
    codes, so 211 is not -211), of these the first `rows` (all if None)."""

    energy_min: float = 0.0
    energy_max: float = np.inf
    pdg: tuple[int, ...] = ()
    rows: int | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """What is wanted of one file: numbers of its rows (k,), increasing, and their energies (k,) in GeV."""

    path: Path
    row: np.ndarray
    energy: np.ndarray
    grid: Grid


def choose(paths: tuple[Path, ...], source_of: Opener, wanted: Wanted) -> list[Part]:
    """What is wanted of each file, in the order of the files.

    Raises DataError if that is nothing, or fewer rows than asked for; if an incident energy is not a positive number;
    and if the files' cells are not the same.
    """
    parts: list[Part] = []
    present: set[int] = set()
    reach: list[float] = []
    for file_path in paths:
        with hdf5.opened(file_path) as file:
            source = source_of(file, file_path)
            _check_energies(source.energy, file_path)
            _check_unit(source, wanted, file_path)
            if parts and not parts[0].grid.same_as(source.grid):
                raise DataError(
                    f"its {source.grid.cells} cells are not those of {parts[0].path} ({parts[0].grid.cells})",
                    where=file_path,
                    todo="read files of one shape at a time",
                )
            row = np.flatnonzero(_passes(source, wanted, file_path))
            parts.append(Part(file_path, row, source.energy[row], source.grid))
            present |= set() if source.pdg is None else set(np.unique(source.pdg).tolist())
            reach += [float(source.energy.min()), float(source.energy.max())]
    found = sum(len(part.row) for part in parts)
    if not found or (wanted.rows is not None and found < wanted.rows):
        particles = f"particles {listed(sorted(present))}; " if present else ""
        raise DataError(
            f"{found} showers pass the choice of energies and particles"
            + (f", {wanted.rows} are asked for" if wanted.rows is not None else ""),
            where=listed(paths, 3),
            cause=f"the files have {particles}energies {min(reach):.6g} to {max(reach):.6g} GeV",
            todo="widen energy_min, energy_max or pdg (codes count with their sign), add files, or ask for fewer rows",
        )
    return _first(parts, found if wanted.rows is None else wanted.rows)


def taken(parts: list[Part], numbers: np.ndarray) -> list[Part]:
    """Of the showers of all parts, counted through, those with the given increasing numbers."""
    begins = np.cumsum([0, *(len(part.row) for part in parts)])
    kept = []
    for part, begin, end in zip(parts, begins, begins[1:], strict=False):
        here = numbers[(numbers >= begin) & (numbers < end)] - begin
        kept.append(replace(part, row=part.row[here], energy=part.energy[here]))
    return kept


def _first(parts: list[Part], rows: int) -> list[Part]:
    kept = []
    for part in parts:
        kept.append(replace(part, row=part.row[:rows], energy=part.energy[:rows]))
        rows -= len(kept[-1].row)
    return kept


def _passes(source: GridFile, wanted: Wanted, where: Path) -> np.ndarray:
    keep = (source.energy >= wanted.energy_min) & (source.energy <= wanted.energy_max)
    if not wanted.pdg:
        return keep
    if source.pdg is None:
        raise DataError(
            f"particles {listed(wanted.pdg)} are asked for, but the file does not say which it holds",
            where=where,
            todo="leave pdg out, or take a file with a key pdgID",
        )
    return keep & np.isin(source.pdg, wanted.pdg)


def _check_energies(energy: np.ndarray, where: Path) -> None:
    bad = np.flatnonzero(~((energy > 0) & (energy < np.inf)))
    if not len(energy) or len(bad):
        raise DataError(
            f"row {bad[0]} has incident energy {energy[bad[0]]} ({len(bad)} such rows of {len(energy)}, counted from 0)"
            if len(bad)
            else "the file has no showers",
            where=where,
            cause="a file that was not written to its end, or a key that is not the incident energy",
            todo="write or fetch the file again, or choose the layout that it has",
        )


def _check_unit(source: GridFile, wanted: Wanted, where: Path) -> None:
    """Raises DataError if an energy is none of the layout's, unless the user's limits say so and hold all of them.

    Limits within what is plausible choose showers: of those outside, nobody asks, unless another unit makes all fit.
    """
    least, most = float(source.energy.min()), float(source.energy.max())
    low, high = source.energies
    if (least >= low or 0 < wanted.energy_min <= least) and (most <= high or most <= wanted.energy_max < NO_LIMIT):
        return
    outside = int(((source.energy < low) | (source.energy > high)).sum())
    factor = next(
        (factor for factor in (1e3, 1e-3, 1e6, 1e-6) if low <= factor * least and factor * most <= high), None
    )
    chooses = low <= wanted.energy_min and wanted.energy_max <= high
    if chooses and factor is None:
        return
    unit = "a file in another unit than the layout's, or marks of missing values"
    raise DataError(
        f"the incident energies are {least:.6g} to {most:.6g} GeV, where {low:g} to {high:g} GeV is plausible for the "
        f"layout ({outside:,} of {len(source.energy):,} are outside)",
        where=where,
        cause=f"{unit}: times {factor:g} all of them fit" if factor else unit,
        todo="write the file in the layout's unit; if the energies are right, say so with data.energy_min = "
        f"{0.999 * least:.4g} and data.energy_max = {1.001 * most:.4g}, which must hold all of them",
    )

"""A user's files of showers, in one of the public layouts, as a source of data."""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from ntkhpc import files, seeds
from ntkhpc.data import shower_files, shower_inputs, staging
from ntkhpc.data.split import Split, regression
from ntkhpc.errors import DataError
from ntkhpc.sources import ShowerFile


def resolve(section: ShowerFile, folder: Path) -> ShowerFile:
    """The section with absolute paths, the files' checksums, the number of showers that pass, and of inputs.

    Raises DataError for files it cannot be.
    """
    paths = tuple((folder / Path(path).expanduser()).resolve() for path in section.path)
    rows, features = shower_files.describe(paths, section.layout, inputs=section.inputs, **_filters(section))
    return structs.replace(
        section,
        path=tuple(map(str, paths)),
        sha256=tuple(files.sha256_file(path) for path in paths),
        rows=rows,
        features=features,
    )


def prepare(section: ShowerFile) -> None:
    """Raises DataError if the study cannot be run with the files."""
    if section.pool + section.test > section.rows:
        raise DataError(
            f"data.pool + data.test = {section.pool + section.test:,} showers are asked for, {section.rows:,} pass",
            where=", ".join(section.path),
            todo="lower one of them, or let more pass: data.energy_min, data.energy_max, data.pdg",
        )
    energy, deposits = _read(section)
    response = shower_files.median_response(energy, deposits)
    print(f"{len(energy):,} showers; the median of visible over incident energy is {response:.3g}")
    _split(section, energy, deposits)


def load(section: ShowerFile) -> Split:
    """`pool` showers and then `test` showers, in file order or after a seeded permutation."""
    return _split(section, *_read(section))


def _read(section: ShowerFile) -> tuple[np.ndarray, np.ndarray]:
    """Incident energies (n,) and deposits (n, features) of the showers that pass, in GeV."""
    parts = []
    for path, sha256 in zip(section.path, section.sha256, strict=True):
        with staging.staged(Path(path), sha256) as copy:
            parts.append(
                shower_files.read(
                    copy, section.layout, scale=section.scale or None, inputs=section.inputs, **_filters(section)
                )
            )
    energy, deposits = (np.concatenate(values) for values in zip(*parts, strict=True))
    return energy, deposits


def _split(section: ShowerFile, energy: np.ndarray, deposits: np.ndarray) -> Split:
    order = np.arange(len(energy))
    if not section.keeps_file_order:
        order = seeds.generator(section.seed, seeds.ROWS).permutation(order)
    rows = order[: section.pool + section.test]
    raw = shower_inputs.compressed(deposits[rows], section.threshold)
    return regression(raw, energy[rows, None], section.pool, log_target=section.log_target, scaling=section.scaling)


def _filters(section: ShowerFile) -> dict[str, Any]:
    return {"energy_min": section.energy_min, "energy_max": section.energy_max, "pdg": section.pdg}

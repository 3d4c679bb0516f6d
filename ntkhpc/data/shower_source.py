"""A user's files of showers, in one of the public layouts, as a source of data."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from ntkhpc import files, seeds
from ntkhpc.data import shower_files, shower_inputs, staging, table
from ntkhpc.data.sources import ShowerFile
from ntkhpc.data.split import Split, regression
from ntkhpc.errors import DataError


def resolve(section: ShowerFile, folder: Path) -> ShowerFile:
    """The section with absolute paths, the files' checksums, the number of showers that pass, and of inputs.

    Raises DataError for files it cannot be, and for too few showers.
    """
    paths = tuple((folder / Path(path).expanduser()).resolve() for path in section.path)
    rows, features = shower_files.describe(paths, section.layout, inputs=section.inputs, **_filters(section))
    where = ", ".join(map(str, paths))
    if section.pool + section.test > rows:
        raise DataError(
            f"data.pool + data.test = {section.pool + section.test:,} showers are asked for, {rows:,} pass",
            where=where,
            todo="lower one of them, or let more pass: data.energy_min, data.energy_max, data.pdg",
        )
    sha256 = tuple(files.sha256_file(path) for path in paths)
    if len(set(sha256)) < len(sha256):
        raise DataError(
            "two of the files are the same",
            where=where,
            cause="its showers would be in the pool and among the test points",
            todo="name each file once",
        )
    return structs.replace(section, path=tuple(map(str, paths)), sha256=sha256, rows=rows, features=features)


def prepare(section: ShowerFile) -> None:
    """Raises DataError if the study cannot be run with the files."""
    energy, deposits = _read(section)
    response = shower_files.median_response(energy, deposits)
    print(f"of {len(energy):,} showers the median of visible over incident energy is {response:.3g}")
    _split(section, energy, deposits)


def load(section: ShowerFile) -> Split:
    """`pool` showers and then `test` showers, in file order or after a seeded permutation."""
    return _split(section, *_read(section))


def _read(section: ShowerFile) -> tuple[np.ndarray, np.ndarray]:
    """Incident energies (n,) and deposits (n, features) in GeV, of the showers that are used and in their order."""
    order = np.arange(section.rows)
    if not section.keeps_file_order:
        order = seeds.generator(section.seed, seeds.ROWS).permutation(order)
    with ExitStack() as stack:
        copies = [
            stack.enter_context(staging.staged(Path(path), sha256))
            for path, sha256 in zip(section.path, section.sha256, strict=True)
        ]
        return shower_files.read(
            tuple(copies),
            section.layout,
            scale=section.scale or None,
            inputs=section.inputs,
            take=order[: section.pool + section.test],
            **_filters(section),
        )


def _split(section: ShowerFile, energy: np.ndarray, deposits: np.ndarray) -> Split:
    again = table.first_like(deposits) != np.arange(len(deposits))
    if again.any():
        raise DataError(
            f"{again.sum():,} showers have the deposits of another one",
            where=", ".join(section.path),
            cause="files that overlap, or showers of nothing: equal inputs make kernels singular",
            todo="take them out of the files, or raise data.energy_min",
        )
    raw = shower_inputs.compressed(deposits, section.threshold)
    return regression(
        raw,
        energy[:, None],
        section.pool,
        log_target=section.log_target,
        scaling=section.scaling,
        keep_constant=True,  # cells that nothing ever reached
    )


def _filters(section: ShowerFile) -> dict[str, Any]:
    return {"energy_min": section.energy_min, "energy_max": section.energy_max, "pdg": section.pdg}

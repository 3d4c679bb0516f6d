"""A user's files of showers, in one of the public layouts, as a source of data."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from msgspec import Meta, structs

from ntkhpc import files, seeds
from ntkhpc.data import shower_inputs, staging, table
from ntkhpc.data.shower_inputs import ShowerSource
from ntkhpc.data.source import MEBIBYTE, Facts
from ntkhpc.data.split import Split
from ntkhpc.errors import DataError
from ntkhpc.phase.settings import NonNegativeFloat, PositiveFloat
from ntkhpc.words import joined, numbers

LAYOUTS = {
    "lcd": "of the LCD/CLIC calorimeter showers (arXiv:1912.06794)",
    "calochallenge": "of the CaloChallenge (arXiv:2410.21611)",
    "steps": "of Geant4 steps in the Open Data Detector (arXiv:2509.22340)",
}
"""Layouts of files in words, with the paper that describes each."""


class ShowerFile(ShowerSource, frozen=True, kw_only=True, tag="showers"):
    """Energy regression of showers in the user's files, in one of the public layouts."""

    path: Annotated[tuple[str, ...], Meta(min_length=1)]
    layout: Literal["lcd", "calochallenge", "steps"]
    threshold: PositiveFloat = 0.001
    order: Literal["permuted", "file"] = "permuted"
    scale: NonNegativeFloat = 0.0
    pdg: tuple[int, ...] = ()
    energy_min: NonNegativeFloat = 0.0
    energy_max: PositiveFloat = 1e9

    def __post_init__(self) -> None:
        self._require_range(self.energy_min, self.energy_max)

    @property
    def slow_to_check(self) -> bool:
        return True

    @property
    def keeps_file_order(self) -> bool:
        return self.order == "file"

    def located(self, folder: Path) -> Self:
        paths = tuple(str(staging.absolute(path, folder)) for path in self.path)
        return structs.replace(self, path=paths)

    def examine(self) -> Facts:
        """Checksums, the number of showers that pass, and of inputs."""
        from ntkhpc.data import shower_files  # h5py is slow to import

        paths = tuple(map(Path, self.path))
        rows, features = shower_files.describe(paths, self.layout, inputs=self.inputs, **_filters(self))
        where = ", ".join(self.path)
        if self.used_rows > rows:
            raise DataError(
                f"data.pool + data.test = {self.used_rows:,} showers are asked for, {rows:,} pass",
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
        return Facts(features=features, outputs=1, rows=rows, sha256=sha256)

    def origin(self, facts: Facts) -> str:
        files = joined(f"{Path(path).name} (sha256 {sha256[:12]})"
                       for path, sha256 in zip(self.path, facts.sha256, strict=True))  # fmt: skip
        kinds = f", of particles with PDG code {numbers(self.pdg, 'or')}" if self.pdg else ""
        scale = f"divided by {self.scale:g}" if self.scale else "scaled as the layout says"
        return (
            f"The data are showers of {files}, in the layout {LAYOUTS[self.layout]}; {facts.rows:,} of them have "
            f"incident energies of {self.energy_min:g} to {self.energy_max:g} GeV{kinds}. Stored energies are {scale}, "
            "to be visible GeV."
        )

    def folders(self) -> tuple[Path, ...]:
        return tuple(sorted({Path(path).parent for path in self.path}))

    def making_bytes(self, facts: Facts) -> int:
        return 40 * facts.rows + 256 * MEBIBYTE

    def check(self, facts: Facts) -> tuple[str, ...]:
        from ntkhpc.data import shower_files

        energy, deposits = _read(self, facts)
        self._split(_inputs(self, deposits), energy)
        response = shower_files.median_response(energy, deposits)
        return (f"of {len(energy):,} showers the median of visible over incident energy is {response:.3g}",)

    def load(self, facts: Facts) -> Split:
        """`pool` showers and then `test` showers, in file order or after a seeded permutation."""
        energy, deposits = _read(self, facts)
        return self._split(_inputs(self, deposits), energy)

    def rows_in_files(self, facts: Facts, rows: tuple[int, ...]) -> str:
        numbers = _order(self, facts)[list(rows)]
        files = joined(Path(path).name for path in self.path)
        passing = "" if self.energy_min == 0 and self.energy_max == 1e9 and not self.pdg else " that pass"
        return f"{'showers' if len(rows) > 1 else 'shower'} {joined(numbers)} (from 0) of those{passing} in {files}"


def _order(section: ShowerFile, facts: Facts) -> np.ndarray:
    """Those that are used of the showers that pass: of the pool, then of the test points."""
    order = np.arange(facts.rows)
    if not section.keeps_file_order:
        order = seeds.generator(section.seed, seeds.ROWS).permutation(order)
    return order[: section.used_rows]


def _read(section: ShowerFile, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Incident energies (n,) and deposits (n, features) in GeV, of the showers that are used and in their order."""
    from ntkhpc.data import shower_files

    with ExitStack() as stack:
        copies = [
            stack.enter_context(staging.staged(Path(path), sha256))
            for path, sha256 in zip(section.path, facts.sha256, strict=True)
        ]
        return shower_files.read(
            tuple(copies),
            section.layout,
            scale=section.scale or None,
            inputs=section.inputs,
            take=_order(section, facts),
            **_filters(section),
        )


def _inputs(section: ShowerFile, deposits: np.ndarray) -> np.ndarray:
    """(n, features) as the network sees them. Raises DataError for showers that are the same."""
    again = table.first_like(deposits) != np.arange(len(deposits))
    if again.any():
        raise DataError(
            f"{again.sum():,} showers have the deposits of another one",
            where=", ".join(section.path),
            cause="files that overlap, or showers of nothing: equal inputs make kernels singular",
            todo="take them out of the files, or raise data.energy_min",
        )
    return shower_inputs.compressed(deposits, section.threshold)


def _filters(section: ShowerFile) -> dict[str, Any]:
    return {"energy_min": section.energy_min, "energy_max": section.energy_max, "pdg": section.pdg}

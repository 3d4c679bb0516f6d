"""What chapters on leaps and on finite width are made from: networks that were leapt, and such that were linearised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import xarray

from analysis import leaps, two_level
from analysis.contrasts import Curve, ErrorSource, Estimate
from analysis.ensemble import curves, initial_kernel
from analysis.ensemble.curves import FITTED
from analysis.ensemble.initial_kernel import Fluctuation
from analysis.leaps import FiniteWidth, LeaptCell
from analysis.two_level import Quantity
from ntkhpc.studies.ensemble.study import EnsembleStudy

K = TypeVar("K")
V = TypeVar("V")
C = TypeVar("C", LeaptCell, FiniteWidth)


@dataclass(frozen=True)
class LeaptResults:
    """Of a store: two-level estimates, and what finite width does. `sizes` are those of the study, `elsewhere` the
    errors of each quantity that are not of the networks."""

    store: xarray.Dataset
    study: EnsembleStudy
    sizes: np.ndarray
    elsewhere: Mapping[str, tuple[ErrorSource, ...]]

    @cached_property
    def cells(self) -> list[LeaptCell]:
        """Leapt networks beside the trained ones; needs leaps.ARRAYS."""
        return leaps.cells(self.store)

    @cached_property
    def two_level(self) -> dict[tuple[str, int, int], Quantity]:
        """By (quantity, width, n_train): means over draws, where those of all are there, accepted, and add networks."""
        draws = self.store.sizes["draw"]
        return {
            (name, *cell): two_level.over_draws([one.quantities[name] for one in found])
            for cell, found in _by_size(self.cells).items()
            if len(found) == draws and all(one.adds for one in found)
            for name in FITTED
        }

    def correction(self, name: str, width: int, n_train: int) -> Estimate | None:
        """By what fraction the two-level estimate lies above that of leaps as they are, means over draws."""
        raw = two_level.over_draws([one.raw[name] for one in _by_size(self.cells)[width, n_train]])
        found = self.two_level[name, width, n_train].log_ratio(raw)
        return found and found.of_ratio()

    @cached_property
    def two_level_curves(self) -> dict[tuple[str, int], Curve]:
        """By (quantity, width): two-level estimates with every source of error that is known."""
        return there(
            {
                (name, int(w)): curves.leapt(
                    self.sizes, [self.two_level.get((name, int(w), int(n))) for n in self.sizes], self.elsewhere[name]
                )
                for name in FITTED
                for w in self.store.width.values
            }
        )

    @cached_property
    def splits(self) -> dict[tuple[int, int], list[FiniteWidth]]:
        """By (width, n_train): networks linearised where they began beside the networks themselves, at each draw.

        Needs leaps.TWIN.
        """
        return _by_size(leaps.splits(self.store))

    @cached_property
    def initial_kernels(self) -> list[Fluctuation]:
        """How much the kernel varies that networks begin with. Needs leaps.TWIN."""
        return initial_kernel.fluctuations(self.study, self.store, self.splits)


def _by_size(found: Sequence[C]) -> dict[tuple[int, int], list[C]]:
    """Cells by (width, n_train), a list over draws."""
    table: dict[tuple[int, int], list[C]] = {}
    for one in found:
        table.setdefault((one.width, one.n_train), []).append(one)
    return table


def there(found: dict[K, V | None]) -> dict[K, V]:
    """Without what is None."""
    return {key: value for key, value in found.items() if value is not None}

"""What the first chapters and their figures show of each width: two-level estimates where these are more precise.

Networks in leaps, corrected by those that were trained too, may tell a quantity better than the trained ones alone. Of
a width a quantity is two-level in all first chapters, at every size, or in none of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis import floor, two_level
from analysis.contrasts import Curve, Estimate
from analysis.ensemble.curves import CONTAINED, FITTED, POINTS
from analysis.ensemble.leapt_results import LeaptResults
from analysis.floor import Levelling
from analysis.report.numbers import two_digits
from analysis.two_level import Quantity
from ntkhpc.words import joined

Key = tuple[str, int]
"""A quantity, of FITTED, and a width."""

MARK = ", two-level"
"""Behind the name of a network in tables and legends."""


def described(name: str, curve: Curve) -> Levelling:
    """A curve of networks with the errors of networks, draws and iteration, of eps_pop those of the test points too.

    Where these are not known nothing is tested.
    """
    found = floor.levelling(curve.of(*CONTAINED[name]))
    lacks = POINTS in CONTAINED[name] and all(one.name != POINTS for one in curve.sources)
    return found.untested() if lacks else found


@dataclass(frozen=True)
class Headline:
    """`trained` is the value of trained networks by (quantity, width, index of the size), None where it has no error;
    `trained_curves` are their curves, `trained_fit` what describes the one of a key; `leapt` is None without leaps."""

    sizes: np.ndarray
    widths: Sequence[int]
    trained: Callable[[str, int, int], Estimate | None]
    trained_curves: Mapping[Key, Curve]
    trained_fit: Callable[[Key], Levelling]
    leapt: LeaptResults | None

    @cached_property
    def gains(self) -> dict[Key, float]:
        """Of what is two-level, the root mean square over sizes of the errors of the trained networks alone over that
        of the two-level estimates, more than one; infinite where those alone have no error."""
        if self.leapt is None:
            return {}
        keys = [(name, width) for name in FITTED for width in self.widths]
        return {key: gain for key in keys if (gain := self._gain(*key)) > 1}

    def _gain(self, name: str, width: int) -> float:
        """0 where there is no curve of two-level estimates through every size."""
        assert self.leapt is not None
        places = range(len(self.sizes))
        two = [self._two_level(name, width, i) for i in places]
        if not all(two) or (name, width) not in self.leapt.two_level_curves:
            return 0.0
        own = [self.trained(name, width, i) for i in places]
        if not all(own):
            return math.inf
        return _error(own) / _error(two)

    def _two_level(self, name: str, width: int, i: int) -> Estimate | None:
        assert self.leapt is not None
        found = self.leapt.two_level.get((name, width, int(self.sizes[i])))
        return found.estimate() if found is not None else None

    def quantity(self, name: str, width: int, i: int) -> Quantity | None:
        """The two-level estimate at the size of index i; None where the trained networks alone are shown."""
        if self.leapt is None or (name, width) not in self.gains:
            return None
        return self.leapt.two_level[name, width, int(self.sizes[i])]

    def of_networks(self, width: int, names: Iterable[str]) -> dict[str, Curve]:
        """Of these quantities, those that are two-level at a width: curves with the errors of the networks alone."""
        keys = [key for name in names if (key := (name, width)) in self.gains]
        return {key[0]: self.curves[key].of(two_level.TRAINED, two_level.LEAPT) for key in keys}

    def value(self, name: str, width: int, i: int) -> Estimate | None:
        """At the size of index i; None where it is not there, or has no error."""
        return self._two_level(name, width, i) if (name, width) in self.gains else self.trained(name, width, i)

    @cached_property
    def curves(self) -> dict[Key, Curve]:
        """With every source of error that is known."""
        if self.leapt is None or not self.gains:
            return dict(self.trained_curves)
        found = {**self.trained_curves, **{key: self.leapt.two_level_curves[key] for key in self.gains}}
        return {key: found[key] for name in FITTED for width in self.widths if (key := (name, width)) in found}

    @cached_property
    def fits(self) -> dict[Key, Levelling]:
        """What describes the curves, in their order."""
        return {
            key: described(key[0], curve) if key in self.gains else self.trained_fit(key)
            for key, curve in self.curves.items()
        }

    def mark(self, width: int, *names: str) -> str:
        """Behind the name of a width in a row or label of these quantities; empty if none is two-level."""
        those = [name for name in names if (name, width) in self.gains]
        return MARK if len(those) == len(names) else f"{MARK} in {joined(those)}" if those else ""

    def sentence(self, *names: str) -> str:
        """Which of these quantities are two-level, and what that gains; empty where none is."""
        gains = [gain for (name, _), gain in self.gains.items() if name in names]
        if not gains or self.leapt is None:
            return ""
        by_names: dict[tuple[str, ...], list[str]] = {}
        for width in self.widths:
            if shown := tuple(name for name in names if (name, width) in self.gains):
                by_names.setdefault(shown, []).append(f"{width:,}")
        told = "; ".join(f"{joined(shown)} of width {joined(found)}" for shown, found in by_names.items())
        cells = [one for one in self.leapt.cells if one.adds]
        leapt, both = min(one.leapt for one in cells), min(one.accuracy.networks for one in cells)
        known = [gain for gain in gains if math.isfinite(gain)]
        return (
            f"Two-level ({told}): by {leapt:,} networks in leaps, corrected by {both:,} of them that were trained too "
            "(chapter Leaps)"
            + (f"; errors of trained networks alone are {_range(known)} times as large" if known else "")
            + "."
        )


def _error(found: Sequence[Estimate | None]) -> float:
    """Root mean square of relative errors."""
    return math.sqrt(np.mean([(one.stderr / one.value) ** 2 for one in found if one]))


def _range(values: Sequence[float]) -> str:
    low, high = (two_digits(end) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"

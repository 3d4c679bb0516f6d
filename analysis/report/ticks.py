"""Ticks of logarithmic axes that a reader can read values from, whatever their range."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

FEWEST, MOST = 3, 8
"""Labelled ticks of an axis."""

WANTED = 4
"""Labelled ticks from which a coarser choice is good enough."""

_DECADES = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))

TOUCH = 0.055
"""Part of an axis that two ticks must be apart for their labels not to touch."""


def ticks(low: float, high: float, *, powers_of_two: bool = False) -> list[float]:
    """Round numbers from low to high, both positive: FEWEST to MOST of them, about evenly spaced in the logarithm.

    Powers of two where they are wanted and enough; else of a few numbers in each decade; in a range too narrow for
    these, evenly spaced ones.
    """
    low, high = min(low, high), max(low, high)
    best: list[float] = []
    for choice in ([_powers(2, low, high)] if powers_of_two else []) + [_of(subs, low, high) for subs in _DECADES]:
        found = _thinned(choice)
        if len(found) >= WANTED or (powers_of_two and len(found) >= FEWEST and choice == _powers(2, low, high)):
            return found
        best = max(best, found, key=len)
    return best if len(best) >= FEWEST else _even(low, high)


def label(value: float) -> str:
    """The value of a tick: plain digits, or a power of ten where these would be long."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    if -5 < power < 7:
        return f"{value:,.9f}".rstrip("0").rstrip(".")
    factor = value / 10.0**power
    return f"$10^{{{power}}}$" if abs(factor - 1) < 1e-9 else f"${factor:.9g} \\times 10^{{{power}}}$"


class LogTicks(Locator):
    """Major ticks by `ticks`, for what an axis shows."""

    def __init__(self, *, powers_of_two: bool = False) -> None:
        self.powers_of_two = powers_of_two

    def __call__(self) -> Sequence[float]:
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]  # matplotlib sets it

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        return ticks(vmin, vmax, powers_of_two=self.powers_of_two) if min(vmin, vmax) > 0 else []


def logarithmic(axis: Any, *, powers_of_two: bool = False) -> None:
    """Ticks and labels of an x or y axis whose scale is logarithmic."""
    axis.set_major_locator(LogTicks(powers_of_two=powers_of_two))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10))) if not powers_of_two else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def at_values(axis: Axes, values: Iterable[float]) -> None:
    """The values themselves on a logarithmic x axis, without those that would touch; round ones between few of them.

    The limits of the axis must be set before.
    """
    low, high = axis.get_xlim()
    least = (high / low) ** TOUCH
    kept: list[float] = []
    for value in np.unique([float(one) for one in values]):
        if not kept or value / kept[-1] > least:
            kept.append(float(value))
    if len(kept) < FEWEST:
        kept += [one for one in ticks(low, high) if all(max(one / k, k / one) > least**2 for k in kept)]
    kept = sorted(one for one in kept if low <= one <= high)
    axis.set_xticks(kept, [label(one) for one in kept])
    axis.xaxis.set_minor_locator(NullLocator())


def _powers(base: float, low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    return [float(base) ** power for power in range(first, last + 1)]


def _of(subs: Sequence[float], low: float, high: float) -> list[float]:
    """Of each decade these multiples of its power of ten."""
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    found = [sub * 10.0**decade for decade in decades for sub in subs]
    return [one for one in found if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)]


def _thinned(found: list[float]) -> list[float]:
    return found[:: math.ceil(len(found) / MOST)] if found else []


def _even(low: float, high: float) -> list[float]:
    """Evenly spaced round numbers; finer until there are enough."""
    for bins in range(FEWEST + 1, 4 * FEWEST):
        values = MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10], min_n_ticks=FEWEST).tick_values(low, high)
        inside = [float(one) for one in values if low <= one <= high and one > 0]
        if len(inside) >= FEWEST:
            return inside[:: math.ceil(len(inside) / MOST)]
    return [low, math.sqrt(low * high), high]

"""How mu_L, eps_L and their exponents go with feature strength gamma/sqrt(width), at each width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.comparison import laws, paired, varied
from analysis.comparison.differences import What
from analysis.comparison.results import ComparisonResults, Variant
from analysis.contrasts import Estimate
from analysis.scaling import plain

SHOWN: tuple[tuple[What, str], ...] = (
    ("value", "mu_L"), ("value", "eps_L"), ("exponent", "mu_L"), ("exponent", "eps_L"),
)  # fmt: skip
"""What is shown against the strength, panel by panel."""


@dataclass(frozen=True)
class Point:
    """One number of one variant and width at its feature strength; `lazy` is that of the law at this gamma, or NaN."""

    what: What
    quantity: str
    width: int
    variant: str
    strength: float
    estimate: Estimate
    lazy: float

    def to_dict(self) -> dict[str, Any]:
        low, high = self.estimate.interval(0.95)
        return {"what": self.what, "quantity": self.quantity, "width": self.width, "variant": self.variant,
                "strength": self.strength, "value": plain(self.estimate.value), "stderr": plain(self.estimate.stderr),
                "low_95": plain(low), "high_95": plain(high), "lazy_law": plain(self.lazy)}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """From the weakest to the strongest at one width: a factor of a value, a difference of exponents, paired by member.

    `change` is the logarithm of the factor, or the difference; `lazy` the same of the laws at these gammas, or NaN.
    """

    what: What
    quantity: str
    width: int
    weakest: str
    strongest: str
    strengths: tuple[float, float]
    change: Estimate
    lazy: float


def group(results: ComparisonResults) -> list[Variant]:
    """Variants that differ in feature strength alone, the weakest first; none where it is the same for all."""
    found = varied.by_strength(results.variants)
    spread = {tuple(round(varied.strength(one, width), 12) for width in results.widths) for one in found}
    return found if len(spread) > 1 else []


def points(results: ComparisonResults) -> list[Point]:
    """By quantity and width, ordered by strength; without those that have no such number."""
    found = []
    for what, name in SHOWN:
        for width in results.widths:
            for one in sorted(group(results), key=lambda one: varied.strength(one, width)):
                if (value := _own(one, what, name, width)) is not None:
                    strength = varied.strength(one, width)
                    found.append(Point(what, name, width, one.name, strength, value, _lazy(one, what, name, width)))
    return found


def _own(one: Variant, what: What, name: str, width: int) -> Estimate | None:
    if what == "value":
        return one.results.value(name, width, -1)
    fit = one.results.fits.get((name, width))
    return fit.slope if fit else None


def _lazy(one: Variant, what: What, name: str, width: int) -> float:
    law = laws.beside(one.results, width)
    if law is None:
        return math.nan
    if what == "value":
        return float(law[name].isel(n_train=-1))
    slope = laws.exponent(one.results, name, width)
    return slope.value if slope else math.nan


def changes(results: ComparisonResults) -> list[Change]:
    """Of every quantity and width, from the weakest to the strongest variant."""
    found: list[Change] = []
    for what, name in SHOWN:
        for width in results.widths:
            mine = sorted(group(results), key=lambda one: varied.strength(one, width))
            if len(mine) > 1 and (one := _change(mine, what, name, width)) is not None:
                found.append(one)
    return found


def _change(mine: Sequence[Variant], what: What, name: str, width: int) -> Change | None:
    weak, strong = mine[0], mine[-1]
    ends = [_lazy(one, what, name, width) for one in (weak, strong)]
    if what == "value":
        change = paired.log_ratio(strong.results, weak.results, name, width, -1)
        lazy = float(np.log(ends[1] / ends[0])) if min(ends) > 0 else math.nan
    else:
        change = paired.exponents(strong.results, weak.results, name, width)
        lazy = ends[1] - ends[0]
    strengths = (varied.strength(weak, width), varied.strength(strong, width))
    return None if change is None else Change(what, name, width, weak.name, strong.name, strengths, change, lazy)

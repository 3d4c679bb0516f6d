"""How the ensembles approach infinite width: log(value/exact value) = a/width, the exact value known."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.contrasts import LEVEL, Estimate, Term, combine


@dataclass(frozen=True)
class WidthLine:
    """The line through the logarithms of value/exact over 1/width, every width with the same weight.

    `a` is its coefficient with the limit held at the exact value: a network of width n differs by the fraction a/n.
    `limit` is what a line with a free limit extrapolates to, as the logarithm of its ratio to the exact value: 0 where
    widths follow the line (None for one width).
    """

    quantity: str
    n_train: int
    exact: float
    a: Estimate
    limit: Estimate | None

    @property
    def p_value(self) -> float:
        return self.limit.p_value() if self.limit else float("nan")

    @property
    def holds(self) -> bool:
        """Whether the widths are compatible with the line; not known for one width."""
        return not self.p_value < LEVEL

    def to_dict(self) -> dict[str, Any]:
        p = self.p_value
        return {
            "quantity": self.quantity,
            "n_train": self.n_train,
            "exact": self.exact,
            "a": self.a.to_dict(),
            "limit": self.limit and self.limit.to_dict(),
            "p_value": p if np.isfinite(p) else None,
        }


def fit(
    quantity: str, n_train: int, widths: np.ndarray, ratios: list[Estimate | None], exact: float
) -> WidthLine | None:
    """Through the logarithms of value/exact at each width; widths use different seeds, so their errors are independent.

    None where no width has a value.
    """
    there = [(1 / float(w), one) for w, one in zip(widths, ratios, strict=True) if one is not None]
    if not there or not np.isfinite(exact):
        return None
    x, found = np.array([one for one, _ in there]), [one for _, one in there]
    a = _contrast(x / (x @ x), found)
    if len(x) == 1:
        return WidthLine(quantity, n_train, exact, a, None)
    intercept = np.linalg.pinv(np.stack([np.ones_like(x), x], axis=1))[0]
    return WidthLine(quantity, n_train, exact, a, _contrast(intercept, found))


def extrapolated(found: Estimate, width: float, exact: float, to: float) -> Estimate:
    """What a network of the width `to` has, from the value `found` of a narrower one and the exact infinite width:

        v(to) = v_inf + (v(width) - v_inf) width/to

    Errors of `found` shrink by width/to. To them is added the part "next order", the size that terms of order 1/width^2
    have if they are to those of order 1/width as these are to the value: |v_inf| r^2 s (1 - s), r = v(width)/v_inf - 1,
    s = width/to. It is a size, not a bound. `to` may be infinite. Raises ValueError for a narrower network, whose value
    would be this one's noise multiplied, for a width that is not positive, and an exact value that is 0 or not finite.
    """
    if not (math.isfinite(exact) and exact):
        raise ValueError(f"the value at infinite width is {exact}; it must be finite and not 0")
    if not 0 < width < math.inf:
        raise ValueError(f"width = {width} must be positive and finite")
    if not to >= width:
        raise ValueError(
            f"width {to} is narrower than {width}: from wide to narrow the extrapolation multiplies the error by "
            f"{width}/{to}; begin at the narrowest width that was measured"
        )
    share = width / to
    moved = found.less(exact).scaled(share).less(-exact)
    further = abs(exact) * (found.value / exact - 1) ** 2 * share * (1 - share)
    return replace(moved, parts={**moved.parts, "next order": further}) if further else moved


def _contrast(weights: np.ndarray, found: list[Estimate]) -> Estimate:
    """A sum of independent numbers, whose error is that of their members."""
    terms = [one.scaled(float(w)) for w, one in zip(weights, found, strict=True)]
    parts = [Term("members", one.stderr**2, one.dof, one.skewness * one.stderr**3) for one in terms]
    return combine(float(sum(one.value for one in terms)), parts)

"""How the ensembles approach infinite width: log(value/exact value) = a/width, the exact value known."""

from dataclasses import dataclass
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


def _contrast(weights: np.ndarray, found: list[Estimate]) -> Estimate:
    """A sum of independent numbers, whose error is that of their members."""
    terms = [one.scaled(float(w)) for w, one in zip(weights, found, strict=True)]
    parts = [Term("members", one.stderr**2, one.dof, one.skewness * one.stderr**3) for one in terms]
    return combine(float(sum(one.value for one in terms)), parts)

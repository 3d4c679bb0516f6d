"""How the ensembles approach infinite width: value(width) = exact value + a/width, the exact value known."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class WidthFit:
    """The coefficient a of 1/width with its standard error, and how well the one-parameter line fits.

    `relative` is a/exact: the relative change at width 1, to be divided by a width.
    """

    quantity: str
    n_train: int
    exact: float
    a: float
    a_stderr: float
    chi2: float
    dof: int
    p_value: float

    @property
    def relative(self) -> float:
        return self.a / self.exact

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit(
    quantity: str, n_train: int, widths: np.ndarray, value: np.ndarray, stderr: np.ndarray, exact: float
) -> WidthFit | None:
    """Weighted least squares of value - exact against 1/width; widths use different seeds, so errors are independent.

    None where no cell has a value. One parameter: with one width it fits exactly, and the p-value is NaN.
    """
    good = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
    if not good.any() or not np.isfinite(exact):
        return None
    x, y, weight = 1 / widths[good], value[good] - exact, stderr[good] ** -2.0
    information = (weight * x**2).sum()
    a = float((weight * x * y).sum() / information)
    chi2 = float((weight * (y - a * x) ** 2).sum())
    dof = int(good.sum()) - 1
    p_value = float(stats.chi2.sf(chi2, dof)) if dof else float("nan")
    return WidthFit(quantity, n_train, float(exact), a, float(information**-0.5), chi2, dof, p_value)

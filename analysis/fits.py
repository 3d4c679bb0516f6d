"""What power laws were fitted to: samples that have errors, and exact curves that have none."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray

from analysis import scaling
from analysis.scaling import Comparison

NOISE = 2.0
"""Standard errors that a value must be above zero to be fitted."""


@dataclass(frozen=True)
class EnsembleFit:
    """Power laws through an ensemble of one width: two fits, because there are two questions.

    `any_draw` has the errors of the initialisations and of the draw of the training set together (`draw_spread` is the
    relative size of the latter, NaN if unknown): its exponent is a statement about the task. `this_draw` has those of
    the initialisations alone: for comparing widths and laws on the same data, where a power law may fit badly because
    one draw's curve has wiggles.
    """

    any_draw: Comparison
    this_draw: Comparison
    draw_spread: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "any_draw": self.any_draw.to_dict(),
            "this_draw": self.this_draw.to_dict(),
            "draw_spread": scaling.plain(self.draw_spread),
        }


@dataclass(frozen=True)
class CurveFit:
    """A power law through an exact curve: no statistical error, so the spread over draws is what is quoted.

    `exponent` is the mean over draws of fits with equal relative weights, `exponent_stderr` the standard error of that
    mean (NaN for one draw), `last_slope` the local slope between the two largest sizes, `residual` (n_train,) the mean
    curve over its own power law less 1.
    """

    n: tuple[float, float]
    draws: int
    exponent: float
    exponent_stderr: float
    last_slope: float
    residual: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {field.name: scaling.plain(getattr(self, field.name)) for field in fields(self)}


def fit_curve(curve: xarray.DataArray) -> CurveFit | None:
    """One law through an exact curve over (draw, n_train), draw by draw; None if a value is missing or not positive."""
    values, n = curve.transpose("draw", "n_train").values, curve.n_train.values
    if values.shape[1] < 3 or not np.isfinite(values).all() or (values <= 0).any():
        return None
    fits = [scaling.fit_power_law(n, row, row) for row in values]
    exponents = np.array([fit.exponent for fit in fits])
    average = values.mean(axis=0)
    count = len(values)
    return CurveFit(
        n=(float(n[0]), float(n[-1])),
        draws=count,
        exponent=float(exponents.mean()),
        exponent_stderr=float(exponents.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan"),
        last_slope=float(np.log(average[-1] / average[-2]) / np.log(n[-1] / n[-2])),
        residual=average / scaling.fit_power_law(n, average, average)(n) - 1,
    )

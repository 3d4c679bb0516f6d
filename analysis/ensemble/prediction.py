"""How far the initialisation moves a prediction, in the units of the target, with errors that say what they contain."""

from dataclasses import dataclass, replace

import numpy as np
import xarray

from analysis import aggregate
from analysis.contrasts import Curve, ErrorSource, Estimate
from analysis.report.numbers import pm

LEVEL = 0.01
"""Probability at which a difference from infinite width is called one."""

PHRASES = {"members": "members", "draw": "another draw", "test points": "other test points"}


@dataclass(frozen=True)
class Prediction:
    """Root mean squares over test points and outputs, of one ensemble.

    `initialisation` is the standard deviation over networks, `total` with the error of the mean network in quadrature,
    `infinite_width` the exact standard deviation (NaN without a law), `p_value` the probability of a difference from it
    like this one.
    """

    initialisation: Estimate
    total: float
    infinite_width: float
    p_value: float


def largest_cell(
    store: xarray.Dataset,
    scale: np.ndarray,
    chosen: np.ndarray | None = None,
    others: xarray.DataArray | None = None,
    pool: int = 0,
) -> Prediction | None:
    """Of the largest width and n_train and the first draw; None where it is not there.

    `scale` (outputs,) multiplies predictions, `chosen` (test_point,) are the points used. `others` is the variance of
    the prediction at infinite width for further draws (draw, n_train) of a pool of that size.
    """
    points = aggregate.prediction_variance(store, chosen, scale).isel(width=-1, n_train=-1, draw=0)
    variance, bias2 = float(points.variance), float(points.bias2)  # halves of squares, as in the loss
    if not (np.isfinite(variance) and variance > 0 and np.isfinite(points.variance_deviates.values).all()):
        return None
    sources = [ErrorSource("members", points.variance_deviates.values[None])]
    exact, p_value = float("nan"), float("nan")
    if "law_variance" in store:
        law = store.law_variance.isel(draw=0, n_train=-1).values
        law = law if chosen is None else law[chosen]
        exact = float(np.mean(scale**2) * law.mean()) / 2
        if np.isfinite(exact):
            p_value = Curve(np.ones(1), np.array([variance / exact]), tuple(sources)).log_value(0).p_value()
            if len(law) > 2:
                relative = (law / law.mean() - 1) / np.sqrt(len(law) * (len(law) - 1.0))
                sources.append(ErrorSource("test points", relative[None]))
    if others is not None and others.sizes["draw"] > 2 and pool > others.n_train[-1]:
        logarithms = np.log(others.isel(n_train=-1).values)
        free = 1 - float(others.n_train[-1]) / pool
        deviates = (logarithms - logarithms.mean()) / np.sqrt((len(logarithms) - 1) * free)
        sources.insert(1, ErrorSource("draw", deviates[None]))
    half_log = Curve(np.ones(1), np.array([variance]), tuple(sources)).log_value(0).scaled(0.5)
    return Prediction(
        initialisation=replace(half_log, value=1.0).scaled(float(np.sqrt(2 * variance))),
        total=float(np.sqrt(2 * (variance + bias2))),
        infinite_width=float(np.sqrt(2 * exact)),
        p_value=p_value,
    )


def size(one: Estimate, digits: int) -> str:
    """ "14.8 ± 0.1 (members) ± 0.3 (another draw)", in fixed digits."""
    errors = "".join(f" ± {part:.{digits}f} ({PHRASES[name]})" for name, part in one.parts.items())
    return f"{one.value:.{digits}f}{errors}"


def significant(one: Estimate) -> str:
    """The same, with the digits that the error of the members allows."""
    value = pm(one.value, one.parts.get("members", float("nan")))
    others = [f" ± {part:.1g} ({PHRASES[name]})" for name, part in one.parts.items() if name != "members"]
    return value + (" (members)" if "members" in one.parts else "") + "".join(others)

"""How far the initialisation moves a prediction, in the units of the target, with errors that say what they contain."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray

from analysis import predictions
from analysis.agreement import FEWEST
from analysis.contrasts import ErrorSource, Estimate, number
from analysis.report.numbers import chance, percent, pm
from analysis.scaling import plain
from ntkhpc.studies.dims import CELL

PHRASES = {"members": "members", "draw": "another draw", "test points": "other test points"}


@dataclass(frozen=True)
class Prediction:
    """Root mean squares over test points and outputs, of one ensemble.

    `initialisation` is the standard deviation over networks, `total` with the error of the mean network in quadrature,
    `infinite_width` the exact standard deviation (NaN without a law), `ratio` the logarithm of the variance over the
    exact one, with the error of the members; None without a law, or from too few tiles of networks.
    """

    initialisation: Estimate
    total: float
    infinite_width: float
    ratio: Estimate | None

    @property
    def p_value(self) -> float:
        """The probability of a ratio to infinite width like this one, were there no difference; NaN without one."""
        return float("nan") if self.ratio is None else self.ratio.p_value()

    def beside_infinite_width(self, size: Callable[[float], str]) -> str:
        """What infinitely wide networks have, in brackets; `size` writes one.

        No verdict: this is one cell of those that are compared, all together, in a section of their own.
        """
        if not np.isfinite(self.infinite_width):
            return ""
        exact = f"infinitely wide networks after the same steps: {size(self.infinite_width)}"
        if self.ratio is None:
            return f" ({exact}; too few tiles of networks to tell a difference)"
        difference = percent(self.ratio.scaled(0.5).of_ratio())
        return f" ({exact}, relative difference {difference}, {chance(self.p_value)} for this cell alone)"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        one = self.initialisation
        return {
            "initialisation": one.value,
            "initialisation_stderr": plain(one.parts.get("members")),
            "initialisation_parts": {name: plain(part) for name, part in one.parts.items()},
            "total": self.total,
            "infinite_width": plain(self.infinite_width),
            "p_value": plain(self.p_value),
        }


def largest_cell(
    store: xarray.Dataset,
    scale: np.ndarray,
    chosen: np.ndarray | None = None,
    draw: ErrorSource | None = None,
) -> Prediction | None:
    """Of the largest width and n_train and the first draw; None where it is not there.

    `scale` (outputs,) multiplies predictions, `chosen` (test_point,) are the points used. `draw` is what
    another draw of the training set does to the variance of the prediction, deviates (1, m) at that n_train.
    """
    cell = store.isel(width=[-1], n_train=[-1], draw=[0])
    points = predictions.prediction_variance(cell, chosen, scale).squeeze(CELL)
    variance, bias2 = float(points.variance), float(points.bias2)  # halves of squares, as in the loss
    if not (np.isfinite(variance) and variance > 0 and np.isfinite(points.variance_deviates.values).all()):
        return None
    members = ErrorSource("members", points.variance_deviates.values[None])
    sources, exact, ratio = [members, *([draw] if draw else [])], float("nan"), None
    if "law_variance" in store:
        law = store.law_variance.isel(draw=0, n_train=-1).values
        law = law if chosen is None else law[chosen]
        exact = float(np.mean(scale**2) * law.mean()) / 2
        if np.isfinite(exact):
            if np.count_nonzero(members.deviates) >= FEWEST:
                ratio = number(variance / exact, [members])
            if len(law) > 2:
                influence = (law / law.mean() - 1) / np.sqrt(len(law) * (len(law) - 1.0))
                sources.append(ErrorSource("test points", influence[None]))
    half_log = number(variance, sources).scaled(0.5)
    return Prediction(
        initialisation=replace(half_log, value=1.0).scaled(float(np.sqrt(2 * variance))),
        total=float(np.sqrt(2 * (variance + bias2))),
        infinite_width=float(np.sqrt(2 * exact)),
        ratio=ratio,
    )


def halves(one: Estimate) -> dict[str, float]:
    """What each source has, in quadrature, in half of the 68 % interval; without sources that have nothing."""
    wider = one.half() / one.stderr if one.stderr else 1.0
    return {name: wider * part for name, part in one.parts.items() if part > 1e-9 * abs(one.value)}


def size(one: Estimate, digits: int) -> str:
    """ "14.8 ± 0.1 (members) ± 0.3 (another draw)", in fixed digits."""
    errors = "".join(f" ± {half:.{digits}f} ({PHRASES[name]})" for name, half in halves(one).items())
    return f"{one.value:.{digits}f}{errors}"


def significant(one: Estimate) -> str:
    """The same, with the digits that the error of the members allows."""
    found = halves(one)
    value = pm(one.value, found.get("members", float("nan")))
    others = [f" ± {half:.1g} ({PHRASES[name]})" for name, half in found.items() if name != "members"]
    return value + (" (members)" if "members" in found else "") + "".join(others)

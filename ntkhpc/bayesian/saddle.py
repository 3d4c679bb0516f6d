"""Saddle points where the data see one product of order parameters: one layer, or kernels that only scale.

    Phi = sum_l N_l (Qb_l - 1 - log Qb_l) + F(U) ,  U = sum_l log Qb_l

[arXiv:2209.04882; for one layer Phi = N1 (S - 1) with the reduced action S.] Stationary in every log Qb_l:
N_l (Qb_l - 1) = -F'(U) is the same number c for all layers, so one unknown is left, found between bounds that no root
can lie outside of. At temperature 0 one layer has a closed form.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from ntkhpc.bayesian.spectrum import Spectrum

_STEP = 0.05
"""Step in log Qb. F' is a sum of terms that change over a width of about 2, so no pair of roots hides in a step."""


@dataclass(frozen=True)
class Saddle:
    """Order parameters q_bar (L,) of layers of some widths, and Phi there (0 at Qb = 1 without data)."""

    q_bar: np.ndarray
    action: float


def solve(spectrum: Spectrum, widths: Sequence[float], temperature: float) -> Saddle:
    """The minimum of least action. Raises ValueError where there is none: targets 0 at temperature 0, width <= P."""
    return minima(spectrum, widths, temperature)[0]


def minima(spectrum: Spectrum, widths: Sequence[float], temperature: float) -> list[Saddle]:
    """All minima of Phi, the least first; usually there is one."""
    sizes = np.asarray(widths, np.float64)
    narrowest, points = float(sizes.min()), len(spectrum.values)
    if narrowest == math.inf:
        return [_saddle(spectrum, sizes, temperature, np.ones(len(sizes)))]
    if temperature == 0:
        if not spectrum.power.any() and points >= narrowest:
            raise ValueError(
                f"all targets are zero and width {narrowest:g} <= {points} points: at temperature 0 the posterior "
                "collapses on zero outputs and has no order parameter"
            )
        if len(sizes) == 1:
            q_bar = np.array([zero_temperature(spectrum.inverse_form() / narrowest, points / narrowest)])
            return [_saddle(spectrum, sizes, temperature, q_bar)]

    def equation(t: np.ndarray) -> np.ndarray:
        """c + F'(U), whose roots in t = log Qb of the narrowest layer are the saddles."""
        log_q = _log_q_bar(t[:, None], narrowest / sizes).sum(axis=1)
        return narrowest * np.expm1(t) + spectrum.slope(log_q, temperature)

    roots = upward_roots(equation, *_bounds(spectrum, narrowest, temperature), _STEP)
    found = [
        _saddle(spectrum, sizes, temperature, np.exp(_log_q_bar(np.array(root), narrowest / sizes))) for root in roots
    ]
    return sorted(found, key=lambda saddle: saddle.action)


def _log_q_bar(t: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """log Qb of layers that are 1/shares times as wide as the narrowest, which has t."""
    own = shares == 1  # also where exp(t) is below rounding
    return np.where(own, t, np.log1p(np.where(own, 0, shares) * np.expm1(t)))


def zero_temperature(form_per_width: float, alpha: float) -> float:
    """Qb = [ (1 - alpha) + sqrt((1 - alpha)^2 + 4 y^T K^-1 y/N1) ]/2 [arXiv:2209.04882]."""
    half = (1 - alpha) / 2
    root = math.sqrt(half**2 + form_per_width)
    # The other form of the same root, where the first would be a difference of nearly equal numbers.
    return half + root if half >= 0 else form_per_width / (root - half)


def upward_roots(
    function: Callable[[np.ndarray], np.ndarray], lowest: float, highest: float, step: float
) -> list[float]:
    """Roots in [lowest, highest] at which a vectorised function goes from negative to positive.

    Raises RuntimeError if it is not negative at the lowest or not positive at the highest end.
    """
    grid = np.linspace(lowest, highest, 2 + math.ceil((highest - lowest) / step))
    positive = function(grid) > 0
    if positive[0] or not positive[-1]:
        raise RuntimeError(f"the saddle-point equation has no sign change between log Qb = {lowest:g} and {highest:g}")
    cells = np.flatnonzero(~positive[:-1] & positive[1:])
    return [
        float(scipy.optimize.brentq(lambda t: function(np.array([t]))[0], grid[i], grid[i + 1], xtol=1e-15, rtol=1e-15))
        for i in cells
    ]


def _bounds(spectrum: Spectrum, narrowest: float, temperature: float) -> tuple[float, float]:
    """Bounds of log Qb of the narrowest layer, by those of both sums of F'(U); U lies beyond, on the same side of 0."""
    points, power = len(spectrum.values), float(spectrum.power.sum())
    form = spectrum.inverse_form()
    highest = (1 + math.sqrt(1 + 4 * form / narrowest)) / 2
    lowest = 1 - points / narrowest
    if temperature > 0:
        highest = min(highest, 1 + power / (4 * temperature * narrowest))
        lowest = max(lowest, 1 / (1 + float(spectrum.values.sum()) / (temperature * narrowest)))
    else:
        lowest = max(lowest, min(1.0, form / points))
    # A little outside, so that rounding cannot put a root on the wrong side of its bound.
    return math.log(lowest) - 1e-6, math.log(highest) + 1e-6


def _saddle(spectrum: Spectrum, sizes: np.ndarray, temperature: float, q_bar: np.ndarray) -> Saddle:
    log_q = np.log(q_bar)
    return Saddle(q_bar, width_action(sizes, log_q) + float(spectrum.data_action(log_q.sum()[None], temperature)[0]))


def width_action(sizes: np.ndarray, log_q: np.ndarray) -> float:
    """sum_l N_l (Qb_l - 1 - log Qb_l), for finite widths only: an infinite one has Qb = 1 and adds nothing."""
    finite = np.isfinite(sizes)
    return float((sizes[finite] * (np.expm1(log_q[finite]) - log_q[finite])).sum())

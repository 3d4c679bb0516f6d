"""Power laws above offsets that are given: least squares of logarithms, for many offsets at once.

For an offset c, amplitude a and exponent b make the sum over sizes of (log(value) - log(a n^b + c))^2 least. It is the
logarithm of the value that has an error, not that of value - c, which need not be positive: a value that is measured
may lie below its floor.
"""

from dataclasses import dataclass

import numpy as np

STEEPEST = 10.0
"""Of exponents. A steeper power law is one size apart from a constant."""

_STEPS = 40

_DAMPING = (1e-12, 1e12)

_CLOSE = 1e-12
"""Relative change of the sum of squares below which a step is the last."""


@dataclass(frozen=True)
class PowerLaws:
    """Of each offset (g,): log(a) at the geometric mean of the sizes, b, what is left of the logarithms (g, k), and
    their derivatives (g, k, 2) by log(a) and b."""

    log_amplitude: np.ndarray
    exponent: np.ndarray
    left: np.ndarray
    derivative: np.ndarray

    def project(self, weights: np.ndarray) -> np.ndarray:
        """Weights (k,) of what is left, as weights (g, k) of the logarithms, to first order."""
        solved = np.linalg.pinv(self.derivative, rcond=1e-10)
        return np.asarray(weights - np.einsum("k,gkp,gpj->gj", weights, self.derivative, solved))

    def by_offset(self, value: np.ndarray) -> np.ndarray:
        """The derivative (g, k) of what is left of the values (k,) by the offset, amplitude and exponent unchanged."""
        return np.asarray(-np.exp(self.left) / value)

    def exponent_weights(self) -> np.ndarray:
        """The exponent's weights (g, k) of the logarithms, to first order."""
        return np.asarray(np.linalg.pinv(self.derivative, rcond=1e-10)[:, 1])


def fit(n: np.ndarray, value: np.ndarray, offsets: np.ndarray) -> PowerLaws:
    """Levenberg and Marquardt's method, from the line through log(value - c) wherever there is one.

    n, value: (k,), positive; offsets: (g,), less than the largest value.
    """
    logarithms, x = np.log(value), np.log(n) - np.log(n).mean()
    at = _start(value, x, offsets)
    above, square, left = _look(at, x, offsets, logarithms)
    damping, todo = np.full(len(offsets), 1e-3), np.arange(len(offsets))
    for _ in range(_STEPS):
        jacobian = _derivative(above[todo], x, offsets[todo])
        normal = np.einsum("gkp,gkq->gpq", jacobian, jacobian)
        normal += damping[todo, None, None] * (normal * np.eye(2)) + 1e-300 * np.eye(2)
        tried = at[todo] + _solve(normal, np.einsum("gkp,gk->gp", jacobian, left[todo]))
        tried[:, 1] = np.clip(tried[:, 1], -STEEPEST, STEEPEST)
        moved = _look(tried, x, offsets[todo], logarithms)
        better = moved[1] <= square[todo]
        finished = np.where(better, square[todo] - moved[1] <= _CLOSE * square[todo], damping[todo] >= _DAMPING[1])
        now = todo[better]
        at[now], above[now], square[now], left[now] = (one[better] for one in (tried, *moved))
        damping[todo] = np.clip(damping[todo] * np.where(better, 0.1, 10), *_DAMPING)
        todo = todo[~finished]
        if not len(todo):
            break
    return PowerLaws(at[:, 0], at[:, 1], left, _derivative(above, x, offsets))


def _start(value: np.ndarray, x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """log(a) and b (g, 2) of the line through log(value - c), at which a n^b + c is positive."""
    most = value.max() - offsets
    above = np.log(np.maximum(value - offsets[:, None], 1e-2 * most[:, None]))
    exponent = np.clip(above @ x / (x @ x), -STEEPEST, STEEPEST)
    least = np.log(np.maximum(-offsets, 1e-300)) - (exponent[:, None] * x).min(axis=1) + 1e-3
    return np.stack([np.maximum(above.mean(axis=1), least), exponent], axis=1)


def _look(
    at: np.ndarray, x: np.ndarray, offsets: np.ndarray, logarithms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a n^b (g, k), the sum of squares (g,), infinite where a n^b + c is not positive, and what is left (g, k)."""
    above = np.exp(np.clip(at[:, :1] + at[:, 1:] * x, -600, 600))
    with np.errstate(invalid="ignore", divide="ignore"):
        left = logarithms - np.log(above + offsets[:, None])
        square = (left**2).sum(axis=1)
    return above, np.where(np.isfinite(square), square, np.inf), left


def _derivative(above: np.ndarray, x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    share = above / (above + offsets[:, None])
    return np.stack([share, share * x], axis=2)


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of 2 x 2 matrices (g, 2, 2); no step where one is singular."""
    (aa, ab), (_, bb) = normal.transpose(1, 2, 0)
    with np.errstate(all="ignore"):
        step = np.stack([bb * right[:, 0] - ab * right[:, 1], aa * right[:, 1] - ab * right[:, 0]], axis=1)
        return np.nan_to_num(step / (aa * bb - ab**2)[:, None], posinf=0.0, neginf=0.0)

"""A minimum of a smooth function of a few variables with an exact gradient, to rounding."""

import math
from collections.abc import Callable, Iterable

import numpy as np

Action = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Value and gradient (n,) at x (n,); LinAlgError where there is none."""

_DIFFERENCE = 1e-5
_LONGEST = 2.0
"""A step in logarithms of order parameters: further away the action has little to do with its parabola here."""
_CONVERGED, _ROUNDING = 1e-11, 1e-6
"""Length of the next step at which to stop, and at which it may be left to rounding if no step improves."""
_STEPS, _HALVINGS = 200, 30


def minimum(action: Action, starts: Iterable[np.ndarray]) -> np.ndarray:
    """x (n,) of the least of the minima reached from the starts (n,).

    Raises RuntimeError if none is reached from any of them.
    """
    reached = [found for start in starts if (found := _descend(action, start)) is not None]
    if not reached:
        raise RuntimeError(
            "no minimum of the action was found: either the kernel is singular to rounding at this temperature, or the "
            "targets are far from anything this prior expects"
        )
    return min(reached, key=lambda x: action(x)[0])


def _descend(action: Action, x: np.ndarray) -> np.ndarray | None:
    """Newton's method with the Hessian by differences, made positive so that it goes down from saddles too.

    A step counts if the value falls; near the minimum, where the value no longer tells, if the gradient does.
    """
    value, gradient = _safe(action, x)
    if value == math.inf:
        return None
    for _ in range(_STEPS):
        curvatures, axes = np.linalg.eigh(_hessian(action, x, gradient))
        floor = np.finfo(float).eps * np.abs(curvatures).max()
        step = -axes @ (axes.T @ gradient / np.maximum(np.abs(curvatures), floor))
        length = float(np.abs(step).max())
        if length < _CONVERGED and curvatures[0] > 0:
            return x
        step *= min(1.0, _LONGEST / length)
        slope = float(gradient @ step)
        for halving in range(_HALVINGS):
            part = 0.5**halving
            trial, following = _safe(action, x + part * step)
            falls = trial < value + 1e-4 * part * slope
            if falls or (length < 1e-3 and np.linalg.norm(following) < np.linalg.norm(gradient)):
                x, value, gradient = x + part * step, trial, following
                break
        else:
            return x if length < _ROUNDING and curvatures[0] > 0 else None
    return None


def _safe(action: Action, x: np.ndarray) -> tuple[float, np.ndarray]:
    try:
        return action(x)
    except np.linalg.LinAlgError:
        return math.inf, np.full(len(x), math.inf)


def _hessian(action: Action, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The Hessian (n, n), by differences of the gradient; symmetric."""
    rows = [(_safe(action, x + step)[1] - gradient) / _DIFFERENCE for step in _DIFFERENCE * np.eye(len(x))]
    return (np.array(rows) + np.array(rows).T) / 2

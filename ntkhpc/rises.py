"""Rises of the training loss at single steps, by which a network is found whose training is not stable.

Full-batch descent of a stable linear model lets the loss fall, or rise by what is known; what rises more did not train
as a linear model does, or is on the edge of instability.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc import optimisers, precisions
from ntkhpc.optimisers import Algorithm

_GRID = 4001
_ROUNDINGS = 16
_PRODUCT_ROUNDINGS = 4
_SMALLEST_RISE = 1e-9


def sound_rises(momentum: float, steps: int, algorithm: Algorithm = optimisers.PLAIN) -> np.ndarray:
    """How much the training loss of a stable linear model can rise at each step, in units of its first loss.

    Returns (at most `steps`,), of steps 1, 2, ...; at later ones the loss cannot rise by more than 1e-9. A mode of
    curvature x = eta lambda/c keeps the part p_t(x) of its residual [p_0 = 1, p_1 = 1 - x, p_(t+1) = (1 + beta - x) p_t
    - beta p_(t-1)], and the loss is the sum of p_t^2 z^2/(2 c) over modes. So it rises by at most the maximum over the
    stable 0 <= x <= 2 (1 + beta) of p_(t+1)^2 - p_t^2. Without momentum p_t = (1 - x)^t, and no rise is sound.
    Nesterov momentum and schedules have recursions and bounds of their own. Raises ValueError for an algorithm of which
    nothing is known.
    """
    algorithm = optimisers.trained_by(algorithm, momentum)
    if not algorithm.falls:
        raise ValueError(f"it is not known by how much the loss may rise in a step of {algorithm.optimiser}")
    if not algorithm.is_plain:
        return _scheduled_rises(algorithm, steps)
    momentum = algorithm.momentum
    x = np.linspace(0, 2 * (1 + momentum), _GRID)
    before, now = np.ones_like(x), np.ones_like(x)  # no velocity: p_1 = (1 + beta - x) - beta
    rises = np.zeros(steps if momentum else 0)
    for step in range(len(rises)):
        before, now = now, (1 + momentum - x) * now - momentum * before
        rises[step] = max(0.0, float((now**2 - before**2).max()))
    return _until_small(rises)


def _scheduled_rises(algorithm: Algorithm, steps: int) -> np.ndarray:
    """The same for momentum and rates of any kind, from the velocity v of each mode."""
    bound = optimisers.stability_bound(algorithm, 1.0, 1, 1)
    x, beta = np.linspace(0, bound, _GRID), algorithm.momentum
    rises, residual, velocity = np.zeros(steps if beta else 0), np.ones_like(x), np.zeros_like(x)
    for step, part in enumerate(optimisers.multipliers(algorithm.schedule, steps)[: len(rises)]):
        velocity = residual + beta * velocity
        used = residual + beta * velocity if algorithm.optimiser == "nesterov" else velocity
        before, residual = residual, residual - part * x * used
        rises[step] = max(0.0, float((residual**2 - before**2).max()))
    return _until_small(rises)


def _until_small(rises: np.ndarray) -> np.ndarray:
    large = np.flatnonzero(rises > _SMALLEST_RISE)
    return rises[: large[-1] + 1] if len(large) else rises[:0]


def resolution_of(matmul_precision: str, dtype: Any) -> float:
    """Of outputs, relative to what they begin with: products of coarser factors have sums of full precision."""
    eps, factors = float(np.finfo(dtype).eps), precisions.of_products(str(dtype), matmul_precision)
    return _ROUNDINGS * eps if factors <= eps else _PRODUCT_ROUNDINGS * factors


def watch(
    algorithm: Algorithm, steps: int, matmul_precision: str, dtype: Any, untrained: Array | None
) -> Callable[[Array, Array, Any], Any]:
    """What looks at the loss at each step: (step, loss, seen) -> seen, which is (first loss, loss before, last rise).

    Rounding moves residuals by about the resolution of the outputs, so the loss C by that times sqrt(C C_0). What is
    subtracted from outputs is rounded too, and C_0 has its loss besides, `untrained`. Losses are of one network, or of
    several (B,).
    """
    rises = sound_rises(algorithm.momentum, steps, algorithm)
    allowed = jnp.asarray(np.append(rises, _SMALLEST_RISE if len(rises) else 0.0), dtype)
    resolution = resolution_of(matmul_precision, dtype)

    def look(step: Array, loss: Array, seen: Any) -> Any:
        first, before, last = seen
        first = jnp.where(step == 0, loss, first)
        sound = allowed[jnp.clip(step - 1, 0, len(allowed) - 1)] * first
        scale = first if untrained is None else first + untrained
        rounding = resolution * (before + jnp.sqrt(before * scale))
        rose = loss > before + sound + rounding
        return first, loss, jnp.where(rose, jnp.asarray(step, jnp.int32), last)

    return look

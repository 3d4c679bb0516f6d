"""What m steps of an algorithm do at a fixed kernel T, as functions of its eigenvalues l.

In a linear model with residual r = f - y (N,) and velocity v (parameters), w = J v, one step at rate eta_s is

    p <- beta p + r/c,  b <- beta b         of the velocity  v = J^T p + b v_0
    q <- q + eta_s u,   d <- d + eta_s b    of the weights   theta = theta_0 - J^T q - d v_0
    r <- r - eta_s (l u + ...)

with u = p for heavy-ball momentum and beta p + r/c for Nesterov's, which takes beta b in place of b. All of it is
linear in r_0 and w_0 = J v_0. Plain descent at a constant rate has p = 0 and is closed: with x = eta l/c,

    q = (eta/c) [1 - (1 - x)^m]/x  r_0

Of eigenvalues up to the stability bound this is exact: at half the bound, where learning rates of studies usually put
the largest one of infinite width, those of finite networks lie on both sides. A few narrow networks begin beyond the
bound, where the sum would overflow: more than one step then takes such a mode's residual away.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc import optimisers
from ntkhpc.optimisers import Algorithm


class Answer(NamedTuple):
    """q and p, each (k,) of as many eigenvalues."""

    weights: Array
    velocity: Array


class Answers(NamedTuple):
    """`of_residual` is what r_0 = 1 does, `of_velocity` what w_0 = 1 does; d and b are numbers."""

    of_residual: Answer
    of_velocity: Answer
    moved: Array
    kept: Array


def enough(algorithm: Algorithm, rate: Any, c: int, steps: Any, dtype: Any) -> dict[str, Any]:
    """When a Krylov space is large enough for so many steps, as arguments of lanczos.krylov.

    Of plain descent at a constant rate `to` is eps^0.75, 6e-6 in single precision: what is left then errs by at most
    2e-6 of |r| where eigenvalues fall as powers. With momentum large modes ring on, whatever their eigenvalue, and the
    whole space is made.
    """
    if not algorithm.is_closed:
        return {}
    return {"shift": c / (rate * steps), "to": float(np.finfo(dtype).eps) ** 0.75}


def closed(values: Array, rate: Any, c: int, steps: Any) -> Array:
    """q (k,) of plain descent at eigenvalues (k,) of T: with x = eta l/c, (eta/c) [1 - (1 - x)^steps]/x.

    Between x = 1 and the stability bound 2 the residual changes its sign with every step, and still dies out. Beyond
    the bound several steps take it away, as those of a network do once its curvature has fallen.
    """
    x = jnp.maximum(values * (rate / c), 0)
    slow, fast = jnp.where((x > 0) & (x < 1), x, 0.5), jnp.clip(x, 1, 2)
    # Between 1 and the stability bound 2 the residual changes its sign with every step.
    left = jnp.where(x < 2, (-1.0) ** (steps % 2) * jnp.exp(steps * jnp.log(fast - 1)), 0)
    done = jnp.where(x < 1, -jnp.expm1(steps * jnp.log1p(-slow)) / slow, (1 - left) / jnp.maximum(x, 1))
    return rate / c * jnp.where((x > 0) & (steps > 1), done, steps)


def stepped(
    values: Array, algorithm: Algorithm, rate: Any, c: int, first: Any, steps: Any, multipliers: Array
) -> Answers:
    """After the steps number `first` to `first + steps` at the rates eta_s = rate * multipliers[s]."""
    beta, nesterov = algorithm.momentum, algorithm.optimiser == "nesterov"
    bound = optimisers.OPTIMISERS[algorithm.optimiser].bound
    assert bound is not None
    stable, values = bound(beta) * c / rate, jnp.maximum(values, 0)
    beyond = values >= stable
    scale = jnp.where(beyond & (steps > 1), stable / 2 / jnp.maximum(values, stable), 1)
    values = jnp.where(beyond, stable / 2, values)
    zero, one = jnp.zeros_like(values), jnp.ones_like(values)
    unit = jnp.ones((), values.dtype)

    def one_step(number: Any, state: Any) -> Any:
        eta = rate * multipliers[number]
        (r, w, p, q), (r_, w_, p_, q_), b, d = state

        def moved(r: Array, w: Array, p: Array, q: Array) -> tuple[Array, Array, Array, Array]:
            gradient, raised = r / c, values * r / c
            p, w = beta * p + gradient, beta * w + raised
            used = beta * p + gradient if nesterov else p
            change = beta * w + raised if nesterov else w
            return r - eta * change, w, p, q + eta * used

        b = beta * b
        d = d + eta * (beta * b if nesterov else b)
        return moved(r, w, p, q), moved(r_, w_, p_, q_), b, d

    state = ((one, zero, zero, zero), (zero, one, zero, zero), unit, jnp.zeros_like(unit))
    (_, _, p, q), (_, _, p_, q_), b, d = jax.lax.fori_loop(first, first + steps, one_step, state)
    return Answers(Answer(scale * q, scale * p), Answer(scale * q_, scale * p_), d, b)

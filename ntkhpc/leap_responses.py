"""What m steps of an algorithm do at a fixed kernel T, as functions of its eigenvalues l.

In a linear model with residual r = f - y (N,) and velocity v (parameters), w = J v, one step at rate eta_s is

    p <- beta p + r/c,  b <- beta b         of the velocity  v = J^T p + b v_0
    q <- q + eta_s u,   d <- d + eta_s b    of the weights   theta = theta_0 - J^T q - d v_0
    r <- r - eta_s (l u + ...)

with u = p for heavy-ball momentum and beta p + r/c for Nesterov's, which takes beta b in place of b. All of it is
linear in r_0 and w_0 = J v_0. Plain descent at a constant rate has p = 0 and is closed: with x = eta l/c,

    q = (eta/c) [1 - (1 - x)^m]/x  r_0

Modes beyond what is stable, with which a few narrow networks begin, oscillate without growing in leaps of two steps or
more, which would overflow otherwise.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


def closed(values: Array, rate: Any, c: int, steps: Any) -> Array:
    """q (k,) of plain descent at eigenvalues (k,) of T, after so many steps."""
    x = jnp.maximum(values, 0) * (rate / c)
    moving = jnp.where(x > 0, x, 1)
    # (1 - x)^m: by log1p where x is small, and with its sign beyond 1.
    size = jnp.exp(steps * jnp.log(jnp.minimum(jnp.abs(1 - moving), 1)))
    beyond = 1 - jnp.where(steps % 2 == 1, -size, size)
    moved = jnp.where(moving < 1, -jnp.expm1(steps * jnp.log1p(-jnp.minimum(moving, 1))), beyond) / moving
    return rate / c * jnp.where((x > 0) & (steps > 1), moved, steps)


def stepped(
    values: Array, algorithm: Algorithm, rate: Any, c: int, first: Any, steps: Any, multipliers: Array
) -> Answers:
    """After the steps number `first` to `first + steps` at the rates eta_s = rate * multipliers[s]."""
    beta, nesterov = algorithm.momentum, algorithm.optimiser == "nesterov"
    bound = optimisers.OPTIMISERS[algorithm.optimiser].bound
    assert bound is not None
    values = jnp.clip(values, 0, 0.999 * bound(beta) * c / rate)
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
    return Answers(Answer(q, p), Answer(q_, p_), d, b)

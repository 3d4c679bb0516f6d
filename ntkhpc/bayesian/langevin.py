"""Full-batch Langevin dynamics of all weights, as [arXiv:2209.04882] runs it, and how far its step may go.

    theta <- theta - lr (1/2 grad SSE + T lam theta) + sqrt(2 lr T) xi ,  xi ~ N(0, 1)

In this package's coordinates w = sqrt(lam) theta the rate of each layer is lr lam. There is no Metropolis step: along a
direction of curvature c the stationary variance is too large by the factor 1/(1 - lr c/2), and from lr c = 2 on there
is none. Across the span of the training inputs the dynamics leaves the data alone; there the prior itself is drawn.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc.bayesian import target
from ntkhpc.bayesian.inputs import Activation
from ntkhpc.bayesian.target import Problem

_POWER_STEPS = 30


def read(problem: Problem, widths: Sequence[int], position: Array) -> tuple[list[Array], Array]:
    """Hidden weights and read-out u (N_L, D) of a flat position that holds both."""
    weights = target.unpack(problem, widths, position)
    start = sum(weight.size for weight in weights)
    return weights, position[start:].reshape(widths[-1], problem.y_train.shape[1])


def energy(problem: Problem, activation: Activation, widths: Sequence[int], position: Array) -> Array:
    """SSE/2 + T |w|^2/2 (): the potential energy of all weights is this over T."""
    weights, u = read(problem, widths, position)
    misses = problem.y_train - target.features_at_train(problem, activation, weights) @ u
    return 0.5 * (jnp.vdot(misses, misses) + problem.temperature * jnp.vdot(position, position))


def rates(problem: Problem, widths: Sequence[int], learning_rate: Array) -> Array:
    """lr lam of every coordinate of a position (n,)."""
    shapes = [*target.sizes(problem, widths), (widths[-1], problem.y_train.shape[1])]
    layers = np.repeat(np.arange(len(shapes)), [rows * columns for rows, columns in shapes])
    return learning_rate * jnp.asarray(problem.precisions)[layers]


def steps(
    key: Array,
    problem: Problem,
    activation: Activation,
    widths: Sequence[int],
    position: Array,
    learning_rate: Array,
    count: int,
) -> Array:
    """The position (n,) after `count` steps."""
    rate = rates(problem, widths, learning_rate)
    size = jnp.sqrt(2 * rate * problem.temperature)
    gradient = jax.grad(lambda w: energy(problem, activation, widths, w))

    def step(number: Array, position: Array) -> Array:
        xi = jax.random.normal(jax.random.fold_in(key, number), position.shape, position.dtype)
        return position - rate * gradient(position) + size * xi

    return jax.lax.fori_loop(0, count, step, position)


def curvature(key: Array, problem: Problem, activation: Activation, widths: Sequence[int], position: Array) -> Array:
    """The largest c (), by power iteration, in the paper's own weights; its lr must stay below 2/c."""
    root = jnp.sqrt(rates(problem, widths, jnp.ones(())))
    gradient = jax.grad(lambda w: energy(problem, activation, widths, w))

    def turn(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        along = state[0] / jnp.linalg.norm(state[0])
        product = root * jax.jvp(gradient, (position,), (root * along,))[1]
        return product, jnp.vdot(along, product)

    start = jax.random.normal(key, position.shape, position.dtype)
    return jax.lax.fori_loop(0, _POWER_STEPS, turn, (start, jnp.zeros(())))[1]

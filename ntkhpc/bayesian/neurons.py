"""A population of neurons in the field of their own mean, by Markov chain Monte Carlo: what `adaptive` needs of it.

Neurons move by preconditioned Crank-Nicolson steps, under which their prior is stationary, accepted by the ratio of
p(w)/p_0(w) [arXiv:1202.0709]; u and D follow the moments of the neurons, averaged over more and more updates. Symbols
are those of `adaptive`. All is in float64 but the drawn steps, which need no more than float32.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ntkhpc.bayesian.inputs import Activation
from ntkhpc.bayesian.target import Problem, features

STEPS = (1.0, 0.5, 0.25, 0.1)
"""Sizes of the steps of every neuron between two updates of u and D.

Most neurons are almost as in the prior, where the largest moves them best; the few that carry the function, and decide
how the kernel changes, move by the smallest alone.
"""

SETTLED = 0.5
"""Share of the updates that is made before averaging begins."""

MEASURED = 5
"""Updates between two looks at the test points."""


Moments = tuple[Array, ...]


class Known(NamedTuple):
    """The kernel of the prior: train (P, P), cross (M, P), test (M,)."""

    train: Array
    cross: Array
    test: Array


class Field(NamedTuple):
    """M_1 and M_2 (P, P), and u (P,) and D (P, P), which follow from them."""

    first: Array
    second: Array
    mean: Array
    covariance: Array

    @classmethod
    def make(cls, problem: Problem, first: Array, second: Array) -> "Field":
        noise = problem.temperature * jnp.eye(len(first))
        y = jnp.asarray(problem.y_train)[:, 0]
        return cls(first, second, jnp.linalg.solve(noise + first, y), jnp.linalg.inv(noise + second))

    def towards(self, problem: Problem, first: Array, second: Array, gain: Array) -> "Field":
        return Field.make(
            problem, self.first + gain * (first - self.first), self.second + gain * (second - self.second)
        )


class Neurons(NamedTuple):
    """weights (r, n) in coordinates with a standard normal prior, features F (P, n), log p/p_0 (n,), b and d (n,)."""

    weights: Array
    features: Array
    log_ratio: Array
    b: Array
    d: Array


def _neurons(problem: Problem, activation: Activation, field: Field, weights: Array) -> Neurons:
    return _under(field, weights, features(problem, activation, [weights], jnp.asarray(problem.z_train) @ weights))


def _under(field: Field, weights: Array, found: Array) -> Neurons:
    b, d = field.mean @ found, (found * (field.covariance @ found)).sum(axis=0)
    return Neurons(weights, found, 0.5 * (b**2 / (1 + d) - jnp.log1p(d)), b, d)


def _moved(key: Array, problem: Problem, activation: Activation, field: Field, now: Neurons, step: Array) -> Neurons:
    """Each neuron after one step that leaves p(w) as it is."""
    noise, uniform = jax.random.split(key)
    drawn = jax.random.normal(noise, now.weights.shape, jnp.float32).astype(now.weights.dtype)
    other = _neurons(problem, activation, field, jnp.sqrt(1 - step**2) * now.weights + step * drawn)
    accept = jnp.log(jax.random.uniform(uniform, now.b.shape)) < other.log_ratio - now.log_ratio
    return Neurons(*(jnp.where(accept, new, old) for new, old in zip(other, now, strict=True)))


def _weights(width: Array, now: Neurons) -> tuple[Array, Array, Array, Array]:
    """Of each neuron (n,): its share in M_1 and M_2, and in an estimate of the prior's kernel; and a trust in that ().

    Weighted by p_0/p the same neurons estimate the kernel of the prior, which is known: `trust` times the difference is
    taken off, as noise in common. It is as much as leaves every share positive: with the known kernel the moments are
    then those of a positive measure, so that no variance comes out negative. It is 1 where p is p_0.
    """
    n = now.b.shape[0]
    g = 1 / (1 + now.d)
    first, prior = width * g / n, width * jax.nn.softmax(-now.log_ratio)
    return first, first * (1 + now.b**2 * g), prior, jnp.minimum(1.0, (first / prior).min())


def _moments(width: Array, known: Known, now: Neurons) -> tuple[Array, Array]:
    """Estimates of M_1 and M_2."""
    first, second, prior, trust = _weights(width, now)
    f = now.features
    off = trust * (known.train - (f * prior) @ f.T)
    return (f * first) @ f.T + off, (f * second) @ f.T + off


def _at_test(
    key: Array, problem: Problem, activation: Activation, width: Array, known: Known, now: Neurons
) -> tuple[Array, Array, Array]:
    """Estimates of N1 E[F_* F^T g] (M, P), M_2* (M, P) and M_2** (M,)."""
    first, second, prior, trust = _weights(width, now)
    # Only moments of single test points are asked for, so across the span each may have noise of its own.
    spread = jnp.sqrt((jnp.asarray(problem.across) ** 2).sum(axis=1))
    hidden = jnp.asarray(problem.z_test) @ now.weights
    hidden = hidden + spread[:, None] * jax.random.normal(key, hidden.shape)
    f, other = features(problem, activation, [now.weights], hidden), now.features
    off = trust * (known.cross - (f * prior) @ other.T)
    square = f**2 @ second + trust * (known.test - f**2 @ prior)
    return (f * first) @ other.T + off, (f * second) @ other.T + off, square


@partial(jax.jit, static_argnames=("activation", "neurons", "updates"))
def settle(
    key: Array,
    problem: Problem,
    known: Known,
    width: Array,
    *,
    activation: Activation,
    neurons: int,
    updates: int,
) -> dict[str, Array]:
    """mean (M,), point_variance (M,) of f at the test points, and drift ().

    The first updates find u and D, by averages over a window that grows; over the others all is averaged. drift is the
    test loss by the later half of these, less that by the earlier one.
    """
    start = jax.random.normal(jax.random.fold_in(key, 0), (problem.z_train.shape[1], neurons))
    field = Field.make(problem, known.train, known.train)
    steps = jnp.array(STEPS)

    def update(number: Array, gain: Array, field: Field, now: Neurons) -> tuple[Field, Neurons]:
        keys = jax.random.split(jax.random.fold_in(key, 1 + number), len(STEPS))
        now, _ = lax.scan(
            lambda one, move: (_moved(move[0], problem, activation, field, one, move[1]), None), now, (keys, steps)
        )
        field = field.towards(problem, *_moments(width, known, now), gain)
        return field, _under(field, now.weights, now.features)

    def find(number: Array, carry: tuple[Field, Neurons]) -> tuple[Field, Neurons]:
        return update(number, jnp.maximum(0.05, 1 / (number + 2.0)), *carry)

    settled = int(SETTLED * updates)
    looks = (updates - settled) // MEASURED // 2

    def look(number: Array, carry: tuple[Field, Neurons, Moments]) -> tuple[Field, Neurons, Moments]:
        field, now, sums = carry

        def measure(i: Array, carry: tuple[Field, Neurons]) -> tuple[Field, Neurons]:
            done = number * MEASURED + i
            return update(settled + done, 1 / (done + 20.0), *carry)

        field, now = lax.fori_loop(0, MEASURED, measure, (field, now))
        test = jax.random.fold_in(jax.random.fold_in(key, 1 + updates), number)
        found = (*_moments(width, known, now), *_at_test(test, problem, activation, width, known, now))
        return field, now, tuple(a + b / looks for a, b in zip(sums, found, strict=True))

    points, tests = len(known.train), len(known.test)
    shapes = ((points, points), (points, points), (tests, points), (tests, points), (tests,))

    def half(carry: tuple[Field, Neurons], first: Array) -> tuple[tuple[Field, Neurons], Moments]:
        nothing = tuple(jnp.zeros(shape) for shape in shapes)
        field, now, sums = lax.fori_loop(first, first + looks, look, (*carry, nothing))
        return (field, now), sums

    carry = lax.fori_loop(0, settled, find, (field, _neurons(problem, activation, field, start)))
    _, halves = lax.scan(half, carry, looks * jnp.arange(2))
    mean, variance = _predict(problem, tuple(one.mean(axis=0) for one in halves))
    earlier, later = (_loss(problem, *_predict(problem, tuple(one[i] for one in halves))) for i in range(2))
    return {"mean": mean, "point_variance": variance, "drift": later - earlier}


def _predict(problem: Problem, moments: Moments) -> tuple[Array, Array]:
    """Mean and variance (M,) at the test points from M_1, M_2, N1 E[F_* F^T g], M_2* and M_2**.

    A small variance is the difference of large moments: all of them must be those of the same neurons.
    """
    field = Field.make(problem, *moments[:2])
    first, second, square = moments[2:]
    return first @ field.mean, square - ((second @ field.covariance) * second).sum(axis=1)


def _loss(problem: Problem, mean: Array, variance: Array) -> Array:
    return jnp.mean((mean - jnp.asarray(problem.y_test)[:, 0]) ** 2 + variance)

"""Bayesian networks of one hidden layer whose kernel may change its shape: a self-consistent theory of one neuron.

Integrated over the read-out, and with a field t conjugate to the outputs at the training points, the evidence is

    Z = int dt exp(i t.y - T |t|^2/2) z(t)^N1 ,  z(t) = E_w exp(-(t.F_w)^2/2) ,  F_w = phi(X w/sqrt(N0))/sqrt(lam_1 N1)

exactly. [arXiv:2209.04882] takes t.F_w for Gaussian under the prior of a neuron's weights w, and keeps of the kernel
its scale alone. Here t is Gaussian, with mean i u and covariance D, while w has whatever distribution that gives it,

    p(w) ~ p_0(w) (1 + d)^(-1/2) exp{ b^2/(2 (1 + d)) } ,  b = u.F_w ,  d = F_w^T D F_w ,  g = 1/(1 + d) ,
    u = (T + M_1)^-1 y ,  M_1 = N1 E[F F^T g] ;   D = (T + M_2)^-1 ,  M_2 = N1 E[F F^T (g + b^2 g^2)] ,

the stationary point of the two-particle-irreducible action of t, whose vertices are summed over. At test points

    mean f = N1 E[F_* F^T g] u ,   var f = M_2** - M_2*^T D M_2* .

Derived for this package. Linear units give back Qb of arXiv:2209.04882, as b and d do not fluctuate there, and infinite
width Gaussian-process regression. Fluctuations of the neurons about their mean are left out: of order 1/N1, times a
power of P/N1. E over p(w) is by Monte Carlo: populations of neurons that move by preconditioned Crank-Nicolson steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ntkhpc import seeds
from ntkhpc.bayesian import sampling
from ntkhpc.bayesian.inputs import Activation, Data
from ntkhpc.bayesian.posterior import errors
from ntkhpc.bayesian.prior import Prior, output_layer
from ntkhpc.bayesian.target import Problem, features

STEPS = (1.0, 0.5, 0.25, 0.1)
"""Sizes of the steps of every neuron between two updates of u and D.

Most neurons are almost as in the prior, where the largest moves them best; the few that carry the function, and decide
how the kernel changes, move by the smallest alone.
"""

SETTLED = 0.5
"""The part of the updates after which all is averaged."""

MEASURED = 5
"""Updates between two looks at the test points."""

Values = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class AdaptivePosterior:
    """Posterior of the outputs at M test points, and the error expected of it; losses as in `Posterior`.

    mean, point_variance (M,): in units of the targets, and of their squares.
    standard_error: of test_loss, from the spread of `losses`, one of each independent population of neurons.
    acceptance: of the steps of the neurons, mean.
    """

    temperature: float
    mean: np.ndarray
    point_variance: np.ndarray
    bias: float
    variance: float
    losses: np.ndarray
    acceptance: float

    @property
    def test_loss(self) -> float:
        return self.bias + self.variance

    @property
    def standard_error(self) -> float:
        return float(self.losses.std(ddof=1) / math.sqrt(len(self.losses)))


def adaptive_kernel(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    width: int,
    *,
    temperature: float,
    activation: Activation,
    precisions: Sequence[float] = (1.0, 1.0),
    populations: int = 4,
    neurons: int = 2000,
    updates: int = 300,
    seed: int = 0,
) -> AdaptivePosterior:
    """Posterior of a network with one hidden layer of `width` units and one output, by the theory of this module.

    Arguments as in `one_hidden_layer`. Each of the independent `populations` (2 at least) has `neurons`, of which there
    should be several times P, and `updates` of u and D, the second half of which are averaged over.

    Raises ValueError for shapes and settings that make no sense, temperature 0 among them.
    """
    data = Data.make(x_train, y_train, x_test, y_test)
    data.require_one_output()
    sampling.check((width,), temperature, activation, precisions, "hmc", 1.0, seed)
    for name, number, least in (
        ("populations", populations, 2),
        ("neurons", neurons, 2),
        ("updates", updates, 2 * MEASURED),
    ):
        if number < least:
            raise ValueError(f"{name} = {number} must be at least {least}")
    problem = Problem.make(data, (int(width),), temperature, precisions)
    prior = output_layer(data.x_train, data.x_test, activation, precisions)
    found = [
        population(problem, prior, width, activation, neurons=neurons, updates=updates, seed=seed, number=number)
        for number in range(populations)
    ]
    return summarise(temperature, data.y_test[:, 0], found)


def population(
    problem: Problem,
    prior: Prior,
    width: int,
    activation: Activation,
    *,
    neurons: int,
    updates: int,
    seed: int,
    number: int,
) -> Values:
    """mean (M,), point_variance (M,) and acceptance () of one population, the same whatever others there are."""
    with jax.enable_x64(True):
        kernel = _Kernel(jnp.asarray(prior.train), jnp.asarray(prior.cross.T), jnp.asarray(prior.test))
        key, units = seeds.population_key(jnp.uint32(seed), number), jnp.float64(width)
        found = _settle(key, problem, kernel, units, activation=activation, neurons=neurons, updates=updates)
        return {name: np.asarray(value) for name, value in found.items()}


def summarise(temperature: float, y_test: np.ndarray, populations: Sequence[Values]) -> AdaptivePosterior:
    """What independent populations say together; y_test (M,)."""
    mean, variance, acceptance = (
        np.mean([one[name] for one in populations], axis=0) for name in ("mean", "point_variance", "acceptance")
    )
    bias, spread = errors(mean[:, None], variance[:, None], y_test[:, None])
    return AdaptivePosterior(
        temperature=temperature,
        mean=mean,
        point_variance=variance,
        bias=bias,
        variance=spread,
        losses=np.array([_loss(one, y_test) for one in populations]),
        acceptance=float(acceptance),
    )


def _loss(one: Values, y_test: np.ndarray) -> float:
    return sum(errors(one["mean"][:, None], one["point_variance"][:, None], y_test[:, None]))


class _Kernel(NamedTuple):
    """That of the prior, for which the neurons' own estimates are corrected: train (P, P), cross (M, P), test (M,)."""

    train: Array
    cross: Array
    test: Array


class _Field(NamedTuple):
    """M_1 and M_2 (P, P), and what follows from them: u (P,), D (P, P)."""

    first: Array
    second: Array
    mean: Array
    covariance: Array

    @classmethod
    def make(cls, problem: Problem, first: Array, second: Array) -> "_Field":
        noise = problem.temperature * jnp.eye(len(first))
        y = jnp.asarray(problem.y_train)[:, 0]
        return cls(first, second, jnp.linalg.solve(noise + first, y), jnp.linalg.inv(noise + second))

    def towards(self, problem: Problem, first: Array, second: Array, gain: Array) -> "_Field":
        return _Field.make(
            problem, self.first + gain * (first - self.first), self.second + gain * (second - self.second)
        )


class _Neurons(NamedTuple):
    """weights (r, n) in coordinates with a standard normal prior, features F (P, n), log p/p_0 (n,), b and d (n,)."""

    weights: Array
    features: Array
    log_ratio: Array
    b: Array
    d: Array


def _neurons(problem: Problem, activation: Activation, field: _Field, weights: Array) -> _Neurons:
    return _under(field, weights, features(problem, activation, [weights], jnp.asarray(problem.z_train) @ weights))


def _under(field: _Field, weights: Array, found: Array) -> _Neurons:
    b, d = field.mean @ found, (found * (field.covariance @ found)).sum(axis=0)
    return _Neurons(weights, found, 0.5 * (b**2 / (1 + d) - jnp.log1p(d)), b, d)


def _moved(
    key: Array, problem: Problem, activation: Activation, field: _Field, now: _Neurons, step: Array
) -> tuple[_Neurons, Array]:
    """Each neuron after one step that leaves p(w) as it is, and the fraction that was accepted."""
    noise, uniform = jax.random.split(key)
    drawn = jax.random.normal(noise, now.weights.shape)
    other = _neurons(problem, activation, field, jnp.sqrt(1 - step**2) * now.weights + step * drawn)
    accept = jnp.log(jax.random.uniform(uniform, now.b.shape)) < other.log_ratio - now.log_ratio
    chosen = _Neurons(*(jnp.where(accept, new, old) for new, old in zip(other, now, strict=True)))
    return chosen, accept.mean()


def _weights(width: Array, now: _Neurons) -> tuple[Array, Array, Array, Array]:
    """Of each neuron (n,): its share in M_1 and M_2, and in an estimate of the prior's kernel; and a trust in that ().

    Weighted by p_0/p the same neurons estimate the kernel of the prior, which is known: `trust` times the difference is
    taken off, as noise in common. It is as much as leaves every share positive: with the known kernel the moments are
    then those of a positive measure, so that no variance comes out negative. It is 1 where p is p_0.
    """
    n = now.b.shape[0]
    g = 1 / (1 + now.d)
    first, prior = width * g / n, width * jax.nn.softmax(-now.log_ratio)
    return first, first * (1 + now.b**2 * g), prior, jnp.minimum(1.0, (first / prior).min())


def _moments(width: Array, kernel: _Kernel, now: _Neurons) -> tuple[Array, Array]:
    """Estimates of M_1 and M_2."""
    first, second, prior, trust = _weights(width, now)
    f = now.features
    off = trust * (kernel.train - (f * prior) @ f.T)
    return (f * first) @ f.T + off, (f * second) @ f.T + off


def _at_test(
    key: Array, problem: Problem, activation: Activation, width: Array, kernel: _Kernel, now: _Neurons
) -> tuple[Array, Array, Array]:
    """Estimates of N1 E[F_* F^T g] (M, P), M_2* (M, P) and M_2** (M,)."""
    first, second, prior, trust = _weights(width, now)
    # Only moments of single test points are asked for, so across the span each may have noise of its own.
    spread = jnp.sqrt((jnp.asarray(problem.across) ** 2).sum(axis=1))
    hidden = jnp.asarray(problem.z_test) @ now.weights
    hidden = hidden + spread[:, None] * jax.random.normal(key, hidden.shape)
    f, other = features(problem, activation, [now.weights], hidden), now.features
    off = trust * (kernel.cross - (f * prior) @ other.T)
    square = f**2 @ second + trust * (kernel.test - f**2 @ prior)
    return (f * first) @ other.T + off, (f * second) @ other.T + off, square


@partial(jax.jit, static_argnames=("activation", "neurons", "updates"))
def _settle(
    key: Array,
    problem: Problem,
    kernel: _Kernel,
    width: Array,
    *,
    activation: Activation,
    neurons: int,
    updates: int,
) -> dict[str, Array]:
    """The first updates find u and D, by averages over a window that grows; over the others all is averaged."""
    start = jax.random.normal(jax.random.fold_in(key, 0), (problem.z_train.shape[1], neurons))
    field = _Field.make(problem, kernel.train, kernel.train)
    steps = jnp.array(STEPS)

    def update(number: Array, gain: Array, field: _Field, now: _Neurons) -> tuple[_Field, _Neurons, Array]:
        keys = jax.random.split(jax.random.fold_in(key, 1 + number), len(STEPS))
        now, accepted = lax.scan(
            lambda one, move: _moved(move[0], problem, activation, field, one, move[1]), now, (keys, steps)
        )
        field = field.towards(problem, *_moments(width, kernel, now), gain)
        return field, _under(field, now.weights, now.features), accepted.mean()

    def settle(number: Array, carry: tuple[_Field, _Neurons]) -> tuple[_Field, _Neurons]:
        field, now, _ = update(number, jnp.maximum(0.05, 1 / (number + 2.0)), *carry)
        return field, now

    settled = int(SETTLED * updates)
    looks = (updates - settled) // MEASURED
    carry = lax.fori_loop(0, settled, settle, (field, _neurons(problem, activation, field, start)))

    def look(number: Array, carry: tuple[_Field, _Neurons, tuple[Array, ...]]) -> tuple[Any, ...]:
        field, now, sums = carry

        def measure(i: Array, carry: tuple[_Field, _Neurons, Array]) -> tuple[_Field, _Neurons, Array]:
            field, now, accepted = carry
            i = number * MEASURED + i
            field, now, fraction = update(settled + i, 1 / (i + 20.0), field, now)
            return field, now, accepted + fraction / MEASURED

        field, now, accepted = lax.fori_loop(0, MEASURED, measure, (field, now, jnp.float64(0)))
        test = jax.random.fold_in(jax.random.fold_in(key, 1 + updates), number)
        moments = _moments(width, kernel, now)
        found = (*moments, *_at_test(test, problem, activation, width, kernel, now), accepted)
        return field, now, tuple(a + b / looks for a, b in zip(sums, found, strict=True))

    points, tests = len(kernel.train), len(kernel.test)
    shapes = ((points, points), (points, points), (tests, points), (tests, points), (tests,), ())
    _, _, sums = lax.fori_loop(0, looks, look, (*carry, tuple(jnp.zeros(shape) for shape in shapes)))
    # A small variance is the difference of large moments: all of them must be those of the same neurons.
    field = _Field.make(problem, *sums[:2])
    first, second, square, accepted = sums[2:]
    return {
        "mean": first @ field.mean,
        "point_variance": square - ((second @ field.covariance) * second).sum(axis=1),
        "acceptance": accepted,
    }

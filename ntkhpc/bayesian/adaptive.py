"""Bayesian networks of one hidden layer whose kernel may change its shape: a self-consistent theory of one neuron.

Integrated over the read-out, and with a field t conjugate to the outputs at the training points, the evidence is

    Z = int dt exp(i t.y - T |t|^2/2) z(t)^N1 ,  z(t) = E_w exp(-(t.F_w)^2/2) ,  F_w = phi(X w/sqrt(N0))/sqrt(lam_1 N1)

exactly. [arXiv:2209.04882] takes t.F_w for Gaussian under the prior of a neuron's weights w, and keeps of the kernel
its scale alone. Here t is Gaussian, with mean i u and covariance D, while w has whatever distribution that gives it,

    p(w) ~ p_0(w) (1 + d)^(-1/2) exp{ b^2/(2 (1 + d)) } ,  b = u.F_w ,  d = F_w^T D F_w ,  g = 1/(1 + d) ,
    u = (T + M_1)^-1 y ,  M_1 = N1 E[F F^T g] ;   D = (T + M_2)^-1 ,  M_2 = N1 E[F F^T (g + b^2 g^2)] ,

the stationary point of the two-particle-irreducible action of t, whose vertices are summed over. At test points

    mean f = N1 E[F_* F^T g] u ,   var f = M_2** - M_2*^T D M_2* .

Derived for this package. For linear units w is Gaussian under p but for terms of order 1/P, M_1 u = Qb K u and M_2 = Qb
K with the Qb of arXiv:2209.04882; infinite width gives Gaussian-process regression. Fluctuations of the neurons about
their mean are left out: of order 1/N1, times a power of P/N1. E over p(w) is by Monte Carlo, over populations of
neurons (ntkhpc.bayesian.neurons).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkhpc import convergence, seeds
from ntkhpc.bayesian import inputs
from ntkhpc.bayesian import neurons as units
from ntkhpc.bayesian.inputs import Activation, Data
from ntkhpc.bayesian.posterior import errors
from ntkhpc.bayesian.prior import Prior, output_layer
from ntkhpc.bayesian.target import Problem

Values = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class AdaptivePosterior:
    """Posterior of the outputs at M test points, and the error expected of it; losses as in `Posterior`.

    mean, point_variance (M,): in units of the targets, and of their squares.
    losses: of each independent population of neurons; test_loss is their mean, standard_error that of it.
    drifts: what the later half of the averages of each population gives, less the earlier half. That all drift alike is
        what their spread cannot show: then they need more updates.
    """

    temperature: float
    mean: np.ndarray
    point_variance: np.ndarray
    bias: float
    variance: float
    losses: np.ndarray
    drifts: np.ndarray

    @property
    def test_loss(self) -> float:
        return self.bias + self.variance

    @property
    def standard_error(self) -> float:
        return float(self.losses.std(ddof=1) / math.sqrt(len(self.losses)))

    @property
    def settled(self) -> bool:
        """Whether the drifts are within 3 of their standard errors, or within 1 % of the loss."""
        return bool(convergence.settled(self.drifts, self.losses))


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
    Very narrow networks with many samples settle slowly (6 units, 24 samples: 8 % off after 300), which neither
    standard_error nor `settled` need show: there compare with more updates.

    Raises ValueError for shapes and settings that make no sense, temperature 0 among them.
    """
    data = Data.make(x_train, y_train, x_test, y_test)
    data.require_one_output()
    inputs.require_random((width,), temperature, activation, precisions, seed)
    for name, number, least in (
        ("populations", populations, 2),
        ("neurons", neurons, 2),
        ("updates", updates, 4 * units.MEASURED),
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
    """mean (M,), point_variance (M,) and drift () of one population, the same whatever others there are."""
    with jax.enable_x64(True):
        known = units.Known(*(jnp.asarray(one) for one in (prior.train, prior.cross.T, prior.test)))
        found = units.settle(
            seeds.population_key(jnp.uint32(seed), number), problem, known, jnp.float64(width),
            activation=activation, neurons=neurons, updates=updates,
        )  # fmt: skip
        return {name: np.asarray(value) for name, value in found.items()}


def summarise(temperature: float, y_test: np.ndarray, populations: Sequence[Values]) -> AdaptivePosterior:
    """The posterior that independent populations give together; y_test (M,)."""
    parts = np.array(
        [errors(one["mean"][:, None], one["point_variance"][:, None], y_test[:, None]) for one in populations]
    )
    bias, variance = parts.mean(axis=0)
    return AdaptivePosterior(
        temperature=temperature,
        mean=np.mean([one["mean"] for one in populations], axis=0),
        point_variance=np.mean([one["point_variance"] for one in populations], axis=0),
        bias=float(bias),
        variance=float(variance),
        losses=parts.sum(axis=1),
        drifts=np.array([one["drift"] for one in populations]),
    )

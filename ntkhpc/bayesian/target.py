"""The density that is sampled: weights that meet the training data, in coordinates with a standard normal prior.

    h_1 = Z w_1 ,  h_(l+1) = phi(h_l) w_(l+1)/sqrt(lam_l N_l) ,  F = phi(h_L)/sqrt(lam_L N_L) ,  f = F u

with w_l = sqrt(lam_(l-1)) W_l^T. Of the first layer the training inputs see only their own span: with
X = U S V^T of rank r, Z = U S/sqrt(lam_0 d) (P, r), and w_1 is r x N_1 instead of d x N_1. Across the span the
posterior is the prior, so that at test points the rest of h_1 is drawn exactly: it is E z with z (q, N_1) standard
normal and E E^T the covariance of the test inputs across the span, q <= min(M, d - r).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc.bayesian import readout
from ntkhpc.bayesian.inputs import Activation, Data

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"erf": jax.lax.erf, "relu": jax.nn.relu, "linear": lambda h: h}


class Problem(NamedTuple):
    """In float64: inputs z_train (P, r), z_test (M, r), across (M, q), the E above; y_train (P, D), y_test (M, D).

    temperature (); scales 1/sqrt(lam_l N_l) (L,) of the hidden layers; precisions lam_0 to lam_L (L + 1,).
    """

    z_train: Array | np.ndarray
    y_train: Array | np.ndarray
    z_test: Array | np.ndarray
    across: Array | np.ndarray
    y_test: Array | np.ndarray
    temperature: Array | np.ndarray
    scales: Array | np.ndarray
    precisions: Array | np.ndarray

    @classmethod
    def make(cls, data: Data, widths: Sequence[int], temperature: float, precisions: Sequence[float]) -> "Problem":
        scale = 1 / math.sqrt(precisions[0] * data.x_train.shape[1])
        left, values, axes = np.linalg.svd(data.x_train, full_matrices=False)
        # Directions lost to rounding have inputs of zero at the training points: they belong across the span.
        rank = max(1, int((values > values[0] * max(data.x_train.shape) * np.finfo(float).eps).sum()))
        axes = axes[:rank]
        inside = data.x_test @ axes.T
        return cls(
            z_train=scale * left[:, :rank] * values[:rank],
            y_train=data.y_train,
            z_test=scale * inside,
            across=_root(scale * (data.x_test - inside @ axes), data.x_train.shape[1] - rank),
            y_test=data.y_test,
            temperature=np.asarray(temperature, np.float64),
            scales=np.array([1 / math.sqrt(p * n) for p, n in zip(precisions[1:], widths, strict=True)]),
            precisions=np.asarray(precisions, np.float64),
        )


def _root(rest: np.ndarray, dimensions: int) -> np.ndarray:
    """E (M, q) with E E^T = rest rest^T, of the test inputs' parts (M, d) across a span: as narrow as it can be."""
    if dimensions == 0:
        return np.zeros((len(rest), 0))
    left, values, _ = np.linalg.svd(rest, full_matrices=False)
    count = min(dimensions, int((values > 1e-14 * max(values[0], 1e-300)).sum()))
    return left[:, :count] * values[:count]


def sizes(problem: Problem, widths: Sequence[int]) -> list[tuple[int, int]]:
    """Shapes of the hidden weights, fan-in first."""
    return list(pairwise([problem.z_train.shape[1], *widths]))


def unpack(problem: Problem, widths: Sequence[int], position: Array) -> list[Array]:
    """Hidden weights from a flat position, which may hold more after them."""
    weights, start = [], 0
    for rows, columns in sizes(problem, widths):
        weights.append(position[start : start + rows * columns].reshape(rows, columns))
        start += rows * columns
    return weights


def features(problem: Problem, activation: Activation, weights: Sequence[Array], first: Array) -> Array:
    """F (n, N_L) from the pre-activations (n, N_1) of the first hidden layer."""
    h = first
    for layer, weight in enumerate([*weights[1:], None]):
        h = ACTIVATIONS[activation](h) * problem.scales[layer]
        h = h if weight is None else h @ weight
    return h


def features_at_train(problem: Problem, activation: Activation, weights: Sequence[Array]) -> Array:
    return features(problem, activation, weights, jnp.asarray(problem.z_train) @ weights[0])


def features_at_test(key: Array, problem: Problem, activation: Activation, weights: Sequence[Array]) -> Array:
    """F (M, N_L) at the test points, all of them for one draw of the weights across the span."""
    first = jnp.asarray(problem.z_test) @ weights[0]
    if problem.across.shape[1]:
        shape = (problem.across.shape[1], weights[0].shape[1])
        first = first + problem.across @ jax.random.normal(key, shape, first.dtype)
    return features(problem, activation, weights, first)


def log_density(problem: Problem, activation: Activation, widths: Sequence[int], position: Array) -> Array:
    """log p(hidden weights | data) (), the read-out integrated out, without constants; position (n,)."""
    found = features_at_train(problem, activation, unpack(problem, widths, position))
    evidence = readout.log_evidence(found, jnp.asarray(problem.y_train), jnp.asarray(problem.temperature))
    return evidence - 0.5 * jnp.vdot(position, position)

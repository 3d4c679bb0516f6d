"""The read-out of a network integrated out: a Gaussian regression on the features of the last hidden layer.

    f = F u ,  u ~ N(0, I) ,  y = f + sqrt(T) noise ,  A = T I + F F^T ,  F = phi/sqrt(lam_L N_L) (P, N) ,  N = N_L
    log p(y | F) = -1/2 [ D log det A + tr Y^T A^-1 Y ]                  (less its constant P D/2 log 2 pi)
    d log p/dF = (R R^T - D A^-1) F ,  R = A^-1 Y
    u | y ~ N( S^T Y , I - F^T S ) ,  S = A^-1 F

With N < P everything is had from the N x N matrix T I + F^T F instead [Woodbury]; which one is a matter of shapes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jax import Array


class Fit(NamedTuple):
    """factor: Cholesky factor of A (P, P), or of T I + F^T F (N, N); residual R (P, D), response S (P, N)."""

    factor: Array
    residual: Array
    response: Array
    log_det: Array


def fit(features: Array, y: Array, temperature: Array) -> Fit:
    """The fit of features F (P, N) to targets y (P, D); NaN where the matrix is not positive to rounding."""
    points, width = features.shape
    if width < points:
        factor = _cholesky(features.T @ features, temperature)
        response = jax.scipy.linalg.cho_solve((factor, True), features.T).T
        residual = (y - features @ (response.T @ y)) / temperature
        outside = (points - width) * jnp.log(temperature)
    else:
        factor = _cholesky(features @ features.T, temperature)
        response = jax.scipy.linalg.cho_solve((factor, True), features)
        residual = jax.scipy.linalg.cho_solve((factor, True), y)
        outside = jnp.zeros((), y.dtype)
    return Fit(factor, residual, response, outside + 2 * jnp.log(jnp.diag(factor)).sum())


@jax.custom_vjp
def log_evidence(features: Array, y: Array, temperature: Array) -> Array:
    """log p(y | F) (), without its constant. Its gradient, with respect to the features alone, is written out above.

    Differentiating through a Cholesky factorisation instead takes several times as long.
    """
    return _log_evidence(fit(features, y, temperature), y)


def _log_evidence(found: Fit, y: Array) -> Array:
    return -0.5 * (y.shape[1] * found.log_det + jnp.vdot(y, found.residual))


def _forward(features: Array, y: Array, temperature: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    found = fit(features, y, temperature)
    gradient = found.residual @ (found.residual.T @ features) - y.shape[1] * found.response
    return _log_evidence(found, y), (gradient, y, temperature)


def _backward(kept: tuple[Array, Array, Array], tangent: Array) -> tuple[Array, Array, Array]:
    gradient, y, temperature = kept
    return tangent * gradient, jnp.zeros_like(y), jnp.zeros_like(temperature)


log_evidence.defvjp(_forward, _backward)


def predict(found: Fit, features: Array, y: Array, test: Array, temperature: Array) -> tuple[Array, Array]:
    """Mean (M, D) and variance (M,) of the outputs at test points with features `test` (M, N)."""
    mean = test @ (found.response.T @ y)
    inner = test.T if features.shape[1] < features.shape[0] else features @ test.T
    turned = jax.scipy.linalg.solve_triangular(found.factor, inner, lower=True)
    explained = (turned**2).sum(axis=0)
    if features.shape[1] < features.shape[0]:
        return mean, temperature * explained
    return mean, jnp.maximum((test**2).sum(axis=1) - explained, 0)


def draw(key: Array, found: Fit, features: Array, y: Array, temperature: Array) -> Array:
    """One exact draw of the read-out u (N, D): a draw of prior and noise, corrected by what they miss of the data."""
    prior_key, noise_key = jax.random.split(key)
    prior = jax.random.normal(prior_key, (features.shape[1], y.shape[1]), y.dtype)
    noise = jnp.sqrt(temperature) * jax.random.normal(noise_key, y.shape, y.dtype)
    return prior + found.response.T @ (y - features @ prior - noise)


def order_parameter(found: Fit, features: Array, y: Array) -> Array:
    """E[ u^T u ]/N (D, D), over the read-out: the Qb of [arXiv:2209.04882] for these hidden weights.

    There f | Qb ~ GP(0, Qb K) with Qb = lam_L |v|^2/N_L, a prior Gamma(N_L/2, rate N_L/2) of mean 1.
    """
    width = features.shape[1]
    mean = found.response.T @ y
    spread = width - jnp.vdot(features, found.response)
    return (mean.T @ mean + spread * jnp.eye(y.shape[1])) / width


def _cholesky(gram: Array, temperature: Array) -> Array:
    return jnp.linalg.cholesky(gram + temperature * jnp.eye(len(gram)), symmetrize_input=False)

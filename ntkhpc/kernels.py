"""NNGP and NTK of infinitely wide networks, by exact recursion over layers in float64.

    K1 = C_W x.x'/d + C_b ;  K(l+1) = C_W <phi phi'>_K(l) + C_b
    T1 = K1 ;                T(l+1) = K(l+1) + C_W <dphi dphi'>_K(l) * T(l)

[arXiv:1902.06720 and its references; Cho & Saul 2009 for ReLU, Williams 1997 for erf.] The kernels of the outputs are
those of layer depth + 1.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax import Array

from ntkhpc.networks import MLP


def nngp_ntk(mlp: MLP, x1: Any, x2: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK between inputs x1 (n1, d) and x2 (n2, d), each (n1, n2), per output and in float64.

    With x2 None they are those of x1 with itself: symmetric, with the diagonal computed from the norms alone, where the
    angle is exactly zero and a difference of products would lose half the digits.
    Raises ValueError for inputs that are not two-dimensional, differ in features, or are not finite.
    """
    x1 = _checked("x1", x1)
    with jax.enable_x64(True):
        if x2 is None:
            nngp, ntk = _symmetric(mlp, jnp.asarray(x1))
        else:
            x2 = _checked("x2", x2)
            if x1.shape[1] != x2.shape[1]:
                raise ValueError(f"x1 {x1.shape} and x2 {x2.shape} differ in features")
            nngp, ntk = _between(mlp, jnp.asarray(x1), jnp.asarray(x2))
        return np.asarray(nngp), np.asarray(ntk)


def lambda_max(kernel: np.ndarray) -> float:
    """Largest eigenvalue of a symmetric (n, n) matrix, by Lanczos iteration from a fixed start."""
    n = kernel.shape[0]
    if n < 3:
        return float(np.linalg.eigvalsh(kernel)[-1])
    # The NTK of ReLU networks has positive entries, so its leading vector is close to the constant one.
    start = np.full(n, 1 / math.sqrt(n))
    value = scipy.sparse.linalg.eigsh(kernel, k=1, which="LA", v0=start, tol=0, return_eigenvectors=False)
    return float(value[0])


def _checked(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}; it must be (n, features)")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"{name}[{row}, {column}] = {x[row, column]} is not finite")
    return x


@partial(jax.jit, static_argnums=0)
def _symmetric(mlp: MLP, x: Array) -> tuple[Array, Array]:
    variance = _input_variance(mlp, x)
    nngp, ntk = _recursion(mlp, _input_kernel(mlp, x, x), variance, variance)
    exact_nngp, exact_ntk = _diagonal(mlp, variance)
    i = jnp.arange(x.shape[0])
    nngp, ntk = (nngp + nngp.T) / 2, (ntk + ntk.T) / 2
    return nngp.at[i, i].set(exact_nngp), ntk.at[i, i].set(exact_ntk)


@partial(jax.jit, static_argnums=0)
def _between(mlp: MLP, x1: Array, x2: Array) -> tuple[Array, Array]:
    return _recursion(mlp, _input_kernel(mlp, x1, x2), _input_variance(mlp, x1), _input_variance(mlp, x2))


def _input_kernel(mlp: MLP, x1: Array, x2: Array) -> Array:
    return mlp.weight_variance / x1.shape[1] * (x1 @ x2.T) + mlp.bias_variance


def _input_variance(mlp: MLP, x: Array) -> Array:
    return mlp.weight_variance / x.shape[1] * jnp.sum(x * x, axis=1) + mlp.bias_variance


def _recursion(mlp: MLP, k: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
    theta = k
    expectations = _RELATED[mlp.activation]
    for _ in range(mlp.depth):
        phi_phi, dphi_dphi = expectations(k, variance1[:, None], variance2[None, :])
        k = mlp.weight_variance * phi_phi + mlp.bias_variance
        theta = k + mlp.weight_variance * dphi_dphi * theta
        variance1, variance2 = _next_variance(mlp, variance1), _next_variance(mlp, variance2)
    return k, theta


def _diagonal(mlp: MLP, variance: Array) -> tuple[Array, Array]:
    theta = variance
    for _ in range(mlp.depth):
        dphi_dphi = _EQUAL[mlp.activation](variance)[1]
        variance = _next_variance(mlp, variance)
        theta = variance + mlp.weight_variance * dphi_dphi * theta
    return variance, theta


def _next_variance(mlp: MLP, variance: Array) -> Array:
    return mlp.weight_variance * _EQUAL[mlp.activation](variance)[0] + mlp.bias_variance


def _relu_related(k12: Array, k11: Array, k22: Array) -> tuple[Array, Array]:
    """<phi phi'> and <dphi dphi'> for ReLU; sqrt(det) and theta come from one quantity, or they disagree near 0."""
    root = jnp.sqrt(jnp.maximum(k11 * k22 - k12 * k12, 0.0))
    angle = jnp.pi - jnp.arctan2(root, k12)
    return (root + angle * k12) / (2 * jnp.pi), angle / (2 * jnp.pi)


def _relu_equal(k: Array) -> tuple[Array, Array]:
    return k / 2, jnp.full_like(k, 0.5)


def _erf_related(k12: Array, k11: Array, k22: Array) -> tuple[Array, Array]:
    product = (1 + 2 * k11) * (1 + 2 * k22)
    related = jnp.arcsin(jnp.clip(2 * k12 / jnp.sqrt(product), -1, 1))
    return 2 / jnp.pi * related, 4 / jnp.pi / jnp.sqrt(product - 4 * k12 * k12)


def _erf_equal(k: Array) -> tuple[Array, Array]:
    return 2 / jnp.pi * jnp.arcsin(2 * k / (1 + 2 * k)), 4 / jnp.pi / jnp.sqrt(1 + 4 * k)


_RELATED = {"relu": _relu_related, "erf": _erf_related}
_EQUAL = {"relu": _relu_equal, "erf": _erf_equal}

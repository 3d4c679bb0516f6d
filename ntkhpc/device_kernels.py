"""NNGP and NTK of pairs of inputs on the device of JAX, in float64: the recursion of `kernel_tile`, a tile at once.

    sine = sqrt((radius - k)(radius + k)) ;  complement = arctan(k / sine)

so that sine and angle agree however close two inputs are. See `kernel_tile` for the formulas of both activations.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkhpc.close_pairs import CLOSE
from ntkhpc.expectations import SMALLEST
from ntkhpc.networks import MLP

_COMPLEMENT_OF_CLOSE = math.acos(math.sqrt(CLOSE))


def nngp_ntk(
    mlp: MLP, x1: np.ndarray, x2: np.ndarray, variances1: np.ndarray, variances2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NNGP, NTK and sign (n1, n2) of inputs x1 (n1, d) and x2 (n2, d).

    `variances1` (n1,) and `variances2` (n2,) are those of their first layers. The sign of a pair is 0, or for ReLU 1 or
    -1 where its inputs are so nearly parallel, or opposite, that only their difference tells the kernels: see
    `close_pairs`.
    """
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        found = _recursion(mlp, *(jnp.asarray(one, jnp.float64) for one in (x1, x2, variances1, variances2)))
    nngp, ntk, sign = (np.array(one) for one in found)
    return nngp, ntk, sign


@partial(jax.jit, static_argnums=0)
def _recursion(
    mlp: MLP, x1: jax.Array, x2: jax.Array, v1: jax.Array, v2: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    k = mlp.weight_variance / x1.shape[1] * (x1 @ x2.T) + mlp.bias_variance
    theta, sign = k, jnp.zeros(k.shape, jnp.int8)
    for layer in range(mlp.depth):
        if mlp.activation == "relu":
            sine, complement = _angle(k, jnp.sqrt(v1)[:, None] * jnp.sqrt(v2))
            if layer == 0:
                close = jnp.abs(complement) >= _COMPLEMENT_OF_CLOSE
                sign = jnp.where(close, jnp.sign(complement), 0).astype(jnp.int8)
            outside, factor = complement + jnp.pi / 2, mlp.weight_variance / (2 * jnp.pi)
            k, theta = factor * (sine + outside * k), factor * outside * theta
            v1, v2 = (mlp.weight_variance / 2 * v + mlp.bias_variance for v in (v1, v2))
        else:
            sine, complement = _angle(2 * k, jnp.sqrt(1 + 2 * v1)[:, None] * jnp.sqrt(1 + 2 * v2))
            factor = 2 * mlp.weight_variance / jnp.pi
            k, theta = factor * complement, 2 * factor / sine * theta
            v1, v2 = (factor * jnp.arcsin(2 * v / (1 + 2 * v)) + mlp.bias_variance for v in (v1, v2))
        k = k + mlp.bias_variance
        theta = theta + k
    return k, theta, sign


def _angle(k: jax.Array, radius: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sqrt(radius^2 - k^2) and arcsin(k / radius)."""
    sine = jnp.sqrt(jnp.maximum((radius - k) * (radius + k), SMALLEST))
    return sine, jnp.arctan(k / sine)

"""What a column of a factor is made with, on the device of JAX: a GPU, where a profile gives the phase one.

Whole tiles at a time, in float64 or, without TF32, in float32. The numbers are those of `tile_algebra` to rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkhpc.blocks import STRIP
from ntkhpc.tile_algebra import refusal, require_pivots


class DeviceAlgebra:
    """See `tile_algebra.Algebra`. The first argument's memory is given to the result.

    Products are waited for: otherwise tiles that are read meanwhile would heap up in the device's memory.
    """

    def load(self, tile: np.ndarray) -> jax.Array:
        return _exactly(jax.device_put, np.ascontiguousarray(tile))

    def values(self, tile: jax.Array) -> np.ndarray:
        return np.asarray(tile)

    def reduced(self, rest: jax.Array, panel: jax.Array) -> jax.Array:
        return _exactly(_subtracted, rest, panel, panel).block_until_ready()

    def subtracted(self, left: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return _exactly(_subtracted, left, a, b).block_until_ready()

    def divided(self, left: jax.Array, corner: jax.Array) -> jax.Array:
        return _exactly(_divided, left, corner)

    def cholesky(self, matrix: jax.Array, unreduced: np.ndarray, rows: slice) -> jax.Array:
        found = _exactly(_cholesky, matrix)
        pivots = np.asarray(_exactly(jnp.diagonal, found))
        if not np.isfinite(pivots).all():
            raise refusal(pivots.dtype, rows)
        for start in range(0, len(pivots), STRIP):
            here = slice(start, min(start + STRIP, len(pivots)))
            require_pivots(pivots[here], unreduced[here], slice(rows.start + here.start, rows.start + here.stop))
        return found


def _exactly(operation: Callable[..., Any], *tiles: Any) -> jax.Array:
    """In the type of the tiles, and without products of fewer digits."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        return operation(*tiles)


@partial(jax.jit, donate_argnums=0)
def _subtracted(left: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return left - a @ b.T


@partial(jax.jit, donate_argnums=0)
def _divided(left: jax.Array, corner: jax.Array) -> jax.Array:
    return jax.lax.linalg.triangular_solve(corner, left, left_side=False, lower=True, transpose_a=True)


@partial(jax.jit, donate_argnums=0)
def _cholesky(matrix: jax.Array) -> jax.Array:
    """Of the lower triangle; not a number where it breaks down."""
    lower = jnp.tril(matrix)
    symmetric = lower + jnp.tril(matrix, -1).T
    return jnp.tril(jax.lax.linalg.cholesky(symmetric, symmetrize_input=False))

"""Functions of a symmetric matrix T applied to a vector, from products with T alone [Lanczos 1950; Saad 1992].

k products from a start r make an orthonormal basis V (k, N) of the Krylov space and T in it, tridiagonal S (k, k). With
S = U diag(l) U^T

    g(T) r  is near  |r| V^T U g(l) U^T e_1

and is that exactly for polynomials g of a degree below k. Every new vector is made orthogonal to all before, twice, as
in single precision vectors that are not would repeat the largest eigenvalues.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Krylov(NamedTuple):
    """V (k, N), eigenvalues l (k,) of S, U (k, k), and |r| U^T e_1 (k,)."""

    basis: Array
    values: Array
    vectors: Array
    start: Array

    def applied(self, function: Array) -> Array:
        """g(T) r (N,), from the values g(l) (k,)."""
        return (self.vectors @ (function * self.start)) @ self.basis


def krylov(product: Callable[[Array], Array], start: Array, most: int, wanted: Any = None) -> Krylov:
    """The basis that `start` r (N,) makes of `wanted` products, or as many as N; `most`, a Python number, is the most.

    Vectors beyond those wanted, and those beyond an invariant subspace, are zero. So is all of it for r = 0.
    """
    most = min(most, len(start))
    norm = jnp.linalg.norm(start)
    tiny, rounding = (float(one) for one in (np.finfo(start.dtype).tiny, np.finfo(start.dtype).eps))
    first = start / jnp.maximum(norm, tiny)
    basis = jnp.zeros((most, len(start)), start.dtype).at[0].set(first)
    empty = jnp.zeros(most, start.dtype)

    def step(number: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, diagonal, beside = state
        vector = basis[number]
        raised = product(vector)
        diagonal = diagonal.at[number].set(raised @ vector)
        left = raised - (basis @ raised) @ basis
        left = left - (basis @ left) @ basis
        length = jnp.linalg.norm(left)
        # What rounding leaves of a vector that lies in the space is no direction of T.
        real = (length > 10 * rounding * jnp.linalg.norm(raised)) & (number + 1 < wanted)
        beside = beside.at[number].set(jnp.where(real, length, 0))
        # At the last step this is written to no row.
        following = jnp.where(real, left / jnp.maximum(length, tiny), 0)
        return basis.at[number + 1].set(following, mode="drop"), diagonal, beside

    wanted = most if wanted is None else jnp.minimum(wanted, most)
    basis, diagonal, beside = jax.lax.fori_loop(0, wanted, step, (basis, empty, empty))
    values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))
    return Krylov(basis, values, vectors, norm * vectors[0])

"""Functions of a symmetric matrix T applied to a vector, from products with T alone [Lanczos 1950; Saad 1992].

k products from a start r make an orthonormal basis V (k, N) of the Krylov space and T in it, tridiagonal S (k, k). With
S = U diag(l) U^T

    g(T) r  is near  |r| V^T U g(l) U^T e_1

and is that exactly for polynomials g of a degree below k. Every new vector is made orthogonal to all before, twice, as
in single precision vectors that are not would repeat the largest eigenvalues.

How many vectors are enough is seen as they are made. Conjugate gradients for (T + s) z = r, s >= 0, live in the same
space, and their residual is the last offdiagonal of S over its pivots: |r_k|/|r| = product of b_j/d_j with d_1 = a_1 +
s, d_j = a_j + s - b_(j-1)^2/d_(j-1) [Saad 2003, 6.7]. What t steps of plain descent at rate eta leave, (1 - eta T/c)^t
r, is reached before 1/(T + s) r is with s = c/(eta t): it has a smooth step where that one has its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

FEW = 32
"""Vectors, of which the eigenproblem takes as long as a product."""


class Krylov(NamedTuple):
    """V (k, N), eigenvalues l (k,) of S, U (k, k), |r| U^T e_1 (k,), and how many products made them."""

    basis: Array
    values: Array
    vectors: Array
    start: Array
    products: Array

    def applied(self, function: Array) -> Array:
        """g(T) r (N,), from the values g(l) (k,)."""
        return (self.vectors @ (function * self.start)) @ self.basis


class _Growing(NamedTuple):
    """A space of `products` vectors: with the next one in its basis, S, and the pivot and |r_k|/|r| of the last."""

    basis: Array
    diagonal: Array
    beside: Array
    pivot: Array
    left: Array
    products: Array


def krylov(
    product: Callable[[Array], Array], start: Array, most: int, wanted: Any = None, *, shift: Any = 0.0, to: float = 0.0
) -> Krylov:
    """The basis that `start` r (N,) makes of `wanted` products, or as many as N; `most`, a Python number, is the most.

    It ends before where the residual of conjugate gradients for (T + shift) z = r is not above `to` |r|. Vectors beyond
    those wanted, beyond that, and beyond an invariant subspace are zero. So is all of it for r = 0.
    """
    most = min(most, len(start))
    wanted = most if wanted is None else jnp.minimum(wanted, most)
    norm = jnp.linalg.norm(start)
    tiny, rounding = (float(one) for one in (np.finfo(start.dtype).tiny, np.finfo(start.dtype).eps))

    def unfinished(state: _Growing) -> Array:
        return (state.products < wanted) & (state.left > to)

    def grown(state: _Growing) -> _Growing:
        basis, number = state.basis, state.products
        vector = basis[number]
        raised = product(vector)
        along = raised @ vector
        left = raised - (basis @ raised) @ basis
        left = left - (basis @ left) @ basis
        length = jnp.linalg.norm(left)
        # What rounding leaves of a vector that lies in the space is no direction of T.
        real = (length > 10 * rounding * jnp.linalg.norm(raised)) & (number + 1 < wanted)
        beside = jnp.where(real, length, 0)
        # At the last step this is written to no row.
        following = jnp.where(real, left / jnp.maximum(length, tiny), 0)
        before = jnp.where(number > 0, state.beside[number - 1], 0)
        pivot = jnp.maximum(along + shift - before**2 / state.pivot, tiny)
        return _Growing(
            basis.at[number + 1].set(following, mode="drop"),
            state.diagonal.at[number].set(along),
            state.beside.at[number].set(beside),
            pivot,
            jnp.where(real, state.left * beside / pivot, 0),
            number + 1,
        )

    first = jnp.zeros((most, len(start)), start.dtype).at[0].set(start / jnp.maximum(norm, tiny))
    empty, one = jnp.zeros(most, start.dtype), jnp.ones((), start.dtype)
    state = jax.lax.while_loop(unfinished, grown, _Growing(first, empty, empty, one, one, jnp.int32(0)))
    # A space that ended has its next vector in the basis already, to which S gives no way.
    basis = jnp.where((jnp.arange(most) < state.products)[:, None], state.basis, 0)
    beside = jnp.where(jnp.arange(most) < state.products - 1, state.beside, 0)
    values, vectors = _eigenpairs(state.diagonal, beside, state.products)
    return Krylov(basis, values, vectors, norm * vectors[0], state.products)


def _eigenpairs(diagonal: Array, beside: Array, count: Array) -> tuple[Array, Array]:
    """Of S (k, k), which is zero beyond its first `count` rows: where these are few, of them alone. Side by side, under
    vmap, both are made."""
    most = len(diagonal)

    def of_first(size: int) -> tuple[Array, Array]:
        off = beside[: size - 1]
        values, vectors = jnp.linalg.eigh(jnp.diag(diagonal[:size]) + jnp.diag(off, 1) + jnp.diag(off, -1))
        rest = most - size
        return jnp.pad(values, (0, rest)), jnp.pad(vectors, (0, rest))

    if most <= FEW:
        return of_first(most)
    return jax.lax.cond(count <= FEW, lambda: of_first(FEW), lambda: of_first(most))

"""A preconditioner of kernel matrices: T is nearly F F^T + shift, F of few columns, by randomly pivoted Cholesky.

A pivot is drawn with a probability in proportion to what is left of the diagonal [arXiv:2207.06503]. Several are
proposed at once, and rejected with the probability by which earlier ones made them less likely: the same distribution,
in matrix products [arXiv:2410.03969]. As a preconditioner: [arXiv:2304.12465].
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ntkhpc.kernel_products import Kernel, SymmetricProducts

_PROPOSALS = 40
_NOTHING_LEFT = 1e-14
_LEAST_SHIFT = 1e-9


@dataclass(frozen=True)
class Preconditioner:
    """M = U diag(weights) U^T + shift: U (n, rank) orthonormal, weights (rank,) not negative, shift positive."""

    vectors: np.ndarray
    weights: np.ndarray
    shift: float

    @property
    def rank(self) -> int:
        return len(self.weights)

    def power(self, exponent: float, block: np.ndarray) -> np.ndarray:
        """M^exponent times vectors (n, r)."""
        beyond = (self.weights / self.shift + 1) ** exponent - 1
        turned = self.vectors @ (beyond[:, None] * (self.vectors.T @ block))
        turned += block
        turned *= self.shift**exponent
        return turned


def preconditioner(
    kernels: SymmetricProducts, kernel: Kernel, rank: int, rng: np.random.Generator, *, ridge: float = 0.0
) -> Preconditioner:
    """That of kernel + ridge, of a rank at most `rank` (0: a multiple of the identity).

    The shift is the ridge and the mean of what F leaves of the diagonal, but at least 1e-9 of the largest eigenvalue:
    powers of M lose as many digits as the shift is smaller.
    """
    factor, left = pivoted_cholesky(kernels, kernel, rank, rng)
    vectors, singular_values, _ = scipy.linalg.svd(factor, full_matrices=False, overwrite_a=True, check_finite=False)
    largest = singular_values.max(initial=0) ** 2
    return Preconditioner(vectors, singular_values**2, max(ridge + left.mean(), _LEAST_SHIFT * largest))


def pivoted_cholesky(
    kernels: SymmetricProducts, kernel: Kernel, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """F (n, k), k <= rank, with T - F F^T positive semidefinite, and the diagonal (n,) of that difference.

    k is less than `rank` only where nothing but rounding is left.
    """
    left = kernels.diagonal(kernel)
    whole, n = left.sum(), len(left)
    rank = min(rank, n)
    factor, found = np.zeros((n, rank)), 0
    while found < rank and left.sum() > _NOTHING_LEFT * whole:
        proposals = rng.choice(n, size=min(_PROPOSALS, n), p=left / left.sum())
        distinct, where = np.unique(proposals, return_inverse=True)
        columns = kernels.columns(kernel, distinct) - factor[:, :found] @ factor[distinct, :found].T
        accepted = _accepted(columns[proposals][:, where], left[proposals], rng)[: rank - found]
        if not accepted:  # only rounding is left
            break
        pivots, columns = proposals[accepted], columns[:, where[accepted]]
        try:
            lower = scipy.linalg.cholesky(columns[pivots], lower=True, check_finite=False)
        except scipy.linalg.LinAlgError:  # only rounding is left
            break
        stop = found + len(pivots)
        factor[:, found:stop] = scipy.linalg.solve_triangular(lower, columns.T, lower=True, check_finite=False).T
        left -= np.einsum("ij,ij->i", factor[:, found:stop], factor[:, found:stop])
        np.maximum(left, 0, out=left)
        left[pivots] = 0
        found = stop
    return factor[:, :found], left


def _accepted(left: np.ndarray, offered: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Which of b proposals are pivots: `left` (b, b) is the rest of the kernel between them, `offered` (b,) the part of
    its diagonal with which they were drawn. The first always is, unless that part is rounding."""
    left, accepted = (left + left.T) / 2, []
    for number, draw in enumerate(rng.random(len(offered))):
        pivot = left[number, number]
        if pivot > 0 and draw * offered[number] < pivot and pivot > 1e-10 * offered[number]:
            column = left[:, number] / np.sqrt(pivot)
            left -= np.outer(column, column)
            accepted.append(number)
    return accepted

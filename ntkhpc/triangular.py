"""Divisions by a lower triangular matrix L (n, n), from the right, in place.

By blocks of columns: all but a small triangle of each is a product, which BLAS does at nearly twice the rate.
"""

import numpy as np
import scipy.linalg

from ntkhpc.blocks import STRIP


def divide_by_transposed(x: np.ndarray, lower: np.ndarray) -> None:
    """x <- x L^-T for x (m, n), from the first block on."""
    for start in range(0, len(lower), STRIP):
        here = slice(start, start + STRIP)
        if start:
            x[:, here] -= x[:, :start] @ lower[here, :start].T
        solved = scipy.linalg.solve_triangular(lower[here, here], x[:, here].T, lower=True, check_finite=False)
        x[:, here] = solved.T


def divide(x: np.ndarray, lower: np.ndarray) -> None:
    """x <- x L^-1 for x (m, n), from the last block on."""
    for start in reversed(range(0, len(lower), STRIP)):
        here, after = slice(start, start + STRIP), slice(start + STRIP, None)
        if start + STRIP < len(lower):
            x[:, here] -= x[:, after] @ lower[after, here]
        corner, right = lower[here, here], x[:, here].T
        x[:, here] = scipy.linalg.solve_triangular(corner, right, lower=True, trans=1, check_finite=False).T

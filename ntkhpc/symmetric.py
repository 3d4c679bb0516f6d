"""Sums of a square matrix and its transpose, block by block in place: columns of a transpose are read from cache, and
no second matrix is made. Each number is rounded as in the sum of whole matrices."""

from collections.abc import Iterator

import numpy as np

BLOCK = 128
"""Rows and columns of one piece."""

ROWS = 64
"""Rows that are multiplied by a number at once."""


def symmetrise(product: np.ndarray, added: np.ndarray) -> None:
    """product (m, m) <- (product + product^T)/2 + added (m, m)."""
    sums = np.empty((BLOCK, BLOCK))
    for rows, columns in _pairs(len(product)):
        lower, upper = product[rows, columns], product[columns, rows]
        half = np.add(lower, upper.T, out=sums[: len(lower), : len(upper)])
        half /= 2
        np.add(half, added[rows, columns], out=lower)
        if rows != columns:
            np.add(half.T, added[columns, rows], out=upper)


def add_transposed(product: np.ndarray, start: np.ndarray) -> None:
    """product (m, m) <- start (m, m) + product + product^T, from the left."""
    for rows, columns in _pairs(len(product)):
        lower, upper = product[rows, columns], product[columns, rows]
        below = start[rows, columns] + lower
        below += upper.T
        if rows != columns:
            above = start[columns, rows] + upper
            above += lower.T
            upper[...] = above
        lower[...] = below


def subtract_multiple(matrix: np.ndarray, factor: float, other: np.ndarray) -> None:
    """matrix (n, m) <- matrix - factor other."""
    for first in range(0, len(matrix), ROWS):
        matrix[first : first + ROWS] -= factor * other[first : first + ROWS]


def _pairs(size: int) -> Iterator[tuple[slice, slice]]:
    """Blocks on and below the diagonal, each standing for the one that mirrors it too."""
    blocks = [slice(first, min(first + BLOCK, size)) for first in range(0, size, BLOCK)]
    return ((rows, columns) for number, rows in enumerate(blocks) for columns in blocks[: number + 1])

"""What a column of a factor is made with: products, divisions and the factor of one tile, on a host's threads.

Work is cut into strips of rows, which threads take: their number changes no bit. `device_algebra` does the same on a
GPU.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import scipy.linalg

from ntkhpc import dependence
from ntkhpc.blocks import STRIP
from ntkhpc.errors import DataError
from ntkhpc.refinement import SMALLEST_PIVOT, ill_conditioned
from ntkhpc.threads import each
from ntkhpc.triangular import divide_by_transposed


class Algebra(Protocol):
    """Operations on tiles, each in the type of what it is given. Of its first argument nothing is left."""

    def load(self, tile: np.ndarray) -> Any:
        """A tile where it is worked with; it may be the very same array."""

    def values(self, tile: Any) -> np.ndarray:
        """A tile back in the host's memory."""

    def reduced(self, rest: Any, panel: Any) -> Any:
        """rest - panel panel^T, which is right on and below the diagonal."""

    def subtracted(self, left: Any, a: Any, b: Any) -> Any:
        """left - a b^T."""

    def divided(self, left: Any, corner: Any) -> Any:
        """left corner^-T for a lower triangular corner."""

    def cholesky(self, matrix: Any, unreduced: np.ndarray, rows: slice) -> Any:
        """The factor of a matrix of which the lower triangle counts, with zeros above the diagonal.

        `unreduced` (n,) is the diagonal before anything was subtracted, `rows` says which training inputs they are.
        Raises DataError where a pivot is not above rounding.
        """


class HostAlgebra:
    """By BLAS and LAPACK, whose own threads are one, in strips that the workers take."""

    def __init__(self, workers: ThreadPoolExecutor):
        self._workers = workers

    def load(self, tile: np.ndarray) -> np.ndarray:
        return tile

    def values(self, tile: np.ndarray) -> np.ndarray:
        return tile

    def reduced(self, rest: np.ndarray, panel: np.ndarray) -> np.ndarray:
        def strip(rows: slice) -> None:
            rest[rows, : rows.stop] -= panel[rows] @ panel[: rows.stop].T

        each(self._workers, strip, len(rest))
        return rest

    def subtracted(self, left: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        def strip(rows: slice) -> None:
            left[rows] -= a[rows] @ b.T

        each(self._workers, strip, len(left))
        return left

    def divided(self, left: np.ndarray, corner: np.ndarray) -> np.ndarray:
        def strip(rows: slice) -> None:
            divide_by_transposed(left[rows], corner)

        each(self._workers, strip, len(left))
        return left

    def cholesky(self, matrix: np.ndarray, unreduced: np.ndarray, rows: slice) -> np.ndarray:
        """By strips: columns as in the whole matrix."""
        for start in range(0, len(matrix), STRIP):
            here, below = slice(start, min(start + STRIP, len(matrix))), slice(start + STRIP, len(matrix))
            inputs = slice(rows.start + here.start, rows.start + here.stop)
            try:
                corner = scipy.linalg.cholesky(matrix[here, here], lower=True, check_finite=False)
            except scipy.linalg.LinAlgError as error:
                raise refusal(matrix.dtype, inputs) from error
            require_pivots(np.diag(corner), unreduced[here], inputs)
            matrix[here, here], matrix[here, below] = corner, 0.0
            if below.start < below.stop:
                matrix[below, here] = self.divided(np.ascontiguousarray(matrix[below, here]), corner)
                self.reduced(matrix[below, below], matrix[below, here])
        return matrix


_SINGULAR = 1e-14
"""A squared pivot over the diagonal element that it comes from, at which only rounding is left of it, in float64."""


def require_pivots(pivots: np.ndarray, unreduced: np.ndarray, rows: slice) -> None:
    """Raises DataError unless each pivot (n,) is above the rounding of its diagonal element (n,)."""
    smallest = _SINGULAR if pivots.dtype == np.float64 else SMALLEST_PIVOT
    if not (pivots**2 >= smallest * unreduced).all():
        raise refusal(pivots.dtype, rows)


def refusal(dtype: np.dtype, rows: slice) -> DataError:
    """What is wrong with the kernel of these training inputs, if its factor in this type breaks down."""
    where, inputs = (
        f"training inputs {rows.start:,} to {rows.stop - 1:,} of a draw",
        tuple(range(rows.start, rows.stop)),
    )
    if dtype == np.float32:
        return ill_conditioned(f"a condition of at least {1 / SMALLEST_PIVOT:.1e}", where, inputs)
    return dependence.singular(
        "an input there is equal to another one before it, or a multiple, or depends on others under this kernel",
        inputs,
        where,
    )

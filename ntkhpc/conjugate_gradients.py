"""Conjugate gradients for many right-hand sides at once: T x = b, T symmetric positive definite and only multiplied.

All columns share one Krylov space (block CG), because the product with one vector costs nearly what that with a hundred
costs where the kernel is computed anew each time. The form with orthonormal residuals [Dubrulle 2001, ETNA 12, 216]
keeps its digits where right-hand sides are nearly dependent. It runs on M^-1/2 T M^-1/2, M the preconditioner.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ntkhpc.dependence import singular
from ntkhpc.errors import DataError, DivergedError
from ntkhpc.kernel_products import Kernel, SymmetricProducts
from ntkhpc.preconditioner import Preconditioner

_RESTARTS = 4
_SPARE = 0.5
"""Part of the tolerance that an iteration aims at: rounding parts its residuals from the true ones."""


@dataclass(frozen=True)
class Solution:
    """Of (T + ridge) x = b: x (n, r), the residuals b - T x (n, r) by a product of their own, and that product of K.

    `relative` (r,) are their norms over those of b (0 where b is 0), `iterations` the products that were taken.
    `smallest` is the least eigenvalue of M^-1/2 T M^-1/2 that the iteration has seen: the least Ritz value, from above.
    """

    x: np.ndarray
    residuals: np.ndarray
    relative: np.ndarray
    iterations: int
    smallest: float
    nngp: np.ndarray


@dataclass(frozen=True)
class System:
    """What is solved, and how: `kernel` + ridge, to residuals of `tolerance` times |b|, in at most `limit` + 1
    products, of which the last gives the residuals."""

    kernels: SymmetricProducts
    kernel: Kernel
    ridge: float
    preconditioner: Preconditioner
    tolerance: float
    limit: int

    def solve(self, right: np.ndarray) -> Solution:
        """x for right-hand sides (n, r).

        Raises DataError if T + ridge is not positive definite or a product is not finite, DivergedError if the limit is
        reached, or if rounding keeps the residuals above the tolerance.
        """
        norms = np.linalg.norm(right, axis=0)
        scale = np.where(norms > 0, norms, 1)
        x, left, iterations, smallest = np.zeros(right.shape), right / scale, 0, math.inf
        for _ in range(_RESTARTS):
            step, taken, seen = self._block_cg(left, self.limit - iterations)
            x, iterations, smallest = x + step, iterations + taken + 1, min(smallest, seen)
            nngp, image = self._images(x)
            left = right / scale - image
            relative = np.linalg.norm(left, axis=0)
            if not np.isfinite(relative).all():
                raise _not_finite()
            if relative.max(initial=0) <= self.tolerance:
                return Solution(x * scale, left * scale, relative, iterations, smallest, nngp * scale)
            if iterations >= self.limit:
                break
        raise self._not_converged(iterations, float(relative.max()))

    def _images(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """K x and (T + ridge) x: both kernels come from one tile."""
        images = self.kernels.products({"nngp": x, self.kernel: x})
        return images["nngp"], images[self.kernel] + self.ridge * x

    def _multiply(self, block: np.ndarray) -> np.ndarray:
        turned = self.preconditioner.power(-0.5, block)
        image = self.kernels.products({self.kernel: turned})[self.kernel]
        image += self.ridge * turned
        return self.preconditioner.power(-0.5, image)

    def _block_cg(self, right: np.ndarray, limit: int) -> tuple[np.ndarray, int, float]:
        """x, the number of products, and the least Ritz value; the residual of every column is at most _SPARE times the
        tolerance, unless the limit came first."""
        q, coefficients = _qr(self.preconditioner.power(-0.5, right))
        x, directions, taken = np.zeros(right.shape), q, 0
        curvatures: list[np.ndarray] = []
        ratios: list[np.ndarray] = []
        while self._largest(q, coefficients) > _SPARE * self.tolerance and taken < limit:
            image = self._multiply(directions)
            curvature = directions.T @ image
            curvature = (curvature + curvature.T) / 2
            if not np.isfinite(curvature).all():
                raise _not_finite()
            try:
                factor = scipy.linalg.cho_factor(curvature)
            except scipy.linalg.LinAlgError as error:
                raise singular("to rounding, the training inputs are dependent under this kernel") from error
            x += directions @ scipy.linalg.cho_solve(factor, coefficients)
            q, ratio = _qr(q - scipy.linalg.cho_solve(factor, image.T).T)
            coefficients = ratio @ coefficients
            directions = q + directions @ ratio.T
            curvatures.append(curvature)
            ratios.append(ratio)
            taken += 1
        return self.preconditioner.power(-0.5, x), taken, _least_ritz_value(curvatures, ratios)

    def _largest(self, q: np.ndarray, coefficients: np.ndarray) -> float:
        residuals = self.preconditioner.power(0.5, q @ coefficients)
        return float(np.linalg.norm(residuals, axis=0).max(initial=0))

    def _not_converged(self, iterations: int, reached: float) -> DivergedError:
        cause = "the kernel of the training inputs is ill-conditioned: nearly equal inputs, or a smooth activation"
        more = "more products, "
        if iterations < self.limit:  # more of them would not help
            cause = f"in {_RESTARTS} starts rounding kept the true residuals above those of the iteration; {cause}"
            more = ""
        return DivergedError(
            f"conjugate gradients reached a relative residual of {reached:.1e} after {iterations} products, not "
            f"{self.tolerance:.1e}",
            where=f"{self.kernels.size} training points, a preconditioner of rank {self.preconditioner.rank}",
            cause=cause,
            todo=f"give a preconditioner of larger rank, {more}a larger tolerance, or a ridge",
        )


def _not_finite() -> DataError:
    return DataError(
        "products with the kernel of the training inputs hold NaN or infinity",
        cause="right-hand sides that are not finite, or inputs or targets so large that their kernel overflows",
        todo="look for such values in inputs and targets, and scale them to the order of 1",
    )


def _qr(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scipy.linalg.qr(block, mode="economic", check_finite=False)


def _least_ritz_value(curvatures: list[np.ndarray], ratios: list[np.ndarray]) -> float:
    """Of the block tridiagonal matrix G diag(curvatures) G^T of the block Lanczos basis, G = 1 with -ratio below its
    diagonal: 1 over the largest eigenvalue of its inverse."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    if not curvatures:
        return math.inf
    factors = [scipy.linalg.cho_factor(curvature) for curvature in curvatures]
    shape = len(curvatures), len(curvatures[0])

    def inverse(vector: np.ndarray) -> np.ndarray:
        parts = list(vector.reshape(shape))
        for k in range(1, len(parts)):
            parts[k] = parts[k] + ratios[k - 1] @ parts[k - 1]
        parts = [scipy.linalg.cho_solve(factor, part) for factor, part in zip(factors, parts, strict=True)]
        for k in reversed(range(len(parts) - 1)):
            parts[k] = parts[k] + ratios[k].T @ parts[k + 1]
        return np.concatenate(parts)

    size = shape[0] * shape[1]
    if size < 8:
        return float(1 / np.linalg.eigvalsh(np.stack([inverse(unit) for unit in np.eye(size)]))[-1])
    start = np.full(size, 1 / math.sqrt(size))
    operator = LinearOperator((size, size), matvec=inverse, dtype=np.float64)
    return float(1 / eigsh(operator, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])

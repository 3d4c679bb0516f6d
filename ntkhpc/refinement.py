"""Weights A = T_*X T^-1 in float64 from a Cholesky factor L of T in float32.

    A <- A + R (L L^T)^-1 ,  R = T_*X - A T ,

R in float64 from the tiles of T, its division by L in float32 [Wilkinson, Rounding Errors in Algebraic Processes;
Higham, Accuracy and Stability of Numerical Algorithms, 12.1]. The error E of A becomes E (1 - T (L L^T)^-1) in each
sweep. So it shrinks by a factor of the order of u times the condition of T, u = 6e-8, down to that of float64; where
that factor is not small, no sweep helps.

Two things are looked at, and neither costs a reading of tiles. The first is what the sweeps do: A is accepted when its
next change, as the last two foretell it, is below 1e-11 of it for each test point, and refused when a sweep changes it
by more than a tenth of what the one before did. The second is the condition, estimated in the first sweep:

    condition = |T|_F / min_a (R_a . D_a) / (D_a . D_a) ,  D = R (L L^T)^-1 .

|T|_F is at least the largest eigenvalue, and little more for kernels of similar inputs. The rows of R are rounding
errors, of all directions, and D is one step of inverse iteration from each: its Rayleigh quotient is at least the
smallest eigenvalue. From 130 rows the estimate was a third of the condition to all of it.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ntkhpc.blocks import Blocks
from ntkhpc.errors import DataError
from ntkhpc.tile_panels import Tile, backward, forward, multiply, panel

ROUNDING = 6e-8
"""The unit u of float32."""

LEAST_GAIN = 10.0
"""Each sweep must change A by so many times less than the one before: u times the condition is at most 1/10, too."""

SMALLEST_PIVOT = ROUNDING * LEAST_GAIN
"""A squared diagonal element of L, over that of T: the condition is at least one over it."""

TOLERANCE = 1e-11
"""Of A, relative, for each test point."""

SWEEPS = 6


@dataclass(frozen=True)
class Refined:
    """How weights were refined: how many sweeps it took, and the condition of the kernel as it was estimated."""

    sweeps: int
    condition: float


def refine(
    weights: np.ndarray,
    n: int,
    blocks: Blocks,
    factor: Tile,
    kernel: Tile,
    workers: ThreadPoolExecutor,
    *,
    ridge: float = 0.0,
) -> Refined:
    """Refine a first guess of A (m, n), in place and in float64; `factor` is that of `kernel` plus ridge.

    Holds one more panel (m, n) in float64 and one in float32. Raises DataError with the condition of the kernel if
    it is too large for float32.
    """
    before, squared = 1.0, 0.0

    def looked_at(i: int, j: int) -> np.ndarray:
        """A tile of T, whose squares are added up: it comes once in a sweep."""
        nonlocal squared
        tile = kernel(i, j)
        if ridge and i == j:
            tile = np.array(tile)
            tile[np.diag_indices(blocks.size)] += ridge
        part = tile[: n - i * blocks.size, : n - j * blocks.size]
        squared += (1 if i == j else 2) * float(np.einsum("ij,ij->", part, part))
        return tile

    condition, where = 0.0, f"the first {n:,} training inputs of a draw"
    for sweep in range(SWEEPS):
        squared = 0.0
        residual = panel(n, blocks, kernel)
        multiply(residual, weights, -1.0, n, blocks, looked_at, workers)
        correction = residual.astype(np.float32)
        forward(correction, n, blocks, factor, workers)
        backward(correction, n, blocks, factor, workers)
        weights += correction
        if sweep == 0:
            condition = _condition(squared, residual, correction)
        change = _relative(correction, weights)
        del residual, correction
        if not ROUNDING * condition <= 1 / LEAST_GAIN:
            raise ill_conditioned(f"a condition of about {condition:.1e}", where)
        if change**2 <= TOLERANCE * before:
            return Refined(sweep + 1, condition)
        if not change <= before / LEAST_GAIN:
            gain = f"{before / change:.1f} times" if change > 0 else "nothing"
            raise ill_conditioned(
                f"a condition of about {condition:.1e}, and a sweep of refinement gains {gain}", where
            )
        before = change
    raise ill_conditioned(
        f"a condition of about {condition:.1e}, and {SWEEPS} sweeps of refinement left {change:.0e}", where
    )


def _condition(squared: float, residual: np.ndarray, correction: np.ndarray) -> float:
    lengths, quotients = _products(correction, correction), _products(residual, correction)
    if not np.isfinite(lengths).all() or not np.isfinite(quotients).all() or (quotients < 0).any():
        return np.inf
    seen = lengths > 0
    smallest = (quotients[seen] / lengths[seen]).min(initial=np.inf)
    return float(np.sqrt(squared) / smallest) if smallest > 0 else np.inf


def _relative(correction: np.ndarray, weights: np.ndarray) -> float:
    """The largest change of a test point's weights over these; NaN where they are not finite."""
    changes, lengths = _products(correction, correction), _products(weights, weights)
    return float(np.sqrt(np.divide(changes, lengths, out=np.zeros_like(changes), where=changes != 0).max()))


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_i . b_i of the rows, in float64."""
    return np.array([float(np.dot(x.astype(np.float64), y.astype(np.float64))) for x, y in zip(a, b, strict=True)])


def ill_conditioned(found: str, where: str, rows: tuple[int, ...] = ()) -> DataError:
    """What is said of a kernel that a factor in float32 does not suffice for."""
    return DataError(
        f"a factor in float32 does not suffice: the kernel of the training inputs has {found}",
        rows=rows,
        where=where,
        cause=f"float32 needs a condition below {1 / SMALLEST_PIVOT:.1e}; inputs that are nearly equal, or depend on "
        "others under this kernel, raise it",
        todo='factor in float64 (infinite_width.factor_precision = "float64"), remove such inputs, or give a ridge '
        "(infinite_width.ridge; of a posterior infinite_width.noise)",
    )

"""Laws at infinite width from kernels that are kept in tiles, which need not fit into memory together.

The training inputs are cut into blocks of b rows, the last one filled up, and so are the test inputs after them. Of the
symmetric kernel T of the training inputs the tiles (i, j), i >= j, are there, and those (blocks + t, j) of the test
inputs, T_*X. One left-looking Cholesky factorisation makes both rows of its factor, column after column:

    L_jj = chol(T_jj - sum_(k<j) L_jk L_jk^T) ;  L_ij = (T_ij - sum_(k<j) L_ik L_jk^T) L_jj^-T ,  i > j ,

where the rows of the test inputs are V^T = T_*X L^-T. Each tile is written once, and column j needs those before it
alone. A leading block of n rows is factored by the leading block of L, at whatever row it ends: A = V_n^T L_n^-1 gives

    mean = A Y ;  Sigma = K_** - A K_X* - K_*X A^T + A K_XX A^T      (NTK; K the NNGP kernel)
    mean = A Y ;  Sigma = K_** - A K_X*                              (NNGP posterior: T = K + noise)

[arXiv:1902.06720; Golub and Van Loan, Matrix Computations, 4.2.] A factor may be in float32; then A is refined (see
`refinement`). Work is cut into strips of rows, which threads take: their number changes no bit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import numpy as np
import scipy.linalg

from ntkhpc import dependence
from ntkhpc.blocks import STRIP, Blocks
from ntkhpc.errors import DataError
from ntkhpc.infinite_width import Law
from ntkhpc.kernels import nngp_ntk
from ntkhpc.refinement import SMALLEST_PIVOT, Refined, ill_conditioned, refine
from ntkhpc.threads import each, pool
from ntkhpc.tile_panels import Tile, ahead, backward, multiply, panel

Precision = Literal["float64", "float32"]

_SINGULAR = 1e-14


def filled_tile(
    network: Any, blocks: Blocks, x_train: np.ndarray, x_test: np.ndarray, i: int, j: int
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK (b, b) of block row i and block column j, for x_train (n, d) and x_test (m, d).

    The last block is filled up with a unit diagonal in the NTK and NNGP, which leaves the factor of the others as it
    is, and with zeros elsewhere.
    """
    columns = x_train[blocks.rows(j)]
    if i == j:
        found = nngp_ntk(network, columns)
    else:
        found = nngp_ntk(network, (x_train if i < blocks.train else x_test)[blocks.rows(i)], columns)
    return _filled(found[0], blocks.size, diagonal=i == j), _filled(found[1], blocks.size, diagonal=i == j)


def _filled(tile: np.ndarray, size: int, *, diagonal: bool) -> np.ndarray:
    if tile.shape == (size, size):
        return tile
    filled = np.eye(size, dtype=tile.dtype) if diagonal else np.zeros((size, size), tile.dtype)
    rows, columns = tile.shape
    filled[:rows, :columns] = tile
    return filled


def factor_column(
    j: int,
    blocks: Blocks,
    kernel: Tile,
    factor: Tile,
    *,
    ridge: float = 0.0,
    precision: Precision = "float64",
    threads: int = 1,
) -> Iterator[np.ndarray]:
    """The tiles (b, b) of column j of the factor, for the block rows `blocks.column(j)`, in that order.

    `kernel(i, j)` gives tiles of T, `factor(i, k)` those of the columns k < j. `ridge` is added to the diagonal of T.
    The row j of the factor is held meanwhile: j tiles. With `precision` "float32" tiles of T are rounded to it as they
    come, and all of the column is made in it. Raises DataError for a kernel that is singular, or, in float32, has a
    pivot so small that its condition is certainly beyond what `refinement` can mend.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision = {precision!r} is neither 'float64' nor 'float32'")
    places = [(kernel, j, j), *((factor, j, k) for k in range(j))]
    for i in blocks.column(j)[1:]:
        places += [(kernel, i, j), *((factor, i, k) for k in range(j))]
    with pool(threads) as workers, ahead(places) as tiles:
        # What fills up the last blocks is not worked with. Not in the kernel's own memory, which may be a file's.
        width = blocks.height(j)
        diagonal = np.array(next(tiles)[:width, :width])
        if ridge:
            diagonal[np.diag_indices(width)] += ridge
        diagonal = diagonal.astype(precision, copy=False)
        unreduced, row = np.diag(diagonal).copy(), []
        for k in range(j):
            row.append(next(tiles)[:width])
            _reduce(diagonal, row[k], workers)
        diagonal = _cholesky(diagonal, unreduced, blocks.rows(j), workers)
        yield _filled(diagonal, blocks.size, diagonal=True)
        for i in blocks.column(j)[1:]:
            height = blocks.height(i)
            left = np.array(next(tiles)[:height, :width], precision)
            for k in range(j):
                _subtract(left, next(tiles)[:height], row[k], workers)
            yield _filled(_divide(left, diagonal, workers), blocks.size, diagonal=False)


def _subtract(left: np.ndarray, a: np.ndarray, b: np.ndarray, workers: ThreadPoolExecutor) -> None:
    """left -= a b^T, strip by strip."""

    def strip(rows: slice) -> None:
        left[rows] -= a[rows] @ b.T

    each(workers, strip, len(left))


def _divide(left: np.ndarray, diagonal: np.ndarray, workers: ThreadPoolExecutor) -> np.ndarray:
    """left diagonal^-T for a lower triangular diagonal."""

    def strip(rows: slice) -> None:
        solved = scipy.linalg.solve_triangular(diagonal, left[rows].T, lower=True, check_finite=False)
        left[rows] = solved.T

    each(workers, strip, len(left))
    return left


def _cholesky(matrix: np.ndarray, unreduced: np.ndarray, rows: slice, workers: ThreadPoolExecutor) -> np.ndarray:
    """The factor of one tile, whose lower triangle is overwritten, by strips: columns as in the whole matrix."""
    size = len(matrix)
    smallest, refusal = (_SINGULAR, _singular) if matrix.dtype == np.float64 else (SMALLEST_PIVOT, _broken_down)
    for start in range(0, size, STRIP):
        here, below = slice(start, min(start + STRIP, size)), slice(min(start + STRIP, size), size)
        try:
            corner = scipy.linalg.cholesky(matrix[here, here], lower=True, check_finite=False)
        except scipy.linalg.LinAlgError as error:
            raise refusal(rows.start + here.start, rows.start + here.stop - 1) from error
        if (np.diag(corner) ** 2 < smallest * unreduced[here]).any():
            raise refusal(rows.start + here.start, rows.start + here.stop - 1)
        matrix[here, here] = corner
        _divide_below(matrix[below, here], corner, workers)
        _reduce(matrix[below, below], matrix[below, here], workers)
    return np.tril(matrix)


def _divide_below(panel: np.ndarray, corner: np.ndarray, workers: ThreadPoolExecutor) -> None:
    if len(panel):
        panel[...] = _divide(np.ascontiguousarray(panel), corner, workers)


def _reduce(rest: np.ndarray, panel: np.ndarray, workers: ThreadPoolExecutor) -> None:
    """rest -= panel panel^T, up to the diagonal of each strip."""

    def strip(rows: slice) -> None:
        rest[rows, : rows.stop] -= panel[rows] @ panel[: rows.stop].T

    each(workers, strip, len(rest))


def law(
    n: int,
    blocks: Blocks,
    factor: Tile,
    nngp: Tile,
    nngp_test: np.ndarray,
    y_train: np.ndarray,
    *,
    posterior: bool = False,
    kernel: Tile | None = None,
    ridge: float = 0.0,
    threads: int = 1,
) -> Law:
    """Mean (m, outputs) and covariance (m, m) of the outputs at the test points, for the first n training points.

    As `refined_law` finds them.
    """
    arguments = (n, blocks, factor, nngp, nngp_test, y_train)
    return refined_law(*arguments, posterior=posterior, kernel=kernel, ridge=ridge, threads=threads)[0]


def refined_law(
    n: int,
    blocks: Blocks,
    factor: Tile,
    nngp: Tile,
    nngp_test: np.ndarray,
    y_train: np.ndarray,
    *,
    posterior: bool = False,
    kernel: Tile | None = None,
    ridge: float = 0.0,
    threads: int = 1,
) -> tuple[Law, Refined | None]:
    """The law for the first n training points, and, of a factor in float32, how it was refined.

    `factor(i, j)` and `nngp(i, j)` give tiles, `nngp_test` (m, m) is the NNGP kernel of the test inputs, y_train
    (n or more, outputs). With `posterior` the factor is that of the NNGP kernel with its noise. Two panels (m, n) are
    held meanwhile. A factor in float32 needs the tiles of T without its ridge, `kernel`, and `ridge`: A is refined, in
    two panels and a half, or a DataError says why it cannot be.
    """
    refined = None
    with pool(threads) as workers:
        weights = panel(n, blocks, factor)
        backward(weights, n, blocks, factor, workers)
        if weights.dtype == np.float32:
            if kernel is None:
                raise ValueError("a factor in float32 needs the kernel that it is of")
            weights = weights.astype(np.float64)
            refined = refine(weights, n, blocks, factor, kernel, workers, ridge=ridge)
        turned = panel(n, blocks, nngp)
        turned *= -0.5 if posterior else -1.0
        if not posterior:
            multiply(turned, weights, 0.5, n, blocks, nngp, workers)
        covariance = np.array(nngp_test)

        def strip(rows: slice) -> None:
            covariance[rows] += turned[rows] @ weights.T + weights[rows] @ turned.T

        each(workers, strip, blocks.m)
        return (weights @ y_train[:n], covariance), refined


def leading(n: int, blocks: Blocks, tile: Tile) -> np.ndarray:
    """The leading block (n, n) of a symmetric kernel of the training inputs."""
    found, count = np.empty((n, n)), -(-n // blocks.size)
    for j in range(count):
        columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
        for i in range(j, count):
            rows = slice(i * blocks.size, min((i + 1) * blocks.size, n))
            part = tile(i, j)[: rows.stop - rows.start, : columns.stop - columns.start]
            found[rows, columns] = part
            found[columns, rows] = part.T
    return found


def named(error: DataError, blocks: Blocks, kernel: Tile, precision: Precision = "float64") -> DataError:
    """The error of `factor_column` for a kernel, with the inputs at fault: two that are one, or one that is zero.

    Its `rows` are the training inputs among which the factor broke down; where these depend on many others, it is
    returned as it is. Reads a row and the diagonal of tiles.
    """
    if not error.rows:
        return error
    apart, nearly = (dependence.PARALLEL, "") if precision == "float64" else (SMALLEST_PIVOT / 2, "or nearly equal, ")
    rows = dependence.of_tiles(error.rows[0], error.rows[-1], blocks, kernel, apart)
    if len(rows) == 1:
        return dependence.zero(rows[0])
    return DataError(error.what, rows=rows, cause=dependence.equal(rows, nearly), todo=error.todo) if rows else error


def _singular(first: int, last: int) -> DataError:
    return dependence.singular(
        "an input there is equal to another one before it, or a multiple, or depends on others under this kernel",
        tuple(range(first, last + 1)),
        f"training inputs {first:,} to {last:,} of a draw",
    )


def _broken_down(first: int, last: int) -> DataError:
    where = f"training inputs {first:,} to {last:,} of a draw"
    return ill_conditioned(f"a condition of at least {1 / SMALLEST_PIVOT:.1e}", where, tuple(range(first, last + 1)))

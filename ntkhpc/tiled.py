"""Laws at infinite width from kernels that are kept in tiles, which need not fit into memory together.

The training inputs are cut into blocks of b rows, the last one filled up, and so are the test inputs after them. Of the
symmetric kernel T of the training inputs the tiles (i, j), i >= j, are there, and those (blocks + t, j) of the test
inputs, T_*X. One left-looking Cholesky factorisation makes both rows of its factor, column after column:

    L_jj = chol(T_jj - sum_(k<j) L_jk L_jk^T) ;  L_ij = (T_ij - sum_(k<j) L_ik L_jk^T) L_jj^-T ,  i > j ,

where the rows of the test inputs are V^T = T_*X L^-T. Each tile is written once, and column j needs those before it
alone. A leading block of n rows is factored by the leading block of L, at whatever row it ends: A = V_n^T L_n^-1 gives

    mean = A Y ;  Sigma = K_** - A K_X* - K_*X A^T + A K_XX A^T      (NTK; K the NNGP kernel)
    mean = A Y ;  Sigma = K_** - A K_X*                              (NNGP posterior: T = K + noise)

[arXiv:1902.06720; Golub and Van Loan, Matrix Computations, 4.2.] Work is cut into strips of rows, which threads take:
their number changes no bit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.linalg

from ntkhpc.blocks import Blocks
from ntkhpc.errors import DataError
from ntkhpc.infinite_width import Law
from ntkhpc.kernels import nngp_ntk

Tile = Callable[[int, int], np.ndarray]
"""The tile (b, b) of block row i and block column j."""

STRIP = 256
"""Rows of a piece of work. It fixes the bits."""

_SINGULAR = 1e-14


def kernel_tile(
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
    filled = np.eye(size) if diagonal else np.zeros((size, size))
    rows, columns = tile.shape
    filled[:rows, :columns] = tile
    return filled


def factor_column(
    j: int, blocks: Blocks, kernel: Tile, factor: Tile, *, ridge: float = 0.0, threads: int = 1
) -> Iterator[np.ndarray]:
    """The tiles (b, b) of column j of the factor, for the block rows `blocks.column(j)`, in that order.

    `kernel(i, j)` gives tiles of T, `factor(i, k)` those of the columns k < j. `ridge` is added to the diagonal of T.
    The row j of the factor is held meanwhile: j tiles. Raises DataError for a kernel that is singular.
    """
    places = [(kernel, j, j), *((factor, j, k) for k in range(j))]
    for i in blocks.column(j)[1:]:
        places += [(kernel, i, j), *((factor, i, k) for k in range(j))]
    with _pool(threads) as pool, _ahead(places) as tiles:
        # What fills up the last blocks is not worked with. Not in the kernel's own memory, which may be a file's.
        width = blocks.height(j)
        diagonal = np.array(next(tiles)[:width, :width])
        if ridge:
            diagonal[np.diag_indices(width)] += ridge
        unreduced, row = np.diag(diagonal).copy(), []
        for k in range(j):
            row.append(next(tiles)[:width])
            _reduce(diagonal, row[k], pool)
        diagonal = _cholesky(diagonal, unreduced, blocks.rows(j), pool)
        yield _filled(diagonal, blocks.size, diagonal=True)
        for i in blocks.column(j)[1:]:
            height = blocks.height(i)
            left = np.array(next(tiles)[:height, :width])
            for k in range(j):
                _subtract(left, next(tiles)[:height], row[k], pool)
            yield _filled(_divide(left, diagonal, pool), blocks.size, diagonal=False)


def _subtract(left: np.ndarray, a: np.ndarray, b: np.ndarray, pool: ThreadPoolExecutor) -> None:
    """left -= a b^T, strip by strip."""

    def strip(rows: slice) -> None:
        left[rows] -= a[rows] @ b.T

    _each(pool, strip, len(left))


def _divide(left: np.ndarray, diagonal: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
    """left diagonal^-T for a lower triangular diagonal."""

    def strip(rows: slice) -> None:
        solved = scipy.linalg.solve_triangular(diagonal, left[rows].T, lower=True, check_finite=False)
        left[rows] = solved.T

    _each(pool, strip, len(left))
    return left


def _cholesky(matrix: np.ndarray, unreduced: np.ndarray, rows: slice, pool: ThreadPoolExecutor) -> np.ndarray:
    """The factor of one tile, whose lower triangle is overwritten, by strips: columns as in the whole matrix."""
    size = len(matrix)
    for start in range(0, size, STRIP):
        here, below = slice(start, min(start + STRIP, size)), slice(min(start + STRIP, size), size)
        try:
            corner = scipy.linalg.cholesky(matrix[here, here], lower=True, check_finite=False)
        except scipy.linalg.LinAlgError as error:
            raise _singular(rows.start + start) from error
        if (np.diag(corner) ** 2 < _SINGULAR * unreduced[here]).any():
            raise _singular(rows.start + start)
        matrix[here, here] = corner
        _divide_below(matrix[below, here], corner, pool)
        _reduce(matrix[below, below], matrix[below, here], pool)
    return np.tril(matrix)


def _divide_below(panel: np.ndarray, corner: np.ndarray, pool: ThreadPoolExecutor) -> None:
    if len(panel):
        panel[...] = _divide(np.ascontiguousarray(panel), corner, pool)


def _reduce(rest: np.ndarray, panel: np.ndarray, pool: ThreadPoolExecutor) -> None:
    """rest -= panel panel^T, up to the diagonal of each strip."""

    def strip(rows: slice) -> None:
        rest[rows, : rows.stop] -= panel[rows] @ panel[: rows.stop].T

    _each(pool, strip, len(rest))


def law(
    n: int,
    blocks: Blocks,
    factor: Tile,
    nngp: Tile,
    nngp_test: np.ndarray,
    y_train: np.ndarray,
    *,
    posterior: bool = False,
    threads: int = 1,
) -> Law:
    """Mean (m, outputs) and covariance (m, m) of the outputs at the test points, for the first n training points.

    `factor(i, j)` and `nngp(i, j)` give tiles, `nngp_test` (m, m) is the NNGP kernel of the test inputs, y_train
    (n or more, outputs). With `posterior` the factor is that of the NNGP kernel with its noise. Two panels (m, n) are
    held meanwhile.
    """
    with _pool(threads) as pool:
        weights = panel(n, blocks, factor)
        _back_substitute(weights, n, blocks, factor, pool)
        cross = panel(n, blocks, nngp)
        if posterior:
            turned = -cross / 2
        else:
            turned = -cross
            _multiply(turned, weights, n, blocks, nngp, pool)
        covariance = np.array(nngp_test)

        def strip(rows: slice) -> None:
            covariance[rows] += turned[rows] @ weights.T + weights[rows] @ turned.T

        _each(pool, strip, blocks.m)
        return weights @ y_train[:n], covariance


def panel(n: int, blocks: Blocks, tile: Tile) -> np.ndarray:
    """The rows of the test inputs (m, n) of the first n columns."""
    found = np.empty((blocks.m, n))
    for t in range(blocks.test):
        rows = blocks.rows(blocks.train + t)
        for j in range(-(-n // blocks.size)):
            columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
            part = tile(blocks.train + t, j)
            found[rows, columns] = part[: rows.stop - rows.start, : columns.stop - columns.start]
    return found


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


def _back_substitute(panel: np.ndarray, n: int, blocks: Blocks, factor: Tile, pool: ThreadPoolExecutor) -> None:
    """panel <- panel L_n^-1, from the last column on; L_n is the leading block of n rows of the factor."""
    last = -(-n // blocks.size) - 1
    for j in range(last, -1, -1):
        columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
        for i in range(last, j, -1):
            rows = slice(i * blocks.size, min((i + 1) * blocks.size, n))
            below = factor(i, j)[: rows.stop - rows.start]

            def subtract(strip: slice, rows: slice = rows, below: np.ndarray = below, at: slice = columns) -> None:
                panel[strip, at] -= panel[strip, rows] @ below

            _each(pool, subtract, len(panel))
        size = columns.stop - columns.start
        corner = factor(j, j)[:size, :size]

        def divide(strip: slice, corner: np.ndarray = corner, at: slice = columns) -> None:
            solved = scipy.linalg.solve_triangular(corner, panel[strip, at].T, lower=True, trans=1, check_finite=False)
            panel[strip, at] = solved.T

        _each(pool, divide, len(panel))


def _multiply(
    turned: np.ndarray, weights: np.ndarray, n: int, blocks: Blocks, nngp: Tile, pool: ThreadPoolExecutor
) -> None:
    """turned += weights K_nn / 2, by the tiles on and below the diagonal of the symmetric K_nn."""
    count = -(-n // blocks.size)
    for j in range(count):
        columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
        for i in range(j, count):
            rows = slice(i * blocks.size, min((i + 1) * blocks.size, n))
            tile = nngp(i, j)[: rows.stop - rows.start, : columns.stop - columns.start]

            def add(
                strip: slice, tile: np.ndarray = tile, i: int = i, j: int = j, at: tuple[slice, slice] = (rows, columns)
            ) -> None:
                rows, columns = at
                turned[strip, columns] += weights[strip, rows] @ tile / 2
                if i != j:
                    turned[strip, rows] += weights[strip, columns] @ tile.T / 2

            _each(pool, add, len(turned))


@contextmanager
def _ahead(places: list[tuple[Tile, int, int]]) -> Iterator[Iterator[np.ndarray]]:
    """Tiles in this order, each read while the one before it is worked with."""
    with _pool(1) as reader:

        def tiles() -> Iterator[np.ndarray]:
            coming = reader.submit(places[0][0], *places[0][1:])
            for tile, i, j in places[1:]:
                found, coming = coming.result(), reader.submit(tile, i, j)
                yield found
            yield coming.result()

        yield tiles()


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _each(pool: ThreadPoolExecutor, work: Callable[[slice], None], rows: int) -> None:
    for done in [pool.submit(work, slice(start, min(start + STRIP, rows))) for start in range(0, rows, STRIP)]:
        done.result()


def _singular(row: int) -> DataError:
    return DataError(
        "the kernel of the training inputs is singular, so the law at infinite time does not exist",
        where=f"training inputs {row:,} to {row + STRIP - 1:,} of a draw",
        cause="an input there is equal to another one before it, or a multiple, or depends on others under this kernel",
        todo="remove duplicate rows, or give a ridge (or a finite time)",
    )

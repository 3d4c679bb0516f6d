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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np

from ntkhpc import dependence
from ntkhpc.blocks import Blocks
from ntkhpc.errors import DataError
from ntkhpc.infinite_width import Law
from ntkhpc.kernels import nngp_ntk
from ntkhpc.refinement import SMALLEST_PIVOT, Refined, refine
from ntkhpc.threads import each, pool
from ntkhpc.tile_algebra import Algebra, HostAlgebra
from ntkhpc.tile_panels import Tile, ahead, backward, multiply, panel

Precision = Literal["float64", "float32"]


def filled_tile(
    network: Any,
    blocks: Blocks,
    x_train: np.ndarray,
    x_test: np.ndarray,
    i: int,
    j: int,
    *,
    accelerated: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK (b, b) of block row i and block column j, for x_train (n, d) and x_test (m, d).

    The last block is filled up with a unit diagonal in the NTK and NNGP, which leaves the factor of the others as it
    is, and with zeros elsewhere. `accelerated` computes on JAX's device.
    """
    columns = x_train[blocks.rows(j)]
    if i == j:
        found = nngp_ntk(network, columns, accelerated=accelerated)
    else:
        rows = (x_train if i < blocks.train else x_test)[blocks.rows(i)]
        found = nngp_ntk(network, rows, columns, accelerated=accelerated)
    return _filled(found[0], blocks.size, diagonal=i == j), _filled(found[1], blocks.size, diagonal=i == j)


def _filled(tile: np.ndarray, size: int, *, diagonal: bool) -> np.ndarray:
    if tile.shape == (size, size):
        return tile
    filled = np.empty((size, size), tile.dtype)
    rows, columns = tile.shape
    filled[:rows, :columns] = tile
    _fill(filled, rows, columns, diagonal=diagonal)
    return filled


def _fill(tile: np.ndarray, rows: int, columns: int, *, diagonal: bool) -> None:
    """Fill a tile up beyond these rows and columns: with zeros, and on its diagonal with ones."""
    tile[rows:] = 0.0
    tile[:rows, columns:] = 0.0
    if diagonal:
        beyond = range(rows, len(tile))
        tile[beyond, beyond] = 1.0


def factor_column(
    j: int,
    blocks: Blocks,
    kernel: Tile,
    factor: Tile,
    *,
    ridge: float = 0.0,
    precision: Precision = "float64",
    threads: int = 1,
    accelerated: bool = False,
    rows: Sequence[int] | None = None,
    corner: np.ndarray | None = None,
    memory: Callable[[int], np.ndarray] | None = None,
) -> Iterator[np.ndarray]:
    """The tiles (b, b) of column j of the factor, for the block rows `blocks.column(j)`, in that order.

    With `rows` for these of them alone, in that order and with the same bits: what the others are decides none. Where j
    is none of `rows`, `corner` is the finished tile (j, j). `memory(i)` is an array (b, b) that the tile of block row i
    is made in, and which is then given; without it each is a new one.
    `kernel(i, j)` gives tiles of T, `factor(i, k)` those of the columns k < j. `ridge` is added to the diagonal of T.
    The row j of the factor is held meanwhile: j tiles. With `precision` "float32" tiles of T are rounded to it as they
    come, and all of the column is made in it. `accelerated` computes on JAX's device, which holds the row, instead of
    in `threads`. Raises DataError for a kernel that is singular, or, in float32, has a pivot so small that its
    condition is certainly beyond what `refinement` can mend.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision = {precision!r} is neither 'float64' nor 'float32'")
    wanted = list(blocks.column(j) if rows is None else rows)
    if not wanted:
        return
    makes_corner = wanted[0] == j
    below = wanted[1:] if makes_corner else wanted
    if j in below or (not makes_corner and corner is None):
        raise ValueError(f"rows = {wanted} of column {j}: the tile ({j}, {j}) is the first of them, or given")
    places = [*([(kernel, j, j)] if makes_corner else []), *((factor, j, k) for k in range(j))]
    for i in below:
        places += [(kernel, i, j), *((factor, i, k) for k in range(j))]
    width = blocks.height(j)  # what fills up the last blocks is not worked with

    def taken(i: int, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Memory of a tile, and the part of it that is worked with: with values of the kernel, which are not ours."""
        whole = np.empty((blocks.size, blocks.size), precision) if memory is None else memory(i)
        part = whole[: blocks.height(i), :width]
        part[...] = tile[: len(part), :width]
        return whole, part

    def made(i: int, whole: np.ndarray, part: np.ndarray, values: np.ndarray) -> np.ndarray:
        if values is not part:
            part[...] = values
        _fill(whole, *part.shape, diagonal=i == j)
        return whole

    with _algebra(threads, accelerated) as algebra, ahead(places) as tiles:
        if makes_corner:
            tile = next(tiles)
            whole, diagonal = taken(j, tile)
            diagonal[np.diag_indices(width)] = np.diag(tile)[:width] + ridge
            unreduced, unfinished, row = np.diag(diagonal).copy(), algebra.load(diagonal), []
            for k in range(j):
                row.append(algebra.load(next(tiles)[:width]))
                unfinished = algebra.reduced(unfinished, row[k])
            divisor = algebra.cholesky(unfinished, unreduced, blocks.rows(j))
            yield made(j, whole, diagonal, algebra.values(divisor))
        else:
            divisor = algebra.load(np.ascontiguousarray(np.asarray(corner, precision)[:width, :width]))
            row = [algebra.load(next(tiles)[:width]) for _ in range(j)]
        for i in below:
            whole, part = taken(i, next(tiles))
            left = algebra.load(part)
            for k in range(j):
                left = algebra.subtracted(left, algebra.load(next(tiles)[: len(part)]), row[k])
            yield made(i, whole, part, algebra.values(algebra.divided(left, divisor)))


@contextmanager
def _algebra(threads: int, accelerated: bool) -> Iterator[Algebra]:
    if accelerated:
        from ntkhpc.device_algebra import DeviceAlgebra

        yield DeviceAlgebra()
        return
    with pool(threads) as workers:
        yield HostAlgebra(workers)


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

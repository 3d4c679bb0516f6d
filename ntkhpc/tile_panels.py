"""Panels of the test inputs (m, n) beside tiles of kernels and of their factor: put together, divided, multiplied.

Tiles (i, j) lie on and below the diagonal, those of the test inputs after the training inputs' (see `tiled`). Work is
cut into strips of rows, which threads take: their number changes no bit. Numbers are of the panel's own type.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import scipy.linalg

from ntkhpc.blocks import STRIP, Blocks

Tile = Callable[[int, int], np.ndarray]
"""The tile (b, b) of block row i and block column j."""


def panel(n: int, blocks: Blocks, tile: Tile) -> np.ndarray:
    """The rows of the test inputs (m, n) of the first n columns, in the type of the tiles."""
    found = np.empty((0, 0))
    for t in range(blocks.test):
        rows = blocks.rows(blocks.train + t)
        for j in range(-(-n // blocks.size)):
            columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
            part = tile(blocks.train + t, j)
            if not found.size:
                found = np.empty((blocks.m, n), part.dtype)
            found[rows, columns] = part[: rows.stop - rows.start, : columns.stop - columns.start]
    return found


def forward(panel: np.ndarray, n: int, blocks: Blocks, factor: Tile, workers: ThreadPoolExecutor) -> None:
    """panel <- panel L_n^-T, from the first column on."""
    for j in range(-(-n // blocks.size)):
        columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
        size = columns.stop - columns.start
        for k in range(j):
            before = slice(k * blocks.size, (k + 1) * blocks.size)
            left = factor(j, k)[:size]

            def subtract(strip: slice, before: slice = before, left: np.ndarray = left, at: slice = columns) -> None:
                panel[strip, at] -= panel[strip, before] @ left.T

            each(workers, subtract, len(panel))
        corner = factor(j, j)[:size, :size]

        def divide(strip: slice, corner: np.ndarray = corner, at: slice = columns) -> None:
            solved = scipy.linalg.solve_triangular(corner, panel[strip, at].T, lower=True, check_finite=False)
            panel[strip, at] = solved.T

        each(workers, divide, len(panel))


def backward(panel: np.ndarray, n: int, blocks: Blocks, factor: Tile, workers: ThreadPoolExecutor) -> None:
    """panel <- panel L_n^-1, from the last column on; L_n is the leading block of n rows of the factor."""
    last = -(-n // blocks.size) - 1
    for j in range(last, -1, -1):
        columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
        for i in range(last, j, -1):
            rows = slice(i * blocks.size, min((i + 1) * blocks.size, n))
            below = factor(i, j)[: rows.stop - rows.start]

            def subtract(strip: slice, rows: slice = rows, below: np.ndarray = below, at: slice = columns) -> None:
                panel[strip, at] -= panel[strip, rows] @ below

            each(workers, subtract, len(panel))
        size = columns.stop - columns.start
        corner = factor(j, j)[:size, :size]

        def divide(strip: slice, corner: np.ndarray = corner, at: slice = columns) -> None:
            solved = scipy.linalg.solve_triangular(corner, panel[strip, at].T, lower=True, trans=1, check_finite=False)
            panel[strip, at] = solved.T

        each(workers, divide, len(panel))


def multiply(
    product: np.ndarray,
    panel: np.ndarray,
    scale: float,
    n: int,
    blocks: Blocks,
    kernel: Tile,
    workers: ThreadPoolExecutor,
) -> None:
    """product += scale panel K_nn, by the tiles on and below the diagonal of the symmetric K_nn."""
    count = -(-n // blocks.size)
    for j in range(count):
        columns = slice(j * blocks.size, min((j + 1) * blocks.size, n))
        for i in range(j, count):
            rows = slice(i * blocks.size, min((i + 1) * blocks.size, n))
            tile = kernel(i, j)[: rows.stop - rows.start, : columns.stop - columns.start]

            def add(
                strip: slice, tile: np.ndarray = tile, i: int = i, j: int = j, at: tuple[slice, slice] = (rows, columns)
            ) -> None:
                rows, columns = at
                product[strip, columns] += scale * (panel[strip, rows] @ tile)
                if i != j:
                    product[strip, rows] += scale * (panel[strip, columns] @ tile.T)

            each(workers, add, len(product))


@contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    found = ThreadPoolExecutor(threads)
    try:
        yield found
    finally:
        found.shutdown(cancel_futures=True)


def each(workers: ThreadPoolExecutor, work: Callable[[slice], None], rows: int) -> None:
    for done in [workers.submit(work, slice(start, min(start + STRIP, rows))) for start in range(0, rows, STRIP)]:
        done.result()

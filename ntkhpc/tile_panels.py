"""Panels of the test inputs (m, n) beside tiles of kernels and of their factor: put together, divided, multiplied.

Tiles (i, j) lie on and below the diagonal, those of the test inputs after the training inputs' (see `tiled`). Each is
read by a thread of its own while the one before it is worked with, so two are held. Work is cut into strips of rows,
which threads take: their number changes no bit. Numbers are of the panel's own type.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np

from ntkhpc.blocks import Blocks
from ntkhpc.threads import each, in_order
from ntkhpc.triangular import divide, divide_by_transposed

Tile = Callable[[int, int], np.ndarray]
"""The tile (b, b) of block row i and block column j."""


def panel(n: int, blocks: Blocks, tile: Tile) -> np.ndarray:
    """The rows of the test inputs (m, n) of the first n columns, in the type of the tiles."""
    found = np.empty((0, 0))
    places = [(tile, blocks.train + t, j) for t in range(blocks.test) for j in range(-(-n // blocks.size))]
    with ahead(places) as tiles:
        for _, i, j in places:
            rows, columns = blocks.rows(i), _range(j, n, blocks)
            part = next(tiles)
            if not found.size:
                found = np.empty((blocks.m, n), part.dtype)
            found[rows, columns] = part[: rows.stop - rows.start, : columns.stop - columns.start]
    return found


def forward(panel: np.ndarray, n: int, blocks: Blocks, factor: Tile, workers: ThreadPoolExecutor) -> None:
    """panel <- panel L_n^-T, from the first column on."""
    places = [(factor, j, k) for j in range(-(-n // blocks.size)) for k in range(j + 1)]
    with ahead(places) as tiles:
        for _, j, k in places:
            columns, before = _range(j, n, blocks), _range(k, n, blocks)
            tile = next(tiles)[: columns.stop - columns.start, : before.stop - before.start]

            def subtract(strip: slice, at: slice = columns, before: slice = before, tile: np.ndarray = tile) -> None:
                panel[strip, at] -= panel[strip, before] @ tile.T

            def divide_strip(strip: slice, at: slice = columns, corner: np.ndarray = tile) -> None:
                divide_by_transposed(panel[strip, at], corner)

            each(workers, divide_strip if k == j else subtract, len(panel))


def backward(panel: np.ndarray, n: int, blocks: Blocks, factor: Tile, workers: ThreadPoolExecutor) -> None:
    """panel <- panel L_n^-1, from the last column on; L_n is the leading block of n rows of the factor."""
    last = -(-n // blocks.size) - 1
    places = [(factor, i, j) for j in range(last, -1, -1) for i in range(last, j - 1, -1)]
    with ahead(places) as tiles:
        for _, i, j in places:
            rows, columns = _range(i, n, blocks), _range(j, n, blocks)
            tile = next(tiles)[: rows.stop - rows.start, : columns.stop - columns.start]

            def subtract(strip: slice, at: slice = columns, rows: slice = rows, tile: np.ndarray = tile) -> None:
                panel[strip, at] -= panel[strip, rows] @ tile

            def divide_strip(strip: slice, at: slice = columns, corner: np.ndarray = tile) -> None:
                divide(panel[strip, at], corner)

            each(workers, divide_strip if i == j else subtract, len(panel))


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
    places = [(kernel, i, j) for j in range(count) for i in range(j, count)]
    with ahead(places) as tiles:
        for _, i, j in places:
            rows, columns = _range(i, n, blocks), _range(j, n, blocks)
            tile = next(tiles)[: rows.stop - rows.start, : columns.stop - columns.start]

            def add(strip: slice, rows: slice = rows, columns: slice = columns, tile: np.ndarray = tile) -> None:
                product[strip, columns] += scale * (panel[strip, rows] @ tile)
                if rows != columns:
                    product[strip, rows] += scale * (panel[strip, columns] @ tile.T)

            each(workers, add, len(product))


def _range(j: int, n: int, blocks: Blocks) -> slice:
    """The training inputs of a block, of the first n."""
    return slice(j * blocks.size, min((j + 1) * blocks.size, n))


def ahead(places: list[tuple[Tile, int, int]]) -> AbstractContextManager[Iterator[np.ndarray]]:
    """Tiles in this order, each read while the one before it is worked with: by one thread, so in this order."""
    return in_order(lambda place: place[0](*place[1:]), places)

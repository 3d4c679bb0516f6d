"""Tiles of kernels and of factors, in memory."""

from collections.abc import Callable

import numpy as np

from ntkhpc import tiled
from ntkhpc.blocks import Blocks
from ntkhpc.networks import MLP

Tiles = dict[tuple[int, int], np.ndarray]


def kernels(network: MLP, blocks: Blocks, x_train: np.ndarray, x_test: np.ndarray) -> tuple[Tiles, Tiles]:
    """NNGP and NTK by tile."""
    found = {
        (i, j): tiled.filled_tile(network, blocks, x_train, x_test, i, j)
        for j in range(blocks.train)
        for i in blocks.column(j)
    }
    return {at: nngp for at, (nngp, _) in found.items()}, {at: ntk for at, (_, ntk) in found.items()}


def factored(
    blocks: Blocks,
    kernel: Tiles,
    *,
    ridge: float = 0.0,
    precision: tiled.Precision = "float64",
    threads: int = 1,
    accelerated: bool = False,
) -> Tiles:
    found: Tiles = {}
    for j in range(blocks.train):
        column = tiled.factor_column(
            j,
            blocks,
            look(kernel),
            look(found),
            ridge=ridge,
            precision=precision,
            threads=threads,
            accelerated=accelerated,
        )
        for i, tile in zip(blocks.column(j), column, strict=True):
            found[i, j] = tile
    return found


def look(tiles: Tiles) -> Callable[[int, int], np.ndarray]:
    return lambda i, j: tiles[i, j]

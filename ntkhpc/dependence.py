"""Training inputs that make a kernel singular: which they are, and what is said of it.

Two inputs are at fault where their kernel is the geometric mean of their own, up to sign: equal, or parallel ones where
a network has no biases. Inputs may also depend on many others; then no row is at fault more than another.
"""

import numpy as np

from ntkhpc.blocks import STRIP, Blocks
from ntkhpc.errors import DataError
from ntkhpc.tile_panels import Tile

PARALLEL = 1e-14
"""By how much the cosine of two such inputs under the kernel may miss one, in float64."""


def singular(cause: str, rows: tuple[int, ...] = (), where: str | None = None) -> DataError:
    """The error of a kernel that has no inverse; `rows` are the training inputs at fault, where they are known."""
    return DataError(
        "the kernel of the training inputs is singular, so the law at infinite time does not exist",
        rows=rows,
        where=where,
        cause=cause,
        todo="remove duplicate rows; in a study, method = 'exact' with finite times alone in infinite_width.times "
        "needs no inverse, up to 20,000 samples; in the library a ridge helps",
    )


def zero(row: int) -> DataError:
    """The error of an input that is nothing to a network without biases."""
    return DataError(
        f"training input {row} is zero in every feature, and a network without biases is 0 there",
        rows=(row,),
        todo="remove that row, or give the network.bias_variance",
    )


def of_matrix(kernel: np.ndarray) -> DataError:
    """The error of a kernel (n, n) without an inverse, with the rows at fault where an input is zero or two are one."""
    scale = np.sqrt(np.diag(kernel))
    if not scale.all():
        return zero(int(np.argmin(scale)))
    for start in range(0, len(kernel), STRIP):
        stop = min(start + STRIP, len(kernel))
        if rows := _pair(kernel[start:stop, :stop], scale, start, 0, PARALLEL):
            return singular(equal(rows), rows)
    return singular("the training inputs are dependent under this kernel")


def of_tiles(first: int, last: int, blocks: Blocks, kernel: Tile, apart: float = PARALLEL) -> tuple[int, ...]:
    """The first two training inputs that are one under a kernel in tiles, the later among `first` to `last`.

    These lie in one block row. An input that is zero is found alone. The cosine of two misses one by no more than
    `apart`. Empty where there are none. Holds one tile, and reads a row and the diagonal of tiles.
    """
    i, stop = first // blocks.size, last + 1
    inner = slice(first - i * blocks.size, stop - i * blocks.size)
    scale = np.sqrt(np.concatenate([np.diag(kernel(j, j))[: blocks.height(j)] for j in range(i + 1)]))
    if not scale.all():
        return (int(np.argmin(scale)),)
    found = [_pair(kernel(i, j)[inner, : blocks.height(j)], scale, first, j * blocks.size, apart) for j in range(i + 1)]
    return min((rows for rows in found if rows), key=lambda rows: rows[1], default=())


def equal(rows: tuple[int, ...], nearly: str = "") -> str:
    """What two inputs are that make a kernel singular."""
    return f"training inputs {rows[0]} and {rows[1]} are equal, {nearly}or equal up to a factor"


def _pair(part: np.ndarray, scale: np.ndarray, row: int, column: int, apart: float) -> tuple[int, ...]:
    """The two inputs of the first cosine that is one, below the diagonal, of a part of a kernel that begins at this row
    and column; `scale` are roots of the diagonal."""
    rows, columns = row + np.arange(len(part)), column + np.arange(part.shape[1])
    alike = np.abs(part) > (1 - apart) * np.outer(scale[rows], scale[columns])
    places = np.argwhere(alike & (columns < rows[:, None]))
    return (int(columns[places[0, 1]]), int(rows[places[0, 0]])) if len(places) else ()

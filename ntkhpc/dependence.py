"""Training inputs that make a kernel singular: which they are, and what is said of it.

Two inputs are at fault where their kernel is the geometric mean of their own, up to sign: equal, or parallel ones where
a network has no biases. Inputs may also depend on many others; then no row is at fault more than another.
"""

import math
from typing import Any, Literal

import numpy as np

from ntkhpc.blocks import STRIP, Blocks
from ntkhpc.errors import DataError
from ntkhpc.kernels import nngp_ntk
from ntkhpc.networks import MLP
from ntkhpc.seeds import DIRECTION, generator
from ntkhpc.tile_panels import Tile

PARALLEL = 1e-14
"""By how much the cosine of two such inputs under the kernel may miss one, in float64."""

_NEAR = 1e-12
"""How near to each other, of their size, places of two such inputs on a direction are."""


def singular(cause: str, rows: tuple[int, ...] = (), where: str | None = None) -> DataError:
    """The error of a kernel that has no inverse; `rows` are the training inputs at fault, where they are known."""
    return DataError(
        "the kernel of the training inputs is singular, so the law at infinite time does not exist",
        rows=rows,
        where=where,
        cause=cause,
        todo="remove duplicate rows, or give a ridge (in a study infinite_width.ridge, of a posterior "
        "infinite_width.noise); finite times alone in infinite_width.times, with method = 'exact', need no inverse, up "
        "to 20,000 samples",
    )


def zero(row: int) -> DataError:
    """The error of an input that is nothing to a network without biases."""
    return DataError(
        f"training input {row} is zero in every feature, and a network without biases is 0 there",
        rows=(row,),
        todo="remove that row, or give the network.bias_variance",
    )


def require_independent(network: Any, x: np.ndarray, kernel: Literal["ntk", "nngp"] = "ntk") -> None:
    """Raises DataError, naming the rows, if an input of x (n, d) is zero for the kernel or two are equal for it.

    Two inputs are that where their kernel is the geometric mean of their own, up to sign: equal or, without biases,
    parallel ones. Those lie in one place on a random direction, so n log n operations find them.
    """
    which = ("nngp", "ntk").index(kernel)
    norms, place, near = _places(network, x)
    if not norms.all():
        first = int(np.argmin(norms))
        if not nngp_ntk(network, x[first : first + 1])[which].any():
            raise zero(first)
    order = np.argsort(place, kind="stable")
    for first, row in enumerate(order):
        later = first + 1
        while later < len(order) and place[order[later]] - place[row] <= near[row]:
            one, two = sorted((int(row), int(order[later])))
            pair = nngp_ntk(network, x[[one, two]])[which]
            if abs(pair[0, 1]) >= (1 - PARALLEL) * np.sqrt(pair[0, 0] * pair[1, 1]):
                raise singular(equal((one, two)), (one, two))
            later += 1


def _places(network: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Norms (n,) of the inputs, their places (n,) on a random direction, and how near (n,) to it those lie that are
    equal to one for the kernel.

    The first layer sees a bias as one more feature, the same for every input. ReLU kernels are those of the directions
    of inputs, to a factor; erf kernels tell norms, too. Of other networks all parallel inputs are looked at.
    """
    flat = np.reshape(x, (len(x), -1))
    norms, bias = np.linalg.norm(flat, axis=1), 0.0
    direction = generator(0, DIRECTION).normal(size=flat.shape[1] + 1)
    direction /= np.linalg.norm(direction)
    if isinstance(network, MLP):
        if network.activation == "erf":
            return norms, np.abs(flat @ direction[:-1]), _NEAR * norms
        bias = math.sqrt(network.bias_variance * flat.shape[1] / network.weight_variance)
    lengths = np.hypot(norms, bias)
    place = np.abs(flat @ direction[:-1] + bias * direction[-1]) / np.where(lengths > 0, lengths, 1)
    return norms, place, np.full(len(x), _NEAR)


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

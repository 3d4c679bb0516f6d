"""NNGP and NTK of one tile of pairs of inputs, in place in five buffers that fit in a core's cache.

With radius = |k1| |k2| of a layer's pre-activations, or sqrt((1 + 2 k11)(1 + 2 k22)) for erf and 2 k12 in place of k12,

    sine = sqrt((radius - k)(radius + k)) ;  complement = arctan(k / sine) = arcsin(k / radius)
    ReLU: <phi phi'> = (sine + (pi/2 + complement) k) / 2 pi ;  <dphi dphi'> = (pi/2 + complement) / 2 pi
    erf:  <phi phi'> = 2/pi complement ;                        <dphi dphi'> = 4/pi / sine

Factors common to a tile are carried by the radius and multiplied in once, at the end.
"""

import math
from typing import NamedTuple

import numpy as np

from ntkhpc.close_pairs import CLOSE
from ntkhpc.expectations import SMALLEST, next_variance
from ntkhpc.networks import MLP

ROWS, COLUMNS = 64, 256
"""Shape of a tile: five buffers of 128 KiB."""

_BUFFERS = 5
_LINE = 8  # numbers in a cache line
_UNSCALED_DEPTH = 32
_COMPLEMENT_OF_CLOSE = math.acos(math.sqrt(CLOSE))


class ClosePairs(NamedTuple):
    """Rows and columns of a tile whose inputs are nearly parallel, and whether these are opposite."""

    rows: np.ndarray
    columns: np.ndarray
    opposite: np.ndarray


class Scratch:
    """Buffers of one thread, used again by each tile; they begin at cache lines."""

    def __init__(self) -> None:
        numbers = np.empty(_BUFFERS * ROWS * COLUMNS + _LINE)
        first = -(numbers.ctypes.data // numbers.itemsize) % _LINE
        self._buffers = numbers[first:][: _BUFFERS * ROWS * COLUMNS].reshape(_BUFFERS, -1)

    def views(self, rows: int, columns: int) -> list[np.ndarray]:
        return [buffer[: rows * columns].reshape(rows, columns) for buffer in self._buffers]


def radii(mlp: MLP, variances: np.ndarray) -> np.ndarray:
    """(depth, n): factor of each input in the radius of each hidden layer, given the variances (n,) of the first."""
    rows = []
    for _ in range(mlp.depth):
        rows.append(np.sqrt(variances if mlp.activation == "relu" else (1 + 2 * variances) / _erf_factor(mlp)))
        variances = next_variance(mlp, variances)
    return np.stack(rows)


def kernel_tile(
    mlp: MLP,
    products: np.ndarray,
    features: int,
    sides: tuple[np.ndarray, np.ndarray],
    kernels: tuple[np.ndarray, np.ndarray],
    scratch: Scratch,
    diagonal: int | None = None,
) -> ClosePairs | None:
    """Write the NNGP and NTK (rows, columns) of a tile into `kernels`, and return the ReLU pairs that it cannot tell.

    `products` holds x.x' of inputs with so many features, and may be one of `kernels`. `sides` are the `radii` (depth,
    rows) and (depth, columns). `diagonal` is the column where the tile's first row meets itself: what is written there
    for ReLU means nothing, and the caller knows what is right.
    """
    k, theta, *work = scratch.views(*products.shape)
    relu = mlp.activation == "relu"
    unit = 1.0 if relu else _erf_factor(mlp) / 2
    np.multiply(products, mlp.weight_variance / features / unit, out=k)
    if mlp.bias_variance:
        k += mlp.bias_variance / unit
    np.copyto(theta, k)
    if relu:
        if diagonal is not None:
            np.fill_diagonal(k[:, diagonal:], 0)
        unit, close = _relu_layers(mlp, k, theta, sides, work)
    else:
        k, close = _erf_layers(mlp, k, theta, sides, work), None
    np.multiply(k, unit, out=kernels[0])
    np.multiply(theta, unit, out=kernels[1])
    return close


def complement(k: np.ndarray, radius: np.ndarray, sine: np.ndarray, out: np.ndarray) -> None:
    """Write sqrt(radius^2 - k^2) into `sine` and arcsin(k / radius) into `out`, which agree however small the sine is.

    `out` may be `radius`. NumPy's arctan takes a quarter of the time of a polynomial of degree 11 in NumPy on CPUs with
    AVX-512, and about as much on others, where arcsin is up to twice as slow.
    """
    np.add(radius, k, out=sine)
    np.subtract(radius, k, out=out)
    sine *= out
    np.maximum(sine, SMALLEST, out=sine)
    np.sqrt(sine, out=sine)
    np.divide(k, sine, out=out)
    np.arctan(out, out=out)


def _relu_layers(
    mlp: MLP, k: np.ndarray, theta: np.ndarray, sides: tuple[np.ndarray, np.ndarray], work: list[np.ndarray]
) -> tuple[float, ClosePairs | None]:
    """The recursion in place; the factor by which k and theta are then to be multiplied, and pairs too close to tell.

    A layer without bias multiplies the radius by C_W / 2, as it multiplies all else. So only pi remains, which many
    layers would take beyond the largest number.
    """
    radius, sine, outside = work
    close, per_layer = None, mlp.weight_variance / (2 * np.pi)
    scaled = mlp.bias_variance > 0 or mlp.depth > _UNSCALED_DEPTH
    for layer in range(mlp.depth):
        if layer == 0 or scaled:
            np.multiply(sides[0][layer][:, None], sides[1][layer], out=radius)
        else:
            radius *= np.pi
        complement(k, radius, sine, outside)
        if layer == 0 and max(outside.max(), -outside.min()) >= _COMPLEMENT_OF_CLOSE:
            i, j = np.nonzero(np.abs(outside) >= _COMPLEMENT_OF_CLOSE)
            close = ClosePairs(i, j, outside[i, j] < 0)
        outside += np.pi / 2
        theta *= outside
        k *= outside
        k += sine
        if scaled:
            theta *= per_layer
            k *= per_layer
            k += mlp.bias_variance
        theta += k
    return 1.0 if scaled else per_layer**mlp.depth, close


def _erf_layers(
    mlp: MLP, k: np.ndarray, theta: np.ndarray, sides: tuple[np.ndarray, np.ndarray], work: list[np.ndarray]
) -> np.ndarray:
    """The recursion in place and in units in which <phi phi'> is the complement; the buffer in which k then is."""
    radius, sine, _ = work
    bias = 2 * mlp.bias_variance / _erf_factor(mlp)
    for layer in range(mlp.depth):
        np.multiply(sides[0][layer][:, None], sides[1][layer], out=radius)
        complement(k, radius, sine, out=radius)
        k, radius = radius, k
        if bias:
            k += bias
        theta /= sine
        theta += k
    return k


def _erf_factor(mlp: MLP) -> float:
    return 4 / np.pi * mlp.weight_variance

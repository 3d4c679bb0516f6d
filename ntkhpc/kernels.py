"""NNGP and NTK of infinitely wide networks, by exact recursion over layers in float64.

    K1 = C_W x.x'/d + C_b ;  K(l+1) = C_W <phi phi'>_K(l) + C_b
    T1 = K1 ;                T(l+1) = K(l+1) + C_W <dphi dphi'>_K(l) * T(l)

[arXiv:1902.06720 and its references; Cho & Saul 2009 for ReLU, Williams 1997 for erf.] The kernels of the outputs are
those of layer depth + 1. A fully connected network has them here, by one matrix product a strip of rows and then tile
by tile, without the upper half of a symmetric matrix; any other network of neural_tangents.stax through `tangents`.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np

from ntkhpc.close_pairs import close_kernels, from_versine, pairs_at_once
from ntkhpc.expectations import expectations as expectations
from ntkhpc.kernel_tile import COLUMNS, ROWS, Scratch, kernel_tile, radii
from ntkhpc.networks import MLP

STRIP = COLUMNS
"""Rows of one matrix product, which one thread makes and turns into kernels; square blocks of it are mirrored."""

_ABOVE = ~np.tri(ROWS, dtype=bool)  # above the diagonal

Kernels = tuple[np.ndarray, np.ndarray]
"""NNGP and NTK."""


def nngp_ntk(
    network: MLP | Any, x1: Any, x2: Any = None, *, threads: int = 1, accelerated: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK between inputs x1 (n1, d) and x2 (n2, d), each (n1, n2), per output and in float64.

    With x2 None they are those of x1 with itself: exactly symmetric, with a diagonal that ReLU has exactly, as it has
    the entries of two equal inputs. Rows of equal inputs are equal to rounding.
    `network` is an MLP, a StaxNetwork, or a kernel function (or the triple holding it) of neural_tangents.stax.
    An MLP's strips of rows are shared among `threads`, which change no bit; each calls BLAS, which should have one.
    `accelerated` computes them on the device of JAX instead, whole: to the same rounding, not with the same bits.
    Raises ValueError for inputs that are not two-dimensional, differ in features, or are not finite, and for no thread.
    """
    if threads < 1:
        raise ValueError(f"threads = {threads} must be at least 1")
    if not isinstance(network, MLP):
        return _of_library(network, x1, x2)
    one = two = _inputs(network, _checked("x1", x1))
    if x2 is not None:
        two = _inputs(network, _checked("x2", x2))
        if one.x.shape[1] != two.x.shape[1]:
            raise ValueError(f"x1 {one.x.shape} and x2 {two.x.shape} differ in features")
    kernels = np.empty((len(one.x), len(two.x))), np.empty((len(one.x), len(two.x)))
    if accelerated:
        _fill_on_device(network, one, two, kernels)
    else:
        _fill(network, one, two, kernels, threads)
    if network.activation == "relu":
        _set_exact(network, one, two, kernels)
    return kernels


def _of_library(network: Any, x1: Any, x2: Any) -> Kernels:
    from ntkhpc import kernel_batches, tangents  # seconds to import, and only for other networks
    from ntkhpc.stax_network import StaxNetwork

    if not isinstance(network, StaxNetwork):
        return tangents.nngp_ntk(network, x1, x2)
    one, two = _checked("x1", x1), None if x2 is None else _checked("x2", x2)
    if two is not None and one.shape[1] != two.shape[1]:
        raise ValueError(f"x1 {one.shape} and x2 {two.shape} differ in features")
    return kernel_batches.nngp_ntk(network, one, two)


def lambda_max(kernel: Any) -> float:
    """Largest eigenvalue of a symmetric (n, n) matrix, by Lanczos iteration from a fixed start.

    From 3 rows on `kernel` may be a scipy.sparse.linalg.LinearOperator.
    """
    from scipy.sparse import linalg  # half a second to import, and only the data phase asks

    n = kernel.shape[0]
    if n < 3:
        return float(np.linalg.eigvalsh(kernel)[-1])
    # The NTK of ReLU networks has positive entries, so its leading vector is close to the constant one.
    start = np.full(n, 1 / math.sqrt(n))
    value = linalg.eigsh(kernel, k=1, which="LA", v0=start, tol=0, return_eigenvectors=False)
    return float(value[0])


def _checked(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}; it must be (n, features)")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"{name}[{row}, {column}] = {x[row, column]} is not finite")
    return x


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))


@dataclass(frozen=True)
class _Inputs:
    x: np.ndarray
    variances: np.ndarray  # (n,), of the first layer
    radii: np.ndarray  # (depth, n)


def _inputs(mlp: MLP, x: np.ndarray) -> _Inputs:
    variances = mlp.weight_variance / x.shape[1] * np.einsum("ij,ij->i", x, x) + mlp.bias_variance
    return _Inputs(x, variances, radii(mlp, variances))


def _fill(mlp: MLP, one: _Inputs, two: _Inputs, kernels: Kernels, threads: int) -> None:
    strips = [*_slices(0, len(one.x), STRIP)][::-1]  # the longest of a symmetric matrix first
    workers = min(threads, len(strips))
    if workers == 1:
        scratch = Scratch()
        for rows in strips:
            _strip(mlp, one, two, rows, kernels, scratch)
        return
    own = local()

    def prepare() -> None:
        own.scratch = Scratch()

    def compute(rows: slice) -> None:
        _strip(mlp, one, two, rows, kernels, own.scratch)

    with ThreadPoolExecutor(workers, initializer=prepare) as pool:
        for done in [pool.submit(compute, rows) for rows in strips]:
            done.result()


def _fill_on_device(mlp: MLP, one: _Inputs, two: _Inputs, kernels: Kernels) -> None:
    from ntkhpc import device_kernels  # compiles, and only where a phase has a device

    *found, sign = device_kernels.nngp_ntk(mlp, one.x, two.x, one.variances, two.variances)
    for kernel, values in zip(kernels, found, strict=True):
        kernel[...] = values
    i, j = np.nonzero(sign)
    if len(i):
        _set_close(mlp, one, two, (i, j), sign[i, j] < 0, kernels)
    for kernel in kernels if one is two else ():
        np.copyto(kernel, kernel.T.copy(), where=~np.tri(len(kernel), dtype=bool))


def _strip(mlp: MLP, one: _Inputs, two: _Inputs, rows: slice, kernels: Kernels, scratch: Scratch) -> None:
    """Rows of both kernels; of symmetric ones up to the diagonal, with the columns that mirror them.

    The products x.x' lie where the NNGP comes to lie.
    """
    products, symmetric = kernels[0], one is two
    if symmetric:
        np.matmul(one.x[rows], one.x[: rows.start].T, out=products[rows, : rows.start])
        np.matmul(one.x[rows], one.x[rows].T, out=products[rows, rows])  # NumPy sees that half of it is enough
    else:
        np.matmul(one.x[rows], two.x.T, out=products[rows])
    for columns in _slices(0, rows.stop if symmetric else len(two.x), STRIP):
        diagonal = symmetric and columns == rows
        for block in _slices(rows.start, rows.stop, ROWS):
            part = slice(columns.start, block.stop) if diagonal else columns
            tile = kernels[0][block, part], kernels[1][block, part]
            close = kernel_tile(
                mlp,
                tile[0],
                one.x.shape[1],
                (one.radii[:, block], two.radii[:, part]),
                tile,
                scratch,
                diagonal=block.start - part.start if diagonal else None,
            )
            if close is not None:
                pairs = close.rows + block.start, close.columns + part.start
                _set_close(mlp, one, two, pairs, close.opposite, kernels)
        for kernel in kernels if symmetric else ():
            _mirror(kernel, rows, columns)


def _mirror(kernel: np.ndarray, rows: slice, columns: slice) -> None:
    if rows != columns:
        kernel[columns, rows] = kernel[rows, columns].T
        return
    for block in _slices(rows.start, rows.stop, ROWS):
        left = slice(rows.start, block.start)
        kernel[left, block] = kernel[block, left].T
        square = kernel[block, block]
        np.copyto(square, square.T, where=_ABOVE[: len(square), : len(square)])


def _set_close(
    mlp: MLP,
    one: _Inputs,
    two: _Inputs,
    pairs: tuple[np.ndarray, np.ndarray],
    opposite: np.ndarray,
    kernels: Kernels,
) -> None:
    """Write ReLU kernels of nearly parallel inputs, of which a symmetric matrix needs those below its diagonal."""
    needed = pairs[0] > pairs[1] if one is two else np.full(opposite.shape, True)
    for sign in (False, True):
        (found,) = np.nonzero(needed & (opposite == sign))
        for part in _slices(0, len(found), pairs_at_once(one.x.shape[1])):
            i, j = pairs[0][found[part]], pairs[1][found[part]]
            values = close_kernels(mlp, one.x[i], two.x[j], one.variances[i], two.variances[j], opposite=sign)
            for kernel, value in zip(kernels, values, strict=True):
                kernel[i, j] = value


def _set_exact(mlp: MLP, one: _Inputs, two: _Inputs, kernels: Kernels) -> None:
    """Write the ReLU kernels that are known: those of an input with itself, and 0 for inputs of norm zero."""
    if one is two:
        diagonals = from_versine(mlp, np.zeros(len(one.x)), one.variances, one.variances)
        for kernel, diagonal in zip(kernels, diagonals, strict=True):
            np.fill_diagonal(kernel, diagonal)
    for kernel in kernels:
        kernel[one.variances == 0] = 0
        kernel[:, two.variances == 0] = 0

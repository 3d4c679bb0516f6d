"""Kernels of a network of neural_tangents.stax in batches of pairs: what the library holds meanwhile is bounded.

Behind a convolution the library has a covariance of every two positions of every pair of inputs if a pool or an
attention comes later, and one of each position if none does: from a few to millions of numbers a pair. A trace of the
kernel function tells how many (see `traced`), without computing one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ntkhpc import tangents, traced
from ntkhpc.stax_network import StaxNetwork

BATCH_BYTES = 320 * 2**20
"""Held by the library at most, where a single pair does not need more: two rows and columns at 32 x 32 positions."""

LARGEST = 128
"""Rows and columns of a batch at most: larger ones are no faster."""


def nngp_ntk(network: StaxNetwork, x1: np.ndarray, x2: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK between rows x1 (n1, features) and x2 (n2, features), each (n1, n2), in float64.

    With x2 None they are those of x1 with itself, exactly symmetric, of which only half is computed. The last rows of a
    batch are filled up, so that one program serves all of them.
    """
    symmetric, two = x2 is None, x1 if x2 is None else x2
    size = min(batch(network, x1.shape[1]), _power_of_two(max(len(x1), len(two))))
    kernels = np.empty((len(x1), len(two))), np.empty((len(x1), len(two)))
    with jax.enable_x64(True), tangents.library():
        program = _program(network)
        for top in range(0, len(x1), size):
            rows = _filled(x1[top : top + size], size)
            for left in range(0, top + 1 if symmetric else len(two), size):
                found = program(rows, _filled(two[left : left + size], size))
                for kernel, part in zip(kernels, found, strict=True):
                    block = kernel[top : top + size, left : left + size]
                    block[...] = np.asarray(part)[: block.shape[0], : block.shape[1]]
    if symmetric:
        for kernel in kernels:
            kernel[...] = np.tril(kernel) + np.tril(kernel, -1).T
    return kernels


@functools.lru_cache(maxsize=64)
def batch(network: StaxNetwork, features: int) -> int:
    """Rows and columns of a batch: a power of two, for which no more than BATCH_BYTES are held, or 1."""
    size = LARGEST
    while size > 1 and batch_bytes(network, features, size) > BATCH_BYTES:
        size //= 2
    return size


@functools.lru_cache(maxsize=256)
def batch_bytes(network: StaxNetwork, features: int, size: int) -> int:
    """What the library holds at its peak for a batch of `size` rows and columns, its results included."""
    return traced.peak_bytes(_trace(network, features, size))


@functools.lru_cache(maxsize=64)
def pair_operations(network: StaxNetwork, features: int) -> float:
    """Operations for an entry of both kernels, in those of dense products."""
    size = batch(network, features)
    return traced.operations(_trace(network, features, size)) / size**2


def _trace(network: StaxNetwork, features: int, size: int) -> Any:
    with jax.enable_x64(True), tangents.library():
        rows = traced.array((size, features), "float64")
        return traced.trace(_kernels(network), rows, rows)


@functools.lru_cache(maxsize=8)
def _program(network: StaxNetwork) -> Callable[..., Any]:
    return tangents.compiled(_kernels(network))


def _kernels(network: StaxNetwork) -> Callable[[Any, Any], tuple[Any, Any]]:
    kernel_fn = network.kernel_fn

    def kernels(x1: Any, x2: Any) -> tuple[Any, Any]:
        found = kernel_fn(network.seen(x1), network.seen(x2), ("nngp", "ntk"))
        return found.nngp, found.ntk

    return kernels


def _power_of_two(rows: int) -> int:
    return 1 << max(rows - 1, 0).bit_length()


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """With the first row repeated, as it has a kernel."""
    return rows if len(rows) == size else np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])

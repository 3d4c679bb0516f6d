"""Products of NNGP and NTK matrices with blocks of vectors, without the matrices.

What the law of many training points needs of its kernels is a few methods (`SymmetricProducts`, `CrossProducts`), so
that tiles computed as they are needed, tiles read from files and arrays in memory serve alike. Here are those that
compute: memory is two tiles, the inputs and the vectors.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ntkhpc.errors import DataError
from ntkhpc.kernels import nngp_ntk
from ntkhpc.networks import MLP
from ntkhpc.probes import pair_operations
from ntkhpc.seeds import DIRECTION, generator

Kernel = Literal["ntk", "nngp"]
Vectors = Mapping[Kernel, np.ndarray]
"""What each kernel is multiplied with, a block of vectors (n, r); a kernel that is not named is not multiplied."""

TILE = 512
"""Rows and columns of a tile: 2 MiB a kernel, so that it is multiplied while it is in cache."""

_DIAGONAL_TILE = 32
_PARALLEL = 1e-14
_NEAR = 1e-12


class SymmetricProducts(Protocol):
    """Kernels (n, n) of inputs with themselves."""

    @property
    def size(self) -> int: ...

    @property
    def operations(self) -> float:
        """What it costs to have a pair of entries, one of each kernel, in floating operations."""
        ...

    def products(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel times its vectors (n, r)."""
        ...

    def columns(self, kernel: Kernel, indices: np.ndarray) -> np.ndarray:
        """Columns (n, len(indices)) of one kernel."""
        ...

    def diagonal(self, kernel: Kernel) -> np.ndarray:
        """Diagonal (n,) of one kernel."""
        ...


class CrossProducts(Protocol):
    """Kernels (n, m) between training inputs and test inputs."""

    def products(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel (n, m) times its vectors (m, r)."""
        ...

    def transposed(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel's transpose (m, n) times its vectors (n, r)."""
        ...


@dataclass(frozen=True)
class ComputedKernels:
    """Kernels of inputs x (n, d) with themselves, computed tile by tile; only the tiles on and below the diagonal."""

    network: Any
    x: np.ndarray
    tile: int = TILE

    @property
    def size(self) -> int:
        return len(self.x)

    @property
    def operations(self) -> float:
        if isinstance(self.network, MLP):
            return pair_operations(self.x.shape[1], self.network.depth)
        from ntkhpc import kernel_batches  # seconds to import, and only for other networks
        from ntkhpc.stax_network import StaxNetwork

        if isinstance(self.network, StaxNetwork):
            return kernel_batches.pair_operations(self.network, self.x.shape[1])
        return pair_operations(math.prod(self.x.shape[1:]), 1)

    def products(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel times its vectors (n, r): one pass over half of the matrix, both kernels from one tile."""
        found = {kernel: np.zeros(block.shape) for kernel, block in vectors.items()}
        for rows in _slices(self.size, self.tile):
            for columns in _slices(rows.stop, self.tile):
                other = None if rows == columns else self.x[columns]
                tiles = _named(nngp_ntk(self.network, self.x[rows], other))
                for kernel, block in vectors.items():
                    found[kernel][rows] += tiles[kernel] @ block[columns]
                    if other is not None:
                        found[kernel][columns] += tiles[kernel].T @ block[rows]
        return found

    def columns(self, kernel: Kernel, indices: np.ndarray) -> np.ndarray:
        """Columns (n, len(indices)) of one kernel."""
        found, chosen = np.empty((self.size, len(indices))), self.x[indices]
        for rows in _slices(self.size, self.tile):
            found[rows] = _named(nngp_ntk(self.network, self.x[rows], chosen))[kernel]
        return found

    def diagonal(self, kernel: Kernel) -> np.ndarray:
        """Diagonal (n,) of one kernel."""
        parts = (_named(nngp_ntk(self.network, self.x[rows])) for rows in _slices(self.size, _DIAGONAL_TILE))
        return np.concatenate([np.diag(part[kernel]) for part in parts])


@dataclass(frozen=True)
class ComputedCross:
    """Kernels between training inputs x (n, d) and test inputs x_test (m, d), computed tile by tile."""

    network: Any
    x: np.ndarray
    x_test: np.ndarray
    tile: int = TILE

    def products(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel (n, m) times its vectors (m, r)."""
        found = {kernel: np.zeros((len(self.x), block.shape[1])) for kernel, block in vectors.items()}
        for rows, columns, tiles in self._tiles():
            for kernel, block in vectors.items():
                found[kernel][rows] += tiles[kernel] @ block[columns]
        return found

    def transposed(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel's transpose (m, n) times its vectors (n, r)."""
        found = {kernel: np.zeros((len(self.x_test), block.shape[1])) for kernel, block in vectors.items()}
        for rows, columns, tiles in self._tiles():
            for kernel, block in vectors.items():
                found[kernel][columns] += tiles[kernel].T @ block[rows]
        return found

    def _tiles(self) -> Iterator[tuple[slice, slice, dict[Kernel, np.ndarray]]]:
        for rows in _slices(len(self.x), self.tile):
            for columns in _slices(len(self.x_test), self.tile):
                yield rows, columns, _named(nngp_ntk(self.network, self.x[rows], self.x_test[columns]))


def require_independent(network: Any, x: np.ndarray, kernel: Kernel = "ntk") -> None:
    """Raises DataError, naming the rows, if an input of x (n, d) is zero for the kernel or two are equal for it.

    Two inputs are that where their kernel is the geometric mean of their own, up to sign: equal or, without biases,
    parallel ones. Those lie in one place on a random direction, so n log n operations find them.
    """
    norms, place, near = _places(network, x)
    if not norms.all():
        first = int(np.argmin(norms))
        if not _named(nngp_ntk(network, x[first : first + 1]))[kernel].any():
            raise DataError(
                f"training input {first} is zero in every feature, and a network without biases is 0 there",
                rows=(first,),
                todo="remove that row, or give the network.bias_variance",
            )
    order = np.argsort(place, kind="stable")
    for first, row in enumerate(order):
        later = first + 1
        while later < len(order) and place[order[later]] - place[row] <= near[row]:
            one, two = sorted((int(row), int(order[later])))
            pair = _named(nngp_ntk(network, x[[one, two]]))[kernel]
            if abs(pair[0, 1]) >= (1 - _PARALLEL) * np.sqrt(pair[0, 0] * pair[1, 1]):
                raise singular(f"training inputs {one} and {two} are equal, or equal up to a factor", (one, two))
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


def singular(cause: str, rows: tuple[int, ...] = ()) -> DataError:
    """The error of a kernel that has no inverse; `rows` are the training inputs at fault, where they are known."""
    return DataError(
        "the kernel of the training inputs is singular, so the law at infinite time does not exist",
        rows=rows,
        cause=cause,
        todo="remove duplicate rows; in a study, method = 'exact' with finite times alone in infinite_width.times "
        "needs no inverse, up to 20,000 samples; in the library a ridge helps",
    )


def _named(kernels: Sequence[np.ndarray]) -> dict[Kernel, np.ndarray]:
    nngp, ntk = kernels
    return {"nngp": nngp, "ntk": ntk}


def _slices(n: int, tile: int) -> Iterator[slice]:
    return (slice(start, min(start + tile, n)) for start in range(0, n, tile))

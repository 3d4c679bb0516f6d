"""Products of NNGP and NTK matrices with blocks of vectors, without the matrices.

What the law of many training points needs of its kernels is a few methods (`SymmetricProducts`, `CrossProducts`), so
that tiles computed as they are needed, tiles read from files and arrays in memory serve alike. Here are those that
compute: memory is two tiles a thread and their products, the inputs and the vectors. Threads compute tiles, whose
products are added in the order of the tiles: their number changes no bit.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ntkhpc.kernels import nngp_ntk
from ntkhpc.networks import MLP
from ntkhpc.probes import pair_operations
from ntkhpc.threads import Item, Result, in_order

Kernel = Literal["ntk", "nngp"]
Vectors = Mapping[Kernel, np.ndarray]
"""What each kernel is multiplied with, a block of vectors (n, r); a kernel that is not named is not multiplied."""

TILE = 512
"""Rows and columns of a tile: 2 MiB a kernel, so that it is multiplied while it is in cache."""

_DIAGONAL_TILE = 32


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


_Part = tuple[slice, slice, dict[Kernel, np.ndarray], dict[Kernel, np.ndarray]]
"""Rows and columns of a tile; of each kernel what it gives the rows, and what its transpose gives the columns."""


@dataclass(frozen=True)
class ComputedKernels:
    """Kernels of inputs x (n, d) with themselves, computed tile by tile; only the tiles on and below the diagonal.

    An MLP's tiles are shared among `threads`.
    """

    network: Any
    x: np.ndarray
    tile: int = TILE
    threads: int = 1

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

        def part(place: tuple[slice, slice]) -> _Part:
            rows, columns = place
            other = None if rows == columns else self.x[columns]
            tiles = _named(nngp_ntk(self.network, self.x[rows], other))
            below = {kernel: tiles[kernel] @ block[columns] for kernel, block in vectors.items()}
            mirrored = (
                {} if other is None else {kernel: tiles[kernel].T @ block[rows] for kernel, block in vectors.items()}
            )
            return rows, columns, below, mirrored

        places = (
            (rows, columns) for rows in _slices(self.size, self.tile) for columns in _slices(rows.stop, self.tile)
        )
        with _computed(self.network, part, places, self.threads) as parts:
            for rows, columns, below, mirrored in parts:
                for kernel in vectors:
                    found[kernel][rows] += below[kernel]
                    if mirrored:
                        found[kernel][columns] += mirrored[kernel]
        return found

    def columns(self, kernel: Kernel, indices: np.ndarray) -> np.ndarray:
        """Columns (n, len(indices)) of one kernel."""
        found, chosen = np.empty((self.size, len(indices))), self.x[indices]

        def part(rows: slice) -> tuple[slice, np.ndarray]:
            return rows, _named(nngp_ntk(self.network, self.x[rows], chosen))[kernel]

        with _computed(self.network, part, _slices(self.size, self.tile), self.threads) as parts:
            for rows, values in parts:
                found[rows] = values
        return found

    def diagonal(self, kernel: Kernel) -> np.ndarray:
        """Diagonal (n,) of one kernel."""
        parts = (_named(nngp_ntk(self.network, self.x[rows])) for rows in _slices(self.size, _DIAGONAL_TILE))
        return np.concatenate([np.diag(part[kernel]) for part in parts])


@dataclass(frozen=True)
class ComputedCross:
    """Kernels between training inputs x (n, d) and test inputs x_test (m, d), computed tile by tile.

    An MLP's tiles are shared among `threads`.
    """

    network: Any
    x: np.ndarray
    x_test: np.ndarray
    tile: int = TILE
    threads: int = 1

    def products(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel (n, m) times its vectors (m, r)."""
        found = {kernel: np.zeros((len(self.x), block.shape[1])) for kernel, block in vectors.items()}

        def part(place: tuple[slice, slice]) -> tuple[slice, dict[Kernel, np.ndarray]]:
            tiles = self._tile(place)
            return place[0], {kernel: tiles[kernel] @ block[place[1]] for kernel, block in vectors.items()}

        return self._added(part, found)

    def transposed(self, vectors: Vectors) -> dict[Kernel, np.ndarray]:
        """Each kernel's transpose (m, n) times its vectors (n, r)."""
        found = {kernel: np.zeros((len(self.x_test), block.shape[1])) for kernel, block in vectors.items()}

        def part(place: tuple[slice, slice]) -> tuple[slice, dict[Kernel, np.ndarray]]:
            tiles = self._tile(place)
            return place[1], {kernel: tiles[kernel].T @ block[place[0]] for kernel, block in vectors.items()}

        return self._added(part, found)

    def _tile(self, place: tuple[slice, slice]) -> dict[Kernel, np.ndarray]:
        return _named(nngp_ntk(self.network, self.x[place[0]], self.x_test[place[1]]))

    def _added(
        self,
        part: Callable[[tuple[slice, slice]], tuple[slice, dict[Kernel, np.ndarray]]],
        found: dict[Kernel, np.ndarray],
    ) -> dict[Kernel, np.ndarray]:
        """The sums of what each tile gives a range of rows."""
        of_test = [*_slices(len(self.x_test), self.tile)]
        places = ((rows, columns) for rows in _slices(len(self.x), self.tile) for columns in of_test)
        with _computed(self.network, part, places, self.threads) as parts:
            for rows, products in parts:
                for kernel, product in products.items():
                    found[kernel][rows] += product
        return found


def _computed(
    network: Any, part: Callable[[Item], Result], places: Iterable[Item], threads: int
) -> AbstractContextManager[Iterator[Result]]:
    """The parts in the order of their places; by this thread alone where it has no others, or JAX has its own."""
    if threads == 1 or not isinstance(network, MLP):
        return nullcontext(map(part, places))
    return in_order(part, places, threads)


def _named(kernels: Sequence[np.ndarray]) -> dict[Kernel, np.ndarray]:
    nngp, ntk = kernels
    return {"nngp": nngp, "ntk": ntk}


def _slices(n: int, tile: int) -> Iterator[slice]:
    return (slice(start, min(start + tile, n)) for start in range(0, n, tile))

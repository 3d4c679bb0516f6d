"""The chunks of a lazy array along its first dimension, one after the other, in whatever thread asks for one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray
from dask.base import optimize
from dask.local import get_sync
from dask.optimization import cull

from ntkhpc.threads import Result, in_order


@dataclass(frozen=True)
class Piece:
    """Rows from `begin` to `end` of an array, which `read` reads each time that it is called."""

    begin: int
    end: int
    read: Callable[[], np.ndarray]

    @property
    def rows(self) -> slice:
        return slice(self.begin, self.end)


def along(array: xarray.DataArray) -> list[Piece]:
    """Of an array, in memory or lazy, each chunk along its first dimension; one that is in memory is one piece.

    Dask looks at the array once. A slice of it that is computed would be a graph of its own, and making the graphs of
    a thousand chunks takes longer than reading them.
    """
    if array.chunks is None:
        return [Piece(0, len(array), lambda: np.asarray(array.values))]
    (lazy,) = optimize(array.data.rechunk(dict.fromkeys(range(1, array.ndim), -1)))
    graph = dict(lazy.__dask_graph__())

    def reading(key: tuple[str | int, ...]) -> Callable[[], np.ndarray]:
        return lambda: np.asarray(get_sync(cull(graph, [key])[0], key))

    others = (0,) * (array.ndim - 1)
    return [
        Piece(begin, begin + length, reading((lazy.name, number, *others)))
        for number, (begin, length) in enumerate(_spans(lazy.chunks[0]))
    ]


def each(work: Callable[[Piece], Result], read: Sequence[Piece], threads: int) -> Iterator[Result]:
    """What is made of each piece, in their order, by so many threads; one alone needs none."""
    if len(read) == 1:
        yield work(read[0])
        return
    with in_order(work, read, threads=threads) as found:
        yield from found


def _spans(lengths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    begin = 0
    for length in lengths:
        yield begin, length
        begin += length

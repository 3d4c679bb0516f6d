"""Sums over the losses per test point of one cell, a block of members at a time: nothing larger than a chunk is held.

One read gives L of each member and, about the first block's mean c, the sums of d = l - c, d^2 and d L over members at
each point, and the same of the blocks of test points. A second one, where the losses do not fit in HELD_BYTES, gives
the squared deviation of each member from the points' means, which are known only then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray
from dask.base import compute
from dask.delayed import delayed

HELD_BYTES = 2**26
"""Losses of a cell that are kept from the first read for the second."""

_BLOCK_VALUES = 2**17
"""Of a block in float64, which all its passes find in a core's cache."""


@dataclass(frozen=True)
class CellLosses:
    """Of a cell with m members and p test points; NaN where there are no members, of spreads less than two.

    total (m,) is L, `deviation` (m,) the mean over points of (l - point_mean)^2, NaN for members that were not trained.
    point_mean, point_variance (ddof = 1) and point_covariance (with L) are (p,); size_variance (sizes,) is the mean,
    over blocks of so many points, of the variance of the block's mean.
    """

    total: np.ndarray
    deviation: np.ndarray
    point_mean: np.ndarray
    point_variance: np.ndarray
    point_covariance: np.ndarray
    size_variance: np.ndarray

    @classmethod
    def of(cls, losses: xarray.DataArray, trained: np.ndarray, sizes: tuple[int, ...]) -> "CellLosses":
        """Of `losses` (member, test_point), in memory or lazy, and `trained` (member,), which says who is used."""
        reader = _Reader(losses.transpose("member", "test_point"), trained)
        sums = _Sums(losses.sizes["test_point"], sizes)
        total = np.full(len(trained), np.nan)
        for members, rows in reader:
            total[members] = sums.add(rows)
        used = sums.used
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.first / used
            found = cls(
                total=total,
                deviation=np.full(len(trained), np.nan),
                point_mean=sums.centre + mean if used else np.full(sums.points, np.nan),
                point_variance=_variance(sums.first, sums.second, used),
                point_covariance=(sums.crossed - mean * sums.total) / (used - 1)
                if used
                else np.full_like(mean, np.nan),
                size_variance=np.array([_variance(*one, used).mean() for one in sums.blocks]),
            )
        for members, rows in reader:
            rows -= found.point_mean
            found.deviation[members] = np.einsum("ij,ij->i", rows, rows) / sums.points
        return found


def _variance(first: np.ndarray, second: np.ndarray, used: int) -> np.ndarray:
    if used < 2:
        return np.full(np.shape(first), np.nan)
    return np.maximum(second - first**2 / used, 0) / (used - 1)


class _Reader:
    """Blocks of trained members with their losses in float64, as often as it is gone through."""

    def __init__(self, losses: xarray.DataArray, trained: np.ndarray):
        self._losses, self._trained = losses, trained
        self._kept: dict[int, np.ndarray] | None = {} if losses.nbytes <= HELD_BYTES else None

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        begin, chunks = 0, self._losses.chunksizes.get("member", (len(self._trained),))
        rows = max(1, _BLOCK_VALUES // max(1, self._losses.shape[1]))
        for length in chunks:
            values = self._chunk(begin, begin + length)
            trained = self._trained[begin : begin + length]
            for first in range(0, length, rows):
                here = slice(first, min(first + rows, length))
                members = begin + first + np.flatnonzero(trained[here])
                if len(members) == here.stop - first:
                    yield members, values[here].astype(np.float64)
                elif len(members):
                    yield members, values[members - begin].astype(np.float64)
            begin += length

    def _chunk(self, begin: int, end: int) -> np.ndarray:
        if self._kept is not None and begin in self._kept:
            return self._kept[begin]
        values = self._losses[begin:end].compute(scheduler="synchronous").values  # this may itself be a task
        if self._kept is not None:
            self._kept[begin] = values
        return values


class _Sums:
    """Over members: `first` of d, `second` of d^2, `crossed` of d (L - its mean in the first block), at each point."""

    def __init__(self, points: int, sizes: tuple[int, ...]):
        self.points, self.used, self.total = points, 0, 0.0
        self.centre, self.first, self.second, self.crossed = (np.zeros(points) for _ in range(4))
        self._sizes, self._level = sizes, 0.0
        self.blocks = [(np.zeros(points // size), np.zeros(points // size)) for size in sizes]
        # Points between two ends of blocks of any size are summed once: few sums make those of every block.
        ends = np.unique(
            np.concatenate([size * np.arange(1, points // size + 1) for size in sizes] or [np.array([points])])
        )
        self._starts, self._end = np.concatenate([[0], ends[:-1]]).astype(int), int(ends[-1])
        self._last = [np.searchsorted(ends, size * np.arange(1, points // size + 1)) for size in sizes]

    def add(self, rows: np.ndarray) -> np.ndarray:
        """L of a block's members (m,), whose losses `rows` (m, points) are changed."""
        if not self.used:
            self.centre = rows.mean(axis=0)
            self._level = self.centre.mean()
        rows -= self.centre
        lowered = rows.mean(axis=1)
        ones = np.ones(len(rows))
        self.used += len(rows)
        self.total += lowered.sum()
        self.first += ones @ rows
        self.second += np.einsum("ij,ij->j", rows, rows)
        self.crossed += lowered @ rows
        summed = np.cumsum(np.add.reduceat(rows[:, : self._end], self._starts, axis=1), axis=1)
        for size, last, (first, second) in zip(self._sizes, self._last, self.blocks, strict=True):
            means = np.diff(summed[:, last], axis=1, prepend=0.0) / size
            first += ones @ means
            second += np.einsum("ij,ij->j", means, means)
        return lowered + self._level


def of_cells(
    losses: xarray.DataArray, trained: xarray.DataArray, sizes: tuple[int, ...], cells: Any
) -> list[CellLosses]:
    """Of each of `cells`, which are indices of dimensions by name: one Dask task a cell."""
    tasks = [
        delayed(_Task(losses.isel(cell), trained.isel(cell).values, sizes), name=f"cell-losses-{number}")(None)
        for number, cell in enumerate(cells)
    ]
    return list(compute(*tasks))


class _Task:
    """A call that Dask does not look into: it would compute the lazy losses first, whole."""

    def __init__(self, losses: xarray.DataArray, trained: np.ndarray, sizes: tuple[int, ...]):
        self._arguments = (losses, trained, sizes)

    def __call__(self, _: None) -> CellLosses:
        return CellLosses.of(*self._arguments)

"""Sums over the losses per test point of one cell, a chunk of members at a time: nothing larger than a chunk is held.

One read gives L of each member and, about a centre c that is known before, the sums of d = l - c, d^2 and d L over
members at each point, the same of the blocks of test points, and |d|^2 of each member. From the points' means m, which
are known at the end, and their distance delta = m - c, a member is at

    |l - m|^2 = |d|^2 - 2 d.delta + |delta|^2 ,  of which the last two are -|delta|^2 on average over members

so that |d|^2 - |delta|^2 is right to 2 |d| |delta|: nothing, where c is the points' means. Those are known without a
loss, from the predictions: E l_a = bias^2_a + variance_a. Where they are not there, or are not the means of these
losses, the cell is read a second time about the means that the first one found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import xarray

from analysis import pieces, tasks
from analysis.pieces import Piece
from analysis.tasks import Task
from analysis.workers import threads_of_each

CLOSE = 1e-6
"""What 2 |d| |delta| may be of |d|^2, for the root mean square |d|: losses are stored to 6e-8 of themselves."""

_BLOCK_VALUES = 2**17
"""Of a block in float64, which all its sums find in a core's cache."""


@dataclass(frozen=True)
class CellLosses:
    """Of a cell with m members and p test points; NaN where there are no members, of spreads less than two.

    total (m,) is L, `deviation` (m,) the mean over points of (l - point_mean)^2, NaN for members that were not trained.
    point_mean, point_variance (ddof = 1) and point_covariance (with L) are (p,); size_variance (sizes,) is the mean,
    over blocks of so many points, of the variance of the block's mean. All are sums in float64; an error of `deviation`
    is at most CLOSE times itself or its mean, whichever is larger.
    """

    total: np.ndarray
    deviation: np.ndarray
    point_mean: np.ndarray
    point_variance: np.ndarray
    point_covariance: np.ndarray
    size_variance: np.ndarray

    @classmethod
    def of(
        cls,
        losses: xarray.DataArray,
        trained: np.ndarray,
        sizes: tuple[int, ...],
        expected: np.ndarray | None = None,
        threads: int = 1,
    ) -> "CellLosses":
        """Of `losses` (member, test_point), in memory or lazy, and `trained` (member,), which says who is used.

        `expected` (test_point,) are the means over members, as far as they are known: they decide how often the losses
        are read and, but for rounding, no value. So many `threads` read chunks; their number changes no bit.
        """
        read = pieces.along(losses.transpose("member", "test_point"))
        blocks = _Blocks.of(losses.sizes["test_point"], sizes)
        if expected is None or not np.isfinite(expected).all():
            expected = _first_mean(read, trained, blocks.points)
        sums = _Sums.over(read, trained, blocks, expected, threads)
        if not sums.is_close:
            sums = _Sums.over(read, trained, blocks, sums.mean, threads)
        return sums.result()


@dataclass(frozen=True)
class _Blocks:
    """Blocks of neighbouring test points of several sizes, as unions of the strips between two ends of blocks.

    Moments of strips give those of blocks: sizes are halves of one another, and so there are few strips.
    """

    points: int
    sizes: tuple[int, ...]
    starts: np.ndarray
    end: int

    @classmethod
    def of(cls, points: int, sizes: tuple[int, ...]) -> "_Blocks":
        ends = np.unique([0, *(end for size in sizes for end in range(size, points + 1, size))])
        return cls(points, sizes, ends[:-1], int(ends[-1]))

    def strips(self, rows: np.ndarray) -> np.ndarray:
        """Sums (..., strips) of rows (..., points)."""
        return np.add.reduceat(rows[..., : self.end], self.starts, axis=-1)

    def mean_variances(self, covariance: np.ndarray) -> np.ndarray:
        """Variance of a block's mean for each size, averaged over its blocks, from the covariance of the strips."""
        found = []
        for size in self.sizes:
            number = self.starts // size
            inside = number < self.points // size  # the points left over are in no block
            belongs = (number == np.arange(self.points // size)[:, None]) & inside
            found.append(np.einsum("bs,st,bt->b", belongs, covariance, belongs, optimize=True).mean() / size**2)
        return np.array(found)


class _Part:
    """Of some members: L - mean c and |d|^2/p of each, and sums over them: `first` of d, `second` of d^2, `crossed` of
    d (L - mean c), at each point, and `strips` of products of two strips' sums of d."""

    def __init__(self, blocks: _Blocks, members: int):
        self.lowered, self.square = np.full(members, np.nan), np.full(members, np.nan)
        self.used, self.total = 0, 0.0
        self.first, self.second, self.crossed = (np.zeros(blocks.points) for _ in range(3))
        self.strips = np.zeros((len(blocks.starts),) * 2)

    @classmethod
    def of(cls, blocks: _Blocks, centre: np.ndarray, trained: np.ndarray, piece: Piece) -> "_Part":
        used = np.flatnonzero(trained[piece.rows])
        found = cls(blocks, piece.end - piece.begin)
        if not len(used):
            return found
        values = piece.read()
        rows = max(1, _BLOCK_VALUES // max(1, blocks.points))
        room = np.empty((min(rows, len(used)), blocks.points))
        for start in range(0, len(used), rows):
            members = used[start : start + rows]
            block = room[: len(members)]
            # Of rows without a gap no copy is made in the type of the losses.
            whole = members[-1] - members[0] == len(members) - 1
            block[...] = values[members[0] : members[-1] + 1] if whole else values[members]
            block -= centre
            found._add(blocks, members, block)
        return found

    def _add(self, blocks: _Blocks, members: np.ndarray, rows: np.ndarray) -> None:
        lowered = rows.mean(axis=1)
        self.lowered[members] = lowered
        self.square[members] = np.einsum("ij,ij->i", rows, rows) / blocks.points
        self.used += len(rows)
        self.total += lowered.sum()
        first, crossed = np.stack([np.ones(len(rows)), lowered]) @ rows
        self.first += first
        self.second += np.einsum("ij,ij->j", rows, rows)
        self.crossed += crossed
        if blocks.sizes:
            summed = blocks.strips(rows)
            self.strips += summed.T @ summed

    def join(self, other: "_Part") -> None:
        """Take in the sums of other members; what is of each member stays."""
        self.used += other.used
        self.total += other.total
        self.first += other.first
        self.second += other.second
        self.crossed += other.crossed
        self.strips += other.strips


@dataclass(frozen=True)
class _Sums:
    """Over all members of a cell, about a centre (p,)."""

    blocks: _Blocks
    centre: np.ndarray
    part: _Part

    @classmethod
    def over(
        cls, read: Sequence[Piece], trained: np.ndarray, blocks: _Blocks, centre: np.ndarray, threads: int
    ) -> "_Sums":
        """Chunks are summed by themselves, and their sums joined in order, whatever thread read them."""
        whole = _Part(blocks, len(trained))
        parts = pieces.each(partial(_Part.of, blocks, centre, trained), read, threads)
        for piece, part in zip(read, parts, strict=True):
            whole.lowered[piece.rows], whole.square[piece.rows] = part.lowered, part.square
            whole.join(part)
        return cls(blocks, centre, whole)

    @cached_property
    def delta(self) -> np.ndarray:
        """m - c."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.part.first / self.part.used

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self.centre + self.delta)

    @property
    def is_close(self) -> bool:
        """Whether the centre is so near to the means that |d|^2 is known about them."""
        part = self.part
        return not part.used or bool(4 * (self.delta**2).sum() <= CLOSE**2 * part.second.sum() / part.used)

    def result(self) -> CellLosses:
        part = self.part
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = (part.crossed - self.delta * part.total) / (part.used - 1)
        return CellLosses(
            total=part.lowered + self.centre.mean(),
            deviation=np.maximum(part.square - (self.delta**2).mean(), 0),
            point_mean=self.mean,
            point_variance=_variance(part.first, part.second, part.used),
            point_covariance=covariance,
            size_variance=self.blocks.mean_variances(self._strip_covariance()),
        )

    def _strip_covariance(self) -> np.ndarray:
        part, first = self.part, self.blocks.strips(self.part.first)
        if part.used < 2:
            return np.full_like(part.strips, np.nan)
        return (part.strips - np.outer(first, first) / part.used) / (part.used - 1)


def _variance(first: np.ndarray, second: np.ndarray, used: int) -> np.ndarray:
    if used < 2:
        return np.full(np.shape(first), np.nan)
    return np.maximum(second - first**2 / used, 0) / (used - 1)


def _first_mean(read: Sequence[Piece], trained: np.ndarray, points: int) -> np.ndarray:
    """The mean over the trained members of the first chunk that has some."""
    for piece in read:
        if len(used := np.flatnonzero(trained[piece.rows])):
            return np.asarray(piece.read()[used].mean(axis=0, dtype=np.float64))
    return np.zeros(points)


def of_cells(
    losses: xarray.DataArray,
    trained: xarray.DataArray,
    sizes: tuple[int, ...],
    cells: Sequence[dict[str, int]],
    expected: xarray.DataArray | None = None,
) -> list[CellLosses]:
    """Of each of `cells`, which are indices of dimensions by name: one Dask task a cell."""
    threads = threads_of_each(len(cells))
    return tasks.each(
        "cell-losses",
        [
            Task(
                CellLosses.of,
                losses.isel(cell),
                trained.isel(cell).values,
                sizes,
                None if expected is None else expected.isel(cell).values,
                threads,
            )
            for cell in cells
        ],
    )

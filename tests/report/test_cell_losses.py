"""Sums over the losses of a cell against plain NumPy in float64, and how often and how much of them is read."""

import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray

from analysis import cell_losses, pieces
from analysis.cell_losses import CellLosses

CHUNKS = (7, 200, 1, 40, 52)
SIZES = (3, 6, 12, 25)


@dataclass
class Counted:
    """An array that counts how often each of its rows is read."""

    values: np.ndarray
    reads: Counter[int] = field(default_factory=Counter)

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)
    ndim = property(lambda self: self.values.ndim)

    def __getitem__(self, key: Any) -> np.ndarray:
        self.reads.update(np.arange(len(self.values))[key[0]].tolist())
        return self.values[key]


@dataclass
class Sample:
    """Losses of 300 members at 25 points in float32, some of which, and all of a chunk, were not trained."""

    values: np.ndarray
    trained: np.ndarray
    counted: Counted

    @classmethod
    def of(cls, scale: float = 1.0, level: float = 0.0) -> "Sample":
        rng = np.random.default_rng(7)
        values = (level + scale * np.exp(1.5 * rng.normal(size=(300, 25)) + rng.normal(size=(300, 1)))).astype("f4")
        trained = rng.random(300) < 0.9
        trained[207] = False
        values[~trained] = np.inf
        return cls(values, trained, Counted(values))

    @property
    def lazy(self) -> xarray.DataArray:
        """With its dimensions in another order than they are read in, a chunk of members a block."""
        nothing = np.empty((0, 0), self.values.dtype)
        array = dask.array.from_array(self.counted, chunks=(CHUNKS, 25), name=False, fancy=False, meta=nothing)
        return xarray.DataArray(array, dims=("member", "test_point")).transpose("test_point", "member")

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self.values[self.trained].astype(float).mean(axis=0))

    def plain(self) -> CellLosses:
        """Each definition, as it is written."""
        losses = self.values[self.trained].astype(float)
        total, deviation = np.full((2, 300), np.nan)
        total[self.trained] = losses.mean(axis=1)
        deviation[self.trained] = ((losses - losses.mean(axis=0)) ** 2).mean(axis=1)
        blocks = [losses[:, : 25 // size * size].reshape(len(losses), -1, size).mean(axis=2) for size in SIZES]
        return CellLosses(
            total=total,
            deviation=deviation,
            point_mean=losses.mean(axis=0),
            point_variance=losses.var(axis=0, ddof=1),
            point_covariance=np.array([np.cov(column, losses.mean(axis=1))[0, 1] for column in losses.T]),
            size_variance=np.array([one.var(axis=0, ddof=1).mean() for one in blocks]),
        )

    def reads(self) -> Counter[int]:
        """How many chunks were read so many times."""
        starts = np.cumsum([0, *CHUNKS[:-1]])
        return Counter(self.counted.reads[int(start)] for start in starts)


def assert_same(found: CellLosses, wanted: CellLosses, rtol: float) -> None:
    for one in fields(CellLosses):
        mine, theirs = getattr(found, one.name), getattr(wanted, one.name)
        np.testing.assert_allclose(mine, theirs, rtol=rtol, err_msg=one.name)


@pytest.mark.promise("Losses of an ensemble are read once; sums over them are those of float64 NumPy.")
def test_one_read_about_the_means_gives_the_sums_of_plain_numpy() -> None:
    """The means are known as well as `bias2 + variance` gives them: but for the rounding of losses to float32."""
    sample = Sample.of()
    expected = sample.mean * (1 + 6e-8 * np.random.default_rng(1).uniform(-1, 1, 25))
    found = CellLosses.of(sample.lazy, sample.trained, SIZES, expected)
    assert_same(found, sample.plain(), 3e-7)
    for name in ("total", "point_mean", "point_variance", "point_covariance", "size_variance"):
        np.testing.assert_allclose(getattr(found, name), getattr(sample.plain(), name), rtol=1e-12)
    assert sample.reads() == {1: 4, 0: 1}, "each chunk once, and none of which nobody was trained"


@pytest.mark.parametrize("off", [1e-3, 1.0, 1e3, np.nan])
def test_means_that_are_not_those_of_the_losses_cost_a_second_read_and_no_digit(off: float) -> None:
    sample = Sample.of()
    expected = sample.mean + off * np.random.default_rng(1).normal(size=25)
    assert_same(CellLosses.of(sample.lazy, sample.trained, SIZES, expected), sample.plain(), 1e-11)
    assert set(sample.reads()) <= {0, 2, 3}, "the first chunk once more where nothing is known of the means"


def test_an_error_of_the_means_that_would_show_is_not_taken() -> None:
    """Of every member, at the distance from which on the cell is read again."""
    sample = Sample.of()
    wanted = sample.plain()
    rms = np.sqrt(np.nanmean(wanted.deviation))
    for part in (0.99, 1.01):
        away = np.full(25, part * cell_losses.CLOSE * rms / 2)
        found = CellLosses.of(sample.lazy, sample.trained, SIZES, sample.mean + away)
        error = np.abs(found.deviation - wanted.deviation)
        most = cell_losses.CLOSE * np.maximum(wanted.deviation, rms**2)
        assert (error <= most)[sample.trained].all()
    assert sample.reads() == {3: 4, 0: 1}, "once, then twice"


def test_float32_losses_far_above_their_spread_lose_nothing() -> None:
    """A mean 1e4 times the spread: squares in float32, or sums about zero, would have no digit left."""
    sample = Sample.of(scale=1.0, level=3e4)
    assert_same(CellLosses.of(sample.lazy, sample.trained, SIZES), sample.plain(), 1e-9)


def test_neither_threads_nor_memory_change_a_bit() -> None:
    sample = Sample.of()
    one = CellLosses.of(sample.lazy, sample.trained, SIZES, sample.mean, threads=1)
    three = CellLosses.of(sample.lazy, sample.trained, SIZES, sample.mean, threads=3)
    assert_same(three, one, 0)
    whole = xarray.DataArray(sample.values, dims=("member", "test_point"))
    assert_same(CellLosses.of(whole, sample.trained, SIZES, sample.mean), one, 1e-12)


def test_cells_without_members_have_no_moments() -> None:
    sample = Sample.of()
    found = CellLosses.of(sample.lazy, np.zeros(300, bool), SIZES, sample.mean)
    assert all(np.isnan(getattr(found, one.name)).all() for one in fields(CellLosses))
    single = np.arange(300) == np.flatnonzero(sample.trained)[0]
    found = CellLosses.of(sample.lazy, single, SIZES)
    np.testing.assert_array_equal(found.point_mean, sample.values[single][0].astype(float))
    assert found.deviation[single] == 0
    assert np.isnan([*found.point_variance, *found.point_covariance, *found.size_variance]).all()


def test_no_more_than_a_few_chunks_are_held() -> None:
    """Of 40 chunks of 400 kB, made as they are read; a cell held whole would take 16 MB, and 32 in float64."""
    chunks = dask.array.random.default_rng(0).random((4_000, 1_000), chunks=(100, -1), dtype="f4")
    losses = xarray.DataArray(chunks, dims=("member", "test_point"))
    tracemalloc.start()
    try:
        CellLosses.of(losses, np.ones(4_000, bool), (500, 1_000), threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6e6, peak


def test_pieces_are_the_chunks_of_an_array() -> None:
    values = np.arange(60.0).reshape(10, 6)
    lazy = xarray.DataArray(dask.array.from_array(values, chunks=((3, 7), (2, 4))), dims=("a", "b"))[:, 1:] * 2
    found = pieces.along(lazy)
    assert [(one.begin, one.end) for one in found] == [(0, 3), (3, 10)]
    for one in found:
        np.testing.assert_array_equal(one.read(), 2 * values[one.rows, 1:])
    (whole,) = pieces.along(xarray.DataArray(values, dims=("a", "b")))
    np.testing.assert_array_equal(whole.read(), values)

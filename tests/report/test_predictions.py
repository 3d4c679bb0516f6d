"""bias2 and variance from lazy moments of tiles: against plain NumPy over all predictions, and what is held of them."""

import tracemalloc
from collections import Counter
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray

from analysis import predictions

DIMS = ("tile", "test_point", "output")
TILE, CHUNKS = 5, (4, 1, 9, 6)


class Ensemble:
    """100 members in 20 tiles, at 7 points with 2 outputs; some diverged, and all of one tile and of one chunk."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.f = 40 + rng.normal(size=(100, 7, 2)) * np.exp(rng.normal(size=(100, 1, 1)))
        self.y = 40 + rng.normal(size=(7, 2))
        self.trained = rng.random(100) < 0.8
        self.trained[20:25] = self.trained[50:55] = False
        each = [self.f[one][self.trained[one]] for one in np.split(np.arange(100), 20)]
        self.counts = np.array([len(one) for one in each])
        nothing = np.full((7, 2), np.nan)
        self.mean = np.array([one.mean(axis=0) if len(one) else nothing for one in each])
        self.m2 = np.array([((one - one.mean(axis=0)) ** 2).sum(axis=0) if len(one) else nothing for one in each])

    def direct(self, members: np.ndarray, chosen: np.ndarray, scale: np.ndarray) -> list[float]:
        """bias2 and variance of some of the trained members, as they are defined."""
        f, y = scale * self.f[self.trained & members][:, chosen], scale * self.y[chosen]
        variance = f.var(axis=0, ddof=1)
        return [(((f.mean(axis=0) - y) ** 2 - variance / len(f)).mean() / 2), variance.mean() / 2]


def lazy(values: np.ndarray, seen: Counter[str], name: str) -> xarray.DataArray:
    def part(block: np.ndarray) -> np.ndarray:
        seen[name] += bool(block.size)
        return block

    array = dask.array.from_array(values, chunks=(CHUNKS, *values.shape[1:]))
    return xarray.DataArray(array.map_blocks(part, dtype=float, meta=np.empty((0, 0, 0))), dims=DIMS)


@pytest.mark.parametrize("most", [predictions._MANY_TILES, 1])
@pytest.mark.parametrize("whole", [True, False])
def test_chunks_of_tiles_give_what_all_predictions_give(whole: bool, most: int, monkeypatch: Any) -> None:
    """Also the jackknife, by leaving tiles out; as many tiles are held as the correction of its error needs."""
    monkeypatch.setattr(predictions, "_MANY_TILES", most)
    monkeypatch.setattr(predictions, "_BLOCK_VALUES", 3 * 14)
    ensemble, seen = Ensemble(), Counter[str]()
    chosen = np.ones(7, bool) if whole else np.arange(7) % 3 != 1
    scale = np.ones(2) if whole else np.array([0.5, 3.0])
    moments = xarray.Dataset({
        "prediction_mean": lazy(ensemble.mean, seen, "mean"), "prediction_m2": lazy(ensemble.m2, seen, "m2")
    })  # fmt: skip
    given = (None if whole else chosen, 1.0 if whole else scale)
    found = predictions._of_cell(moments, ensemble.counts, ensemble.y, *given, threads=2)
    everybody = np.ones(100, bool)
    used = np.flatnonzero(ensemble.counts)
    left = np.array([ensemble.direct(np.arange(100) // TILE != tile, chosen, scale) for tile in used])
    moved = np.sqrt((len(used) - 1) / len(used)) * (left.mean(axis=0) - left)
    for number, name in enumerate(("bias2", "variance")):
        value, by_tile = found[name]
        assert value == pytest.approx(ensemble.direct(everybody, chosen, scale)[number], rel=1e-11)
        assert not by_tile[ensemble.counts == 0].any()
        ratio = by_tile[used] / moved[:, number]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert (ratio[0] < 1 - 1e-3) == (name == "bias2" and most > 1)
        assert ratio[0] == pytest.approx(1.0, rel=0.25 if name == "bias2" and most > 1 else 1e-9)
    assert seen == {"mean": 6, "m2": 3}, "the three chunks that have members: their means once more about their mean"


def test_the_jackknife_of_many_tiles_loses_no_digits() -> None:
    """Of 3,000 tiles each changes the values by 1e-4 of themselves: against differences in longer numbers."""
    rng, members = np.random.default_rng(5), 10
    f = 3 + rng.normal(size=(3_000, members, 8))
    mean, y = f.mean(axis=1), np.zeros((8, 1))
    m2 = ((f - mean[:, None]) ** 2).sum(axis=1)
    moments = [predictions._Moments.of(xarray.DataArray(one[..., None], dims=DIMS)) for one in (mean, m2)]
    found = predictions._jackknife(np.full(3_000, members), *moments, y)
    first, second = members * mean.astype(np.longdouble), (m2 + members * mean.astype(np.longdouble) ** 2)
    rest = members * 2_999
    variance = (second.sum(axis=0) - second - (first.sum(axis=0) - first) ** 2 / rest) / (rest - 1)
    bias2 = ((first.sum(axis=0) - first) / rest) ** 2 - variance / rest
    for name, left in (("bias2", bias2.mean(axis=1) / 2), ("variance", variance.mean(axis=1) / 2)):
        exact = np.sqrt(2_999 / 3_000) * (left.mean() - left)
        np.testing.assert_allclose(found[name][1], exact.astype(float), rtol=0, atol=1e-11 * float(abs(exact).max()))


def test_no_more_than_a_few_chunks_of_tiles_are_held() -> None:
    """Of 2 x 40 chunks of 400 kB; of a cell held whole mean and m2 alone would take 32 MB."""
    counts, chunks = np.full(2_000, 10), ((50,) * 40, 1_000, 1)
    drawn = dask.array.random.default_rng(0).random((2_000, 1_000, 1), chunks=chunks)
    tiles = xarray.DataArray(drawn, dims=DIMS)
    moments = xarray.Dataset({"prediction_mean": tiles, "prediction_m2": tiles})
    tracemalloc.start()
    try:
        predictions._of_cell(moments, counts, np.zeros((1_000, 1)), None, 1.0, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6, peak

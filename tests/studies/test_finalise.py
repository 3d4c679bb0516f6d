"""Moments merged from tiles against direct computation."""

import numpy as np
import pytest

from ntkhpc.studies.ensemble.moments import bias_and_variance, merge, tile_counts

RNG = np.random.default_rng(0)


@pytest.mark.promise("Moments merged from tiles are those of all networks at once.")
@pytest.mark.parametrize("sizes", [[3, 3, 2], [1, 5], [0, 4, 0, 2], [7]])
def test_merged_moments_are_those_of_all_members(sizes: list[int]) -> None:
    tiles = [1e3 + RNG.normal(size=(size, 6, 2)) for size in sizes]
    means = np.array([tile.mean(axis=0) if len(tile) else np.full((6, 2), np.nan) for tile in tiles])
    m2s = np.array([((tile - mean) ** 2).sum(axis=0) for tile, mean in zip(tiles, means, strict=True)])
    count, mean, m2 = merge(np.array(sizes), means, m2s)
    everything = np.concatenate(tiles)
    assert count == len(everything)
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(m2, everything.var(axis=0) * count, rtol=1e-9)


@pytest.mark.promise("Bias and variance of an ensemble are unbiased and add up to the mean loss.")
def test_bias_and_variance_are_unbiased_and_add_up_to_the_mean_loss() -> None:
    """f ~ N(1, 4), y = 0.5, 3 members, 40,000 points: bias^2/2 = 1/8 and variance/2 = 2 within 4.5 standard errors."""
    f, y = 1 + 2 * RNG.normal(size=(3, 40_000, 1)), np.full((40_000, 1), 0.5)
    bias2, variance = bias_and_variance(3, f.mean(axis=0), f.var(axis=0) * 3, y)
    np.testing.assert_allclose(bias2 + variance, ((f - y) ** 2).mean(axis=(0, 2)) / 2, rtol=1e-12, atol=1e-12)
    for values, expected in ((bias2, 1 / 8), (variance, 2.0)):
        assert abs(values.mean() - expected) < 4.5 * values.std() / 200


def test_too_few_members_give_no_variance() -> None:
    bias2, variance = bias_and_variance(1, np.zeros((4, 1)), np.zeros((4, 1)), np.ones((4, 1)))
    assert np.isnan(bias2).all()
    assert np.isnan(variance).all()


def test_tiles_count_their_trained_members() -> None:
    status = np.array([0, 0, 1, 0, 1, 1, 0], np.int8)
    assert tile_counts(status, 3).tolist() == [2, 1, 1]

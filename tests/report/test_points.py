"""Test points that carry much of sigma_L^2 are named."""

from types import SimpleNamespace

import numpy as np
import xarray

from analysis.ensemble import points


def results(covariance: np.ndarray) -> SimpleNamespace:
    """Covariances (width, n_train, test_point) of each point's loss with L, as the report has them."""
    mean = xarray.Dataset(
        {"point_covariance": (("width", "n_train", "test_point"), covariance)},
        coords={"width": [8, 64][: len(covariance)], "n_train": [16, 32]},
    )
    return SimpleNamespace(mean=mean, sizes=mean.n_train.values, store=mean)


def test_a_point_with_more_than_a_tenth_is_named_with_its_share() -> None:
    covariance = np.ones((2, 2, 40))
    covariance[1, 0, 7] = 39.0  # a half of 78
    covariance[0, 1, 3] = 6.0  # 6 of 45
    found = results(covariance)
    assert list(points.heavy(found)) == [(8, 32, 3, 6 / 45), (64, 16, 7, 0.5)]
    (said,) = points.cautions(found)
    assert "test point 7 carries 50 % of sigma_L^2 of width 64 at N_D = 16" in said
    assert "1 more points" not in said
    assert "1 more point carries" in said
    assert points.fits(found)["dominant_test_points"][0] == {
        "width": 8,
        "n_train": 32,
        "test_point": 3,
        "share": 6 / 45,
    }


def test_points_that_are_alike_or_not_there_are_not_named() -> None:
    assert points.cautions(results(np.ones((1, 2, 40)))) == []
    assert points.cautions(results(np.full((1, 2, 40), np.nan))) == []

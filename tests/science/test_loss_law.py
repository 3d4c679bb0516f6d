"""Moments and distribution of the test loss against Monte Carlo, known distributions and sums over pairs of points."""

import numpy as np
import pytest
from scipy import stats

from ntkhpc import loss_law

RNG = np.random.default_rng(7)
POINTS, OUTPUTS = 12, 2
FACTOR = RNG.normal(size=(POINTS, POINTS)) * np.geomspace(1, 0.05, POINTS)
COVARIANCE = FACTOR @ FACTOR.T
MEAN, Y = RNG.normal(size=(POINTS, OUTPUTS)), RNG.normal(size=(POINTS, OUTPUTS))


def draw(count: int, seed: int) -> np.ndarray:
    """Losses (count, POINTS) of each test point, from outputs drawn directly."""
    z = np.random.default_rng(seed).normal(size=(count, POINTS, OUTPUTS))
    return ((MEAN + np.einsum("ab,cbk->cak", FACTOR, z) - Y) ** 2).sum(axis=2) / (2 * OUTPUTS)


@pytest.mark.promise("Cumulants 1 to 4 of the test loss agree with 600,000 drawn losses, within 3 standard errors.")
def test_cumulants_are_those_of_drawn_losses() -> None:
    """k-statistics of 30 batches of 20,000 draws, within 3 standard errors (false alarm 2 %, seeds fixed)."""
    estimates = np.array(
        [[stats.kstat(draw(20_000, seed).mean(axis=1), r) for r in (1, 2, 3, 4)] for seed in range(30)]
    )
    exact = loss_law.loss_moments(MEAN, COVARIANCE, Y)
    pulls = (estimates.mean(axis=0) - exact) / (estimates.std(axis=0, ddof=1) / np.sqrt(30))
    assert (abs(pulls) < 3).all(), pulls


def test_cumulants_are_those_of_chi_squared_variables() -> None:
    """Sigma = I, d = 0: L = chi2_(mK)/(2mK), whose cumulants are 2^(r-1) (r-1)! mK/(2mK)^r."""
    dof = POINTS * OUTPUTS
    kappa = loss_law.loss_moments(Y, np.eye(POINTS), Y)
    np.testing.assert_allclose(kappa, [2 ** (r - 1) * [1, 1, 2, 6][r - 1] * dof / (2 * dof) ** r for r in (1, 2, 3, 4)])


def test_statistics_are_sums_over_points_and_pairs() -> None:
    d = MEAN - Y
    pair = (OUTPUTS * COVARIANCE**2 + 2 * COVARIANCE * (d @ d.T)) / (2 * OUTPUTS**2)  # cov(l_a, l_b)
    found = loss_law.statistics(MEAN, COVARIANCE, Y, test_sizes=(1, 5, POINTS))
    off = pair[~np.eye(POINTS, dtype=bool)]
    assert found.sigma_L**2 == pytest.approx(pair.mean(), rel=1e-12)
    assert found.population_variance == pytest.approx(off.mean(), rel=1e-12)
    assert found.bias2 + found.variance == pytest.approx(found.mu_L, rel=1e-12)
    blocks = [pair[:5, :5].mean(), pair[5:10, 5:10].mean()]
    assert found.size_variance == pytest.approx((np.diag(pair).mean(), np.mean(blocks), pair.mean()), rel=1e-12)
    assert found.eps_pop == pytest.approx(np.sqrt(off.mean()) / found.mu_L)
    losses = draw(200_000, 99)
    np.testing.assert_allclose(np.cov(losses.T), pair, atol=0.05 * pair.max())
    assert found.largest_share == pytest.approx(losses.mean(axis=0).max() / losses.mean(axis=0).sum(), rel=0.02)
    np.testing.assert_allclose(found.point_covariance, pair.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.point_variance, np.diag(pair), rtol=1e-12)


@pytest.mark.promise("What each test point adds to mu_L and sigma_L agrees with 600,000 drawn losses (Hotelling).")
def test_what_each_point_adds_is_that_of_drawn_losses() -> None:
    """Hotelling's T^2 of 60 batches of 10,000 draws, on 12 points, below its 1e-3 critical value.

    That for the means, and that for the covariances: false alarm 2e-3, seeds fixed.
    """
    found, estimates = loss_law.statistics(MEAN, COVARIANCE, Y), []
    for seed in range(60):
        losses = draw(10_000, 1000 + seed)
        centred = losses - losses.mean(axis=0)
        estimates.append((losses.mean(axis=0), centred.T @ centred.mean(axis=1) / (len(losses) - 1)))
    assert found.point_mean.mean() == pytest.approx(found.mu_L, rel=1e-12)
    assert found.point_covariance.mean() == pytest.approx(found.sigma2_L, rel=1e-12)
    for sample, exact in zip(np.swapaxes(estimates, 0, 1), (found.point_mean, found.point_covariance), strict=True):
        off = sample.mean(axis=0) - exact
        t2 = len(sample) * off @ np.linalg.solve(np.cov(sample.T), off)
        p = stats.f.sf(t2 * (60 - POINTS) / (POINTS * 59), POINTS, 60 - POINTS)
        assert p > 1e-3


def test_a_negative_population_variance_is_kept_with_its_sign() -> None:
    """Two test points whose losses are anticorrelated."""
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    found = loss_law.statistics(np.array([[5.0], [-5.0]]), covariance, np.zeros((2, 1)))
    assert found.population_variance < 0
    assert found.eps_pop < 0


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_quantiles_are_those_of_noncentral_chi_squared(shift: float) -> None:
    p = np.array([0.001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.999])
    y = np.full((8, 1), -shift)
    found = loss_law.quantiles(np.zeros((8, 1)), np.eye(8), y, p)
    law = stats.ncx2(8, 8 * shift**2) if shift else stats.chi2(8)
    np.testing.assert_allclose(found, law.ppf(p) / 16, rtol=2e-4)


@pytest.mark.promise("The distribution of the test loss agrees with 200,000 drawn losses (Kolmogorov-Smirnov).")
def test_quantiles_are_those_of_drawn_losses() -> None:
    """Kolmogorov-Smirnov distance of 200,000 draws below its 1e-4 critical value, 2.23/sqrt(count)."""
    p = np.linspace(0.001, 0.999, 999)
    found = loss_law.quantiles(MEAN, COVARIANCE, Y, p)
    losses = np.sort(draw(200_000, 5).mean(axis=1))
    below = np.searchsorted(losses, found) / len(losses)
    assert abs(below - p).max() < 2.23 / np.sqrt(len(losses))


def test_shapes_and_orders_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        loss_law.loss_moments(MEAN, COVARIANCE[:-1], Y)
    with pytest.raises(ValueError, match="max_order = 5"):
        loss_law.loss_moments(MEAN, COVARIANCE, Y, max_order=5)

"""Moments and their errors against scipy, brute force and repeated sampling."""

import numpy as np
import pytest
from scipy import stats

from analysis import draws, estimators

RNG = np.random.default_rng(12)
SAMPLE = RNG.gamma(3.0, size=(2, 3, 40))


def test_moments_are_the_unbiased_ones() -> None:
    found = estimators.moments(SAMPLE)
    np.testing.assert_allclose(found.mu, SAMPLE.mean(axis=-1))
    np.testing.assert_allclose(found.sigma, SAMPLE.std(axis=-1, ddof=1))
    for cell in np.ndindex(2, 3):
        k2, k3 = stats.kstat(SAMPLE[cell], 2), stats.kstat(SAMPLE[cell], 3)
        assert np.isclose(found.skewness[cell], k3 / k2**1.5)
        assert np.isclose(found.sigma_stderr[cell], np.sqrt(stats.kstatvar(SAMPLE[cell], 2)) / 2 / k2**0.5, rtol=0.15)


@pytest.mark.promise("Stated errors of mu_L, sigma_L and eps_L are those of repeated samples, to 5 %.")
def test_stated_errors_are_those_of_repeated_samples() -> None:
    """20,000 samples of 200 skewed losses: errors of sigma and eps within 5 %, the jackknife's within 5 % of them."""
    losses = RNG.gamma(9.0, size=(20_000, 200))
    found = estimators.moments(losses)
    for name in ("mu", "sigma", "eps"):
        stated = np.sqrt((getattr(found, f"{name}_stderr") ** 2).mean())
        np.testing.assert_allclose(stated, getattr(found, name).std(), rtol=0.05)
    mu, s2 = estimators.leave_one_out(losses[:2000])
    jackknife = estimators.leverage(np.sqrt(s2) / mu).stderr
    np.testing.assert_allclose(np.sqrt((jackknife**2).mean()), found.eps.std(), rtol=0.05)


def test_leaving_one_out_in_closed_form_is_leaving_one_out() -> None:
    mu, s2 = estimators.leave_one_out(SAMPLE)
    for i in range(40):
        rest = np.delete(SAMPLE, i, axis=-1)
        np.testing.assert_allclose(mu[..., i], rest.mean(axis=-1))
        np.testing.assert_allclose(s2[..., i], rest.var(axis=-1, ddof=1))
    jackknife = estimators.leverage(mu).stderr
    np.testing.assert_allclose(jackknife, estimators.moments(SAMPLE).mu_stderr, rtol=1e-12)


def test_covariance_between_sizes_is_that_of_shared_members() -> None:
    """Three sizes, members correlated: the covariance of the means is that of the members over their number."""
    members = RNG.multivariate_normal([1, 2, 3], [[1, 0.9, 0.5], [0.9, 1, 0.7], [0.5, 0.7, 1]], size=60).T
    found = estimators.leverage(estimators.leave_one_out(members)[0]).covariance()
    np.testing.assert_allclose(found, np.cov(members) / 60, rtol=1e-10)


def test_diverged_members_are_left_out_of_their_own_cell() -> None:
    sample = SAMPLE.copy()
    sample[0, 0, [3, 7]] = np.nan
    found, whole = estimators.moments(sample), estimators.moments(SAMPLE)
    clean = estimators.moments(np.delete(SAMPLE[0, 0], [3, 7]))
    assert found.members[0, 0] == 38
    for name in ("mu", "sigma", "eps", "eps_stderr"):
        np.testing.assert_allclose(getattr(found, name)[0, 0], getattr(clean, name))
        np.testing.assert_array_equal(getattr(found, name)[1], getattr(whole, name)[1])
    one_left_out = estimators.leverage(estimators.leave_one_out(sample)[0])
    assert np.isnan(one_left_out.values[0, 0, 3])
    assert np.isfinite(one_left_out.covariance()).all()


def test_too_few_members_give_no_moments() -> None:
    assert np.isnan(estimators.moments(SAMPLE[..., :3]).mu).all()


def test_a_negative_population_variance_keeps_its_sign() -> None:
    np.testing.assert_array_equal(estimators.signed_root(np.array([-4.0, 0.0, 9.0])), [-2.0, 0.0, 3.0])


def test_the_covariance_of_draws_is_that_of_nested_means() -> None:
    """Means of the first n of independent terms: relative sd falls as 1/sqrt(n), correlations are sqrt(n/n')."""
    n = np.array([10, 20, 80])
    terms = RNG.normal(1, 0.3, size=(20_000, 80))
    means = np.stack([terms[:, :k].mean(axis=1) for k in n])
    model = draws.covariance(n, np.ones(3), 1.0)
    np.testing.assert_allclose(np.corrcoef(means), model, atol=0.03)
    np.testing.assert_allclose(np.diag(draws.covariance(n, np.array([1.0, 2, 3]), 0.1)), [0.01, 0.04, 0.09])

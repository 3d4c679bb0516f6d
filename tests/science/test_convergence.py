"""Diagnostics of Markov chains: known answers for autoregressions, and chains that are stuck apart."""

import math

import numpy as np
import pytest
from support.autoregression import ar1

from ntkhpc import convergence


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_samples_of_an_autoregression_are_the_known_number(rho: float) -> None:
    """ESS = N (1-rho)/(1+rho); its own error is some per cent for chains of this length."""
    values = ar1(np.random.default_rng(1), (4, 20_000), rho)
    known = values.size * (1 - rho) / (1 + rho)
    assert convergence.ess(values) == pytest.approx(known, rel=0.08)
    assert convergence.bulk_ess(values) == pytest.approx(known, rel=0.08)
    assert convergence.mcse(values) == pytest.approx(1 / math.sqrt(known), rel=0.05)
    assert convergence.r_hat(values) < 1.005


def test_anticorrelated_chains_are_worth_more_than_their_samples() -> None:
    values = ar1(np.random.default_rng(2), (4, 5_000), -0.5)
    assert convergence.ess(values) == pytest.approx(3 * values.size, rel=0.1)


@pytest.mark.promise(
    "Stated errors of mean, spread and relative spread of chains are those of repeated chains, to 12 %."
)
def test_errors_are_those_of_repeated_chains() -> None:
    """Mean, standard deviation and their ratio of 250 runs of 4 chains: stated errors within 12 % of the true ones."""
    values = 5 + ar1(np.random.default_rng(3), (250, 4, 300), 0.6)
    pairs = (
        (convergence.mcse, values.mean(axis=(1, 2))),
        (convergence.sigma_mcse, values.std(axis=(1, 2))),
        (convergence.eps_mcse, values.std(axis=(1, 2)) / values.mean(axis=(1, 2))),
    )
    for error, found in pairs:
        stated = math.sqrt(np.mean([error(one) ** 2 for one in values]))
        assert stated == pytest.approx(found.std(), rel=0.12)


@pytest.mark.promise("Chains that are stuck apart, drift or differ in spread have a large R-hat.")
def test_chains_that_are_stuck_apart_or_drift_or_differ_in_spread_are_seen() -> None:
    rng = np.random.default_rng(4)
    good = rng.standard_normal((4, 500))
    assert convergence.r_hat(good) < 1.01
    apart = good + np.array([0, 0, 0, 3.0])[:, None]
    assert convergence.r_hat(apart) > 1.3
    assert convergence.ess(apart) < 15
    assert convergence.mcse(apart) > 10 * convergence.mcse(good)
    assert convergence.r_hat(good + np.linspace(0, 3, 500)) > 1.15
    assert convergence.r_hat(good * np.array([1, 1, 1, 4.0])[:, None]) > 1.1


def test_split_r_hat_of_values_is_that_by_hand() -> None:
    """Without ranks: halves of two chains, from the definition."""
    values = np.random.default_rng(5).standard_normal((2, 40)) + np.array([[0.0], [0.5]])
    halves = values.reshape(4, 20)
    within, between = halves.var(axis=1, ddof=1).mean(), 20 * halves.mean(axis=1).var(ddof=1)
    known = math.sqrt((19 / 20 * within + between / 20) / within)
    assert convergence._r_hat(convergence._halves(values)) == pytest.approx(known, rel=1e-12)


def test_heavy_tails_do_not_hide_that_chains_differ() -> None:
    values = np.random.default_rng(6).standard_cauchy((4, 500))
    assert convergence.r_hat(values) < 1.02
    assert convergence.bulk_ess(values) > 1000
    assert convergence.r_hat(values + np.array([[0], [0], [0], [3]])) > 1.1


def test_chains_that_never_move_or_are_too_short_have_no_diagnostics() -> None:
    still = np.ones((2, 50))
    assert convergence.mcse(still) == convergence.sigma_mcse(still) == convergence.eps_mcse(still) == 0
    assert math.isnan(convergence.ess(still))
    assert convergence.r_hat(still + np.array([[0], [1]])) == math.inf
    for short in (np.ones((2, 5)), np.ones((0, 50))):
        assert math.isnan(convergence.r_hat(short))
        assert math.isnan(convergence.mcse(short))


def test_draws_that_are_not_finite_have_no_diagnostics() -> None:
    draws = np.random.default_rng(1).normal(size=(4, 100))
    draws[0, 0] = math.inf
    for function in (convergence.r_hat, convergence.bulk_ess, convergence.ess, convergence.mcse):
        assert math.isnan(function(draws))


@pytest.mark.parametrize(
    ("drifts", "settled"),
    [
        ([0.5, -0.4, 0.1, -0.3], True),  # they drift, but not alike
        ([0.05, 0.052, 0.049, 0.051], True),  # alike, but by half a per cent
        ([-0.5, -0.52, -0.49, -0.51], False),
    ],
)
def test_populations_that_drift_alike_have_not_settled(drifts: list[float], settled: bool) -> None:
    cells = np.array([[0.0, 0.0, 0.0, 0.0], drifts])
    np.testing.assert_array_equal(convergence.settled(cells, np.full((2, 4), 10.0)), [True, settled])

"""Estimates from random signs against enumerated signs, exact statistics, and their own stated errors."""

import itertools

import numpy as np
import pytest

from ntkhpc import loss_law, probes
from ntkhpc.probes import NAMES, Sums

RNG = np.random.default_rng(3)
POINTS, OUTPUTS = 40, 2
FACTOR = RNG.normal(size=(POINTS, POINTS)) * np.geomspace(1, 0.05, POINTS)
COVARIANCE = FACTOR @ FACTOR.T / 10
D = 0.3 * RNG.normal(size=(POINTS, OUTPUTS))
EXACT = loss_law.statistics(D, COVARIANCE, 0 * D)


def fields(sums: Sums) -> dict[str, np.ndarray]:
    return dict(vars(sums))


def test_statistics_of_exact_sums_are_those_of_the_law() -> None:
    found = probes.statistics_of(probes.exact_sums(COVARIANCE, D), POINTS, OUTPUTS)
    for name in NAMES:
        assert found[name] == pytest.approx(getattr(EXACT, name), rel=1e-12), name


@pytest.mark.promise("Estimates by probes are unbiased: their mean over all signs of 4 test points is the exact value.")
def test_the_mean_over_all_signs_is_exact() -> None:
    """One probe and eight have the same mean, so that all pairs of the 16 vectors of 4 signs say it of sets of two."""
    covariance, d = COVARIANCE[:4, :4], D[:4]
    every = np.array(list(itertools.product([-1.0, 1.0], repeat=4))).T
    form = float(np.vdot(d, covariance @ d))
    found = []
    for one, two in itertools.product(range(16), repeat=2):  # the same vector twice is a set of independent probes too
        z = every[:, [one, two]]
        points = z * (covariance @ z)
        d2 = (d**2).sum(axis=1)
        pair = (points.sum(axis=0).mean(), (points**2).sum(axis=0).mean(), points[:, 0] @ points[:, 1],
                (d2 @ points).mean(), d2.sum(), form)  # fmt: skip
        whole = probes.probed_sums(np.hstack([z, z[:, :1]]), covariance @ np.hstack([z, z[:, :1]]), d, form)[1]
        by_module = [np.broadcast_to(value, 3)[2] for value in fields(whole).values()]  # of all but the third
        np.testing.assert_allclose(by_module, pair, rtol=1e-12, atol=1e-15)
        found.append(by_module)
    exact = list(fields(probes.exact_sums(covariance, d)).values())
    np.testing.assert_allclose(np.mean(found, axis=0), exact, rtol=1e-12)
    # sigma_pop^2 and the other statistics that are linear in these sums are then unbiased too.


def test_sums_without_one_probe_are_those_of_the_others() -> None:
    z = probes.signs(POINTS, 9, seed=1)
    whole, without = probes.probed_sums(z, COVARIANCE @ z, D, 1.5)
    for left_out in range(9):
        others = np.delete(z, left_out, axis=1)
        expected, _ = probes.probed_sums(others, COVARIANCE @ others, D, 1.5)
        for name, value in fields(expected).items():
            assert fields(without)[name][left_out] == pytest.approx(value, rel=1e-12), name
    values = {name: probes.statistics_of(without, POINTS, OUTPUTS)[name] for name in NAMES}
    errors = probes.jackknife(whole, without, POINTS, OUTPUTS)
    for name in ("mu_L", "sigma2_L", "eps_L", "population_variance", "variance"):
        assert errors[name] == pytest.approx(np.sqrt(8 / 9 * ((values[name] - values[name].mean()) ** 2).sum()))
    assert errors["bias2"] == 0


def test_all_that_is_left_off_the_diagonal_is_the_spread_over_probes() -> None:
    """tr Sigma^2 - sum_a Sigma_aa^2 by probes is the sum of sample variances of z_a (Sigma z)_a: never negative."""
    z = probes.signs(POINTS, 9, seed=1)
    whole, _ = probes.probed_sums(z, COVARIANCE @ z, D, 1.5)
    spread = np.var(z * (COVARIANCE @ z), axis=1, ddof=1).sum()
    assert whole.trace2 - whole.diagonal2 == pytest.approx(spread, rel=1e-12)


def test_more_probes_begin_with_the_same_and_streams_differ() -> None:
    few, many = probes.signs(50, 8, seed=4), probes.signs(50, 64, seed=4)
    np.testing.assert_array_equal(few, many[:, :8])
    assert set(np.unique(many)) == {-1, 1}
    for other in (probes.signs(50, 64, seed=5), probes.signs(50, 64, seed=4, number=1)):
        assert abs((many * other).mean()) < 5 / np.sqrt(many.size)  # false alarm 6e-7
    assert abs(many.mean()) < 5 / np.sqrt(many.size)


@pytest.mark.parametrize("count", [16, 64])
def test_stated_errors_are_those_of_a_thousand_seeds(count: int) -> None:
    """Standard deviation over seeds against the root mean square of the stated errors: within 12 %.

    Both have relative errors of 2 to 4 %, as sums of squares of products of Sigma have heavier tails than a Gaussian;
    some 3 sigma for each of 10 numbers, so that the false alarm is below 3 %. Seeds fixed. Means within 4 standard
    errors (6e-5 each).
    """
    values, errors = [], []
    form = float(np.vdot(D, COVARIANCE @ D))
    for seed in range(1000):
        z = probes.signs(POINTS, count, seed)
        whole, without = probes.probed_sums(z, COVARIANCE @ z, D, form)
        found, stated = (
            probes.statistics_of(whole, POINTS, OUTPUTS),
            probes.jackknife(whole, without, POINTS, OUTPUTS),
        )
        values.append([found[name] for name in NAMES])
        errors.append([stated[name] for name in NAMES])
    for name, column, stated in zip(NAMES, np.transpose(values), np.transpose(errors), strict=True):
        if name in ("bias2", "eps_pop"):
            continue
        assert column.std() == pytest.approx(np.sqrt((stated**2).mean()), rel=0.12), name
        if name != "eps_L":  # a ratio
            pull = (column.mean() - getattr(EXACT, name)) / (column.std() / np.sqrt(1000))
            assert abs(pull) < 4, name


def test_errors_of_sums_move_statistics_by_at_most_what_is_propagated() -> None:
    """Each sum up or down by its bound, all 64 ways: no statistic moves further, and the furthest nearly so far."""
    sums = probes.exact_sums(COVARIANCE, D)
    bounds = Sums(**{name: 1e-4 * value for name, value in fields(sums).items()})
    stated = probes.propagated(sums, bounds, POINTS, OUTPUTS)
    furthest = dict.fromkeys(NAMES, 0.0)
    before = probes.statistics_of(sums, POINTS, OUTPUTS)
    for signs in itertools.product([-1, 1], repeat=6):
        moved = Sums(
            **{
                name: fields(sums)[name] + sign * fields(bounds)[name]
                for name, sign in zip(fields(sums), signs, strict=True)
            }
        )
        after = probes.statistics_of(moved, POINTS, OUTPUTS)
        for name in NAMES:
            furthest[name] = max(furthest[name], abs(after[name] - before[name]))
    for name in NAMES:
        assert 0.5 * stated[name] < furthest[name] < 1.01 * stated[name], name

"""Paired differences of two variants, and probabilities of several together."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from analysis import estimators
from analysis.comparison import paired
from analysis.comparison.holm import adjusted
from analysis.contrasts import LEVEL, Curve, ErrorSource, Estimate

N = np.array([32.0, 48, 64, 96])


def curve(sample: np.ndarray, name: str = "mu_L") -> Curve:
    """mu_L or eps_L of losses (sizes, members) as the report makes it: value, and deviates of the members."""
    found = estimators.moments(sample)
    mean, variance = estimators.leave_one_out(sample)
    value, left = (found.mu, np.log(mean)) if name == "mu_L" else (found.eps, np.log(variance) / 2 - np.log(mean))
    return Curve(N, value, (ErrorSource("members", estimators.deviates(left, np.isfinite(sample))),))


def pair(rng: np.random.Generator, members: int, tilt: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Losses (sizes, members) of two variants with most of their spread in common, exponents apart by `tilt`."""
    shared = np.exp(0.3 * rng.standard_normal(members) + 0.1 * rng.standard_normal((len(N), members)))
    own = [np.exp(0.08 * rng.standard_normal((len(N), members))) for _ in range(2)]
    power = (N / N[0])[:, None] ** -0.7
    return power * shared * own[0], power * (N / N[0])[:, None] ** tilt * shared * own[1]


@pytest.mark.parametrize("name", ["mu_L", "eps_L"])
def test_a_paired_difference_has_the_jackknife_of_both_variants_together(name: str) -> None:
    """By brute force: leave a member out of both, fit both power laws, and take the difference."""
    first, second = pair(np.random.default_rng(1), 15)
    statistic = {"mu_L": lambda x: x.mean(axis=1), "eps_L": lambda x: x.std(axis=1, ddof=1) / x.mean(axis=1)}[name]

    def exponent(losses: np.ndarray) -> float:
        return float(np.polyfit(np.log(N), np.log(statistic(losses)), 1)[0])

    left = np.array([exponent(np.delete(second, i, 1)) - exponent(np.delete(first, i, 1)) for i in range(15)])
    found = paired.ratio(curve(second, name), curve(first, name), "members")
    assert found is not None
    assert found.slope().value == pytest.approx(exponent(second) - exponent(first), rel=1e-9)
    assert found.slope().stderr == pytest.approx(np.sqrt(14 / 15 * ((left - left.mean()) ** 2).sum()), rel=1e-9)


def test_what_members_have_in_common_drops_out() -> None:
    first, second = pair(np.random.default_rng(2), 200)
    one, other = curve(first), curve(second)
    together, apart = paired.ratio(other, one, "members"), math.hypot(one.slope().stderr, other.slope().stderr)
    assert together is not None
    assert together.slope().stderr < 0.75 * apart


def test_sizes_and_sources_that_only_one_has_are_left_out() -> None:
    deviates = np.random.default_rng(3).normal(size=(4, 9))
    one = Curve(N, N**-0.5, (ErrorSource("members", deviates), ErrorSource("draw", deviates)))
    other = Curve(N[1:], N[1:] ** -0.7, (ErrorSource("members", 2 * deviates[1:]),))
    found = paired.ratio(one, other, "members", "draw")
    assert found is not None
    assert (found.n == N[1:]).all()
    assert found.value == pytest.approx(N[1:] ** 0.2)
    (source,) = found.sources
    assert source.deviates == pytest.approx(-deviates[1:])
    fewer = Curve(N, N**-0.7, (ErrorSource("members", deviates[:, :5]),))
    assert paired.ratio(one, fewer, "members").sources == ()
    assert paired.ratio(one, Curve(N[:1], np.ones(1)), "members") is None


TRUTH = {"mu_L": 0.05, "eps_L": 0.0}
"""Differences of exponents of `slopes`: a factor of all members changes no relative spread."""


@pytest.fixture(scope="module")
def slopes() -> dict[str, list[Estimate]]:
    """400 pairs of 40 members with exponents of mu_L apart by exactly 0.05."""
    found: dict[str, list[Estimate]] = {name: [] for name in TRUTH}
    for seed in range(400):
        first, second = pair(np.random.default_rng([5, seed]), 40, tilt=0.05)
        for name, estimates in found.items():
            ratio = paired.ratio(curve(second, name), curve(first, name), "members")
            assert ratio is not None
            estimates.append(ratio.slope())
    return found


@pytest.mark.parametrize("name", TRUTH)
def test_intervals_of_a_known_difference_cover_it_as_often_as_they_say(
    slopes: dict[str, list[Estimate]], name: str
) -> None:
    """400 pairs: a share outside of 4 standard deviations of a binomial's has the probability 6e-5."""
    for level in (0.68, 0.95):
        ends = [one.interval(level) for one in slopes[name]]
        covered = np.mean([low <= TRUTH[name] <= high for low, high in ends])
        assert abs(covered - level) < 4 * math.sqrt(level * (1 - level) / len(ends))


@pytest.mark.parametrize("name", TRUTH)
def test_a_test_of_the_truth_alarms_as_often_as_its_level_says(slopes: dict[str, list[Estimate]], name: str) -> None:
    """More alarms than by chance in 6e-5 of such tests fail: at 5 %, and at the level of the report."""
    for level in (0.05, LEVEL):
        alarms = sum(one.p_value(TRUTH[name]) < level for one in slopes[name])
        assert alarms <= stats.binom.isf(6e-5, len(slopes[name]), level)


def test_holms_probabilities_are_those_of_his_example_and_of_all_subsets() -> None:
    """By brute force, the closed test: of each hypothesis the largest Bonferroni p of the sets that hold it."""
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    for p in np.random.default_rng(7).random((50, 4)) ** 2:
        sets = [one for size in range(1, 5) for one in itertools.combinations(range(4), size)]
        closed = [max(min(1, len(one) * p[list(one)].min()) for one in sets if i in one) for i in range(4)]
        assert adjusted(list(p)) == pytest.approx(closed)


def test_tests_that_could_not_be_made_are_no_part_of_the_family() -> None:
    found = adjusted([0.02, math.nan, 0.5])
    assert found[0] == 0.04
    assert math.isnan(found[1])
    assert found[2] == 0.5
    assert adjusted([]) == []


def test_a_family_of_true_hypotheses_alarms_no_more_often_than_its_level() -> None:
    """20,000 families of three at 5 %; more alarms than by chance in 1e-4 of such tests fail."""
    families = np.random.default_rng(8).random((20_000, 3))
    alarms = sum(min(adjusted(list(family))) < 0.05 for family in families)
    assert alarms <= stats.binom.isf(1e-4, len(families), 0.05)
    assert alarms > 0.8 * 0.05 * len(families)  # and no less often than independent ones must

"""Slopes, curvatures and their errors, against NumPy and against samples of known truth."""

import numpy as np
import pytest
from scipy import stats

from analysis import estimators
from analysis.contrasts import (
    SIGMA,
    Curve,
    ErrorSource,
    Estimate,
    Term,
    combine,
    curvature_weights,
    mean_weights,
    number,
    relative,
    slope_weights,
)

N = np.array([32.0, 48, 64, 96, 128, 192, 256])


def test_slope_and_curvature_are_those_of_least_squares() -> None:
    value = 3.0 * N**-0.7 * np.exp(0.05 * np.sin(N))
    x, y = np.log(N), np.log(value)
    curve = Curve(N, value)
    assert curve.slope().value == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-12)
    assert curve.curvature().value == pytest.approx(2 * np.polyfit(x, y, 2)[0] * np.ptp(x), rel=1e-9)
    assert curve.local_slope(2).value == pytest.approx((y[3] - y[2]) / (x[3] - x[2]))
    np.testing.assert_allclose(curve.line(N), np.exp(np.polyval(np.polyfit(x, y, 1), x)), rtol=1e-12)


def test_an_exact_power_law_has_no_curvature_and_its_own_exponent_in_every_part() -> None:
    curve = Curve(N, 2.0 * N**-0.4)
    assert curve.slope().value == pytest.approx(-0.4)
    assert curve.curvature().value == pytest.approx(0, abs=1e-12)
    first, upper = curve.upper()
    assert (first, upper.value) == (64.0, pytest.approx(-0.4))
    assert curve.slope().stderr == 0
    assert np.isnan(curve.slope().p_value())


def test_a_curve_of_few_sizes_has_at_least_three_in_its_upper_part() -> None:
    first, upper = Curve(np.array([10.0, 100.0, 1000.0]), np.array([4.0, 2.0, 1.0])).upper()
    assert first == 10.0
    assert upper.value == pytest.approx(np.log10(0.5))


def test_the_error_of_a_contrast_is_that_of_the_covariance_of_its_sources() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 30)) / 30, rng.normal(size=(7, 8)) / 50
    curve = Curve(N, N**-0.5, (ErrorSource("members", a), ErrorSource("draw", b)))
    w = slope_weights(N)
    one = curve.slope()
    assert one.parts["members"] ** 2 == pytest.approx(w @ a @ a.T @ w)
    assert one.stderr**2 == pytest.approx(w @ (a @ a.T + b @ b.T) @ w)
    assert curve.of("draw").slope().stderr == pytest.approx(one.parts["draw"])
    np.testing.assert_allclose(curve.covariance(), a @ a.T + b @ b.T)


def test_degrees_of_freedom_are_those_of_welch_and_satterthwaite() -> None:
    one = combine(1.0, [Term("members", 4.0, 10.0, 5.0), Term("draw", 1.0, 3.0), Term("test points", 0.0, 1.0)])
    assert one.dof == pytest.approx(25 / (16 / 10 + 1 / 3))
    assert one.parts == {"members": 2.0, "draw": 1.0}
    assert one.skewness == pytest.approx(5 / 5**1.5)


def test_intervals_are_students() -> None:
    one = Estimate(2.0, {"draw": 0.5}, 3.0)
    assert one.half(0.95) == pytest.approx(0.5 * stats.t.ppf(0.975, 3))
    assert one.interval(SIGMA)[0] == pytest.approx(2 - 0.5 * stats.t.ppf((1 + SIGMA) / 2, 3))
    assert one.p_value(1.0) == pytest.approx(2 * stats.t.sf(2.0, 3))


@pytest.mark.parametrize("skewness", [0.0, 0.4, -0.4, 3.0])
def test_a_p_value_is_that_of_the_interval_which_ends_there(skewness: float) -> None:
    one = Estimate(2.0, {"members": 0.5}, 12.0, skewness)
    for level in (0.5, 0.9, 0.99, 0.9999):
        for end in one.interval(level):
            assert one.p_value(end) == pytest.approx(1 - level, rel=1e-6)
    assert one.p_value(2.0 - 1e-9) == pytest.approx(1.0, abs=1e-6) or skewness


def test_skewed_deviates_lengthen_the_interval_on_their_side() -> None:
    rng = np.random.default_rng(8)
    deviates = rng.chisquare(1, size=(1, 100)) - 1
    one = Curve(N[:1], np.ones(1), (ErrorSource("members", deviates / 100),)).log_value(0)
    low, high = one.interval(0.95)
    assert one.skewness == pytest.approx((deviates**3).sum() / (deviates**2).sum() ** 1.5)
    assert high - one.value > one.value - low > 0
    assert high - low == pytest.approx(2 * one.half(0.95))
    turned = one.scaled(-1.0)
    assert turned.interval(0.95) == pytest.approx((-high, -low))


def test_of_differences_skewness_is_taken_as_far_as_it_stands_out_of_chance() -> None:
    """S^3/(S^2 + V): a half of what one far pair shows, nearly the whole of what many show, and odd."""
    far = np.zeros((1, 20))
    far[0, 3] = 0.5
    many = np.where(np.arange(4000) % 10, -1.0, 9.0)[None] / 4000
    for deviates, share in ((far, 0.5), (many, 400 / 401)):
        plain, one = (ErrorSource("members", deviates, differences=here) for here in (False, True))
        for sign in (1, -1):
            whole, taken = (source.skewing(sign * deviates) for source in (plain, one))
            assert taken[0] == pytest.approx(share * whole[0], rel=2e-3)
            assert not taken[1].any()
    assert np.isfinite(ErrorSource("members", far, differences=True).skewing(np.zeros((3, 20)))).all()


def test_intervals_of_the_spread_of_skewed_losses_cover_what_they_say() -> None:
    """2,000 samples of 60 log-normal losses: 68 and 95 % within 3.3 binomial errors and 1.5 points."""
    rng, trials, s = np.random.default_rng(9), 2000, 0.4
    truth, hits = np.log(np.exp(s**2) - 1) / 2, []
    for _ in range(trials):
        sample = np.exp(s * rng.standard_normal(60))
        mean, variance = estimators.leave_one_out(sample)
        left = np.log(variance) / 2 - np.log(mean)
        deviates = estimators.deviates(left, np.ones(60, bool))
        value = sample.std(ddof=1) / sample.mean()
        one = Curve(N[:1], np.array([value]), (ErrorSource("members", deviates[None]),)).log_value(0)
        hits.append([low <= truth <= high for low, high in (one.interval(), one.interval(0.95))])
    for rate, level in zip(np.mean(hits, axis=0), (0.683, 0.95), strict=True):
        assert abs(rate - level) < 3.3 * np.sqrt(level * (1 - level) / trials) + 0.015


def test_a_difference_that_is_said_to_be_seen_is_seen_as_often_as_said() -> None:
    """20,000 Gaussian numbers with a known error, `seen` away from zero: 95 % have p < 0.01. False alarm 1e-3."""
    one = Estimate(0.0, {"members": 1.0})
    found = np.random.default_rng(1).normal(one.seen(), 1.0, size=20_000)
    rate = np.mean(2 * stats.norm.sf(abs(found)) < 0.01)
    assert abs(rate - 0.95) < 3.3 * np.sqrt(0.95 * 0.05 / 20_000)


def test_heavy_tails_leave_fewer_degrees_of_freedom_and_missing_members_none() -> None:
    rng = np.random.default_rng(2)
    weights = mean_weights(N[:1])
    gauss, heavy = rng.normal(size=(1, 200)), np.exp(1.5 * rng.normal(size=(1, 200)))
    freedom = [float(ErrorSource("members", one).freedom(weights @ one)) for one in (gauss, heavy - heavy.mean())]
    assert 120 < freedom[0] <= 199
    assert 1 <= freedom[1] < 40
    few = np.concatenate([rng.normal(size=(1, 3)), np.zeros((1, 50))], axis=1)
    assert float(ErrorSource("members", few).freedom(weights @ few)) <= 2


def test_degrees_of_freedom_of_deviates_are_those_of_the_variance_of_their_squares() -> None:
    """2 m/(kurtosis (1 + kurtosis/m) - 1): of values of equal size m - 1, of one that has it all 2 m/(2 m - 1)."""
    even, alone = np.tile([1.0, -1.0], 25), np.full(50, 1e-9)
    alone[3] = 1.0
    assert float(ErrorSource("members", even[None]).freedom(even)) == 49
    assert float(ErrorSource("members", alone[None]).freedom(alone)) == pytest.approx(100 / 99)
    gauss = np.random.default_rng(0).normal(size=60_000)
    assert float(ErrorSource("members", gauss[None]).freedom(gauss)) == pytest.approx(60_000, rel=0.04)


@pytest.mark.parametrize("value", [2.0, -2.0])
def test_a_number_of_either_sign_has_its_interval_on_the_side_of_its_deviates(value: float) -> None:
    deviates = (np.random.default_rng(9).chisquare(1, size=80) - 1) / 300
    one = relative(value, [ErrorSource("members", deviates[None] / 2)])
    low, high = one.interval(0.95)
    assert one.value == value
    assert one.stderr == pytest.approx(np.sqrt((deviates**2).sum()))
    assert high - value > value - low > 0


def test_what_is_learned_from_others_is_missed_on_both_sides() -> None:
    """One draw of a gamma distribution of skewness 1, its error from 32 others: of 95 % 0.3 to 4.5 % on each side.

    Were the skewness taken for that of a mean with its own error, 5 % would be missed on one side, 0.2 % on the other.
    """
    rng, missed = np.random.default_rng(0), np.zeros(2)
    for _ in range(3000):
        drawn = rng.gamma(4, size=33)
        deviates = (drawn[1:] - drawn[1:].mean()) / np.sqrt(31)
        curve = Curve(np.ones(1), np.exp(drawn[:1] - 4), (ErrorSource("draw", deviates[None], 31.0, others=32),))
        low, high = curve.log_value(0).interval(0.95)
        missed += [high < 0, low > 0]
    assert (missed > 9).all()
    assert (missed < 135).all()


def test_deviates_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        number(2.0, [ErrorSource("members", np.ones((1, 4)) / 9), ErrorSource("draw", np.array([[0.1, np.nan]]))])


def test_a_constant_subtracted_moves_errors_as_the_logarithm_does() -> None:
    """Against small changes of the values themselves."""
    rng = np.random.default_rng(3)
    deviates = 1e-6 * rng.normal(size=(7, 5))
    curve = Curve(N, N**-0.5 + 0.1, (ErrorSource("members", deviates),))
    moved = np.log(curve.value[:, None] * np.exp(deviates) - 0.1) - np.log(curve.value - 0.1)[:, None]
    np.testing.assert_allclose(curve.less(0.1).sources[0].deviates, moved, rtol=1e-4)


@pytest.mark.parametrize("value", [np.array([1.0, -1.0]), np.array([1.0, np.nan]), np.ones(3)])
def test_values_without_logarithms_are_refused(value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"values must be finite|must be of one length"):
        Curve(N[:2], value)


def test_weights_of_curvature_see_neither_level_nor_slope() -> None:
    w = curvature_weights(N)
    np.testing.assert_allclose([w.sum(), w @ np.log(N)], 0, atol=1e-12)

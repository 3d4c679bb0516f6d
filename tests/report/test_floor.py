"""Does a curve level off? Exact curves, and samples of known truth."""

import math

import numpy as np
import pytest
import xarray
from scipy import optimize, stats

from analysis import floor, offset_fit
from analysis.contrasts import Curve, ErrorSource, curvature_weights
from analysis.ensemble import curves

N = np.array([32.0, 48, 64, 96, 128, 192, 256])


def noisy(truth: np.ndarray, error: float, rng: np.random.Generator, members: int = 100) -> Curve:
    """A curve measured by `members` members with a relative error that sizes share in part."""
    each = rng.normal(size=(1, members)) * 0.5 + rng.normal(size=(len(truth), members))
    each *= error * np.sqrt(members / 1.25)
    mean, left = each.mean(axis=1), each - each.mean(axis=1, keepdims=True)
    return Curve(N, truth * np.exp(mean), (ErrorSource("members", left / np.sqrt(members * (members - 1))),))


def test_an_exact_floor_is_found() -> None:
    found = floor.find(Curve(N, 2.0 * (N / 90) ** -0.8 + 0.7))
    assert found.offset == pytest.approx(0.7, rel=1e-4)
    assert found.exponent == pytest.approx(-0.8, rel=1e-3)


def test_a_curve_that_bends_down_has_an_offset_below_zero() -> None:
    found = floor.find(Curve(N, 2.0 * (N / 90) ** -0.5 - 0.6))
    assert found.offset == pytest.approx(-0.6, rel=1e-2)


def test_the_line_of_a_floor_goes_through_an_exact_curve() -> None:
    curve = Curve(N, 2.0 * (N / 90) ** -0.8 + 0.7)
    np.testing.assert_allclose(floor.line(curve, floor.find(curve), N), curve.value, rtol=1e-4)


@pytest.mark.parametrize(
    ("truth", "error", "falls", "flattens", "end", "preferred"),
    [
        (N**-0.5, 0.02, True, False, "falls", "power"),
        (0 * N + 1.0, 0.01, False, False, "independent", "constant"),
        ((N / 32) ** -2.0 + 1.0, 0.02, True, True, "falls", "floor"),
        ((N / 32) ** -4.0 + 1.0, 0.005, True, True, "independent", "floor"),
        (N**-0.01, 0.5, False, False, "unknown", "constant"),
    ],
)
def test_what_a_curve_does_is_named(
    truth: np.ndarray, error: float, falls: bool, flattens: bool, end: str, preferred: str
) -> None:
    found = floor.levelling(noisy(truth, error, np.random.default_rng(4)))
    assert (found.falls, found.flattens, found.end) == (falls, flattens, end)
    assert found.preferred == preferred


@pytest.mark.parametrize(("above", "exponent", "error"), [(1.0, -0.8, 0.02), (3.0, -3.0, 0.1), (0.5, -6.0, 0.2)])
def test_intervals_of_floor_and_exponent_cover_what_they_say(above: float, exponent: float, error: float) -> None:
    """120 studies of 7 sizes with a floor: 95 % within 3.3 binomial errors and 2 points, which sees too little alone.

    The last power law is at its floor within the errors: the smallest value is below it in most studies.
    """
    rng, trials = np.random.default_rng(5), 120
    truth, hits, below = above * (N / 90) ** exponent + 1.0, [], 0
    for _ in range(trials):
        curve = noisy(truth, error, rng)
        found = floor.find(curve)
        (low, high), (least, most) = found.offset_95, found.exponent_95
        hits.append([low <= 1.0 <= high, least <= exponent <= most])
        below += bool(curve.value.min() < 1.0)
    room = 3.3 * np.sqrt(0.95 * 0.05 / trials) + 0.02
    assert np.abs(np.mean(hits, axis=0) - 0.95).max() < room
    assert (below > trials / 2) == (exponent == -6.0)


def test_intervals_of_exponents_cover_no_more_than_they_say_where_the_floor_is_hardly_known() -> None:
    """150 studies, of which each of three draws moves the floor by itself: its error has 2 degrees of freedom, that of
    the exponent has those of the members alone. Of 95 % intervals 1 to 18 miss (8e-4 by chance, for each of the two).

    With the curvature's quantile, 4.3 standard errors, exponents were never missed.
    """
    rng, trials, missed = np.random.default_rng(5), 150, np.zeros(2, int)
    for _ in range(trials):
        floors = 1.0 + 0.05 * rng.normal(size=3)
        truth = (N / 90) ** -0.8 + floors.mean()
        curve = noisy(truth, 1e-3, rng)
        drawn = ErrorSource("draw", (floors - floors.mean()) / truth[:, None] / np.sqrt(6), 2.0)
        found = floor.find(Curve(N, curve.value, (*curve.sources, drawn)))
        (low, high), (least, most) = found.offset_95, found.exponent_95
        missed += [not low <= 1.0 <= high, not least <= -0.8 <= most]
    assert missed.min() >= 1
    assert missed.max() <= 18


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_interval_of_an_exponent_is_that_of_what_the_values_tell_of_it(sign: float) -> None:
    """Small errors, skewed at the smallest size: compared with the contrast of the exponent's derivatives."""
    rng, step = np.random.default_rng(8), 1e-5
    deviates = rng.normal(size=(len(N), 60))
    deviates[0] = sign * rng.exponential(size=60) ** 3
    deviates = 2e-6 * (deviates - deviates.mean(axis=1, keepdims=True))
    curve = Curve(N, 2.0 * (N / 90) ** -1.5 + 1.0, (ErrorSource("members", deviates),))

    def exponent(logarithms: np.ndarray) -> float:
        return floor.find(Curve(N, curve.value * np.exp(logarithms), curve.sources)).exponent

    weights = np.array([exponent(step * one) - exponent(-step * one) for one in np.eye(len(N))]) / (2 * step)
    expected, found = curve.contrast(weights), floor.find(curve)
    assert abs(expected.skewness) > 0.1
    low, high = expected.interval(0.95)
    shift = found.exponent - expected.value
    np.testing.assert_allclose(found.exponent_95, (low + shift, high + shift), atol=0.02 * (high - low))


@pytest.mark.parametrize("offset", [-3.0, 0.0, 0.4, 1.05])
def test_power_laws_above_offsets_are_those_of_least_squares(offset: float) -> None:
    value = noisy(0.5 * (N / 90) ** -1.5 + 1.0, 0.05, np.random.default_rng(9)).value
    x = np.log(N) - np.log(N).mean()
    found = offset_fit.fit(N, value, np.array([0.2, offset]))

    def left(at: np.ndarray) -> np.ndarray:
        return np.log(value) - np.log(np.maximum(np.exp(at[0] + at[1] * x) + offset, 1e-9))

    best = optimize.least_squares(left, [np.log(1.5 - offset), -0.5], x_scale="jac", xtol=1e-12, ftol=1e-12)
    assert (found.left[1] ** 2).sum() <= 2 * best.cost * (1 + 1e-6)
    np.testing.assert_allclose(found.exponent[1], best.x[1], rtol=1e-3)


@pytest.mark.parametrize("offset", [-3.0, 0.0, 0.4, 1.05])
def test_weights_of_the_curvature_and_the_exponent_are_their_derivatives(offset: float) -> None:
    """By central differences, about a power law above that offset: errors are those of its logarithms."""
    exact, step = np.log(5.0 * (N / 90) ** -0.4 + offset), 1e-5
    at, weights = np.array([offset]), curvature_weights(N)
    laws = offset_fit.fit(N, np.exp(exact), at)

    def found(logarithms: np.ndarray) -> tuple[float, float]:
        one = offset_fit.fit(N, np.exp(logarithms), at)
        return float(one.left[0] @ weights), float(one.exponent[0])

    ends = [(found(exact + step * one), found(exact - step * one)) for one in np.eye(len(N))]
    moved = np.array([np.subtract(up, down) / (2 * step) for up, down in ends])
    assert np.abs(laws.left).max() < 1e-6
    np.testing.assert_allclose(moved[:, 0], laws.project(weights)[0], atol=1e-3 * np.abs(weights).max())
    np.testing.assert_allclose(
        moved[:, 1], laws.exponent_weights()[0], atol=1e-3 * np.abs(laws.exponent_weights()).max()
    )


def test_a_floor_that_the_sizes_do_not_tell_has_an_open_interval() -> None:
    found = floor.find(noisy(N**-0.3, 0.2, np.random.default_rng(6)))
    assert found.offset_95[0] == -np.inf
    assert not all(map(math.isfinite, found.offset_95))


@pytest.mark.parametrize("value", [np.full(len(N), 0.3), 0.3 * (N / 90) ** 1e-9, 1e-9 * N**-0.4, 1e9 * N**3.0])
def test_curves_without_a_shape_and_of_any_unit_are_described(value: np.ndarray) -> None:
    """What is constant to the last digit too; warnings are errors here."""
    deviates = 1e-2 * np.random.default_rng(1).standard_normal((len(N), 8))
    for sources in ((), (ErrorSource("members", deviates),)):
        found = floor.levelling(Curve(N, value, sources)).floor
        assert found is not None
        low, high = found.offset_95
        assert not sources or low <= 0 <= high or value[-1] < value[0] / 2


def test_a_curve_without_errors_is_described_without_tests() -> None:
    found = floor.levelling(Curve(N, N**-0.5))
    assert np.isnan(found.p_slope)
    assert found.aicc == {}
    assert found.end == "unknown"
    assert found.to_dict()["exponent"]["dof"] is None


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_few_draws_are_described_without_a_covariance_that_they_do_not_tell(count: int) -> None:
    """From 2 draws the errors of slope and curvature are one number: AICc would need the inverse of their matrix."""
    for seed in range(6):
        table = N**-0.4 * np.exp(0.02 * np.random.default_rng(seed).standard_normal((count, len(N))))
        drawn = xarray.DataArray(table, dims=("draw", "n_train"), coords={"n_train": N})
        curve = curves.exact(drawn, curves.Drawn(10**9))
        assert curve is not None
        found = floor.levelling(curve)
        assert (found.aicc == {}) == (count < 4)
        assert not found.aicc or found.preferred != "constant"
        assert np.isfinite([found.p_slope, found.p_power]).all()


def test_too_few_sizes_have_no_floor() -> None:
    assert floor.levelling(Curve(N[:3], N[:3] ** -0.5)).floor is None


def test_a_well_known_error_leaves_chi_squared_as_it_is_and_a_poor_one_shrinks_it() -> None:
    for dims in (1, 2):
        assert floor._known(7.0, dims, 1e7) == pytest.approx(7.0, rel=1e-4)
        assert floor._known(7.0, dims, 4.0) < 5.0


def test_a_likelihood_ratio_of_one_contrast_is_students() -> None:
    """The chi squared that AICc sees has the p-value of the test that the report prints."""
    curve = noisy((N / 90) ** -0.8 + 0.3, 0.02, np.random.default_rng(7))
    found = floor.levelling(curve)
    square = (found.curvature.value / found.curvature.stderr) ** 2
    plain_p = 2 * stats.t.sf(np.sqrt(square), found.curvature.dof)
    assert stats.chi2.sf(floor._known(square, 1, found.curvature.dof), 1) == pytest.approx(plain_p)


@pytest.mark.parametrize("error", [1e-2, 1e-4, 1e-6])
def test_intervals_of_a_floor_are_as_fine_as_its_errors(error: float) -> None:
    """Ends and halves shrink with the error, and hold the truth in 20 of 24 studies at least (4e-4 by chance)."""
    rng, truth = np.random.default_rng(8), (N / 90) ** -0.8 + 1.0
    hits = []
    for _ in range(24):
        found = floor.find(noisy(truth, error, rng))
        (low, high), (least, most) = found.offset_95, found.exponent_95
        assert 0 < high - low < 60 * error
        assert 0 < most - least < 60 * error
        hits.append([low <= 1.0 <= high, least <= -0.8 <= most])
    assert np.sum(hits, axis=0).min() >= 20


def test_the_exponent_above_a_floor_of_a_rising_curve_is_open_above() -> None:
    found = floor.find(noisy(1 + 0.002 * N, 0.05, np.random.default_rng(3)))
    low, high = found.exponent_95
    assert high == np.inf
    assert -math.inf < low < 1


def test_none_is_preferred_where_no_floor_makes_a_power_law() -> None:
    found = floor.levelling(noisy(2.0 * (N / 90) ** -0.5 - 0.6, 0.01, np.random.default_rng(4)))
    assert found.is_curved
    assert found.preferred == "none"


def test_the_interval_of_the_floor_holds_zero_where_a_power_law_is_not_refused() -> None:
    """At an offset of zero the scan over offsets is the curvature of the curve: one test, with the same skewness."""
    rng, agreed = np.random.default_rng(12), 0
    for bend in np.linspace(-0.4, 0.4, 41):
        skewed = rng.gamma(2, size=(len(N), 40)) - 2
        own = ErrorSource("members", 0.05 * (skewed - skewed.mean(axis=1, keepdims=True)) / 40)
        drawn = ErrorSource("draw", 0.03 * rng.standard_normal((len(N), 9)) / 3, 8.0, others=9)
        curve = Curve(N, N**-0.5 * np.exp(bend * np.log(N / 90) ** 2 / 8), (own, drawn))
        low, high = floor.find(curve).offset_95
        refused = curve.curvature().p_value() < 0.05
        agreed += (low <= 0 <= high) != refused
    assert agreed == 41


@pytest.mark.parametrize("value", [(0.76, 0.786, 0.649, 0.929), (0.867, 0.994, 0.835, 0.828, 0.954)])
def test_a_curve_of_noise_whose_power_law_is_steep_between_two_offsets_has_a_floor(value: tuple[float, ...]) -> None:
    curve = Curve(32.0 * 2.0 ** np.arange(len(value)), np.array(value))
    found = floor.find(curve)
    assert 0 < found.offset < max(value)
    assert abs(found.exponent) <= offset_fit.STEEPEST

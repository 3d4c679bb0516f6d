"""Power-law fits: recovered truths, errors that do not depend on the fit's quality, intervals that cover."""

import json

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.scaling import compare, fit_power_law

N = np.array([32, 48, 64, 96, 128, 192, 256.0])
WIDE = np.array([32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048.0])
LINKED = 0.9 ** abs(np.subtract.outer(range(7), range(7)))


@pytest.mark.parametrize("offset", [0.0, 0.004, -0.001])
@pytest.mark.parametrize("exponent", [-1.4, -0.7, -0.1])
def test_noiseless_laws_are_recovered(exponent: float, offset: float) -> None:
    value = 0.02 * (N / 90) ** exponent + offset
    fit = fit_power_law(N, value, 0.03 * value, "free")
    np.testing.assert_allclose([fit.exponent, fit.offset], [exponent, offset], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit(N), value, rtol=1e-8)
    if not offset:
        fit = fit_power_law(N, value, 0.03 * value)
        assert fit.exponent == pytest.approx(exponent, abs=1e-8)
        assert fit.chi2 == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("linked", [False, True])
def test_parameters_and_errors_are_those_of_another_library(linked: bool) -> None:
    rng = np.random.default_rng(3)
    stderr = 0.02 * N**-0.6 * rng.uniform(0.8, 1.2, 7)
    covariance = (LINKED if linked else np.eye(7)) * np.outer(stderr, stderr)
    value = N**-0.6 + 0.05 + np.linalg.cholesky(covariance) @ rng.normal(size=7)
    fit = fit_power_law(N, value, stderr, "free", covariance=covariance if linked else None)
    other, errors = optimize.curve_fit(
        lambda n, a, b, c: a * (n / fit.n_ref) ** b + c, N, value, [1, -0.5, 0.0], covariance, absolute_sigma=True
    )
    np.testing.assert_allclose([fit.amplitude, fit.exponent, fit.offset], other, rtol=1e-4)
    np.testing.assert_allclose(fit.covariance, errors, rtol=1e-3)
    band = np.sqrt(np.diag((gradient := _gradient(fit, N)) @ errors @ gradient.T))
    np.testing.assert_allclose(fit.band(N), band, rtol=1e-3)


def _gradient(fit, n: np.ndarray) -> np.ndarray:
    x = n / fit.n_ref
    return np.stack([x**fit.exponent, fit.amplitude * x**fit.exponent * np.log(x), np.ones_like(x)], axis=1)


CASES = {
    "no offset": (N, "none", 0.0, None),
    "no offset, linked errors": (N, "none", 0.0, LINKED),
    "offset that is zero": (N, "free", 0.0, None),
    "offset": (N, "free", 0.01, None),
    "offset, long curve": (WIDE, "free", 0.01, None),
    "offset, linked errors": (N, "free", 0.01, LINKED),
}


@pytest.mark.promise(
    "Where errors are known, 68 % intervals of exponents and offsets cover in 68 % of cases, 95 % in 95 %."
)
@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_what_they_say(case: str) -> None:
    """Coverage over synthetic studies within 3.3 binomial standard errors of 68.27 and 95 % (false alarm 1e-3 each)."""
    n, offset, true_offset, linked = CASES[case]
    trials = 600 if offset == "none" else 250
    truth = 0.02 * (n / 90) ** -0.7 + true_offset
    stderr = 0.04 * truth
    covariance = (np.eye(len(n)) if linked is None else linked) * np.outer(stderr, stderr)
    factor, rng = np.linalg.cholesky(covariance), np.random.default_rng(17)
    inside = np.zeros((2, 2))
    for _ in range(trials):
        fit = fit_power_law(n, truth + factor @ rng.normal(size=len(n)), stderr, offset, covariance=covariance)
        inside += [
            [_within(-0.7, fit.exponent_68), _within(-0.7, fit.exponent_95)],
            [_within(true_offset, fit.offset_68), _within(true_offset, fit.offset_95)],
        ]
    for row in inside[: 2 if offset == "free" else 1] / trials:
        for covered, nominal in zip(row, (0.6827, 0.95), strict=True):
            assert abs(covered - nominal) < 3.3 * np.sqrt(nominal * (1 - nominal) / trials), inside / trials


def _within(value: float, interval: tuple[float, float]) -> bool:
    return interval[0] <= value <= interval[1]


@pytest.mark.promise("Errors of fitted exponents are absolute: they follow the data's errors, not the fit's quality.")
def test_errors_are_absolute() -> None:
    """Doubling the errors doubles the parameters' errors and quarters chi^2; lmfit's default would change nothing."""
    rng = np.random.default_rng(5)
    value = N**-0.7 * (1 + 0.1 * rng.normal(size=7))
    one, two = (fit_power_law(N, value, factor * 0.03 * value) for factor in (1, 2))
    assert two.exponent == pytest.approx(one.exponent, abs=1e-7)
    assert two.exponent_stderr == pytest.approx(2 * one.exponent_stderr, rel=1e-6)
    assert two.chi2 == pytest.approx(one.chi2 / 4, rel=1e-6)
    scaled = fit_power_law(N, 7 * value, 7 * 0.03 * value)
    assert (scaled.exponent, scaled.chi2) == pytest.approx((one.exponent, one.chi2), rel=1e-6)


def test_the_offset_is_demanded_only_by_data_that_show_it() -> None:
    rng = np.random.default_rng(6)
    truth = 0.02 * (N / 90) ** -0.7
    chosen = [
        sum(compare(N, v := t * (1 + e * rng.normal(size=7)), e * v).preferred.offset != 0 for _ in range(60))
        for t, e in ((truth, 0.02), (truth + 0.03, 0.005))
    ]
    assert chosen[0] <= 9  # AICc asks for much with 7 sizes
    assert chosen[1] >= 50


def test_an_offset_that_the_sizes_cannot_tell_is_flagged() -> None:
    n = np.array([100.0, 110, 120, 130])
    fit = fit_power_law(n, n**-0.3, 0.05 * n**-0.3, "free")
    assert any("not constrained" in flag for flag in fit.flags)
    text = json.dumps(fit.to_dict(), allow_nan=False)
    assert json.loads(text)["exponent"] == pytest.approx(fit.exponent)


@pytest.mark.parametrize("slope", [-0.1, 0.1])
def test_a_logarithm_has_neither_an_exponent_nor_an_offset_and_the_fit_says_so(slope: float) -> None:
    """A power law tends to a logarithm as its exponent vanishes and amplitude and offset run away together."""
    value = 1 + slope * np.log(N / 90)
    fit = fit_power_law(N, value, 0.01 * np.ones(7), "free")
    np.testing.assert_allclose(fit(N), value, atol=1e-3)
    assert fit.exponent_68[0] < 0 < fit.exponent_68[1]
    assert any("offset is not constrained" in flag or "offset is hardly constrained" in flag for flag in fit.flags)


@pytest.mark.parametrize("offset", ["none", "free"])
def test_values_without_any_power_law_are_fitted_by_none(offset: str) -> None:
    fit = fit_power_law(N, np.zeros(7), np.ones(7), offset)
    assert (fit.amplitude, fit.chi2, fit.offset) == pytest.approx((0, 0, 0), abs=1e-12)
    assert any("exponent is not constrained" in flag for flag in fit.flags)
    assert any("not positive" in flag for flag in fit.flags)


def test_an_interval_open_at_95_percent_alone_is_said_too() -> None:
    n = np.array([100.0, 200, 400, 800])
    flags = [fit_power_law(n, n**-0.5, error * n**-0.5, "free").flags for error in np.geomspace(0.02, 0.4, 12)]
    assert any("hardly constrained" in flag for one in flags for flag in one)


def test_a_bad_fit_is_flagged() -> None:
    fit = fit_power_law(N, N**-0.5 * (1 + 0.5 * (N > 100)), 0.01 * N**-0.5)
    assert fit.p_value == pytest.approx(stats.chi2.sf(fit.chi2, 5))
    assert any("fits badly" in flag for flag in fit.flags)


def test_as_many_parameters_as_sizes_cannot_be_tested() -> None:
    fit = fit_power_law(N[:2], N[:2] ** -0.5, 0.01 * N[:2] ** -0.5)
    assert np.isnan(fit.p_value)
    assert fit.aicc == np.inf
    assert any("cannot be tested" in flag for flag in fit.flags)
    assert compare(N[:3], N[:3] ** -0.5, 0.01 * N[:3] ** -0.5).free is None


GOOD = (N, N**-0.5, 0.01 * N**-0.5)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((N[:1], [1.0], [0.1]), {}, "1 sizes"),
        ((N[:2], [1.0, 0.9], [0.1, 0.1], "free"), {}, "2 sizes"),
        ((N, N[:3], N), {}, "one length"),
        ((N, np.full(7, np.nan), N), {}, "not finite"),
        ((-N, N, N), {}, "positive"),
        ((N, N, 0 * N), {}, "positive"),
        ((*GOOD, "maybe"), {}, "neither"),
        (GOOD, {"covariance": np.ones((7, 7))}, "not positive definite"),
        (GOOD, {"covariance": np.eye(6)}, "covariance of shape"),
        (GOOD, {"covariance": np.triu(np.full((7, 7), 0.1), 1) + np.eye(7)}, "symmetric"),
    ],
)
def test_input_that_makes_no_sense_is_refused(arguments: tuple, keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_power_law(*arguments, **keywords)

"""The line log(value/exact) = a/width, against NumPy and samples of known truth."""

import numpy as np
import pytest

from analysis import width
from analysis.contrasts import Estimate

WIDTHS = np.array([32, 128, 512])


def ratios(values: np.ndarray, error: float = 0.01) -> list[Estimate | None]:
    return [Estimate(float(value), {"members": error}, 40.0) for value in values]


def test_the_coefficient_and_the_limit_are_those_of_least_squares() -> None:
    values = -12.0 / WIDTHS + np.array([0.004, -0.002, 0.003])
    fit = width.fit("mu_L", 64, WIDTHS, ratios(values), 0.5)
    assert fit is not None
    assert fit.limit is not None
    x = 1 / WIDTHS
    (slope,) = np.linalg.lstsq(x[:, None], values, rcond=None)[0]
    assert fit.a.value == pytest.approx(slope)
    assert fit.limit.value == pytest.approx(np.polyfit(x, values, 1)[1])
    assert fit.a.stderr == pytest.approx(0.01 / np.sqrt((x**2).sum()))


def test_widths_off_the_line_are_told_from_widths_on_it() -> None:
    on, off = (width.fit("mu_L", 64, WIDTHS, ratios(v), 0.5) for v in (-12.0 / WIDTHS, -12.0 / WIDTHS + 0.05))
    assert on is not None
    assert off is not None
    assert on.holds
    assert not off.holds


def test_the_limit_is_called_off_as_rarely_as_it_says() -> None:
    """4,000 fits with Gaussian errors that are known: p < 0.01 in 1 %, within 3.3 binomial errors (1e-3)."""
    rng, trials = np.random.default_rng(1), 4000
    alarms = []
    for _ in range(trials):
        values = -12.0 / WIDTHS + 0.01 * rng.standard_normal(3)
        found = [Estimate(float(value), {"members": 0.01}) for value in values]
        fit = width.fit("mu_L", 64, WIDTHS, list(found), 0.5)
        assert fit is not None
        alarms.append(not fit.holds)
    assert abs(np.mean(alarms) - 0.01) < 3.3 * np.sqrt(0.01 * 0.99 / trials)


def test_one_width_has_no_limit_and_missing_ones_are_left_out() -> None:
    one = width.fit("eps_L", 8, WIDTHS, [None, *ratios(np.array([0.1])), None], 0.2)
    assert one is not None
    assert one.limit is None
    assert one.a.value == pytest.approx(0.1 * 128)
    assert np.isnan(one.p_value)
    assert one.to_dict()["p_value"] is None
    assert width.fit("eps_L", 8, WIDTHS, [None] * 3, 0.2) is None


def test_narrow_networks_tell_of_wide_ones_with_infinite_width_known() -> None:
    """v(n) = v_inf (1 + a/n + b/n^2): off by the b it does not know, within the size that it says."""
    exact, a, b = 0.3, 8.0, 50.0

    def value(n: float) -> float:
        return exact * (1 + a / n + b / n**2)

    found = Estimate(value(32), {"members": 0.01, "draws": 0.02}, 40.0, 0.5)
    for to in (32, 64, 512, 1e9, np.inf):
        there = width.extrapolated(found, 32, exact, to)
        assert there.value == pytest.approx(exact + (value(32) - exact) * 32 / to)
        assert there.parts["members"] == pytest.approx(0.01 * 32 / to)
        assert there.parts["draws"] == pytest.approx(0.02 * 32 / to)
        assert (there.dof, there.skewness) == (40.0, 0.5)
        missed = abs(there.value - (value(to) if to < np.inf else exact))
        assert missed <= there.parts.get("next order", 0) + 1e-12
        assert missed == pytest.approx(exact * b * (1 / (32 * to) - 1 / to**2), abs=1e-12)
    assert width.extrapolated(found, 32, exact, 32).parts == pytest.approx(found.parts)


def test_errors_of_the_extrapolation_cover_as_often_as_they_say() -> None:
    """4,000 Gaussian values at width 32 of a law without further orders: the 68 % interval covers the value at 256 at
    least as often; without its part "next order", within 3.3 binomial errors (1e-3) of 0.683."""
    rng, trials, exact = np.random.default_rng(2), 4000, 0.3
    covered = []
    for z in rng.standard_normal(trials):
        there = width.extrapolated(Estimate(exact * 1.1 + 0.01 * z, {"members": 0.01}), 32, exact, 256)
        off = abs(there.value - exact * (1 + 0.1 / 8))
        assert there.stderr > there.parts["members"]
        covered.append(off < there.parts["members"])
    assert abs(np.mean(covered) - 0.6827) < 3.3 * np.sqrt(0.68 * 0.32 / trials)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((512, 0.3, 32), "narrower"),
        ((0, 0.3, 32), "positive"),
        ((32, 0.0, 64), "not 0"),
        ((32, np.nan, 64), "finite"),
        ((32, 0.3, np.nan), "narrower"),
    ],
)
def test_no_extrapolation_from_wide_to_narrow_networks(settings: tuple[float, float, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        width.extrapolated(Estimate(0.3, {"members": 0.01}), *settings)

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

"""Ticks of logarithmic axes: whatever the range, a reader can read at least three values."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis.report.plotting import log_axis, log_x, log_y
from analysis.report.ticks import FEWEST, MOST, label, ticks


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.floats(-12, 9), st.floats(-4, 1.2), st.booleans())
def test_every_range_has_three_to_eight_ticks_with_labels_of_their_own(start: float, span: float, two: bool) -> None:
    """Ranges from a ten-thousandth of a decade to sixteen decades."""
    low = 10.0**start
    high = low * 10.0 ** (10.0**span)
    assume(high > low * (1 + 1e-4))
    found = ticks(low, high, powers_of_two=two)
    assert FEWEST <= len(found) <= MOST
    assert found == sorted(found)
    assert low * (1 - 1e-8) <= found[0]
    assert found[-1] <= high * (1 + 1e-8)
    assert len({label(one) for one in found}) == len(found)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.floats(-12, 12))
def test_a_label_is_the_value_of_its_tick(power: float) -> None:
    value = float(f"{10.0**power:.6g}")
    text = label(value).replace(",", "").strip("$")
    factor, _, exponent = text.replace("10^{", " \\times 10^{", 1).partition("\\times 10^{")
    known = (float(factor.replace("\\times", "").strip() or 1)) * 10.0 ** float(exponent.strip("}") or 0)
    assert known == pytest.approx(value, rel=1e-6)


def drawn(axis: object) -> list[str]:
    axis.figure.canvas.draw()
    low, high = axis.get_view_interval()
    return [one.get_text() for one, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
            if one.get_text() and low <= at <= high]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high"), [(0.09, 0.15), (0.1, 0.12), (3e-7, 4e-3), (0.02, 0.4), (1.0, 1.02), (0.72, 0.7201), (2.0, 9e7)]
)
def test_a_logarithmic_axis_of_losses_is_labelled(low: float, high: float) -> None:
    axis = Figure().subplots()
    axis.plot([32, 64, 128], np.geomspace(low, high, 3))
    log_y(axis)
    assert len(drawn(axis.yaxis)) >= FEWEST
    assert len(set(drawn(axis.yaxis))) == len(drawn(axis.yaxis))


@pytest.mark.parametrize(
    "sizes", [(32, 256), (20, 50, 100), (100, 110), (45, 1024), (16, 65536), (300, 301), (7, 8, 9)]
)
def test_a_logarithmic_axis_of_sizes_is_labelled(sizes: tuple[int, ...]) -> None:
    axis = Figure().subplots()
    axis.plot(sizes, sizes)
    log_x(axis)
    assert len(drawn(axis.xaxis)) >= FEWEST


@pytest.mark.parametrize("widths", [(64,), (25, 400), (32, 128, 512), (64, 65, 66, 4096), tuple(range(10, 90))])
def test_an_axis_of_widths_names_the_widths_and_no_two_labels_touch(widths: tuple[int, ...]) -> None:
    axis = Figure().subplots()
    axis.plot(widths, widths)
    log_axis(axis, np.array(widths, float))
    texts, places = drawn(axis.xaxis), axis.get_xticks()
    assert len(texts) >= FEWEST
    assert {label(float(widths[0]))} <= set(texts)
    if len(widths) < 4:
        assert {label(float(one)) for one in widths} <= set(texts)
    low, high = axis.get_xlim()
    assert (np.diff(np.log(places)) > 0.05 * math.log(high / low)).all()

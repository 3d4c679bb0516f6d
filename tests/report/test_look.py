"""One look: what stands for one thing differs from all others in colour, in grey and to the colour-blind."""

import matplotlib as mpl
import numpy as np
import pytest

from analysis.report import look
from analysis.report.look import PALETTES, SPAN, series

PROTANOPE = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
"""Linear RGB as seen without red cones [Vienot, Brettel, Mollon, Color Research and Application 24 (1999) 243]."""


def linear(color: str) -> np.ndarray:
    value = np.array(mpl.colors.to_rgb(color))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lightness(rgb: np.ndarray) -> float:
    """L* from 0 (black) to 100 (white) of linear RGB (CIE 1976)."""
    y = float(np.clip(rgb, 0, 1) @ [0.2126, 0.7152, 0.0722])
    return 116 * np.cbrt(y) - 16 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("of", PALETTES)
@pytest.mark.parametrize("count", range(1, 9))
def test_a_series_is_ordered_in_lightness_and_its_members_differ_in_grey(of: str, count: int) -> None:
    for eyes, least in ((np.eye(3), 5.0), (PROTANOPE, 3.5)):  # a difference of 2.3 is just noticeable
        found = np.array([lightness(eyes @ linear(one.color)) for one in series(count, of)])
        assert (np.diff(found) < -least).all()
        assert found.max() < 80  # against white
        assert found.min() > 20  # against black, which is infinite width


@pytest.mark.parametrize("count", [1, 5, 8, 13])
def test_no_two_members_of_a_series_share_marker_and_dashes(count: int) -> None:
    looks = series(count)
    assert len({(one.marker, str(one.dashes)) for one in looks}) == count
    assert len({one.marker for one in looks}) == min(count, len(look.MARKERS))
    assert all(one.dashes != "-" for one in looks)


def test_exact_lines_differ_without_colour() -> None:
    lines = [look.EXACT, look.EXACT_OTHER, look.END, look.FIXED, look.POSTERIOR]
    for line in lines:
        red, green, blue = mpl.colors.to_rgb(line["color"])
        assert red == green == blue
    assert len({(str(line["ls"]), line["lw"]) for line in lines}) == len(lines)
    assert len({str(line["ls"]) for line in (look.EXACT, look.END, look.FIXED, look.POSTERIOR)}) == 4


def test_what_is_compared_in_a_posterior_differs_in_grey_and_by_mark() -> None:
    kinds = [look.THEORY, look.SAMPLED, look.ADAPTIVE_KERNEL, look.EXACT]
    found = sorted(lightness(linear(one["color"])) for one in kinds)
    assert (np.diff(found) > 5).all()
    assert look.SAMPLED["fmt"] != look.ADAPTIVE_KERNEL["fmt"]


def test_points_at_one_place_are_moved_apart_and_stay_on_their_side_of_the_neighbours() -> None:
    x = np.array([32.0, 48.0, 64.0])
    moved = np.array([one.apart(x) for one in series(5)])
    assert (np.diff(moved, axis=0) > 0).all()
    assert moved[-1, 0] < moved[0, 1]
    assert np.exp(np.log(moved).mean(axis=0)) == pytest.approx(x)
    assert moved[-1, 0] / moved[0, 0] == pytest.approx((64 / 48) ** SPAN)
    assert series(1)[0].apart(x) == pytest.approx(x)

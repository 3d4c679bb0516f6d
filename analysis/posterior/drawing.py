"""What the figures of a posterior share: widths, lines with their spread, and axes that a reader can read.

A width has one colour, marker and kind of dashes everywhere, and so has the number of training samples where widths are
on the axis. Solid black is infinite width, grey dashes the ensemble trained to the end.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from analysis.report.look import EXACT, Look, series
from analysis.report.plotting import log_y, points_of

LOSS = "test loss, mean of $(f-y)^2$"
NORMALISATION = "Test loss: mean over test points of (f - y)^2, without a factor 1/2."
"""How captions begin that speak of losses."""

WIDE = 3.0
"""Ratio of values from which an axis is logarithmic."""


def line_with_band(axis: Axes, curve: xarray.DataArray, line: dict[str, Any], label: str, *, band: bool) -> None:
    """Mean over draws, and the spread between them."""
    mean, n = curve.mean("draw"), curve.n_train.values
    axis.plot(n, mean, **line, marker=".", ms=3, label=label)
    if band and curve.sizes["draw"] > 1:
        spread = curve.std("draw", ddof=1)
        axis.fill_between(n, mean - spread, mean + spread, color=line["color"], alpha=0.15, lw=0)


def widths(values: np.ndarray) -> Iterator[tuple[float, Look | None, dict[str, Any], str]]:
    """Each width with its look, its line and its name; the last is infinity, which has no points, and is black."""
    for width, look in zip(values[:-1], series(len(values) - 1), strict=True):
        yield float(width), look, look.line, f"width {int(width):,}"
    yield math.inf, None, EXACT, "infinite width"


def y_axis(axis: Axes) -> None:
    """Logarithmic where values span so much that its ticks can be read."""
    y = points_of(axis)[:, 1]
    if (y > 0).all() and len(y) and y.max() > WIDE * y.min():
        log_y(axis)

"""What the figures of a posterior share: widths, lines with their spread, and axes that a reader can read.

Colour means width, or the number of training samples where widths are on the axis; black is infinite width, grey
dashes the ensemble trained to the end.
"""

import math
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

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
        axis.fill_between(n, mean - spread, mean + spread, color=line["color"], alpha=0.1, lw=0)


def widths(values: np.ndarray) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each width with its look; the last is infinity, and black."""
    finite = len(values) - 1
    colours = mpl.colormaps["viridis"](np.linspace(0.85, 0.15, finite))
    for i, width in enumerate(values[:-1]):
        yield float(width), {
            "color": mpl.colors.to_hex(colours[i]), "fmt": "osD^vP*X"[i % 8], "shift": shifts(finite)[i],
            "label": f"width {int(width):,}",
        }  # fmt: skip
    yield math.inf, {"color": "black", "fmt": "o", "shift": 1.0, "label": "infinite width"}


def shifts(count: int) -> np.ndarray:
    """Factors that move points apart a little, so that error bars can be read."""
    return np.geomspace(0.985, 1.015, count) if count > 1 else np.ones(1)


def log_axis(axis: Axes, values: np.ndarray) -> None:
    """A logarithmic x axis of these values, which may be one."""
    axis.set_xscale("log")
    own_ticks(axis, values)
    low, high = float(np.min(values)), float(np.max(values))
    margin = (high / low) ** 0.06 if high > low else 2.0
    axis.set_xlim(low / margin, high * margin)


def y_axis(axis: Axes) -> None:
    """Logarithmic where values span so much that its ticks can be read."""
    y = points_of(axis)[:, 1]
    if (y > 0).all() and len(y) and y.max() > WIDE * y.min():
        log_y(axis)


def own_ticks(axis: Axes, values: np.ndarray, form: str = "{:,.0f}") -> None:
    """The values themselves on a logarithmic axis, without those that would touch."""
    kept: list[float] = []
    for value in np.unique(values):
        if not kept or value / kept[-1] > (np.max(values) / np.min(values)) ** 0.07:
            kept.append(float(value))
    axis.set_xticks(kept, [form.format(value) for value in kept])
    axis.xaxis.set_minor_locator(NullLocator())

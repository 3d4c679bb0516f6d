"""The figure of exact curves far beyond the ensembles."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.ensemble.drawing import NAMES, local_exponents, times, widths
from analysis.ensemble.endings import endings
from analysis.ensemble.results import EnsembleResults
from analysis.floor import INDEPENDENT
from analysis.report.look import UNIT
from analysis.report.plotting import legend_below, log_x, log_y

ORDER_ONE = 10.0
"""What is within this factor of 1 is drawn as of order 1."""

CAPTION = (
    "The exact curve at infinite width, mean over draws of the training set, beyond the sizes of the ensembles "
    "(shaded grey). Above: mean loss, and its relative spread on this test set (lines) and as an endless one would "
    "show it (open circles). Middle: local exponents between neighbouring sizes; bands are 68 % intervals for the "
    "draw where several draws tell it, for the iteration where the curve was iterated, and of the endless test set "
    "for the test points where the run tells it; an exponent in the lighter band about zero would be called "
    "independence of N_D. Below: where N_D^2/n is of order 1 for the widths n of this study, at N_D = sqrt(n) "
    "(markers; bars: from 0.1 to 10). Near there networks were seen to leave the loss of infinite width "
    "(arXiv:2212.12147, polynomial regression with ReLU networks). That is an order of magnitude, found for the mean "
    "loss, and no prediction for this task or for eps_L; no network is in this figure."
)


def tail(results: EnsembleResults) -> Figure | None:
    """mu_L, eps_L and eps_pop, their local exponents, and where N_D^2/n is of order 1."""
    found = {(one.quantity, one.time): one for one in endings(results)}
    if not found:
        return None
    figure = Figure(figsize=(10, 7.6))
    count_of_widths = results.mean.sizes["width"]
    axes = figure.subplots(3, 2, sharex="col", height_ratios=[2.2, 1.5, 0.35 + 0.15 * count_of_widths])
    for column, names in zip(axes.T, (("mu_L",), ("eps_L", "eps_pop")), strict=True):
        top, middle, strip = column
        for time, label, line in times(results):
            for name in names:
                if (one := found.get((name, time))) is None:
                    continue
                open_circles = {"lw": 1.0, "marker": "o", "mfc": "white", "ms": 4.5} if name == "eps_pop" else {}
                look = {**line, **open_circles}
                named = f"{label}, endless test set" if open_circles else label
                top.plot(one.tail.curve.n, one.tail.curve.value, **look, label=named)
                local_exponents(middle, one.asked.curve, look, named)
        _order_one(strip, results)
        start = min(min(one.tail.curve.n[0] for one in found.values()), np.sqrt(results.mean.width.values[0]))
        for axis in (top, middle):
            axis.axvspan(results.sizes[0], results.sizes[-1], color="0.88", lw=0, zorder=0, label="sizes of ensembles")
        log_y(top)
        log_x(strip)
        strip.set_xlim(left=start / 1.4)
        strip.set_xlabel("training samples $N_D$")
        middle.set_ylabel("local exponent")
    axes[0, 0].set_ylabel(NAMES["mu_L"])
    axes[0, 1].set_ylabel("relative spread $\\epsilon_L$")
    axes[1, 1].axhspan(-INDEPENDENT, INDEPENDENT, color="0.95", zorder=-1)
    axes[1, 1].axhline(0, **UNIT)
    legend_below(figure, [axes[0, 0], axes[0, 1], axes[2, 0]], 3)
    return figure


def _order_one(axis: Axes, results: EnsembleResults) -> None:
    """A row for each width: N_D at which N_D^2/n is 1, and a bar where it is of order 1."""
    found = list(widths(results))
    for row, (width, look) in enumerate(found):
        at, factor = np.sqrt(width), np.sqrt(ORDER_ONE)
        label = "$N_D^2/n$ = 1, bar 0.1 to 10" if row == 0 else None
        axis.errorbar([at], [row], xerr=[[at - at / factor], [at * factor - at]], **look.points, label=label)
    axis.set_yticks(range(len(found)), [f"{width:,}" for width, _ in found])
    axis.set_ylim(-0.7, len(found) - 0.3)
    axis.set_ylabel("width $n$")

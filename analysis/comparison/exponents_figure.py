"""Exponents side by side: a row for each variant, a panel for each quantity, a mark for each width."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.comparison.drawing import SYMBOLS
from analysis.comparison.results import ComparisonResults
from analysis.report.look import EXACT, Look, series
from analysis.report.plotting import legend_below
from analysis.report.section import Section

SHOWN = ("mu_L", "eps_L", "eps_pop")

HEIGHT = 0.6
"""Part of the distance between rows over which the widths of a variant are spread."""

CAPTION = (
    "Exponents of N_D of every variant, with 68 % (thick) and 95 % (thin) intervals for the members, and for the draw "
    "of the training set where it is known. Short black lines: the variant's own exact law on the same samples. Grey "
    "dashes: the first variant, its widest networks. Members of all variants begin alike: whether two variants differ "
    "is told by the paired differences in the table, not by whether bars overlap."
)


def exponents(results: ComparisonResults) -> Figure | None:
    """Exponents with intervals; nothing where there is none."""
    if not any(one.results.fits for one in results.variants):
        return None
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(results.variants) + 0.12 * len(results.widths)))
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    for axis, name in zip(axes, SHOWN, strict=True):
        for width, look in zip(results.widths, series(len(results.widths)), strict=True):
            _width(axis, results, name, width, look)
        _laws(axis, results, name)
        fit = results.reference.results.fits.get((name, results.widths[-1]))
        if fit is not None:
            axis.axvline(fit.slope.value, color="0.6", ls=(0, (4, 3)), lw=0.9, zorder=0.5)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_xlabel(f"exponent of {SYMBOLS[name]}")
    rows = range(len(results.variants))
    axes[0].set_yticks(rows, [one.name for one in results.variants])
    axes[0].set_ylim(len(results.variants) - 0.5, -0.5)
    legend_below(figure, axes, len(results.widths) + 1)
    return figure


def _width(axis: Axes, results: ComparisonResults, name: str, width: int, look: Look) -> None:
    label = f"width {width:,}"
    for row, one in enumerate(results.variants):
        if (fit := one.results.fits.get((name, width))) is None:
            continue
        slope, at = fit.slope, row + HEIGHT / 2 * look.place
        wide, narrow = (np.array([slope.interval(level)]).T for level in (0.95, 0.68))
        for ends, thick in ((wide, 0.9), (narrow, 2.4)):
            axis.plot(ends, [at, at], color=look.color, lw=thick, solid_capstyle="butt")
        axis.plot([slope.value], [at], look.marker, color=look.color, ms=look.points["ms"], mec="white", mew=0.5,
                  label=label, zorder=3)  # fmt: skip
        label = ""


def _laws(axis: Axes, results: ComparisonResults, name: str) -> None:
    label = "own exact law"
    for row, one in enumerate(results.variants):
        if (curve := one.results.law_curves.get(name)) is not None:
            value = curve.slope().value
            axis.plot([value, value], [row - HEIGHT / 2, row + HEIGHT / 2], **EXACT, label=label, zorder=1.5)
            label = ""


SECTION: Section[ComparisonResults] = Section(figure=exponents, caption=CAPTION)

"""Feature strength in figures and words: mu_L, eps_L and exponents against gamma/sqrt(width), beside the lazy law."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison import strength
from analysis.comparison.drawing import SYMBOLS
from analysis.comparison.results import ComparisonResults
from analysis.comparison.strength import SHOWN, Change, Point
from analysis.ensemble.drawing import NAMES
from analysis.report.look import Look, series
from analysis.report.plotting import legend_below, log_y
from analysis.report.section import Section, Table
from analysis.report.ticks import logarithmic
from ntkhpc.words import joined

CAPTION = (
    "Mean test loss and relative spread at the largest N_D, and their exponents of N_D, against the feature strength "
    "gamma/sqrt(width), which is gamma0 in the mu-parametrisation; one line a width. Points: networks, with 68 % "
    "intervals (values: members; exponents: members, and the draw of the training set where it is known); dashed: the "
    "lazy law, that of infinite width at the gamma of each point, in which features do not move."
)

NOTE = (
    "From the weakest to the strongest at each width: of mu_L and eps_L at the largest N_D the factor, of exponents "
    "the difference, with 95 % intervals, paired by member. Lazy law: the same of the laws at these gammas."
)


def claim(results: ComparisonResults) -> str:
    """What the strongest changes against the weakest, at every width."""
    found = strength.changes(results)
    if not found:
        return ""
    said = []
    for what, name in SHOWN:
        if mine := [one for one in found if (one.what, one.quantity) == (what, name)]:
            told = joined(f"{_changed(one)} at width {one.width:,}" for one in mine)
            at = f"{name} at N_D = {int(results.sizes[-1]):,} by a factor of" if what == "value" else ""
            said.append(f"{at or f'the exponent of {name} by'} {told}")
    return f"What does feature strength, gamma/sqrt(width), change? {_from(found)} {'; '.join(said)}."


def _from(found: Sequence[Change]) -> str:
    ends = joined(
        f"{one.strengths[0]:.2g} ({one.weakest}) to {one.strengths[1]:.2g} ({one.strongest}) at width {width:,}"
        for width, one in {one.width: one for one in found}.items()
    )
    return f"From {ends} it changes"


def _changed(one: Change) -> str:
    """ "0.19 (95 % 0.17 to 0.21; lazy law 0.18)"."""
    low, high = one.change.interval(0.95)
    if one.what == "value":
        lazy = f"; lazy law {math.exp(one.lazy):.2g}" if math.isfinite(one.lazy) else ""
        with np.errstate(over="ignore"):  # of one network that makes an error so large
            ends = f"{np.exp(low):.2g} to {np.exp(high):.2g}"
        return f"{math.exp(one.change.value):.2g} (95 % {ends}{lazy})"
    lazy = f"; lazy law {one.lazy:+.2f}" if math.isfinite(one.lazy) else ""
    return f"{one.change.value:+.2f} (95 % {low:+.2f} to {high:+.2f}{lazy})"


def rows(results: ComparisonResults) -> list[Sequence[str]]:
    """One for each width."""
    found = strength.changes(results)
    names = [f"{name} exponent" if what == "exponent" else name for what, name in SHOWN]
    table: list[Sequence[str]] = [("width", "from", "to", *names)]
    for width in dict.fromkeys(one.width for one in found):
        mine = {(one.what, one.quantity): one for one in found if one.width == width}
        first = next(iter(mine.values()))
        ends = [
            f"{value:.3g} ({name})"
            for value, name in zip(first.strengths, (first.weakest, first.strongest), strict=True)
        ]
        table.append((f"{width:,}", *ends, *(_changed(mine[key]) if key in mine else "-" for key in SHOWN)))
    return table


def feature_strength(results: ComparisonResults) -> Figure | None:
    """mu_L, eps_L and their exponents against gamma/sqrt(width); nothing where it is the same for all variants."""
    known = strength.points(results)
    if not strength.changes(results):
        return None
    figure = Figure(figsize=(10, 7.0))
    axes = figure.subplots(2, 2, sharex=True)
    looks = dict(zip(results.widths, series(len(results.widths)), strict=True))
    high = int(results.sizes[-1])
    for axis, (what, name) in zip(axes.ravel(), SHOWN, strict=True):
        for width, look in looks.items():
            mine = [one for one in known if (one.what, one.quantity, one.width) == (what, name, width)]
            _line(axis, mine, look, f"width {width:,}")
        axis.set_ylabel(f"exponent of {SYMBOLS[name]}" if what == "exponent" else f"{NAMES[name]} at $N_D$ = {high:,}")
        if what == "value":
            log_y(axis)
        axis.set_xscale("log")
        logarithmic(axis.xaxis)
    for axis in axes[-1]:
        axis.set_xlabel("feature strength $\\gamma/\\sqrt{\\mathrm{width}}$")
    legend_below(figure, axes.ravel(), 6)
    return figure


def _line(axis: Axes, mine: Sequence[Point], look: Look, label: str) -> None:
    x = np.array([one.strength for one in mine])
    values = [one.estimate.value for one in mine]
    axis.errorbar(x, values, [one.estimate.half() for one in mine], **look.points, label=label)
    axis.plot(x, values, color=look.color, lw=0.9)
    lazy = np.array([one.lazy for one in mine])
    if np.isfinite(lazy).any():
        axis.plot(x, lazy, color=look.color, ls=look.dashes, lw=1.3, zorder=1.5, label=f"lazy law, {label}")


SECTION: Section[ComparisonResults] = Section(
    title="Feature strength",
    claim=claim,
    figure=feature_strength,
    caption=CAPTION,
    tables=lambda results: [Table(rows(results), NOTE)] if strength.changes(results) else [],
    fits=lambda results: {"feature_strength": [one.to_dict() for one in strength.points(results)]},
    files=lambda results: (
        {"feature_strength": pd.DataFrame([one.to_dict() for one in strength.points(results)])}
        if strength.changes(results)
        else {}
    ),
)

"""What the figures of a comparison share: a look for each variant, and panels for widths.

A variant has one colour, marker and kind of dashes in every figure, the first the darkest. Widths have theirs, as in
the report of an ensemble. A law is a line without points, in the colour of its variant.
"""

from collections.abc import Iterator

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from analysis.comparison.results import ComparisonResults, Variant
from analysis.report.look import Look, series

SYMBOLS = {"mu_L": "$\\mu_L$", "eps_L": "$\\epsilon_L$", "eps_pop": "$\\epsilon_\\mathrm{pop}$"}
"""Of quantities in figures."""

MOST_PANELS = 2
"""Widths that a figure with a panel for each shows: of more, the narrowest and the widest."""


def variants(results: ComparisonResults) -> Iterator[tuple[Variant, Look]]:
    """Each variant with its look."""
    looks = series(len(results.variants), "variant")[::-1]
    yield from zip(results.variants, looks, strict=True)


def shown_widths(results: ComparisonResults) -> list[int]:
    """Those with a panel."""
    widths = results.widths
    return widths if len(widths) <= MOST_PANELS else [widths[0], widths[-1]]


def law_line(axis: Axes, n: ArrayLike, value: ArrayLike, look: Look) -> None:
    """An exact law beside the points of its variant."""
    axis.plot(n, value, color=look.color, ls=look.dashes, lw=1.3, zorder=1.5)


def law_key(axis: Axes) -> None:
    """What the legend says of all laws, once."""
    axis.plot([], [], color="0.4", ls=(0, (4, 1.5)), lw=1.3, label="law of the variant of this colour")

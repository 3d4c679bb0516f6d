"""Learning curves: mu_L and eps_L of every variant against the number of training samples, beside their laws."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison import laws
from analysis.comparison.drawing import law_key, law_line, shown_widths, variants
from analysis.comparison.results import ComparisonResults
from analysis.ensemble.drawing import NAMES, points
from analysis.report.look import SPAN
from analysis.report.plotting import legend_below, log_x, log_y
from analysis.report.section import Section

SHOWN = ("mu_L", "eps_L")

CAPTION = (
    "Mean test loss and its relative spread over initialisations against the number of training samples, a row for "
    "each width (of more than two the narrowest and the widest). Points: networks of the variants, with 68 % intervals "
    "for their finite number of members; members of all variants begin alike, so that differences are known better "
    "than these bars say. Dashed: the exact law of the variant at infinite width, in the mu-parametrisation the lazy "
    "law of this width; algorithms without a law have no dashes, and centred networks none for eps_L. Points of one "
    "size are moved apart."
)


def learning_curves(results: ComparisonResults) -> Figure:
    """mu_L and eps_L against n_train, one line a variant; one row a width."""
    widths = shown_widths(results)
    figure = Figure(figsize=(10, 1.0 + 3.5 * len(widths)))
    axes = figure.subplots(len(widths), 2, sharex=True, squeeze=False)
    for row, width in zip(axes, widths, strict=True):
        for axis, name in zip(row, SHOWN, strict=True):
            _panel(axis, results, name, width)
            axis.set_title(f"width {width:,}")
            axis.set_ylabel(NAMES[name])
            log_y(axis)
            log_x(axis)
    for axis in axes[-1]:
        axis.set_xlabel("training samples $N_D$")
    if any(laws.beside(one.results, width) is not None for one in results.variants for width in widths):
        law_key(axes[0, 0])
    legend_below(figure, axes[0], 4)
    return figure


def _panel(axis: Axes, results: ComparisonResults, name: str, width: int) -> None:
    for one, look in variants(results):
        cell = one.results.mean.sel(width=width)
        points(axis, cell, name, look, one.name, share=SPAN / 2)
        axis.plot(look.apart(cell.n_train.values, SPAN / 2), cell[name], color=look.color, lw=0.9)
        law = laws.beside(one.results, width)
        if law is not None and (law[name] > 0).all():
            law_line(axis, law.n_train.values, law[name].values, look)


SECTION: Section[ComparisonResults] = Section(title="Learning curves", figure=learning_curves, caption=CAPTION)

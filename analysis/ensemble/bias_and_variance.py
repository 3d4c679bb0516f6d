"""Bias and variance: the two parts of the mean loss."""

from matplotlib.figure import Figure

from analysis.ensemble.drawing import exact_lines, points, widths
from analysis.ensemble.results import EnsembleResults
from analysis.report.plotting import legend_below, log_x, log_y
from analysis.report.section import Section

CAPTION = (
    "The two parts of the mean loss: the error of the mean prediction, which an average over many networks would "
    "keep, and the variance over initialisations, which it would remove. Points: trained networks, with 68 % intervals "
    "for their members."
)

LINES = " Lines: exact curves at infinite width, as in the first figure."


def caption(results: EnsembleResults) -> str:
    """What is drawn of these results."""
    return CAPTION + (LINES if results.has_law or results.has_curve else "")


def bias_and_variance(results: EnsembleResults) -> Figure:
    """The two parts of mu_L: what the mean prediction gets wrong, and what the initialisation adds."""
    figure = Figure(figsize=(10, 4.4))
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, name, title in ((left, "bias2", "bias$^2$ of the mean prediction"),
                              (right, "variance", "variance over initialisations")):  # fmt: skip
        exact_lines(axis, results, name)
        for width, look in widths(results):
            points(axis, results.mean.sel(width=width), name, look, f"width {width:,}")
        axis.set_title(f"{title} (in units of the loss)")
        log_y(axis)
        log_x(axis)
        axis.set_xlabel("training samples $N_D$")
    legend_below(figure, [left], 3)
    return figure


SECTION: Section[EnsembleResults] = Section(
    title="Bias and variance", needs=("test_loss",), figure=bias_and_variance, caption=caption
)

"""What the power laws leave, below the exponents."""

import numpy as np
from matplotlib.figure import Figure

from analysis.ensemble.curves import ITERATION, MEMBERS
from analysis.ensemble.drawing import NAMES, chance_label, times, widths
from analysis.ensemble.results import EnsembleResults
from analysis.report.look import UNIT
from analysis.report.plotting import legend, log_x
from analysis.report.section import Section

CAPTION = (
    "What the power laws leave, in per cent of them. Above: the ensembles, with 68 % intervals for their members; p "
    "is the probability of such a bend of a pure power law, for any draw of the training set. Networks trained on the "
    "same samples share their pattern. Below: exact curves, means over draws: this is how far they are from being "
    "power laws; bands are 68 % intervals for the iteration, where they were iterated."
)


def residuals(results: EnsembleResults) -> Figure:
    """Ensembles and exact curves over their own power laws, less 1, in per cent."""
    names = ("mu_L", "sigma_L", "eps_L")
    figure = Figure(figsize=(10, 5.2))
    axes = figure.subplots(2, 3, sharey="row")
    for column, name in enumerate(names):
        top, bottom = axes[:, column]
        for width, look in widths(results):
            curve, fit = results.curves.get((name, width)), results.fits.get((name, width))
            if curve is not None and fit is not None:
                members = curve.of(MEMBERS)
                half = [100 * members.log_value(i).half() for i in range(len(curve.n))]
                left = 100 * (curve.value / curve.line(curve.n) - 1)
                label = f"width {width:,}: {chance_label(fit.p_power)}"
                top.errorbar(look.apart(curve.n), left, half, **look.points, label=label)
        top.set_title(NAMES[name])
        for time, label, line in times(results):
            exact = results.exact_curves.get((name, time))
            if exact is not None:
                left = 100 * (exact.value / exact.line(exact.n) - 1)
                bottom.plot(exact.n, left, marker=".", **line, label=label)
                band = np.array([100 * exact.of(ITERATION).log_value(i).half() for i in range(len(exact.n))])
                bottom.fill_between(exact.n, left - band, left + band, color=line["color"], alpha=0.15, lw=0)
        for axis in (top, bottom):
            axis.axhline(0, **UNIT)
            legend(axis, fontsize=7.5)
            log_x(axis)
        bottom.set_xlabel("training samples $N_D$")
    axes[0, 0].margins(y=0.35)  # room for the legends
    axes[1, 0].margins(y=0.2)
    axes[0, 0].set_ylabel("ensemble over its\npower law - 1 [%]")
    axes[1, 0].set_ylabel("exact curve over its\npower law - 1 [%]")
    return figure


SECTION: Section[EnsembleResults] = Section(figure=residuals, caption=CAPTION)

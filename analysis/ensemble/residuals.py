"""What the power laws leave, below the exponents."""

from matplotlib.figure import Figure

from analysis.ensemble.drawing import NAMES, chance_label, times, widths
from analysis.ensemble.results import EnsembleResults
from analysis.report.look import UNIT
from analysis.report.plotting import legend, log_x
from analysis.report.section import Section

CAPTION = (
    "What the power laws leave. Above: pulls of the ensembles; p is the probability of a larger chi squared, with "
    "the correlation of errors between sizes (the same initialisations, nested samples) included, so that pulls do "
    "not simply add up, and widths trained on the same samples share their pattern. Below: the exact curves over "
    "their own power laws, in per cent: no statistical error, so this is how far they are from being power laws."
)


def residuals(results: EnsembleResults) -> Figure:
    """What the fitted power laws leave: pulls of the ensembles, and per cent of the exact curves."""
    names = ("mu_L", "sigma_L", "eps_L")
    figure = Figure(figsize=(10, 5.2))
    axes = figure.subplots(2, 3, sharey="row")
    for column, name in enumerate(names):
        top, bottom = axes[:, column]
        for width, look in widths(results):
            fit = results.fits.get((name, width))
            if fit is not None:
                one = fit.any_draw
                label = f"width {width:,}: {chance_label(one.none.p_value)}"
                top.errorbar(look.apart(one.n), one.none.pulls, **look.points, label=label)
        top.axhspan(-1, 1, color="0.9", zorder=0)
        top.axhline(0, **UNIT)
        top.set_title(NAMES[name])
        legend(top, fontsize=7.5)
        for time, label, line in times(results):
            left = results.curve_fits.get((name, time))
            if left is not None:
                bottom.plot(results.curve.n_train, 100 * left.residual, marker=".", **line, label=label)
        bottom.axhline(0, **UNIT)
        for axis in (top, bottom):
            log_x(axis)
        bottom.set_xlabel("training samples $N_D$")
        legend(bottom, fontsize=7.5)
    axes[0, 0].margins(y=0.35)  # room for the legends
    axes[1, 0].margins(y=0.2)
    axes[0, 0].set_ylabel("pull of the fit (data - fit)/error")
    axes[1, 0].set_ylabel("exact curve over its\npower law - 1 [%]")
    return figure


SECTION: Section[EnsembleResults] = Section(figure=residuals, caption=CAPTION)

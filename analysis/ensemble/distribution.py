"""How the losses of single networks are distributed, against the exact distribution at infinite width."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.ensemble.drawing import chance_label, widths
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.look import EXACT
from analysis.report.plotting import legend
from analysis.report.section import Section

CAPTION = (
    "How the losses of single networks are distributed (steps), against the exact distribution at infinite width "
    "for the same steps and samples (black, from 0.5 to 99.5 %). p is the Kolmogorov-Smirnov probability of a "
    "larger distance at this one size; the sentences above test all sizes together."
)


def distribution(results: EnsembleResults) -> Figure:
    """The losses of all members against the exact distribution of the same steps at infinite width."""
    chosen = sorted({0, len(results.sizes) // 2, len(results.sizes) - 1})
    figure = Figure(figsize=(3.6 * len(chosen), 3.8))
    axes = np.atleast_1d(figure.subplots(1, len(chosen), sharey=True))
    probability = results.store["quantile"].values
    for axis, i in zip(axes, chosen, strict=True):
        exact = results.law.loss.isel(draw=0, n_train=i).values
        for width, look in widths(results):
            losses = np.sort(results.losses(width, i))
            if len(losses):
                p = float(results.agreement.ks_p_value.sel(width=width).isel(n_train=i, draw=0))
                share = np.arange(1, len(losses) + 1) / len(losses)
                axis.step(losses, share, where="post", **look.line, label=f"width {width:,}: {chance_label(p)}")
        axis.plot(exact, probability, **EXACT, label="infinite width, exact")
        axis.set_title(f"$N_D$ = {results.sizes[i]:,}")
        axis.set_xlabel("test loss $L$ of one network")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        legend(axis, fontsize=7.5, loc="lower right")
    axes[0].set_ylabel("share of networks with a smaller loss")
    return figure


SECTION: Section[EnsembleResults] = Section(
    title="The distribution of the loss", needs=LAW, figure=distribution, caption=CAPTION
)

"""Finite width: how ensembles approach infinite width."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.ensemble.drawing import NAMES
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.numbers import pm, probability
from analysis.report.plotting import EXACT, legend
from analysis.report.section import Section, Table
from analysis.scaling import plain

CAPTION = (
    "How ensembles approach infinite width: values over their exact limit, with the line 1 + a/width through each "
    "training-set size (one free parameter; the limit is not fitted)."
)

NOTE = "A network of width n differs from infinite width by the fraction a/n; p tests the line."


def width_dependence(results: EnsembleResults) -> Figure:
    """mu_L and eps_L over their infinite-width values, against 1/width, with the lines 1 + a/width."""
    figure = Figure(figsize=(10, 4))
    axes = figure.subplots(1, 2)
    colours = mpl.colormaps["plasma"](np.linspace(0.05, 0.85, len(results.sizes)))
    widths = results.mean.width.values
    apart = (np.arange(len(results.sizes)) - (len(results.sizes) - 1) / 2) * 0.006 / widths[0]
    for axis, name in zip(axes, ("mu_L", "eps_L"), strict=True):
        for i, colour in enumerate(colours):
            exact = float(results.law_mean[name].isel(n_train=i))
            cell = results.mean.isel(n_train=i)
            axis.errorbar(1 / widths + apart[i], cell[name] / exact, cell[f"{name}_stderr"] / exact, fmt="o",
                          color=colour, label=f"$N_D$ = {results.sizes[i]:,}")  # fmt: skip
            fit = results.width_fits.get((name, int(results.sizes[i])))
            if fit is not None:
                x = np.array([0, 1.05 / widths[0]])
                axis.plot(x, 1 + fit.relative * x, color=colour, lw=0.8, alpha=0.7)
        axis.axhline(1, **EXACT)
        axis.set_xticks(1 / widths, [f"1/{w:,}" for w in widths])
        axis.set_xlabel("1/width")
        axis.set_ylabel(f"{NAMES[name].split('=')[0].strip()}{'$' if '=' in NAMES[name] else ''} / infinite width")
    legend(axes[0], fontsize=8, ncols=2)
    return figure


def rows(results: EnsembleResults) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [("quantity", "N_D", "infinite width", "a (relative)", "p")]
    for fit in results.width_fits.values():
        relative = pm(fit.relative, fit.a_stderr / fit.exact)
        found.append((fit.quantity, f"{fit.n_train:,}", f"{fit.exact:.4g}", relative, probability(fit.p_value)))
    return found


SECTION: Section[EnsembleResults] = Section(
    title="Finite width",
    needs=LAW,
    figure=width_dependence,
    caption=CAPTION,
    tables=lambda results: [Table(rows(results), NOTE)],
    fits=lambda results: {
        "width": [{key: plain(value) for key, value in fit.to_dict().items()} for fit in results.width_fits.values()]
    },
)

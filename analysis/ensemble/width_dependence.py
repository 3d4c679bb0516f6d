"""Finite width: how ensembles approach infinite width."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.ensemble.drawing import NAMES
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.look import EXACT, series
from analysis.report.numbers import pm, probability
from analysis.report.plotting import legend_below, log_axis
from analysis.report.section import Section, Table
from analysis.scaling import plain

CAPTION = (
    "How ensembles approach infinite width: values over their exact limit, with 1 + a/width through each training-set "
    "size (one free parameter; the limit, solid black, is not fitted). At each width the sizes are moved apart, and "
    "their curves with them."
)

NOTE = "A network of width n differs from infinite width by the fraction a/n; p tests the line."


def width_dependence(results: EnsembleResults) -> Figure:
    """mu_L and eps_L over their infinite-width values, against width, with the curves 1 + a/width."""
    figure = Figure(figsize=(10, 4.2))
    axes = figure.subplots(1, 2)
    looks = series(len(results.sizes), "size")
    widths = results.mean.width.values.astype(float)
    along = np.geomspace(widths[0] / 1.15, widths[-1] * 1.15, 200)
    for axis, name in zip(axes, ("mu_L", "eps_L"), strict=True):
        for i, look in enumerate(looks):
            exact = float(results.law_mean[name].isel(n_train=i))
            cell = results.mean.isel(n_train=i)
            # Curves are moved as their points are, so that a point off its curve is off the line 1 + a/width.
            moved = look.apart(widths)[0] / widths[0]
            axis.errorbar(widths * moved, cell[name] / exact, cell[f"{name}_stderr"] / exact, **look.points,
                          label=f"$N_D$ = {results.sizes[i]:,}")  # fmt: skip
            fit = results.width_fits.get((name, int(results.sizes[i])))
            if fit is not None:
                axis.plot(along * moved, 1 + fit.relative / along, **{**look.line, "lw": 0.9})
        axis.axhline(1, **EXACT)
        log_axis(axis, widths, margin=1.8)
        axis.set_xlabel("width")
        axis.set_ylabel(f"{NAMES[name].split('=')[0].strip()}{'$' if '=' in NAMES[name] else ''} / infinite width")
    legend_below(figure, [axes[0]], 7)
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

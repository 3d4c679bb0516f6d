"""Finite width: how ensembles approach infinite width."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.ensemble.drawing import NAMES
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.numbers import estimate, percent, probability
from analysis.report.plotting import EXACT, legend
from analysis.report.section import Section, Table

CAPTION = (
    "How ensembles approach infinite width: values over their exact limit, with 68 % intervals for their members, and "
    "the line log(ratio) = a/width through each training-set size, every width with the same weight (the limit is not "
    "fitted). No line is drawn where the widths do not follow one."
)

NOTE = (
    "log(value/infinite width) = a/width: a network of width n differs from infinite width by about the fraction a/n. "
    "Extrapolated: what a line whose limit is free gives at infinite width, less the exact value. No a is given where "
    "that differs from zero (p < 0.01): these widths are too few or too small for a 1/width law."
)

UNKNOWN = (
    "What these differences come from is not measured here: networks of finite width begin with a random kernel, and "
    "training changes it. Networks linearised at their initialisation, from the same seeds, would tell the two apart."
)


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
            axis.errorbar(1 / widths + apart[i], cell[name] / exact, cell[f"{name}_half"] / exact, fmt="o",
                          color=colour, label=f"$N_D$ = {results.sizes[i]:,}")  # fmt: skip
            fit = results.width_lines.get((name, int(results.sizes[i])))
            if fit is not None and fit.holds:
                x = np.linspace(0, 1.05 / widths[0], 50)
                axis.plot(x, np.exp(fit.a.value * x), color=colour, lw=0.8, alpha=0.7)
        axis.axhline(1, **EXACT)
        axis.set_xticks(1 / widths, [f"1/{w:,}" for w in widths])
        axis.set_xlabel("1/width")
        axis.set_ylabel(f"{NAMES[name].split('=')[0].strip()}{'$' if '=' in NAMES[name] else ''} / infinite width")
    legend(axes[0], fontsize=8, ncols=2)
    return figure


def rows(results: EnsembleResults) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [("quantity", "N_D", "infinite width", "a", "extrapolated", "p")]
    for fit in results.width_lines.values():
        a = estimate(fit.a) if fit.holds else "no line"
        limit = percent(fit.limit.of_ratio()) if fit.limit else "-"
        found.append((fit.quantity, f"{fit.n_train:,}", f"{fit.exact:.4g}", a, limit, probability(fit.p_value)))
    return found


def sentences(results: EnsembleResults) -> list[str]:
    failing = {(fit.quantity, fit.n_train) for fit in results.width_lines.values() if not fit.holds}
    said = [UNKNOWN] if any(one.differs for one in results.comparisons.values()) else []
    if failing and len(failing) > len(results.width_lines) / 2:
        said.insert(0, "At most sizes these widths do not follow a 1/width law towards infinite width: infinite width "
                       "is no guide to networks as narrow as these.")  # fmt: skip
    return said


SECTION: Section[EnsembleResults] = Section(
    title="Finite width",
    needs=LAW,
    figure=width_dependence,
    caption=CAPTION,
    tables=lambda results: [Table(rows(results), NOTE)],
    sentences=sentences,
    fits=lambda results: {"width": [fit.to_dict() for fit in results.width_lines.values()]},
)

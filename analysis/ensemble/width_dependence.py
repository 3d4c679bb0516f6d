"""Finite width: how ensembles approach infinite width."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis import leaps
from analysis.ensemble.drawing import NAMES, shown_values
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.look import EXACT, series
from analysis.report.numbers import estimate, percent, probability
from analysis.report.plotting import legend_below, log_axis
from analysis.report.section import Section, Table

SHOWN = ("mu_L", "eps_L")

CAPTION = (
    "How ensembles approach infinite width: values over their exact limit, with 68 % intervals for their members, and "
    "log(ratio) = a/width through each training-set size, every width with the same weight (the limit, solid black, is "
    "not fitted). No curve is drawn where the widths do not follow one. At each width the sizes are moved apart, and "
    "their curves with them."
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
    """mu_L and eps_L over their infinite-width values, against width, with the curves exp(a/width)."""
    figure = Figure(figsize=(10, 4.2))
    axes = figure.subplots(1, 2)
    looks = series(len(results.sizes), "size")
    widths = results.mean.width.values.astype(float)
    along = np.geomspace(widths[0] / 1.15, widths[-1] * 1.15, 200)
    for axis, name in zip(axes, SHOWN, strict=True):
        values = shown_values(results, name)
        for i, look in enumerate(looks):
            exact = float(results.law_mean[name].isel(n_train=i))
            cell = values.isel(n_train=i)
            # Curves are moved as their points are, so that a point off its curve is off the line a/width.
            moved = look.apart(widths)[0] / widths[0]
            label = f"$N_D$ = {results.sizes[i]:,}"
            axis.errorbar(widths * moved, cell[name] / exact, cell[f"{name}_half"] / exact, **look.points, label=label)
            fit = results.width_lines.get((name, int(results.sizes[i])))
            if fit is not None and fit.holds:
                axis.plot(along * moved, np.exp(fit.a.value / along), **{**look.line, "lw": 0.9})
        axis.axhline(1, **EXACT)
        log_axis(axis, widths, margin=1.8)
        axis.set_xlabel("width")
        axis.set_ylabel(f"{NAMES[name].split('=')[0].strip()}{'$' if '=' in NAMES[name] else ''} / infinite width")
    legend_below(figure, [axes[0]], 7)
    return figure


def caption(results: EnsembleResults) -> str:
    told = results.headline.sentence(*SHOWN)
    return f"{CAPTION} {told}" if told else CAPTION


def rows(results: EnsembleResults) -> list[Sequence[str]]:
    found: list[Sequence[str]] = [("quantity", "N_D", "infinite width", "a", "extrapolated", "p")]
    for fit in results.width_lines.values():
        a = estimate(fit.a) if fit.holds else "no line"
        limit = percent(fit.limit.of_ratio()) if fit.limit else "-"
        found.append((fit.quantity, f"{fit.n_train:,}", f"{fit.exact:.4g}", a, limit, probability(fit.p_value)))
    return found


def sentences(results: EnsembleResults) -> list[str]:
    failing = {(fit.quantity, fit.n_train) for fit in results.width_lines.values() if not fit.holds}
    told = all(name in results.store for name in leaps.TWIN)
    said = [UNKNOWN] if not told and any(one.differs for one in results.comparisons.values()) else []
    if failing and len(failing) > len(results.width_lines) / 2:
        said.insert(0, "At most sizes these widths do not follow a 1/width law towards infinite width: infinite width "
                       "is no guide to networks as narrow as these.")  # fmt: skip
    return said


SECTION: Section[EnsembleResults] = Section(
    title="Finite width",
    needs=LAW,
    figure=width_dependence,
    caption=caption,
    tables=lambda results: [Table(rows(results), NOTE)],
    sentences=sentences,
    fits=lambda results: {"width": [fit.to_dict() for fit in results.width_lines.values()]},
)

"""Scaling with training-set size: posterior, samples of it, and networks trained to the end. And exponents.csv."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.posterior.drawing import NORMALISATION, line_with_band, widths, y_axis
from analysis.posterior.exponents import GRADIENT_DESCENT, QUANTITIES
from analysis.posterior.results import PosteriorResults
from analysis.posterior.text import ALIKE
from analysis.report.look import CLOSE, END
from analysis.report.numbers import exponent, pm, probability, two_digits
from analysis.report.plotting import legend_below, log_axis
from analysis.report.section import Section, Table
from analysis.scaling import plain

NAMES = {
    "mu_L": "$\\mu_L$, mean of $(f-y)^2$",
    "sigma_L": "$\\sigma_L$, $L$ = mean of $(f-y)^2$",
    "eps_L": "$\\epsilon_L = \\sigma_L/\\mu_L$",
    "eps_pop": "$\\epsilon_\\mathrm{pop}$ of an endless test set",
}

EXPONENT_NOTE = (
    "value ~ N_D^exponent without an offset. Theory and networks trained to the end have no statistical error: theirs "
    "is that of the mean over draws of the training set, if there are several. Sampled: 68 % intervals, the first for "
    "any draw of the training set (if there are several), the second with Monte Carlo errors alone; p: probability of "
    "a larger chi squared, were it a power law. eps_pop is theory's alone: chains keep no losses of single test points."
)

CAPTION = (
    f"{NORMALISATION} Mean, standard deviation and relative spread of the loss L of single networks against N_D = P, "
    "over the posterior (theory: lines; sampled: points) and over initialisations of infinitely wide networks with "
    "this prior that were trained to the end by gradient descent (NTK parametrisation, grey dashes). Bands, at "
    "infinite width: spread over draws of the training set, where there are several."
)


def scaling(results: PosteriorResults) -> Figure:
    """mu_L, sigma_L, eps_L and eps_pop against N_D: posterior, samples of it, and gradient descent."""
    figure = Figure(figsize=(10, 7))
    axes = figure.subplots(2, 2, sharex=True)
    for axis, name in zip(axes.ravel(), NAMES, strict=True):
        for width, look, line, label in widths(results.theory.theory_width.values):
            curve = results.theory[name].sel(theory_width=width)
            line_with_band(axis, curve, line, f"posterior, {label}", band=look is None)
            if look and results.sampled is not None and name in results.sampled and width in results.sampled.width:
                one = results.sampled.sel(width=int(width))
                axis.errorbar(look.apart(one.n_train, CLOSE), one[name], one[f"{name}_stderr"], **look.points)
        line_with_band(axis, results.descent[name], END, "trained to the end, infinite width", band=True)
        axis.set_ylabel(NAMES[name])
        y_axis(axis)
        log_axis(axis, results.theory.n_train.values)
    for axis in axes[1]:
        axis.set_xlabel("training samples $N_D$ = P")
    if results.sampled_cells:
        axes[0, 0].plot([], [], "o", color="0.4", label="points: sampled networks of that width")
    legend_below(figure, [axes[0, 0]], 3)
    return figure


def sentences(results: PosteriorResults) -> list[str]:
    """Do the posterior and networks trained to the end scale alike?"""
    if not results.differences:
        return ["no exponents: they take at least 3 training-set sizes"]
    said = []
    for quantity, one in results.differences.items():
        text = f"{quantity}: exponent of the posterior less that of networks trained to the end, at infinite width, "
        if math.isnan(one.stderr):
            said.append(f"{text}is {one.value:+.2f}; one draw of the training set gives no error")
            continue
        pull = abs(one.value) / one.stderr
        verdict = "no difference seen, they scale alike"
        if pull > ALIKE:
            verdict = "they differ"
            if fit_of_latter := results.exact_fits.get((quantity, GRADIENT_DESCENT)):
                verdict += f", by {two_digits(100 * abs(one.value / fit_of_latter.exponent))} % of the latter"
        said.append(f"{text}{pm(one.value, one.stderr)} over {one.draws} draws ({pull:.1f} standard errors): {verdict}")
    for (quantity, width), fit in results.sampled_fits.items():
        if quantity == "eps_L" and fit.theory is not None:
            one_fit = fit.sampled.this_draw.none
            pull = (one_fit.exponent - fit.theory.exponent) / one_fit.exponent_stderr
            verdict = "alike" if abs(pull) <= ALIKE else "not alike"
            said.append(
                f"eps_L of sampled networks of width {width:,}: exponent "
                f"{pm(one_fit.exponent, one_fit.exponent_stderr)}, theory at the same sizes {fit.theory.exponent:.2f} "
                f"({pull:+.1f} standard errors): {verdict}"
            )
    return said


def rows(results: PosteriorResults) -> list[Sequence[str]]:
    """One row an exponent, its heading first; empty but for that with fewer than 3 sizes."""
    rows: list[Sequence[str]] = [("quantity", "networks", "N_D", "exponent", "p", "this draw only", "last slope")]
    for quantity in QUANTITIES:
        for (name, network), fit in results.exact_fits.items():
            if name == quantity:
                rows.append(
                    (quantity, network, f"{fit.n[0]:.0f}-{fit.n[1]:.0f}", pm(fit.exponent, fit.exponent_stderr), "",
                     "", f"{fit.last_slope:.2f}")
                )  # fmt: skip
        for (name, width), found in results.sampled_fits.items():
            if name == quantity:
                one = found.sampled.any_draw
                rows.append(
                    (quantity, f"sampled, width {width:,}", f"{one.n[0]:.0f}-{one.n[-1]:.0f}", exponent(one.none),
                     probability(one.none.p_value), exponent(found.sampled.this_draw.none), "")
                )  # fmt: skip
    return rows


def cautions(results: PosteriorResults) -> list[str]:
    if (results.theory.eps_pop.values < 0).any() or (results.descent.eps_pop.values < 0).any():
        return ["eps_pop is negative somewhere: too few test points to tell what an endless test set would give"]
    return []


def fits(results: PosteriorResults) -> dict[str, Any]:
    return {
        "exact": {f"{name} {network}": fit.to_dict() for (name, network), fit in results.exact_fits.items()},
        "sampled": {
            f"{name} width {width}": {**fit.sampled.to_dict(), "theory": fit.theory and fit.theory.to_dict()}
            for (name, width), fit in results.sampled_fits.items()
        },
        "posterior_less_trained": {
            name: {"exponent": one.value, "stderr": plain(one.stderr), "draws": one.draws}
            for name, one in results.differences.items()
        },
    }


def _exponents(results: PosteriorResults) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for (name, network), fit in results.exact_fits.items():
        rows.append(
            {"quantity": name, "network": network, "n_min": fit.n[0], "n_max": fit.n[1], "exponent": fit.exponent,
             "stderr": fit.exponent_stderr, "draws": fit.draws, "last_slope": fit.last_slope}
        )  # fmt: skip
    for (name, width), found in results.sampled_fits.items():
        for errors, one in (("any draw", found.sampled.any_draw), ("this draw", found.sampled.this_draw)):
            rows.append(
                {"quantity": name, "network": f"sampled, width {width}", "n_min": one.n[0], "n_max": one.n[-1],
                 "errors": errors, "exponent": one.none.exponent, "stderr": one.none.exponent_stderr,
                 "p_value": one.none.p_value, "theory": found.theory.exponent if found.theory else math.nan}
            )  # fmt: skip
    columns = ["quantity", "network", "n_min", "n_max", "exponent", "stderr"]
    return pd.DataFrame(rows, columns=None if rows else columns)


SECTION: Section[PosteriorResults] = Section(
    title="Scaling with training-set size",
    figure=scaling,
    caption=CAPTION,
    tables=lambda results: [Table(found, EXPONENT_NOTE)] if len(found := rows(results)) > 1 else [],
    sentences=lambda results: [sentences(results)],
    cautions=cautions,
    fits=fits,
    files=lambda results: {"exponents": _exponents(results)},
    order=("figure", "sentences", "tables"),
)

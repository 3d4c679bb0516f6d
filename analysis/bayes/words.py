"""Findings about a posterior as sentences. Every one is made from the results."""

import math
from collections.abc import Sequence

import numpy as np

from analysis.bayes.comparison import Cell
from analysis.bayes.coverage import LAWS
from analysis.bayes.exponents import GRADIENT_DESCENT
from analysis.bayes.results import Results
from analysis.numbers import chance, pm

LOSS = (
    "Losses are the mean over test points of (f - y)^2, as in arXiv:2209.04882: no factor 1/2, so twice the L of "
    "studies of kind ensemble (arXiv:2503.05938). Those of networks trained to the end are in the same normalisation."
)

STUCK = 1.05
"""R-hat above which the claim itself says that chains have not converged."""

ALIKE = 2.0
"""Standard errors within which two exponents are called alike."""

MANY = 20
"""Standard errors beyond which their number says nothing more."""


def loss(value: float) -> str:
    """A loss without an error: four digits, which is beyond what samples resolve."""
    return f"{value:#.4g}".rstrip(".") if math.isfinite(value) else "-"


def per_cent(fraction: float) -> str:
    """Of a deviation: two digits, signed."""
    return (
        f"{100 * fraction:+.2g} %" if math.isfinite(fraction) and abs(fraction) < 0.995 else f"{100 * fraction:+.0f} %"
    )


def claim(results: Results) -> str:
    """The main finding, at the cell where the two theories differ most, and over all cells."""
    cells = results.sampled_cells or [cell for cell in results.cells if math.isfinite(cell.theory)]
    if not cells:
        return "Nothing can be said yet: neither theory nor samples are there."
    one = max(cells, key=lambda cell: abs(math.log(cell.theory / cell.infinite)))
    where = f"At P = {one.n_train:,} and N1 = {one.width:,}"
    if not one.is_sampled:
        side = "below" if one.theory < one.infinite else "above"
        return (
            f"{where} the finite-width theory says test loss {loss(one.theory)}, {_apart(one.theory, one.infinite)} "
            f"{side} the {loss(one.infinite)} of infinite width (Qb = {one.q_bar:.3g}); no networks were sampled."
            f"{_adaptive_alone(results)}"
        )
    text = (
        f"{where} the sampled posterior has test loss {pm(one.sampled, one.stderr)}; the finite-width theory says "
        f"{loss(one.theory)}, infinite width {loss(one.infinite)}."
    )
    if one.r_hat > STUCK:
        text += f" Its chains have not converged (R-hat {one.r_hat:.2f}), so that its error is too small."
    if len(cells) > 1:
        text += f" {overall(results)}"
    return text + _adaptive(results)


def overall(results: Results) -> str:
    """Which theory is closer, over all sampled cells."""
    cells = results.sampled_cells
    finite, infinite = (sum(cell.closer == which for cell in cells) for which in ("finite", "infinite"))
    worst = max(cells, key=lambda cell: abs(cell.deviation))
    worst_infinite = max(cells, key=lambda cell: abs(cell.infinite_deviation))
    return (
        f"Of {len(cells)} sampled cells the finite-width theory is closer in {finite}, infinite width in {infinite}, "
        f"{len(cells) - finite - infinite} undecided; the sampled loss deviates by at most "
        f"{per_cent(worst.deviation)} from the first (P = {worst.n_train:,}, N1 = {worst.width:,}) and by up to "
        f"{per_cent(worst_infinite.infinite_deviation)} from the second."
    )


def _adaptive(results: Results) -> str:
    """How far the adaptive kernel is from the samples, beside the saddle point of the same cells."""
    cells = [cell for cell in results.sampled_cells if cell.is_adaptive]
    if not cells:
        return ""
    worst = max(cells, key=lambda cell: abs(cell.adaptive_deviation))
    which = "the one cell" if len(cells) == 1 else f"all {len(cells)} cells"
    if len(cells) < len(results.sampled_cells):
        which += " where it is there"
    reach = _reach([cell.adaptive_deviation for cell in cells])
    return (
        f" The adaptive kernel is within {reach} of the samples in {which} (largest deviation "
        f"{per_cent(worst.adaptive_deviation)}, {_errors(worst.adaptive_pull)} standard errors, at "
        f"P = {worst.n_train:,}, N1 = {worst.width:,}), the saddle point within "
        f"{_reach([cell.deviation for cell in cells])}."
    )


def _adaptive_alone(results: Results) -> str:
    """Without samples: how far it is from the saddle point."""
    if not results.adaptive_cells:
        return ""
    one = max(results.adaptive_cells, key=lambda cell: abs(math.log(cell.adaptive / cell.theory)))
    side = "below" if one.adaptive < one.theory else "above"
    return (
        f" The adaptive kernel departs most from that theory at P = {one.n_train:,} and N1 = {one.width:,}: "
        f"{pm(one.adaptive, one.adaptive_stderr)}, {_apart(one.adaptive, one.theory)} {side}."
    )


def chi_squares(results: Results) -> list[str]:
    """Are the deviations statistical? Theory is an approximation, so they need not be."""
    found = results.chi_square
    if found is None:
        return []
    cells, said = results.sampled_cells, []
    for who, value, count, p, deviations in (
        ("finite-width theory", found.finite, found.cells, found.p_finite, [c.deviation for c in cells]),
        ("infinite width", found.infinite, found.cells, found.p_infinite, [c.infinite_deviation for c in cells]),
        ("adaptive kernel, its own errors included", found.adaptive, found.adaptive_cells, found.p_adaptive,
         [c.adaptive_deviation for c in cells if c.is_adaptive]),
    ):  # fmt: skip
        if not count:
            continue
        verdict = "the samples cannot tell it from exact" if p > 0.01 else "deviations are more than statistical"
        said.append(
            f"{who}: chi squared {value:.3g} for {count} cells ({chance(p)}): {verdict}; the median size of "
            f"deviations is {100 * float(np.median(np.abs(deviations))):.2g} %"
        )
    return said


def sign_rule(results: Results) -> list[str]:
    """What s predicts for each training-set size, and whether theory's and sampled losses agree."""
    said = []
    for n in results.theory.n_train.values:
        cells = [cell for cell in results.of_size(int(n)) if math.isfinite(cell.theory)]
        if not cells:
            continue
        s, narrow = cells[0].s, next((cell for cell in cells if cell.is_sampled), cells[0])
        predicts = "Qb < 1, finite width helps" if s < 1 else "Qb > 1, infinite width is best"
        agrees = (narrow.theory < narrow.infinite) == (s < 1)
        text = (
            f"P = {n:,}: s = {s:.3g} {'<' if s < 1 else '>'} 1 says {predicts}; theory's loss at N1 = {narrow.width:,} "
            f"is {_apart(narrow.theory, narrow.infinite)} {'below' if narrow.theory < narrow.infinite else 'above'} "
            f"that of infinite width: {'as it says' if agrees else 'against it'}"
        )
        text += _sampled_sign(narrow, s < 1)
        said.append(text)
    return said


def _sampled_sign(one: Cell, helps: bool) -> str:
    """Of the narrowest width: there the difference is largest."""
    if not one.is_sampled:
        return ""
    below = one.infinite_pull < 0
    errors = _errors(one.infinite_pull)
    if not abs(one.infinite_pull) >= ALIKE:
        return f"; sampled networks of that width do not tell ({errors} standard errors)"
    return (
        f"; sampled networks of that width lie {'below' if below else 'above'} it by {errors} standard errors: "
        f"{'as it says' if below == helps else 'against it'}"
    )


def _errors(pull: float) -> str:
    return f"{abs(pull):.1f}" if abs(pull) < MANY else f"more than {MANY}"


def intervals(results: Results) -> list[str]:
    """Coverage of theory's credible intervals, averaged over cells."""
    if results.coverage is None:
        return []
    said = []
    for law in LAWS:
        of = results.coverage.sel(law=law)
        shares = []
        for level in of["level"].values:
            share, stderr = of.share.sel(level=level).values, of.stderr.sel(level=level).values
            there = np.isfinite(share)
            if not there.any():
                continue
            error = math.sqrt(float((stderr[there] ** 2).sum())) / there.sum()
            shares.append(f"{pm(100 * float(share[there].mean()), 100 * error)} % inside the {100 * level:.0f} %")
        if shares:
            said.append(f"{law}: {', '.join(shares)} interval, mean over cells")
    return said


def widths_of_intervals(results: Results) -> str:
    """Is the theory's spread of L too small or too large?"""
    if results.sampled is None:
        return ""
    theory = results.theory.sigma_L.mean("draw").sel(
        theory_width=results.sampled.width.astype(float), n_train=results.sampled.n_train
    )
    ratio = (results.sampled.sigma_L / theory).values
    if not np.isfinite(ratio).any():
        return ""
    low, middle, high = np.nanmin(ratio), np.nanmedian(ratio), np.nanmax(ratio)
    return (
        f"The standard deviation of L of sampled networks is {middle:.2f} times that of theory (median over cells, "
        f"{low:.2f} to {high:.2f}), in which f is Gaussian at one Qb."
    )


def scaling(results: Results) -> list[str]:
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
                verdict += f", by {100 * abs(one.value / fit_of_latter.exponent):.2g} % of the latter"
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


def _apart(value: float, reference: float) -> str:
    """The size of a relative difference."""
    return (
        f"{100 * abs(value / reference - 1):.2g} %"
        if abs(value / reference - 1) < 0.995
        else f"{value / reference:.2g} times"
    )


def _reach(fractions: Sequence[float]) -> str:
    """The largest of their sizes."""
    return per_cent(max(abs(fraction) for fraction in fractions)).removeprefix("+")

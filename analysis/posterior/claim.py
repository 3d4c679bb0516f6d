"""The main finding: samples against theory, at the cell where the two theories differ most, and over all cells."""

import math

from analysis.posterior.results import PosteriorResults
from analysis.posterior.text import apart, errors, loss_text, per_cent, reach
from analysis.report.numbers import pm
from analysis.report.section import Section

STUCK = 1.05
"""R-hat above which the claim itself says that chains have not converged."""


def claim(results: PosteriorResults) -> str:
    """The main finding, at the cell where the two theories differ most, and over all cells."""
    cells = results.sampled_cells or [cell for cell in results.cells if math.isfinite(cell.theory)]
    if not cells:
        return "Nothing can be said yet: neither theory nor samples are there."
    one = max(cells, key=lambda cell: abs(math.log(cell.theory / cell.infinite)))
    where = f"At P = {one.n_train:,} and N1 = {one.width:,}"
    if not one.is_sampled:
        side = "below" if one.theory < one.infinite else "above"
        return (
            f"{where} the finite-width theory says test loss {loss_text(one.theory)}, "
            f"{apart(one.theory, one.infinite)} {side} the {loss_text(one.infinite)} of infinite width "
            f"(Qb = {one.q_bar:.3g}); no networks were sampled.{_adaptive_alone(results)}"
        )
    text = (
        f"{where} the sampled posterior has test loss {pm(one.sampled, one.stderr)}; the finite-width theory says "
        f"{loss_text(one.theory)}, infinite width {loss_text(one.infinite)}."
    )
    if one.r_hat > STUCK:
        text += f" Its chains have not converged (R-hat {one.r_hat:.2f}), so that its error is too small."
    if len(cells) > 1:
        text += f" {overall(results)}"
    return text + _adaptive(results)


def overall(results: PosteriorResults) -> str:
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


def _adaptive(results: PosteriorResults) -> str:
    """How far the adaptive kernel is from the samples, beside the saddle point of the same cells."""
    cells = [cell for cell in results.sampled_cells if cell.is_adaptive]
    if not cells:
        return ""
    worst = max(cells, key=lambda cell: abs(cell.adaptive_deviation))
    which = "the one cell" if len(cells) == 1 else f"all {len(cells)} cells"
    if len(cells) < len(results.sampled_cells):
        which += " where it is there"
    far = reach([cell.adaptive_deviation for cell in cells])
    return (
        f" The adaptive kernel is within {far} of the samples in {which} (largest deviation "
        f"{per_cent(worst.adaptive_deviation)}, {errors(worst.adaptive_pull)} standard errors, at "
        f"P = {worst.n_train:,}, N1 = {worst.width:,}), the saddle point within "
        f"{reach([cell.deviation for cell in cells])}."
    )


def _adaptive_alone(results: PosteriorResults) -> str:
    """Without samples: how far it is from the saddle point."""
    if not results.adaptive_cells:
        return ""
    one = max(results.adaptive_cells, key=lambda cell: abs(math.log(cell.adaptive / cell.theory)))
    side = "below" if one.adaptive < one.theory else "above"
    return (
        f" The adaptive kernel departs most from that theory at P = {one.n_train:,} and N1 = {one.width:,}: "
        f"{pm(one.adaptive, one.adaptive_stderr)}, {apart(one.adaptive, one.theory)} {side}."
    )


SECTION: Section[PosteriorResults] = Section(claim=claim, fits=lambda results: {"claim": claim(results)})

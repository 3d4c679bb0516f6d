"""Exponents: power laws through ensembles and through exact curves, and what to mind. And exponents.csv."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.contrasts import Curve, Estimate
from analysis.ensemble import contained
from analysis.ensemble.curves import DRAW, FITTED, ITERATION, LARGEST_SHARE_OF_POOL, MEMBERS, POINTS
from analysis.ensemble.drawing import TIMES
from analysis.ensemble.results import EnsembleResults
from analysis.floor import Levelling
from analysis.report.numbers import interval, probability, slope
from analysis.report.section import Section, Table
from ntkhpc.studies.ensemble import standing
from ntkhpc.words import count

NOTE = (
    "Exponent: slope of least squares of log(value) against log(N_D), every size with the same weight{contained}. This "
    "draw: of members alone, to compare networks trained on the same samples. Test points: what another test set would "
    "change. "
    "Bend: the local exponent at the largest size less that at the smallest, and the probability of such a bend of a "
    "pure power law. Floor: c of a N_D^b + c, 95 % interval; open where the sizes do not bound it."
)

TRAINED_ALONE = " Widths are of trained networks alone; two-level exponents are in the chapter Leaps."

FEW_DRAWS_OF_POOL = 4
"""With a pool of fewer times the largest size, draws of the training set overlap much."""


def _rows(results: EnsembleResults) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("quantity", "network", "N_D", "exponent", "this draw", "test points", "bend", "p", "floor, 95 %")
    ]
    for quantity in FITTED:
        for (name, width), fit in results.fits.items():
            if name == quantity:
                rows.append(_row(quantity, f"width {width:,}", fit, results.curves[name, width]))
        if law := results.law_curves.get(quantity):
            sizes = f"{results.sizes[0]}-{results.sizes[-1]}"
            rows.append((quantity, "infinite, these samples", sizes, f"{law.slope().value:.2f}", "exact",
                         _part(law.slope(), POINTS), f"{law.curvature().value:+.2f}", "", ""))  # fmt: skip
        for (name, time), fit in results.curve_fits.items():
            if name == quantity:
                rows.append(_row(quantity, f"infinite, {TIMES[time]}", fit, results.exact_curves[name, time]))
    return rows


def _note(results: EnsembleResults) -> str:
    return NOTE.format(contained=contained.brackets(results)) + (TRAINED_ALONE if results.headline.gains else "")


def _row(quantity: str, network: str, fit: Levelling, curve: Curve) -> Sequence[str]:
    whole = curve.slope()
    this_draw = slope(curve.of(MEMBERS).slope()) if MEMBERS in whole.parts else ""
    floor = interval(fit.floor.offset_95, ".2g") if fit.floor and curve.of(MEMBERS, DRAW).sources else ""
    return (
        quantity, network, f"{fit.n[0]:.0f}-{fit.n[1]:.0f}", slope(fit.slope), this_draw, _part(whole, POINTS),
        slope(fit.curvature), probability(fit.p_power), floor,
    )  # fmt: skip


def _part(one: Estimate, source: str) -> str:
    return f"± {one.parts[source]:.3f}" if source in one.parts else "-"


def cautions(results: EnsembleResults) -> list[str]:
    bends = [text for name in ("mu_L", "eps_L") for text in _about_bends(results, name)]
    return [*not_fitted(results, results.headline.fits), *bends, *about_draws(results)]


def not_fitted(results: EnsembleResults, fits: Mapping[tuple[str, int], Levelling]) -> list[str]:
    """One sentence a quantity, on the widths that have no exponent among these."""
    return [
        f"{name} of width {_listed(lacking)} is not fitted: fewer than 3 sizes, or values that could be zero"
        for name in ("mu_L", "eps_L", "eps_pop")
        if (lacking := [int(w) for w in results.mean.width.values if (name, int(w)) not in fits])
    ]


def about_draws(results: EnsembleResults) -> list[str]:
    """What the errors of exponents do not know of other draws of the training set."""
    found = []
    pool, largest = results.study.data.pool, int(results.sizes[-1])
    if results.fits and not results.knows_draws:
        found.append(f"the errors of exponents know nothing of other draws of the training set: {_remedy(results)}")
    alike = results.redrawn.overlapping(results.redraws.sizes["draw"]) if results.has_redraws else 1.0
    if results.knows_draws and pool < FEW_DRAWS_OF_POOL * largest * alike:
        found.append(
            f"draws of {largest:,} of a pool of {pool:,} samples overlap: what another draw would change is corrected "
            "for it, by more than a tenth; a larger data.pool would tell it better"
        )
    if results.study.data.keeps_file_order and results.knows_draws:
        found.append(
            "the first training set is the beginning of the file, others are random: errors for another draw, and "
            "means over draws, take the rows of the file to be in no order"
        )
    return found


def _remedy(results: EnsembleResults) -> str:
    """What tells how much draws of the training set matter, or why what there is does not."""
    pool, largest, draws = results.study.data.pool, int(results.sizes[-1]), results.study.ensemble.draws
    if largest > LARGEST_SHARE_OF_POOL * pool:
        return f"draws of {largest:,} take nearly all of the pool of {pool:,} samples; a larger data.pool would tell"
    if not standing.is_own(results.study):  # further draws are told by the law
        if draws == 1:
            return "several ensemble.draws, of which moments.csv has each, would show how much they matter"
        return f"they are those of means over the {draws:,} draws of the ensembles, of which moments.csv has each"
    if results.study.infinite_width.redraws > 1:
        return "the laws of further draws do not tell it, as some are missing or could be zero"
    return "several infinite_width.redraws tell how much they matter"


def _about_bends(results: EnsembleResults, name: str) -> list[str]:
    """One sentence a quantity: which widths are no power laws, and how their local exponents change."""
    bent = {w: fit for (quantity, w), fit in results.headline.fits.items() if quantity == name and fit.is_curved}
    if not bent:
        return []
    by_leaps = [width for width in bent if (name, width) in results.headline.gains]
    widths = _listed(list(bent)) + (f" (two-level: {_listed(by_leaps)})" if by_leaps else "")
    bends = ", ".join(slope(fit.curvature) for fit in bent.values())
    low, high = results.sizes[0], results.sizes[-1]
    return [
        f"{name} at width {widths} is no pure power law between {low:,} and {high:,}: its local exponent changes by "
        f"{bends} from the smallest to the largest size, so that the fitted one is no asymptotic exponent"
    ]


def _listed(numbers: list[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)


def exponents(results: EnsembleResults) -> pd.DataFrame:
    """One row a fitted exponent, with what it was fitted to and its errors."""
    rows: list[dict[str, Any]] = []
    for name in FITTED:
        for (quantity, width), fit in results.fits.items():
            if quantity == name:
                rows.append(_record(name, f"width {width}", fit, results.curves[name, width]))
        if law := results.law_curves.get(name):
            rows.append(
                {"quantity": name, "network": "infinite width, the ensemble's cells", "n_min": results.sizes[0],
                 "n_max": results.sizes[-1], "exponent": law.slope().value, "bend": law.curvature().value,
                 "stderr_test_points": law.slope().parts.get(POINTS)}
            )  # fmt: skip
        if curve := results.redraw_curves.get(name):
            one, number = curve.slope(), results.redraws.sizes["draw"]
            network = f"infinite width, mean of {count(number, 'draw')}"
            rows.append(
                {"quantity": name, "network": network, "n_min": results.sizes[0],
                 "n_max": results.sizes[-1], "exponent": one.value, "stderr": _stderr(one), "dof": one.dof,
                 "bend": curve.curvature().value, "bend_stderr": _stderr(curve.curvature()),
                 "p_value": curve.curvature().p_value()}
            )  # fmt: skip
        for (quantity, time), fit in results.curve_fits.items():
            if quantity == name:
                rows.append(_record(name, f"infinite width, time {time}", fit, results.exact_curves[name, time]))
    return pd.DataFrame(rows)


def _record(name: str, network: str, fit: Levelling, curve: Curve) -> dict[str, Any]:
    one, whole = fit.slope, curve.slope()
    floor = fit.floor
    return {
        "quantity": name, "network": network, "n_min": fit.n[0], "n_max": fit.n[1],
        "exponent": one.value, "stderr": _stderr(one), "dof": one.dof,
        **{f"{end}_{level}": value
           for level, ends in ((68, one.interval()), (95, one.interval(0.95)))
           for end, value in zip(("low", "high"), ends if one.parts else (math.nan, math.nan), strict=True)},
        "stderr_members": whole.parts.get(MEMBERS), "stderr_draw": whole.parts.get(DRAW),
        "stderr_test_points": whole.parts.get(POINTS), "stderr_iteration": whole.parts.get(ITERATION),
        "bend": fit.curvature.value, "bend_stderr": _stderr(fit.curvature),
        "p_slope": fit.p_slope, "p_value": fit.p_power,
        "upper_n_min": fit.upper_n, "upper_exponent": fit.upper_slope.value, "upper_stderr": _stderr(fit.upper_slope),
        "floor": floor.offset if floor else math.nan,
        "floor_low_95": floor.offset_95[0] if floor else math.nan,
        "floor_high_95": floor.offset_95[1] if floor else math.nan,
        "exponent_with_floor": floor.exponent if floor else math.nan,
        "preferred": fit.preferred if fit.aicc else "",
    }  # fmt: skip


def _stderr(one: Estimate) -> float:
    """NaN where no error is known, as of one draw."""
    return one.stderr if one.parts else math.nan


def fits(results: EnsembleResults) -> dict[str, Any]:
    return {
        "ensembles": {f"{name} width {width}": fit.to_dict() for (name, width), fit in results.fits.items()},
        "infinite_width_same_cells": {
            name: {"exponent": curve.slope().to_dict(), "curvature": curve.curvature().to_dict()}
            for name, curve in results.law_curves.items()
        },
        "infinite_width_redraws": {
            name: {"exponent": curve.slope().to_dict(), "curvature": curve.curvature().to_dict()}
            for name, curve in results.redraw_curves.items()
        },
        "infinite_width_curve": {f"{name} {time}": fit.to_dict() for (name, time), fit in results.curve_fits.items()},
    }


SECTION: Section[EnsembleResults] = Section(
    title="Exponents",
    tables=lambda results: [Table(_rows(results), _note(results))],
    cautions=cautions,
    fits=fits,
    files=lambda results: {"exponents": exponents(results)},
)

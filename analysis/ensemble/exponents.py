"""Exponents: power laws through ensembles and through exact curves, and what to mind. And exponents.csv."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.ensemble.power_laws import FITTED
from analysis.ensemble.results import SIGNIFICANT, EnsembleResults
from analysis.fits import CurveFit, EnsembleFit
from analysis.report.numbers import chance, exponent, pm, probability
from analysis.report.section import Section, Table
from analysis.scaling import Comparison

ENSEMBLE_NOTE = (
    "Exponent: of a power law without an offset, its error for any draw of the training set; p: probability of a "
    "larger chi squared, were it one. This draw only: with the errors of the initialisations alone, to compare "
    "networks trained on the same samples. With an offset: b of value = a N_D^b + c, and the change of AICc; it "
    "measures how much the data bend, and an offset below zero says nothing about endless data."
)

CURVE_NOTE = (
    "Exact curves have no statistical error: theirs is that of the mean over draws of the training set. How far they "
    "are from a power law is in the figure; the last slope is the local one between the two largest sizes."
)


def _ensemble_rows(results: EnsembleResults) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("quantity", "network", "N_D", "exponent", "p", "this draw only", "with an offset")]
    for quantity in FITTED:
        for (name, width), fit in results.fits.items():
            if name == quantity:
                one, sizes = fit.any_draw.none, f"{fit.any_draw.n[0]:.0f}-{fit.any_draw.n[-1]:.0f}"
                rows.append(
                    (name, f"width {width:,}", sizes, exponent(one), probability(one.p_value),
                     exponent(fit.this_draw.none), _offset(fit.any_draw))
                )  # fmt: skip
        if law := results.law_fits.get(quantity):
            sizes = f"{results.sizes[0]}-{results.sizes[-1]}"
            rows.append((quantity, "infinite, exact", sizes, "", "", f"{law.exponent:.2f}", ""))
    return rows


def _curve_rows(results: EnsembleResults) -> list[Sequence[str]]:
    labels = {"steps": "same rule of steps", "fixed": "fixed steps", "infinite": "end of training"}
    rows: list[Sequence[str]] = [("quantity", "infinite width", "N_D", "exponent", "last slope")]
    for quantity in FITTED:
        for (name, time), fit in results.curve_fits.items():
            if name == quantity:
                mean = pm(fit.exponent, fit.exponent_stderr)
                rows.append((name, labels[time], f"{fit.n[0]:.0f}-{fit.n[1]:.0f}", mean, f"{fit.last_slope:.2f}"))
    return rows


def _offset(comparison: Comparison) -> str:
    if comparison.free is None or math.isinf(comparison.delta_aicc):
        return "too few sizes"
    better = ", better" if comparison.preferred is comparison.free else ""
    return f"{exponent(comparison.free)}{better} (AICc {comparison.delta_aicc:+.1f})"


def cautions(results: EnsembleResults) -> list[str]:
    found = [
        f"{name} of width {_listed(lacking)} is not fitted: fewer than 3 sizes, or values that could be zero"
        for name in ("mu_L", "eps_L", "eps_pop")
        if (lacking := [int(w) for w in results.mean.width.values if (name, int(w)) not in results.fits])
    ]
    for name in ("mu_L", "eps_L"):
        found += _about_fits(results, name, {w: fit for (quantity, w), fit in results.fits.items() if quantity == name})
    if any(math.isnan(fit.draw_spread) for fit in results.fits.values()):
        found.append(
            "the errors of exponents know nothing of other draws of the training set: infinite_width.draws of 2 or "
            "more, at sizes that overlap the ensemble's, would tell how much they matter"
        )
    return found


def _about_fits(results: EnsembleResults, name: str, fits: dict[int, EnsembleFit]) -> list[str]:
    found = []
    low, high = results.sizes[0], results.sizes[-1]
    for width, fit in fits.items():
        one, values = fit.any_draw.none, results.mean[name].sel(width=width).values
        found += [f"power law of {name} at width {width}: {flag}" for flag in one.flags if "fits badly" not in flag]
        if one.p_value < SIGNIFICANT:
            slope = math.log(values[-1] / values[0]) / math.log(high / low)
            text = (
                f"{name} at width {width} is no pure power law ({chance(one.p_value)}): the fitted {exponent(one)} is "
                f"no asymptotic exponent; from end to end, {low} to {high}, the slope is {slope:+.2f}"
            )
            if fit.any_draw.preferred is fit.any_draw.free:
                text += f"; it gets {'flatter' if fit.any_draw.preferred.offset > 0 else 'steeper'} with N_D"
            found.append(text)
    return found


def _listed(numbers: list[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)


def exponents(results: EnsembleResults) -> pd.DataFrame:
    """One row a fitted exponent, with what it was fitted to and its errors."""
    rows: list[dict[str, Any]] = []

    def exact(name: str, network: str, fit: CurveFit) -> None:
        rows.append(
            {"quantity": name, "network": network, "n_min": fit.n[0], "n_max": fit.n[1], "offset": "none",
             "exponent": fit.exponent, "stderr": fit.exponent_stderr, "draws": fit.draws}
        )  # fmt: skip

    for name in FITTED:
        for (quantity, width), fit in results.fits.items():
            if quantity == name:
                for errors, comparison in (("any draw", fit.any_draw), ("this draw", fit.this_draw)):
                    for offset, one in (("none", comparison.none), ("free", comparison.free)):
                        if one is not None:
                            rows.append(
                                {"quantity": name, "network": f"width {width}", "n_min": comparison.n[0],
                                 "n_max": comparison.n[-1], "errors": errors, "offset": offset,
                                 "exponent": one.exponent, "stderr": one.exponent_stderr,
                                 "low_68": one.exponent_68[0], "high_68": one.exponent_68[1],
                                 "low_95": one.exponent_95[0], "high_95": one.exponent_95[1],
                                 "chi2": one.chi2, "dof": one.dof, "p_value": one.p_value, "aicc": one.aicc,
                                 "preferred": one is comparison.preferred, "flags": "; ".join(one.flags)}
                            )  # fmt: skip
        if law := results.law_fits.get(name):
            rows.append(
                {"quantity": name, "network": "infinite width, the ensemble's cells", "n_min": results.sizes[0],
                 "n_max": results.sizes[-1], "offset": "none", "exponent": law.exponent}
            )  # fmt: skip
        for (quantity, time), curve_fit in results.curve_fits.items():
            if quantity == name:
                exact(name, f"infinite width, time {time}", curve_fit)
    return pd.DataFrame(rows)


def tables(results: EnsembleResults) -> list[Table]:
    found = [Table(_ensemble_rows(results), ENSEMBLE_NOTE)]
    return [*found, Table(_curve_rows(results), CURVE_NOTE)] if results.has_curve else found


def fits(results: EnsembleResults) -> dict[str, Any]:
    return {
        "ensembles": {f"{name} width {width}": fit.to_dict() for (name, width), fit in results.fits.items()},
        "infinite_width_same_cells": {name: fit.to_dict() for name, fit in results.law_fits.items()},
        "infinite_width_curve": {f"{name} {time}": fit.to_dict() for (name, time), fit in results.curve_fits.items()},
    }


SECTION: Section[EnsembleResults] = Section(
    title="Exponents",
    tables=tables,
    cautions=cautions,
    fits=fits,
    files=lambda results: {"exponents": exponents(results)},
)

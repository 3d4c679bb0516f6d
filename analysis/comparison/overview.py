"""The numbers: mu_L and eps_L of every variant and width at the largest size, and exponents. And moments.csv."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.comparison import answer, varied
from analysis.comparison.differences import COMPARED
from analysis.comparison.results import ComparisonResults
from analysis.contrasts import Estimate
from analysis.ensemble import exponents, overview
from analysis.ensemble.results import EnsembleResults
from analysis.report.numbers import estimate, pm, slope
from analysis.report.section import Section, Table, aligned

NOTE = (
    "Behind ± stands half of a 68 % interval: of values the choice of the members, of exponents also the draw of the "
    "training set where an exact law for further draws tells it. Exponent: of N_D, the slope of least squares of "
    "log(value) against log(N_D). Infinite width: the variant's own exact law on these samples."
)

SETTINGS_NOTE = "What the variants do not have in common; all else is the same, as are data, draws, members and seeds."


def rows(results: ComparisonResults) -> list[Sequence[str]]:
    """One for each variant and width, and one for each law; the first is the heading."""
    high = int(results.sizes[-1])
    found: list[Sequence[str]] = [
        (
            "variant",
            "width",
            *(f"{name} exponent" if what == "exponent" else f"{name} at {high:,}" for what, name in COMPARED),
        )
    ]
    for one in results.variants:
        for width in results.widths:
            cells = (_cell(what, answer.own(one.results, what, name, width)) for what, name in COMPARED)
            found.append((one.name, f"{width:,}", *cells))
        if one.results.has_law:
            found.append((one.name, "infinite", *_law(one.results)))
    return found


def _cell(what: str, one: Estimate | None) -> str:
    if one is None:
        return "-"
    return slope(one) if what == "exponent" else estimate(one)


def _law(results: EnsembleResults) -> list[str]:
    cells = []
    for what, name in COMPARED:
        if what == "value":
            cells.append(pm(float(results.law_mean[name].isel(n_train=-1)), math.nan))
        else:
            curve = results.law_curves.get(name)
            cells.append(f"{curve.slope().value:+.2f}" if curve else "-")
    return cells


def settings(results: ComparisonResults) -> list[Sequence[str]]:
    """What varies: a row for each variant."""
    known = varied.settings(results.variants)
    names = varied.fields(results.variants)
    return [("variant", *(f"`{name}`" for name in names)), *((one, *map(_value, known[one].values())) for one in known)]


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else f"{value}"


def tables(results: ComparisonResults) -> list[Table]:
    differing = [Table(settings(results), SETTINGS_NOTE)] if varied.fields(results.variants) else []
    return [*differing, Table(rows(results), NOTE)]


def _all(results: ComparisonResults, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame for all variants, whose name is the first column."""
    named = [frame.assign(variant=one.name) for one, frame in zip(results.variants, frames, strict=True) if len(frame)]
    if not named:
        return pd.DataFrame()
    found = pd.concat(named, ignore_index=True)
    return found[["variant", *[column for column in found.columns if column != "variant"]]]


SECTION: Section[ComparisonResults] = Section(
    title="The numbers",
    tables=tables,
    summary=lambda results: aligned(rows(results)),
    fits=lambda results: {
        "variants": {
            one.name: {f"{name} width {width}": fit.to_dict() for (name, width), fit in one.results.fits.items()}
            for one in results.variants
        }
    },
    files=lambda results: {
        "moments": _all(results, [overview.moments(one.results) for one in results.variants]),
        "exponents": _all(results, [exponents.exponents(one.results) for one in results.variants]),
    },
)

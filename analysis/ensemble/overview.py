"""The numbers: mu_L and eps_L of every width at the largest size, and their exponents. And moments.csv."""

import math
from collections.abc import Sequence

import pandas as pd
import xarray

from analysis.contrasts import Curve, Estimate
from analysis.ensemble.curves import DRAW, MEMBERS, POINTS
from analysis.ensemble.results import EnsembleResults, frame
from analysis.floor import Levelling
from analysis.report.numbers import estimate, pm, slope
from analysis.report.section import Section, Table, aligned
from analysis.two_level import LEAPT
from ntkhpc.studies.dims import CELL
from ntkhpc.words import count

CURVED = "(curved)"

SHOWN = ("mu_L", "eps_L")
FOREMOST = (*SHOWN, "eps_pop")

NOTE = (
    "Behind ± stands half of a 68 % interval. Of values of trained networks it contains the choice of the members, of "
    "exponents {exponents}. Exponent: of N_D, the slope of least squares of log(value) against log(N_D), every size "
    "with the same weight{alike}."
)

ALIKE = ", for trained and infinitely wide networks alike"

THESE = ' "These samples": the exact law for the very samples that the networks were trained on.'

ABOUT_CURVED = " Curved: the local slope changes along N_D (p < 0.01), so the exponent describes these sizes only."

PARTS_NOTE = (
    "What another choice would change, one standard error each: of the members, of the draw of the training set, of "
    "the test points (as many of them). Relative to the value; of exponents, absolute."
)


def rows(results: EnsembleResults) -> list[tuple[str, ...]]:
    """Rows (network, mu_L, eps_L at the largest n_train, exponent of mu_L, of eps_L); the first is the heading."""
    low, high = int(results.sizes[0]), int(results.sizes[-1])
    found: list[tuple[str, ...]] = [
        ("network", f"mu_L at {high:,}", f"eps_L at {high:,}", f"mu_L exponent, {low}-{high}", "eps_L exponent")
    ]
    for width in results.mean.width.values:
        values = [results.headline.value(name, int(width), -1) for name in SHOWN]
        fits = [results.headline.fits.get((name, int(width))) for name in SHOWN]
        found.append(
            (
                f"width {int(width):,}{results.headline.mark(int(width), *SHOWN)}",
                *(estimate(one) if one else "-" for one in values),
                *(_fitted(fit) if fit else "-" for fit in fits),
            )
        )
    if results.has_law:
        exact = results.law_mean.isel(n_train=-1)
        law = [results.law_curves.get(name) for name in SHOWN]
        found.append(
            (
                "infinite width, these samples",
                *(pm(float(exact[name]), math.nan) for name in SHOWN),
                *(f"{curve.slope().value:.2f}" if curve else "-" for curve in law),
            )
        )
    if results.redraw_curves:
        curves = [results.redraw_curves.get(name) for name in SHOWN]
        found.append(
            (
                f"infinite width, mean of {count(results.redraws.sizes['draw'], 'draw')}",
                *(estimate(curve.log_value(-1).of_log()) if curve else "-" for curve in curves),
                *(_exponent(curve) if curve else "-" for curve in curves),
            )
        )
    return found


def parts(results: EnsembleResults) -> list[tuple[str, ...]]:
    """Rows (what, value, members, draw, test points) for the widest ensemble; of two-level values by both samples."""
    width, high = int(results.mean.width[-1]), int(results.sizes[-1])
    found: list[tuple[str, ...]] = [(f"width {width:,}", "value", MEMBERS, DRAW, POINTS)]
    for name in FOREMOST:
        if curve := results.headline.curves.get((name, width)):
            value = curve.log_value(len(curve.n) - 1)
            errors = [f"{100 * part:.1f} %" if part else "unknown" for part in _parts(value)]
            mark = results.headline.mark(width, name)
            found.append((f"{name} at N_D = {high:,}{mark}", f"{curve.value[-1]:.3g}", *errors))
    for name in FOREMOST:
        if curve := results.headline.curves.get((name, width)):
            exponent = curve.slope()
            errors = [f"{part:.3f}" if part else "unknown" for part in _parts(exponent)]
            mark = results.headline.mark(width, name)
            found.append((f"exponent of {name}{mark}", f"{exponent.value:.3f}", *errors))
    return found


def _parts(one: Estimate) -> list[float]:
    """Errors by members, draw and test points; 0 where one is not known."""
    return [
        math.hypot(*(one.parts.get(name, 0.0) for name in names)) for names in ((MEMBERS, LEAPT), (DRAW,), (POINTS,))
    ]


def tables(results: EnsembleResults) -> list[Table]:
    found, shares = rows(results), parts(results)
    return [Table(found, _note(results, found)), *([Table(shares, PARTS_NOTE)] if shares[1:] else [])]


def _note(results: EnsembleResults, found: Sequence[Sequence[str]]) -> str:
    """Of what is in the table."""
    contain = "of the members and of the draw of the training set" if results.knows_draws else "of the members alone"
    said = NOTE.format(exponents=contain, alike=ALIKE if results.has_law or results.redraw_curves else "")
    said += THESE if results.has_law else ""
    said += f" {two_level}" if (two_level := results.headline.sentence(*SHOWN)) else ""
    return said + (ABOUT_CURVED if any(CURVED in cell for row in found for cell in row) else "")


def cautions(results: EnsembleResults) -> list[str]:
    if not results.diverged:
        return []
    noun = "network diverged and is" if results.diverged == 1 else "networks diverged and are"
    return [f"{results.diverged:,} {noun} in no number here"]


def moments(results: EnsembleResults) -> pd.DataFrame:
    """One row a cell: the ensemble's moments with standard errors, and the exact law of the same cell beside them."""
    beyond = [dim for dim in ("member", "test_size", "test_point", "tile") if dim in results.moments.dims]
    found = [results.moments.drop_dims(beyond)]
    if results.has_law:
        exact = results.law[["mu_L", "sigma_L", "eps_L", "eps_pop", "bias2", "variance", "skewness"]]
        found.append(exact.rename({name: f"law_{name}" for name in exact.data_vars}))
        found.append(results.agreement[["ks_distance", "ks_p_value"]])
    return frame(xarray.merge(found), CELL).astype({"members": int})


def _fitted(fit: Levelling) -> str:
    """The exponent, marked where the data are no pure power law."""
    return slope(fit.slope) + (f" {CURVED}" if fit.is_curved else "")


def _exponent(curve: Curve) -> str:
    return pm(curve.slope().value, curve.of(DRAW).slope().half())


SECTION: Section[EnsembleResults] = Section(
    title="The numbers",
    tables=tables,
    cautions=cautions,
    summary=lambda results: aligned(rows(results)),
    files=lambda results: {"moments": moments(results)},
)

"""The numbers: mu_L and eps_L of every width at the largest size, and their exponents. And moments.csv."""

import math

import pandas as pd
import xarray

from analysis.ensemble.results import SIGNIFICANT, EnsembleResults, frame
from analysis.report.numbers import exponent, pm
from analysis.report.section import Section, Table, aligned
from analysis.scaling import FitResult
from ntkhpc.studies.dims import CELL

CURVED = "(curved)"

NOTE = (
    "value ~ N_D^exponent without an offset; 68 % intervals. Errors of the ensembles' exponents are those of "
    "initialisations and, where infinite width has several draws of the training set, of their spread there. The exact "
    "exponent is for the very samples the ensembles were trained on, fitted with the weights of the widest ensemble. "
    "Curved: no pure power law, and the exponent is no asymptotic one."
)


def rows(results: EnsembleResults) -> list[tuple[str, ...]]:
    """Rows (network, mu_L, eps_L at the largest n_train, exponent of mu_L, of eps_L); the first is the heading."""
    low, high = int(results.sizes[0]), int(results.sizes[-1])
    found: list[tuple[str, ...]] = [
        ("network", f"mu_L at {high:,}", f"eps_L at {high:,}", f"mu_L exponent, {low}-{high}", "eps_L exponent")
    ]
    for width in results.mean.width.values:
        cell = results.mean.sel(width=width).isel(n_train=-1)
        fits = [results.fits.get((name, int(width))) for name in ("mu_L", "eps_L")]
        found.append(
            (
                f"width {int(width):,}",
                *(pm(float(cell[name]), float(cell[f"{name}_stderr"])) for name in ("mu_L", "eps_L")),
                *(_fitted(fit.any_draw.none) if fit else "-" for fit in fits),
            )
        )
    if results.has_law:
        exact = results.law_mean.isel(n_train=-1)
        law = [results.law_fits.get(name) for name in ("mu_L", "eps_L")]
        found.append(
            (
                "infinite width",
                *(pm(float(exact[name]), math.nan) for name in ("mu_L", "eps_L")),
                *(f"{fit.exponent:.2f} (exact, these samples)" if fit else "-" for fit in law),
            )
        )
    return found


def cautions(results: EnsembleResults) -> list[str]:
    if not results.diverged:
        return []
    return [f"{results.diverged:,} networks diverged and are in no number here"]


def moments(results: EnsembleResults) -> pd.DataFrame:
    """One row a cell: the ensemble's moments with standard errors, and the exact law of the same cell beside them."""
    parts = [results.moments.drop_dims(["member", "test_size"])]
    if results.has_law:
        exact = results.law[["mu_L", "sigma_L", "eps_L", "eps_pop", "bias2", "variance", "skewness"]]
        parts.append(exact.rename({name: f"law_{name}" for name in exact.data_vars}))
        parts.append(results.agreement[["ks_distance", "ks_p_value"]])
    return frame(xarray.merge(parts), CELL).astype({"members": int})


def _fitted(fit: FitResult) -> str:
    """The exponent, marked where the data are no pure power law."""
    return exponent(fit) + (f" {CURVED}" if fit.p_value < SIGNIFICANT else "")


SECTION: Section[EnsembleResults] = Section(
    title="The numbers",
    tables=lambda results: [Table(rows(results), NOTE)],
    cautions=cautions,
    summary=lambda results: aligned(rows(results)),
    files=lambda results: {"moments": moments(results)},
)

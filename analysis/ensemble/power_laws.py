"""Power laws through ensembles and through the law of their own cells, with errors that covary between sizes."""

from dataclasses import dataclass

import numpy as np
import xarray

from analysis import draws, scaling
from analysis.fits import NOISE, EnsembleFit
from analysis.scaling import FitResult

COVARIANCE_MEMBERS = 10
"""Members a size below which errors are taken as independent between sizes: their covariance would be mostly noise."""

FITTED = ("mu_L", "sigma_L", "eps_L", "eps_pop")


@dataclass(frozen=True)
class Errors:
    """Sizes at which a quantity is usable, with the covariances of its errors: of this draw, and of any draw."""

    good: np.ndarray
    n: np.ndarray
    value: np.ndarray
    this_draw: np.ndarray
    any_draw: np.ndarray
    spread: float


def errors(cell: xarray.Dataset, name: str, curve: xarray.Dataset | None, draw_count: int) -> Errors | None:
    """Of one width; None with fewer than 3 usable sizes. Without a curve the spread over draws is unknown."""
    value, stderr = cell[name].values, cell[f"{name}_stderr"].values
    good = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
    # Where the difference that eps_pop is may be zero, its root has no Gaussian error, and leaving a size out biases.
    if good.sum() < 3 or (value[good] < NOISE * stderr[good]).any():
        return None
    n, value, stderr = cell.n_train.values[good].astype(float), value[good], stderr[good]
    covariance = cell[f"{name}_covariance"].values[np.ix_(good, good)]
    members, k = cell.members.values[good].min(), good.sum()
    if members < COVARIANCE_MEMBERS * k or not np.isfinite(covariance).all():
        covariance = np.diag(stderr**2)  # too few members to tell how sizes covary
    else:
        covariance = covariance * (members - 1) / (members - k - 2)  # the inverse of an estimate is too large
    spread = float("nan")
    if curve is not None:
        time = "steps" if "steps" in curve.time.values else curve.time.values[0]
        spread = draws.relative_spread(curve[name].sel(time=time), n[0], n[-1])
    # From a smooth curve: errors proportional to the very values they belong to would pull the fit below them all.
    smooth = scaling.fit_power_law(n, value, value)(n)
    covariance = covariance * np.outer(smooth / value, smooth / value)
    total = covariance if np.isnan(spread) else covariance + draws.covariance(n, smooth, spread) / draw_count
    return Errors(good, n, value, covariance, total, spread)


def fit(found: Errors) -> EnsembleFit:
    this_draw, any_draw = (
        scaling.compare(found.n, found.value, np.sqrt(np.diag(covariance)), covariance=covariance)
        for covariance in (found.this_draw, found.any_draw)
    )
    return EnsembleFit(any_draw, this_draw, found.spread)


def fit_law(law: xarray.DataArray, found: Errors | None) -> FitResult | None:
    """The exact values at the ensemble's sizes, weighted as the widest ensemble's are, so that exponents compare."""
    if found is None:
        return None
    value = law.values[found.good]
    if not np.isfinite(value).all() or (value <= 0).any():
        return None
    covariance = found.any_draw * np.outer(value / found.value, value / found.value)
    return scaling.fit_power_law(found.n, value, np.sqrt(np.diag(covariance)), covariance=covariance)

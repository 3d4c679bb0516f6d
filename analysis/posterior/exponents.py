"""How mu_L, sigma_L and eps_L scale with N_D: posterior, samples of it, and networks trained to the end."""

import math
from dataclasses import dataclass

import numpy as np
import xarray

from analysis import draws, scaling
from analysis.fits import NOISE, CurveFit, EnsembleFit, fit_curve
from analysis.scaling import FitResult

QUANTITIES = ("mu_L", "sigma_L", "eps_L", "eps_pop")
POSTERIOR, GRADIENT_DESCENT = "posterior, infinite width", "trained to the end, infinite width"


@dataclass(frozen=True)
class SampledFit:
    """A power law through sampled values, and `theory`: one through its values at the same sizes, weighted alike."""

    sampled: EnsembleFit
    theory: FitResult | None


@dataclass(frozen=True)
class Difference:
    """Exponent of the posterior less that of gradient descent, both at infinite width and on the same samples.

    `stderr` is that of the mean over draws of the training set, NaN for one.
    """

    value: float
    stderr: float
    draws: int


def name_of(width: float) -> str:
    return f"posterior, width {int(width):,}" if math.isfinite(width) else POSTERIOR


def exact(theory: xarray.Dataset, descent: xarray.Dataset) -> dict[tuple[str, str], CurveFit]:
    """By (quantity, network): each exact curve over at least 3 sizes, with the spread over draws as its error."""
    found = {}
    for quantity in QUANTITIES:
        curves = {name_of(w): theory[quantity].sel(theory_width=w) for w in theory.theory_width.values}
        for network, curve in (curves | {GRADIENT_DESCENT: descent[quantity]}).items():
            if (fit := fit_curve(curve)) is not None:
                found[quantity, network] = fit
    return found


def sampled(means: xarray.Dataset | None, theory: xarray.Dataset, draw_count: int) -> dict[tuple[str, int], SampledFit]:
    """By (quantity, width): `means` over (width, n_train) with errors, as chains of different sizes share nothing."""
    if means is None:
        return {}
    found = {}
    for quantity in QUANTITIES[:3]:
        for width in means.width.values:
            curve = theory[quantity].sel(theory_width=float(width))
            if (fit := _fit(means.sel(width=width), quantity, curve, draw_count)) is not None:
                found[quantity, int(width)] = fit
    return found


def differences(theory: xarray.Dataset, descent: xarray.Dataset) -> dict[str, Difference]:
    """By quantity; those of at least 3 sizes that are all positive."""
    found = {}
    for quantity in QUANTITIES:
        pairs = [theory[quantity].sel(theory_width=math.inf), descent[quantity]]
        rows = [[fit_curve(curve.isel(draw=[i])) for curve in pairs] for i in range(descent.sizes["draw"])]
        values = np.array([a.exponent - b.exponent for a, b in rows if a is not None and b is not None])
        if len(values):
            stderr = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
            found[quantity] = Difference(float(values.mean()), stderr, len(values))
    return found


def _fit(cell: xarray.Dataset, quantity: str, curve: xarray.DataArray, draw_count: int) -> SampledFit | None:
    value, stderr = cell[quantity].values, cell[f"{quantity}_stderr"].values
    good = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
    if good.sum() < 3 or (value[good] < NOISE * stderr[good]).any():
        return None
    n, value, stderr = cell.n_train.values[good].astype(float), value[good], stderr[good]
    # Errors proportional to a smooth curve, not to the scattered values themselves, which would pull the fit down.
    smooth = scaling.fit_power_law(n, value, value)(n)
    this_draw = np.diag((stderr * smooth / value) ** 2)
    spread = draws.relative_spread(curve, n[0], n[-1])
    any_draw = this_draw if math.isnan(spread) else this_draw + draws.covariance(n, smooth, spread) / draw_count
    fits = [scaling.compare(n, value, np.sqrt(np.diag(one)), covariance=one) for one in (this_draw, any_draw)]
    exact_values = curve.mean("draw").sel(n_train=n.astype(int)).values
    law = None
    if np.isfinite(exact_values).all() and (exact_values > 0).all():
        weights = this_draw * np.outer(exact_values / value, exact_values / value)
        law = scaling.fit_power_law(n, exact_values, np.sqrt(np.diag(weights)), covariance=weights)
    return SampledFit(EnsembleFit(any_draw=fits[1], this_draw=fits[0], draw_spread=spread), law)

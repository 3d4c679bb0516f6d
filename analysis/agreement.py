"""Does an ensemble of finite width agree with the exact law of the same steps at infinite width?"""

import numpy as np
import xarray
from scipy import stats

from analysis.estimators import Leverage
from ntkhpc import schema

QUANTITIES = ("mu_L", "eps_L", "eps_pop")


def agreement(store: xarray.Dataset, moments: xarray.Dataset, law: xarray.Dataset) -> xarray.Dataset:
    """Over (width, n_train, draw): `<quantity>_ratio` to the law and `<quantity>_pull`, (value - law)/stderr.

    `ks_distance` and `ks_p_value` (Kolmogorov-Smirnov) compare all losses of a cell with the exact distribution.
    `<quantity>_p_value` (width, draw) is Hotelling's T^2 test of all sizes at once, which knows that the errors at
    different n_train are correlated; NaN unless every size is there.
    """
    found = xarray.Dataset(coords={dim: moments[dim] for dim in schema.CELL})
    for name in QUANTITIES:
        difference = (moments[name] - law[name]).transpose(*schema.CELL)
        found[f"{name}_ratio"] = moments[name] / law[name]
        found[f"{name}_pull"] = difference / moments[f"{name}_stderr"]
        found[f"{name}_p_value"] = (("width", "draw"), _hotelling(difference, moments, name))
    distance = np.full(found.mu_L_pull.shape, np.nan)
    p_value = distance.copy()
    losses = store.test_loss.where(store.status == schema.OK).transpose(*schema.CELL, "member").values
    quantiles = law.loss.transpose("draw", "n_train", "quantile").values
    for cell in np.ndindex(distance.shape):
        sample = np.sort(losses[cell][np.isfinite(losses[cell])])
        exact = quantiles[cell[2], cell[1]]
        if len(sample) >= 4 and np.isfinite(exact).all():
            distance[cell] = ks_distance(sample, exact, store["quantile"].values)
            p_value[cell] = stats.kstwobign.sf(distance[cell] * np.sqrt(len(sample)))
    return found.assign(ks_distance=(schema.CELL, distance), ks_p_value=(schema.CELL, p_value))


def ks_distance(sample: np.ndarray, quantiles: np.ndarray, probabilities: np.ndarray) -> float:
    """Largest difference between the distribution of a sorted sample and the exact one, at the tabulated quantiles."""
    return float(abs(np.searchsorted(sample, quantiles) / len(sample) - probabilities).max())


def _hotelling(difference: xarray.DataArray, moments: xarray.Dataset, name: str) -> np.ndarray:
    leverage = moments[f"{name}_leverage"].transpose("width", "draw", "n_train", "member").values
    covariance = Leverage(leverage).covariance()
    r = difference.transpose("width", "draw", "n_train").values
    members = moments.members.transpose("width", "draw", "n_train").values.min(axis=-1)
    p_value = np.full(r.shape[:2], np.nan)
    k = r.shape[-1]
    for cell in np.ndindex(p_value.shape):
        m = members[cell]
        if np.isfinite(r[cell]).all() and np.isfinite(covariance[cell]).all() and m > k:
            t2 = r[cell] @ np.linalg.solve(covariance[cell], r[cell])
            p_value[cell] = stats.f.sf(t2 * (m - k) / (k * (m - 1)), k, m - k)
    return p_value

"""Does an ensemble of finite width agree with the exact law of the same steps at infinite width?"""

from collections.abc import Callable

import numpy as np
import xarray
from scipy import stats

from analysis import estimators
from analysis.estimators import Leverage
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import OK

QUANTITIES = ("mu_L", "eps_L", "eps_pop")

RESAMPLES = 1999
MEMBERS_A_SIZE = 3
"""With fewer members a size the covariance of the sizes is not known well enough to test them together."""

_AT_ONCE = 2e7


def agreement(store: xarray.Dataset, moments: xarray.Dataset, law: xarray.Dataset) -> xarray.Dataset:
    """Over (width, n_train, draw): `<quantity>_ratio` to the law and `<quantity>_pull`, (value - law)/stderr.

    `ks_distance` and `ks_p_value` (Kolmogorov-Smirnov) compare all losses of a cell with the exact distribution.
    `mu_L_p_value` and `eps_L_p_value` (width) test all sizes and draws at once, see `all_sizes_p_value`; NaN unless
    every cell is there, with at least MEMBERS_A_SIZE members a size.
    """
    found = xarray.Dataset(coords={dim: moments[dim] for dim in CELL})
    for name in QUANTITIES:
        found[f"{name}_ratio"] = moments[name] / law[name]
        found[f"{name}_pull"] = (moments[name] - law[name]).transpose(*CELL) / moments[f"{name}_stderr"]
    losses = store.test_loss.where(store.status == OK).transpose(*CELL, "member").values
    for name, statistic in (("mu_L", log_mean), ("eps_L", log_relative_spread)):
        exact = np.log(law[name].transpose("n_train", "draw").values)
        p_values = [all_sizes_p_value(sample, exact, statistic) for sample in losses]
        found[f"{name}_p_value"] = ("width", np.array(p_values))
    distance = np.full(found.mu_L_pull.shape, np.nan)
    p_value = distance.copy()
    quantiles = law.loss.transpose("draw", "n_train", "quantile").values
    for cell in np.ndindex(distance.shape):
        sample = np.sort(losses[cell][np.isfinite(losses[cell])])
        exact = quantiles[cell[2], cell[1]]
        if len(sample) >= 4 and np.isfinite(exact).all():
            distance[cell] = ks_distance(sample, exact, store["quantile"].values)
            p_value[cell] = stats.kstwo.sf(distance[cell], len(sample))
    return found.assign(ks_distance=(CELL, distance), ks_p_value=(CELL, p_value))


def ks_distance(sample: np.ndarray, quantiles: np.ndarray, probabilities: np.ndarray) -> float:
    """Largest difference between the distribution of a sorted sample and the exact one, interpolated in its table."""
    exact, m = np.interp(sample, quantiles, probabilities), len(sample)
    return float(max((np.arange(1, m + 1) / m - exact).max(), (exact - np.arange(m) / m).max()))


Statistic = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def log_mean(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log mu (...) of a sample (..., members), and (..., members) without each member."""
    return np.log(sample.mean(axis=-1)), np.log(estimators.leave_one_out(sample)[0])


def log_relative_spread(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log eps (...) of a sample (..., members), and (..., members) without each member."""
    mean, variance = estimators.leave_one_out(sample)
    eps = sample.std(axis=-1, ddof=1) / sample.mean(axis=-1)
    return np.log(eps), np.log(np.maximum(variance, 1e-300)) / 2 - np.log(mean)


def all_sizes_p_value(sample: np.ndarray, exact: np.ndarray, statistic: Statistic) -> float:
    """Probability of a larger T^2 than that of `sample` (k, draws, members) against `exact` (k, draws), if exact is so.

    T^2 = r^T C^-1 r, r (k,) the mean over draws of statistic - exact, C its jackknife covariance: a member begins alike
    at every size and draw, so errors covary. Its distribution is the bootstrap's, members resampled and r taken about
    the sample's own value: Hotelling's would find differences four times too often, as losses are skewed and C is
    estimated. Members that diverged anywhere are left out. NaN for too few members, or values that are not there.
    """
    sample = sample[..., np.isfinite(sample).all(axis=(0, 1))]
    k, members = len(sample), sample.shape[-1]
    if members < max(4, MEMBERS_A_SIZE * k) or not np.isfinite(exact).all():
        return float("nan")
    centre = statistic(sample)[0]
    (observed,) = _t_squared(sample[None], exact, statistic)
    rng, larger, done = np.random.default_rng(0), 0, 0
    while done < RESAMPLES:
        count = min(RESAMPLES - done, max(1, int(_AT_ONCE / sample.size)))
        chosen = rng.integers(members, size=(count, members))
        resampled = np.moveaxis(sample[..., chosen], -2, 0)
        larger += int((_t_squared(resampled, centre, statistic) >= observed).sum())
        done += count
    return (1 + larger) / (1 + RESAMPLES)


def _t_squared(samples: np.ndarray, centre: np.ndarray, statistic: Statistic) -> np.ndarray:
    """(b,) for samples (b, k, draws, members)."""
    value, left = statistic(samples)
    r = (value - centre).mean(axis=-1)
    covariance = Leverage(estimators.leverage(left).values.mean(axis=-2)).covariance()
    k = covariance.shape[-1]
    # A resample of few different members may be singular; the shift is far below any error.
    covariance += 1e-12 * np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] * np.eye(k)
    return np.einsum("bi,bi->b", r, np.linalg.solve(covariance, r[..., None])[..., 0])

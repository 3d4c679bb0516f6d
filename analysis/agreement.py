"""Does an ensemble of finite width agree with the exact law of the same steps at infinite width?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray
from scipy import stats

from analysis.contrasts import LEVEL, Curve, ErrorSource, Estimate, mean_weights
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import OK

QUANTITIES = ("mu_L", "eps_L", "eps_pop")
TESTED = ("mu_L", "eps_L", "variance")

LARGE = 0.3
"""A relative difference that a test must be able to see, or it cannot tell."""

RESAMPLES = 1999
MEMBERS_A_SIZE = 3
"""With fewer members a size the covariance of the sizes is not known well enough to test them together."""

TESTS = 5
"""By which LEVEL is divided, about, as mean and shape of two quantities and the mean of a third are looked at."""

FEWEST = 8
"""Members, tiles, or networks that were trained as well as leapt, below which nothing is tested."""

_AT_ONCE = 2e7


def ratios(store: xarray.Dataset, moments: xarray.Dataset, law: xarray.Dataset) -> xarray.Dataset:
    """Over (width, n_train, draw): `<quantity>_ratio` to the law and `<quantity>_pull`, (value - law)/stderr.

    `ks_distance` and `ks_p_value` (Kolmogorov-Smirnov) compare all losses of a cell with the exact distribution.
    """
    found = xarray.Dataset(coords={dim: moments[dim] for dim in CELL})
    for name in QUANTITIES:
        found[f"{name}_ratio"] = moments[name] / law[name]
        found[f"{name}_pull"] = (moments[name] - law[name]).transpose(*CELL) / moments[f"{name}_stderr"]
    losses = store.test_loss.where(store.status == OK).transpose(*CELL, "member").values
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


@dataclass(frozen=True)
class AgainstLaw:
    """Of one width and quantity with the exact law: `ratio` is the mean over sizes of log(value/law).

    `p_value` is the probability of a difference as clear as this one in any of TESTED, by their means over sizes or, of
    trained networks alone, in their shapes, were the law true: so one width is called different wrongly as often as
    LEVEL says, however many quantities are tested. NaN where it cannot be tested.
    """

    ratio: Estimate
    p_value: float

    @property
    def differs(self) -> bool:
        return self.p_value <= LEVEL

    @property
    def seen(self) -> float:
        """The relative difference, alike at all sizes, that would have been seen in 95 % of such ensembles."""
        return float(np.expm1(self.ratio.seen(LEVEL / TESTS)))

    @property
    def can_tell(self) -> bool:
        """Whether it is called different, or would have been if it were by LARGE."""
        return self.differs or (np.isfinite(self.p_value) and self.seen <= LARGE)

    def to_dict(self) -> dict[str, Any]:
        p = float(self.p_value) if np.isfinite(self.p_value) else None
        seen = float(self.seen) if np.isfinite(self.seen) else None
        return {"log_ratio": self.ratio.to_dict(), "p_value": p, "difference_seen": seen}


def compare(
    sample: np.ndarray, cell: xarray.Dataset, law: xarray.Dataset, two_level: Mapping[str, Curve] | None = None
) -> dict[str, AgainstLaw]:
    """One width with the law, by quantity of TESTED; without those that have a value missing.

    sample (n_train, draws, members) is L, NaN for members that are not there; `cell` is its part of
    `aggregate.over_draws`, with the deviates of the tiles for the variance; `law` is over (draw, n_train). Of
    quantities in `two_level`, curves with the errors of the networks alone, these stand for the sample's; they are
    tested by their means over sizes, not by their shapes.
    """
    found: dict[str, AgainstLaw] = {}
    two_level = two_level or {}
    exact = {name: law[name].transpose("n_train", "draw").values for name in TESTED}
    of_sample = {name: np.log(exact[name]) for name in STATISTICS if name not in two_level}
    p_values = all_sizes_p_values(sample, of_sample) if of_sample else {}
    curves = {name: _curve(cell, name, exact[name].mean(axis=-1)) for name in TESTED}
    for name, one in two_level.items():
        law_mean = exact[name].mean(axis=-1)
        curves[name] = one.over(law_mean) if np.isfinite(law_mean).all() and (law_mean > 0).all() else None
    families = int(bool(p_values))
    for name in (*two_level, "variance"):
        if (curve := curves[name]) is not None and _units(curve) >= FEWEST:
            p_values[name] = curve.contrast(mean_weights(curve.n)).p_value()
            families += 1
    # The members' tests are one family, those of the tiles and of each two-level curve others: each could alarm
    # [Sidak 1967].
    for name, curve in curves.items():
        if curve is not None:
            p = 1 - (1 - p_values[name]) ** families if name in p_values else float("nan")
            found[name] = AgainstLaw(curve.contrast(mean_weights(curve.n)), p)
    return found


def _curve(cell: xarray.Dataset, name: str, exact: np.ndarray) -> Curve | None:
    """value/law over all sizes, with the errors of the members; None where one of them is missing."""
    value, deviates = cell[name].values, cell[f"{name}_deviates"].values
    if not all(np.isfinite(one).all() for one in (value, deviates, exact)) or (value <= 0).any():
        return None
    return Curve(cell.n_train.values.astype(float), value / exact, (ErrorSource("members", deviates),))


def _units(curve: Curve) -> int:
    """Members or tiles with an error; of two-level curves the networks that were trained."""
    return int((curve.sources[0].deviates != 0).any(axis=0).sum())


STATISTICS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mu_L": lambda mean, variance: np.log(mean),
    "eps_L": lambda mean, variance: np.log(np.maximum(variance, 1e-300)) / 2 - np.log(mean),
}
"""Logarithms, of means and variances of samples."""


def all_sizes_p_values(sample: np.ndarray, exact: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By quantity of `exact`, the probability of a difference as clear in any of them, if `exact` is true: log mu_L and
    log eps_L (k, draws).

    `sample` is (k, draws, members). With r (k,) the mean over draws of log(value/exact) and C its jackknife covariance
    (a member begins alike at every size and draw, so errors covary) two statistics are looked at: the mean of r over
    its error, and T^2 = r^T C^-1 r where there are MEMBERS_A_SIZE members a size. Their distributions are the
    bootstrap's, members resampled and r taken about the sample's own value: Hotelling's would find differences four
    times too often, as losses are skewed and C is estimated. That of the smallest of all their probabilities comes from
    the same resamples [Westfall and Young 1993]. Members that diverged anywhere are left out. Empty for too few members
    or values that are not there.
    """
    sample = sample[..., np.isfinite(sample).all(axis=(0, 1))]
    k, members = len(sample), sample.shape[-1]
    if members < FEWEST or not all(np.isfinite(one).all() for one in exact.values()):
        return {}
    together = members >= MEMBERS_A_SIZE * k
    rows, rng, done = [_pulls(sample[None], exact, together)], np.random.default_rng(0), 0
    mean, variance = sample.mean(axis=-1), sample.var(axis=-1, ddof=1)
    centres = {name: STATISTICS[name](mean, variance) for name in exact}
    while done < RESAMPLES:
        count = min(RESAMPLES - done, max(1, int(_AT_ONCE / sample.size)))
        chosen = rng.integers(members, size=(count, members))
        rows.append(_pulls(np.moveaxis(sample[..., chosen], -2, 0), centres, together))
        done += count
    pulls = np.concatenate(rows)  # (1 + resamples, quantities, statistics), the sample itself first
    # Of each statistic, the share of all rows at least as large; the smallest share of a row has a distribution too.
    shares = (stats.rankdata(-pulls, method="max", axis=0)) / len(pulls)
    smallest = shares.min(axis=(1, 2))
    return {name: float((smallest <= shares[0, i].min()).mean()) for i, name in enumerate(exact)}


def _pulls(samples: np.ndarray, centres: Mapping[str, np.ndarray], together: bool) -> np.ndarray:
    """(b, quantities, statistics) for samples (b, k, draws, members): squared pull of the mean, and T^2."""
    m, found = samples.shape[-1], []
    mean = samples.mean(axis=-1, keepdims=True)
    deviation = samples - mean
    squares = deviation**2
    variance = squares.sum(axis=-1, keepdims=True) / (m - 1)
    left_mean = mean - deviation / (m - 1)
    left_variance = ((m - 1) * variance - m / (m - 1) * squares) / (m - 2)
    for name, centre in centres.items():
        r = (STATISTICS[name](mean[..., 0], variance[..., 0]) - centre).mean(axis=-1)
        left = STATISTICS[name](left_mean, left_variance).mean(axis=-2)
        moved = (left - left.mean(axis=-1, keepdims=True)) * np.sqrt((m - 1) / m)
        covariance = moved @ np.swapaxes(moved, -1, -2)
        pull = r.sum(axis=-1) ** 2 / np.maximum(covariance.sum(axis=(-2, -1)), 1e-300)
        if not together:
            found.append(pull[:, None])
            continue
        # A resample of few different members may be singular; the shift is far below any error.
        covariance += 1e-12 * np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] * np.eye(len(r[0]))
        t_squared = np.einsum("bi,bi->b", r, np.linalg.solve(covariance, r[..., None])[..., 0])
        found.append(np.stack([pull, t_squared], axis=-1))
    return np.stack(found, axis=1)

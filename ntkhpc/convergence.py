"""Have chains converged, and how many independent samples are they worth? Vehtari et al. 2021, arXiv:1903.08008.

    R-hat = sqrt( [ (n-1)/n W + B/n ] / W ) over chains split in halves of n samples; B, W between and within them
    ESS   = m n / (-1 + 2 sum_k P_k) ;  P_k = rho_(2k) + rho_(2k+1), while positive, made decreasing [Geyer 1992]
    MCSE  = sqrt( var+ / ESS )

Every function but `settled` takes the values (chains, samples) of one quantity and returns a number, NaN where there
are too few.
"""

import math

import numpy as np
from scipy import fft, stats

FEWEST = 4
"""Half a chain must have so many samples, or no diagnostic is given."""


def r_hat(values: np.ndarray) -> float:
    """R-hat: the larger of that of the ranks (location) and that of the ranks of distances from the median (spread)."""
    distances = np.abs(values - np.median(values)) if np.isfinite(values).all() and values.size else values
    return max(_r_hat(_ranks(_halves(values))), _r_hat(_ranks(_halves(distances))))


def bulk_ess(values: np.ndarray) -> float:
    """Effective sample size of the ranks: so many independent samples tell the body of the distribution."""
    return ess(_ranks(_halves(values)), split=False)


def ess(values: np.ndarray, *, split: bool = True) -> float:
    """Effective sample size of the mean; NaN where the values do not vary."""
    halves = _halves(values) if split else values
    m, n = halves.shape
    within, total = _variances(halves)
    if not total > 0:
        return math.nan
    covariance = _autocovariance(halves).mean(axis=0)
    rho = 1 - (within - covariance * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    positive = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    time = max(-1 + 2 * positive.sum(), 1 / math.log10(m * n))  # anticorrelated chains are not believed without bound
    return float(m * n / time)


def mcse(values: np.ndarray) -> float:
    """Monte Carlo standard error of the mean; it grows where chains disagree."""
    total = _variances(_halves(values))[1]
    return 0.0 if total == 0 else math.sqrt(total / ess(values)) if math.isfinite(total) else math.nan


def sigma_mcse(values: np.ndarray) -> float:
    """Standard error of the standard deviation, from that of the mean squared deviation."""
    deviation, sigma = values - values.mean(), float(values.std())
    return mcse(deviation**2) / (2 * sigma) if sigma > 0 else 0.0


def eps_mcse(values: np.ndarray) -> float:
    """Standard error of sigma/mu, from that of the mean of its influence function."""
    mu, sigma = float(values.mean()), float(values.std())
    return mcse((values - mu) ** 2 / (2 * sigma * mu) - sigma * (values - mu) / mu**2) if sigma > 0 else 0.0


def _halves(values: np.ndarray) -> np.ndarray:
    """Halves (2 chains, samples // 2), without the middle of an odd number. The halves of a drifting chain disagree."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, values.shape[1] - half :]])


def _ranks(halves: np.ndarray) -> np.ndarray:
    """Values replaced by the normal quantiles of their ranks in all chains: heavy tails do not matter then."""
    if not np.isfinite(halves).all():
        return np.full(halves.shape, math.nan)
    ranks = stats.rankdata(halves, method="average").reshape(halves.shape)
    return stats.norm.ppf((ranks - 0.375) / (halves.size + 0.25)) if halves.size else halves


def _variances(halves: np.ndarray) -> tuple[float, float]:
    """Within chains, W, and the estimate of the whole variance, (n-1)/n W + B/n."""
    m, n = halves.shape
    if n < FEWEST or m < 2 or not np.isfinite(halves).all():
        return math.nan, math.nan
    within = float(halves.var(axis=1, ddof=1).mean())
    return within, (n - 1) / n * within + float(halves.mean(axis=1).var(ddof=1))


def _r_hat(halves: np.ndarray) -> float:
    within, total = _variances(halves)
    return math.sqrt(total / within) if within > 0 else 1.0 if total == 0 else math.inf if total > 0 else math.nan


def _autocovariance(halves: np.ndarray) -> np.ndarray:
    """Autocovariance (m, n) of each half at every lag, divided by n."""
    n = halves.shape[1]
    spectrum = fft.rfft(halves - halves.mean(axis=1, keepdims=True), fft.next_fast_len(2 * n), axis=1)
    return fft.irfft(np.abs(spectrum) ** 2, fft.next_fast_len(2 * n), axis=1)[:, :n] / n


def settled(drifts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether independent populations (..., n) have settled: their drifts, of the later half of their averages against
    the earlier, are within 3 standard errors of zero, or within 1 % of the values."""
    mean, error = drifts.mean(axis=-1), drifts.std(axis=-1, ddof=1) / math.sqrt(drifts.shape[-1])
    large = (np.abs(mean) > 3 * error) & (np.abs(mean) > 0.01 * np.abs(values.mean(axis=-1)))
    return np.logical_not(large)

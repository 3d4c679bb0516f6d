"""Whether chains can be trusted, from their draws alone: split R-hat and effective sample sizes.

[Vehtari, Gelman, Simpson, Carpenter, Buerkner, Bayesian Analysis 16 (2021) 667.] In NumPy, since those of blackjax
take seconds to compile for every new number of draws. Draws are (C, n) everywhere: C chains of n draws.
"""

import math

import numpy as np
import scipy.fft
import scipy.special
import scipy.stats


def r_hat(draws: np.ndarray) -> float:
    """The larger of split R-hat of the ranks and of the ranks of |draw - median|: 1 for chains that have mixed.

    Every chain is split in two, so one chain has an R-hat too. NaN for draws that are not finite or all equal.
    """
    halves = split(draws)
    folded = np.abs(halves - np.median(halves))
    return max(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(folded)))


def ess(draws: np.ndarray) -> float:
    """Effective sample size (of the mean of the draws) of all chains together; more than C n if they anticorrelate.

    Geyer's initial monotone sequence of autocorrelations, chains that disagree counted as correlated. NaN as above.
    """
    halves = split(draws)
    n = halves.shape[1]
    if n < 4 or not np.isfinite(halves).all() or not np.ptp(halves):
        return math.nan
    centred = halves - halves.mean(axis=1, keepdims=True)
    size = scipy.fft.next_fast_len(2 * n, real=True)
    power = np.abs(scipy.fft.rfft(centred, size, axis=1)) ** 2
    covariance = scipy.fft.irfft(power, size, axis=1)[:, :n].mean(axis=0) / n
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + halves.mean(axis=1).var(ddof=1)
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1
    pairs = correlation[: n - n % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    last = negative[0] if len(negative) else len(pairs)
    monotone = np.minimum.accumulate(pairs[:last])
    # Half a pair more, where it still is positive, lessens the estimate's bias [as in Stan].
    rest = max(correlation[2 * last], 0.0) if 2 * last < n else 0.0
    time = max(2 * float(monotone.sum()) - 1 + rest, 1 / math.log10(halves.size))
    return halves.size / time


def bulk_ess(draws: np.ndarray) -> float:
    """Effective sample size of the ranks: of where the bulk of the draws lies, outliers or not."""
    return ess(_normal_scores(draws)) if np.isfinite(draws).all() else math.nan


def standard_error(draws: np.ndarray) -> float:
    """Monte Carlo standard error of the mean over all draws."""
    return float(draws.std(ddof=1)) / math.sqrt(ess(draws))


def split(draws: np.ndarray) -> np.ndarray:
    """Halves of the chains as chains (2 C, n // 2); of an odd number of draws the middle one is left out."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])


def _r_hat(draws: np.ndarray) -> float:
    within = draws.var(axis=1, ddof=1).mean()
    if not within > 0:
        return math.nan
    n = draws.shape[1]
    return math.sqrt((n - 1) / n + draws.mean(axis=1).var(ddof=1) / within)


def _normal_scores(draws: np.ndarray) -> np.ndarray:
    if not np.isfinite(draws).all():
        return np.full(draws.shape, math.nan)
    ranks = scipy.stats.rankdata(draws).reshape(draws.shape)
    return scipy.special.ndtri((ranks - 0.375) / (draws.size + 0.25))

"""The law of the test loss where each member is drawn from one of several laws, which are equally likely.

    mu_L = E mu ;  Var L = E sigma^2 + Var mu ;  cumulants 3 and 4 by the law of total cumulance [Brillinger 1969]

E, Var and Cov are over the laws, a sample of all that there may be: Var and Cov divide by their number less 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntkhpc import loss_law
from ntkhpc.loss_law import Statistics

_FINE = 2000


@dataclass(frozen=True)
class MixedLaw:
    """What is kept of one law: mean (m, outputs), variance (m,), the statistics of L, cumulants (4,) and quantiles of L
    at probabilities (i + 1/2)/2000; the last two only where the `distribution` is asked for."""

    mean: np.ndarray
    variance: np.ndarray
    statistics: Statistics
    cumulants: np.ndarray
    quantiles: np.ndarray

    @classmethod
    def of(
        cls,
        mean: np.ndarray,
        covariance: np.ndarray,
        y_test: np.ndarray,
        test_sizes: Sequence[int] = (),
        *,
        distribution: bool = False,
    ) -> "MixedLaw":
        """From mean (m, outputs), covariance (m, m) and targets (m, outputs)."""  # fmt: skip
        probabilities = (np.arange(_FINE) + 0.5) / _FINE
        return cls(
            mean,
            np.diag(covariance).copy(),
            loss_law.statistics(mean, covariance, y_test, test_sizes),
            loss_law.loss_moments(mean, covariance, y_test) if distribution else np.empty(0),
            loss_law.quantiles(mean, covariance, y_test, probabilities) if distribution else np.empty(0),
        )


def mean(parts: Sequence[MixedLaw]) -> np.ndarray:
    """Of f (m, outputs)."""
    return np.mean([part.mean for part in parts], axis=0)


def variance(parts: Sequence[MixedLaw]) -> np.ndarray:
    """Of f (m,), the mean over outputs."""
    between = np.var([part.mean for part in parts], axis=0, ddof=1).mean(axis=1)
    return np.mean([part.variance for part in parts], axis=0) + between


def statistics(parts: Sequence[MixedLaw], y_test: np.ndarray, test_sizes: Sequence[int] = ()) -> Statistics:
    """Moments of L; y_test (m, outputs)."""
    each = [part.statistics for part in parts]
    mu = np.array([one.mu_L for one in each])
    points = np.array([one.point_mean for one in each])
    sigma2 = float(np.mean([one.sigma2_L for one in each]) + mu.var(ddof=1))
    point_mean = points.mean(axis=0)
    point_variance = np.mean([one.point_variance for one in each], axis=0) + points.var(axis=0, ddof=1)
    shared = (points - point_mean).T @ (mu - mu.mean()) / (len(parts) - 1)
    bias2 = float(((mean(parts) - y_test) ** 2).mean() / 2)
    sizes = zip(test_sizes, np.mean([one.size_variance for one in each], axis=0).tolist(), strict=True)
    return Statistics(
        mu_L=float(mu.mean()),
        sigma2_L=sigma2,
        population_variance=loss_law.population_variance(sigma2, point_variance),
        bias2=bias2,
        variance=float(variance(parts).mean() / 2),
        size_variance=tuple(within + _between_blocks(points, size) for size, within in sizes),
        largest_share=float(point_mean.max() / point_mean.sum()),
        point_mean=point_mean,
        point_variance=point_variance,
        point_covariance=np.mean([one.point_covariance for one in each], axis=0) + shared,
    )


def _between_blocks(points: np.ndarray, size: int) -> float:
    """The variance over laws of the mean loss of a block of so many points (laws, m), the mean over disjoint blocks."""
    blocks = points.shape[1] // size
    means = points[:, : blocks * size].reshape(len(points), blocks, size).mean(axis=2)
    return float(means.var(axis=0, ddof=1).mean())


def cumulants(parts: Sequence[MixedLaw]) -> np.ndarray:
    """Of L, 1 to 4 (4,), from those of parts with their distribution."""
    k1, k2, k3, k4 = np.array([part.cumulants for part in parts]).T
    d1, d2, d3 = (one - one.mean() for one in (k1, k2, k3))
    unbiased = len(parts) / (len(parts) - 1)
    return np.array(
        [
            k1.mean(),
            k2.mean() + unbiased * (d1**2).mean(),
            k3.mean() + 3 * unbiased * (d1 * d2).mean() + (d1**3).mean(),
            k4.mean()
            + unbiased * (4 * (d1 * d3).mean() + 3 * (d2**2).mean())
            + 6 * (d1**2 * d2).mean()
            + (d1**4).mean()
            - 3 * (d1**2).mean() ** 2,
        ]
    )


def quantiles(parts: Sequence[MixedLaw], probabilities: np.ndarray) -> np.ndarray:
    """Of L, from those of parts with their distribution: their tables together, each value as likely as another."""
    values = np.sort(np.concatenate([part.quantiles for part in parts]))
    return np.interp(probabilities, (np.arange(len(values)) + 0.5) / len(values), values)

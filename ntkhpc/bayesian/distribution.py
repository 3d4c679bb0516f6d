"""The distribution of the test loss over the posterior, where that is Gaussian: at a given order parameter.

f at the test points ~ N( Gamma, Qb K_** - Qb^2 kappa^T A^-1 kappa ) ,  A = T I + Qb K
L = mean over test points of (f - y)^2
"""

from dataclasses import dataclass

import numpy as np

from ntkhpc import loss_law
from ntkhpc.bayesian.one_layer import OneLayerProblem


@dataclass(frozen=True)
class LossDistribution:
    """Moments of L, in the normalisation of arXiv:2209.04882, and its quantiles at the wanted probabilities.

    `population_variance` is what of Var L an endless test set would leave, and may come out negative; `size_variance`
    the variance of L on blocks of fewer test points.
    """

    bias: float
    variance: float
    sigma2_L: float
    population_variance: float
    size_variance: tuple[float, ...]
    quantiles: np.ndarray

    @property
    def mu_L(self) -> float:
        return self.bias + self.variance


def loss_distribution(
    mean: np.ndarray,
    covariance: np.ndarray,
    y_test: np.ndarray,
    test_sizes: tuple[int, ...] = (),
    probabilities: np.ndarray | None = None,
) -> LossDistribution:
    """The law of L if f at the M test points is Gaussian with mean (M,) and covariance (M, M); y_test (M, 1)."""
    statistics = loss_law.statistics(mean[:, None], covariance, y_test, test_sizes)
    chances = np.empty(0) if probabilities is None else probabilities
    return LossDistribution(
        # Losses there have 1/(2 K), and one output here; so variances of L have 1/4.
        bias=2 * statistics.bias2,
        variance=2 * statistics.variance,
        sigma2_L=4 * statistics.sigma2_L,
        population_variance=4 * statistics.population_variance,
        size_variance=tuple(4 * one for one in statistics.size_variance),
        quantiles=2 * loss_law.quantiles(mean[:, None], covariance, y_test, chances) if len(chances) else chances,
    )


def posterior_covariance(
    problem: OneLayerProblem, test_kernel: np.ndarray, q_bar: float, temperature: float
) -> np.ndarray:
    """Covariance (M, M) of f at the test points; test_kernel (M, M) is their prior covariance K_** at infinite width.

    With one order parameter; the diagonal is the `point_variance` of the posterior.
    """
    spectrum = problem.spectrum
    weights = q_bar**2 / (temperature + q_bar * spectrum.values)
    return q_bar * test_kernel - (spectrum.cross.T * weights) @ spectrum.cross

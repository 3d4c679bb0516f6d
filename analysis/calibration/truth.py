"""True moments of the loss of a law, also where each network's losses carry a heavy-tailed factor of its own."""

from dataclasses import dataclass, replace

import numpy as np

from ntkhpc import loss_law
from ntkhpc.infinite_width import Law

_NONE = np.empty(0)


@dataclass(frozen=True)
class LawMoments:
    """Of one law: mu_L, sigma_L^2, sigma_pop^2, bias2 and variance; of single points mean, covariance with L, variance.

    With `tail` s the losses of a network are multiplied by exp(s z - s^2/2), z standard normal: means stay, and every
    product of two losses has exp(s^2) times its mean.
    """

    mu: float
    sigma2: float
    population: float
    bias2: float
    variance: float
    point_mean: np.ndarray
    point_covariance: np.ndarray
    point_variance: np.ndarray

    @classmethod
    def of(cls, law: Law, y_test: np.ndarray, tail: float = 0.0) -> "LawMoments":
        mean, covariance = law
        one = loss_law.statistics(mean, covariance, y_test)
        points, single = loss_law.point_moments(mean, covariance, y_test)
        shared = loss_law.point_covariance(mean, covariance, y_test)
        grown, mu, count = np.exp(tail**2) - 1, one.mu_L, len(points)
        pairs = (count**2 * mu**2 - (points**2).sum()) / (count * (count - 1))  # mean of products of two points
        return cls(
            mu=mu,
            sigma2=one.sigma2_L + grown * (one.sigma2_L + mu**2),
            population=one.population_variance + grown * (one.population_variance + pairs),
            bias2=one.bias2,
            variance=one.variance,
            point_mean=points,
            point_covariance=shared + grown * (shared + points * mu),
            point_variance=single + grown * (single + points**2),
        )

    def without_points(self) -> "LawMoments":
        """Small enough to keep many."""
        return replace(self, point_mean=_NONE, point_covariance=_NONE, point_variance=_NONE)

    @property
    def values(self) -> dict[str, float]:
        """By the names of the report."""
        return {
            "mu_L": self.mu,
            "sigma_L": np.sqrt(self.sigma2),
            "eps_L": np.sqrt(self.sigma2) / self.mu,
            "eps_pop": np.sqrt(self.population) / self.mu,
            "bias2": self.bias2,
            "variance": self.variance,
        }

"""The predictions of a theory: the posterior at test points, and the generalisation error."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Posterior of the outputs at M test points, D outputs, and the error expected of it.

    Losses are those of [arXiv:2209.04882]: mean over test points of the squared error summed over outputs, with no 1/2
    and no 1/D; `mu_L` is in the normalisation of the rest of this package.

    mean, point_variance: (M,), or (M, D) from multi_output; in units of the targets, and of their squares.
    bias, variance: the two parts of `test_loss`, mean of (y - mean)^2 and of point_variance.
    log_evidence: log p(y_train) with Gaussian noise of variance `temperature`. At a saddle it is the leading order,
        -action/2 - (P D/2) log 2 pi, without the fluctuations of the order parameter; `mixture` has them.
    s: y^T (T+K)^-1 K (T+K)^-1 y / (D Tr K (T+K)^-1); y^T K^-1 y/P at temperature 0.
    infinite_width_loss: the same loss of Gaussian-process regression with the infinite-width kernel.
    """

    temperature: float
    mean: np.ndarray
    point_variance: np.ndarray
    bias: float
    variance: float
    log_evidence: float
    s: float
    infinite_width_loss: float

    @property
    def test_loss(self) -> float:
        return self.bias + self.variance

    @property
    def finite_width_helps(self) -> bool:
        """The sign rule: s < 1 makes the order parameter, and with it the variance, less than at infinite width.

        At temperature 0 the bias does not know the width, so the loss follows; above 0 it does so where variance rules.
        """
        return self.s < 1

    @property
    def outputs(self) -> int:
        return 1 if self.mean.ndim == 1 else self.mean.shape[1]

    @property
    def mu_L(self) -> float:
        """The test loss with 1/(2 D), as in `ntkhpc.loss_law`."""
        return self.test_loss / (2 * self.outputs)


def errors(mean: np.ndarray, point_variance: np.ndarray, y_test: np.ndarray) -> tuple[float, float]:
    """Bias and variance of the error from mean, point_variance and y_test, each (M, D)."""
    return float(((y_test - mean) ** 2).sum(axis=1).mean()), float(point_variance.sum(axis=1).mean())


def log_evidence(action: float, points: int) -> float:
    """Log evidence to leading order for `points` = P D training targets, from the action (0 at Qb = 1 without data)."""
    return -0.5 * (action + points * math.log(2 * math.pi))

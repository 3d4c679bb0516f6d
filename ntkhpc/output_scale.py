"""Output scale of networks: f = g/gamma, or centred [g(theta) - g(theta_0)]/gamma, with g in the NTK parametrisation.

Weights learn at the rate eta gamma^2, so that the kernel clock df/dt = -(eta/c) T_g (f - y) has no gamma; T_g is the
NTK of g. gamma = 1 is the NTK parametrisation, gamma = gamma_0 sqrt(width) with a fixed gamma_0 the mu-parametrisation,
or mean-field limit [arXiv:2011.14522]; centred networks are those of [arXiv:1812.07956]. The gradients of

    gamma^2 C(f, y) = C(g, gamma y)      (centred: of g - g(theta_0))

are equal, so f learns y at the rate eta gamma^2 as g learns gamma y at the rate eta, step for step, also with momentum,
batches and schedules; a decay of weights takes its share eta * weight_decay of each step whatever gamma is.

At infinite width and fixed gamma the mean of f is that of g, and its covariance is Sigma/gamma^2; centred it is 0.
"""

import math
from dataclasses import dataclass

import numpy as np

LAZY = 0.3
"""gamma/sqrt(width) beyond which features move so much that the law at fixed gamma is called lazy, and a reference."""


@dataclass(frozen=True)
class OutputScale:
    """gamma, and whether the initial function is subtracted. Raises ValueError for a gamma that is not positive."""

    gamma: float = 1.0
    centred: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma = {self.gamma} must be positive and finite")

    @property
    def is_one(self) -> bool:
        """Whether f = g."""
        return self.gamma == 1 and not self.centred

    def law(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m, outputs) and covariance (m, m) of f at infinite width, from those of g with the same targets."""
        if self.is_one:
            return mean, covariance
        return mean, np.zeros_like(covariance) if self.centred else covariance / self.gamma**2


ONE = OutputScale()
"""f = g: the NTK parametrisation."""


def mean_field(gamma0: float, width: int, *, centred: bool = False) -> OutputScale:
    """That of the mu-parametrisation, gamma = gamma_0 sqrt(width)."""
    return OutputScale(gamma0 * math.sqrt(width), centred)


def rate_factor(gamma0: float, depth: int) -> float:
    """What keeps descent with `depth` hidden layers stable, as it multiplies eta: min(1, gamma_0^(2/(depth+1) - 2)).

    Up to gamma_0 = 1 the bound of a linear model holds. Beyond, weights of all depth + 1 layers grow until outputs are
    gamma y, and the bound of eta gamma^2 is not gamma_0^2 but gamma_0^(2/(depth+1)) times that of gamma_0 = 1
    [arXiv:2410.04642]: 1/gamma_0 for one hidden layer.
    """
    return 1.0 if gamma0 <= 1 else gamma0 ** (2 / (depth + 1) - 2)

"""Gaussian expectations over one layer, and the recursion over layers, in plain formulas.

`kernel_tile` computes the same in place for whole tiles; these serve a few pairs, and whoever needs one layer alone.
"""

from collections.abc import Callable

import numpy as np

from ntkhpc.networks import MLP, Activation

SMALLEST = 1e-300
"""Square of a sine below which it is rounding, or that of two inputs of norm zero."""


def expectations(
    activation: Activation, k12: np.ndarray, k11: np.ndarray, k22: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """<phi phi'> and <dphi dphi'> over one layer's pre-activations, of covariance k12 and variances k11, k22.

    The arrays broadcast. ReLU at nearly parallel inputs is accurate in `nngp_ntk` alone, which knows the inputs.
    """
    related, _ = _EXPECTATIONS[activation]
    return related(k12, k11, k22)


def next_variance(mlp: MLP, variance: np.ndarray) -> np.ndarray:
    """Variance of a pre-activation of the next layer, given that of this one."""
    _, equal = _EXPECTATIONS[mlp.activation]
    return mlp.weight_variance * equal(variance) + mlp.bias_variance


def recursion(
    mlp: MLP, k: np.ndarray, theta: np.ndarray, k11: np.ndarray, k22: np.ndarray, layers: int
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK after so many more hidden layers, given those of one layer and the variances of its inputs."""
    for _ in range(layers):
        phi_phi, dphi_dphi = expectations(mlp.activation, k, k11, k22)
        k = mlp.weight_variance * phi_phi + mlp.bias_variance
        theta = k + mlp.weight_variance * dphi_dphi * theta
        k11, k22 = next_variance(mlp, k11), next_variance(mlp, k22)
    return k, theta


def _relu_related(k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """<phi phi'> and <dphi dphi'> for ReLU; sqrt(det) and the angle come from one quantity, or they disagree near 0."""
    root = k11 * k22
    root -= k12 * k12
    np.maximum(root, SMALLEST, out=root)
    np.sqrt(root, out=root)
    with np.errstate(over="ignore"):
        cotangent = k12 / root
    # pi - angle = pi/2 + arctan(cot): half the time of arctan2, and equal to rounding.
    outside = np.arctan(cotangent, out=cotangent)
    outside += np.pi / 2
    root += outside * k12
    root /= 2 * np.pi
    outside /= 2 * np.pi
    return root, outside


def _relu_equal(k: np.ndarray) -> np.ndarray:
    return k / 2


def _erf_related(k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    product = (1 + 2 * k11) * (1 + 2 * k22)
    related = np.arcsin(np.clip(2 * k12 / np.sqrt(product), -1, 1))
    return 2 / np.pi * related, 4 / np.pi / np.sqrt(product - 4 * k12 * k12)


def _erf_equal(k: np.ndarray) -> np.ndarray:
    return 2 / np.pi * np.arcsin(2 * k / (1 + 2 * k))


Expectation = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
_EXPECTATIONS: dict[str, tuple[Expectation, Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (_relu_related, _relu_equal),
    "erf": (_erf_related, _erf_equal),
}

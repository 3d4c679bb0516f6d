"""ReLU kernels of inputs whose directions are nearly or exactly the same, or opposite, from differences of the inputs.

k11 k22 - k12^2 loses half the digits of a small angle, so that the recursion over tiles leaves these pairs to this one.
"""

import math

import numpy as np

from ntkhpc.expectations import recursion
from ntkhpc.networks import MLP

CLOSE = 1e-6
"""sin^2 of the angle between two inputs below which ReLU kernels are computed from the difference of the inputs."""

_NUMBERS_AT_ONCE = 2**20


def close_kernels(
    mlp: MLP, x1: np.ndarray, x2: np.ndarray, k11: np.ndarray, k22: np.ndarray, opposite: bool
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK (pairs,) of inputs (pairs, d) in nearly equal or, with `opposite`, nearly opposite directions.

    k11, k22 (pairs,) are the variances of the first layer: C_W |x|^2 / d + C_b.
    """
    difference = _unit(mlp, x1, k11)
    difference -= -_unit(mlp, x2, k22) if opposite else _unit(mlp, x2, k22)
    squared = np.einsum("ij,ij->i", difference, difference)
    return _opposite(mlp, squared, k11, k22) if opposite else from_versine(mlp, squared / 2, k11, k22)


def pairs_at_once(features: int) -> int:
    """How many pairs of inputs `close_kernels` should be given: it copies them."""
    return max(1, _NUMBERS_AT_ONCE // (features + 1))


def from_versine(mlp: MLP, v: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK (pairs,) given v = 1 - cos(angle) and the variances of the first layer.

    v begins as half the squared difference of the unit vectors and continues as a sum of positive terms: 0 for equal
    inputs, whose kernels are exact.
    """
    half, b = mlp.weight_variance / 2, mlp.bias_variance
    root = np.sqrt(k11 * k22)
    k12 = theta = root * (1 - v)
    for _ in range(mlp.depth):
        angle = 2 * np.arcsin(np.sqrt(v / 2))
        w = v - (np.sin(angle) - angle * np.cos(angle)) / np.pi  # 1 - cos of the next angle, were there no bias
        k12 = half * root * (1 - w) + b
        theta = k12 + mlp.weight_variance * (np.pi - angle) / (2 * np.pi) * theta
        next11, next22 = half * k11 + b, half * k22 + b
        next_root = np.sqrt(next11 * next22)
        turned = half * root * w
        if b:
            # What the common bias adds to the angle between two vectors of different lengths.
            lengths = (np.sqrt(k11) + np.sqrt(k22)) * (np.sqrt(next11) + np.sqrt(next22))
            turned = turned + half * ((k11 - k22) / lengths) ** 2 * b * (
                1 + (half * (k11 + k22) + b) / (next_root + half * root)
            )
        v = turned / np.where(next_root > 0, next_root, 1.0)
        k11, k22, root = next11, next22, next_root
    return k12, theta


def _opposite(mlp: MLP, squared: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernels from the squared sum of the unit vectors: one layer from pi - angle; after it they are no longer so."""
    left = 2 * np.arcsin(np.minimum(np.sqrt(squared) / 2, 1))
    half, b, root = mlp.weight_variance / 2, mlp.bias_variance, np.sqrt(k11 * k22)
    k12 = half * root * (np.sin(left) - left * np.cos(left)) / np.pi + b
    theta = k12 - mlp.weight_variance * left / (2 * np.pi) * root * np.cos(left)
    return recursion(mlp, k12, theta, half * k11 + b, half * k22 + b, mlp.depth - 1)


def _unit(mlp: MLP, x: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Unit vectors (pairs, d + 1) of the inputs as the first layer sees them: the bias is one more, equal input."""
    unit = np.empty((len(x), x.shape[1] + 1))
    np.multiply(x, math.sqrt(mlp.weight_variance / x.shape[1]), out=unit[:, :-1])
    unit[:, -1] = math.sqrt(mlp.bias_variance)
    unit /= np.sqrt(np.where(variance > 0, variance, 1.0))[:, None]
    return unit

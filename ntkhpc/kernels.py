"""NNGP and NTK of infinitely wide networks, by exact recursion over layers in float64.

    K1 = C_W x.x'/d + C_b ;  K(l+1) = C_W <phi phi'>_K(l) + C_b
    T1 = K1 ;                T(l+1) = K(l+1) + C_W <dphi dphi'>_K(l) * T(l)

[arXiv:1902.06720 and its references; Cho & Saul 2009 for ReLU, Williams 1997 for erf.] The kernels of the outputs are
those of layer depth + 1. A fully connected network has them here, tile by tile and without the upper half of a
symmetric matrix; any other network of neural_tangents.stax has them through `tangents`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ntkhpc.networks import MLP, Activation

TILE = 256
"""Rows and columns computed at once: the temporaries of a tile stay in cache."""

CLOSE = 1e-6
"""sin^2 of the angle between two inputs below which ReLU kernels are computed from the difference of the inputs."""

_PAIRS_AT_ONCE = 4096


def nngp_ntk(network: MLP | Any, x1: Any, x2: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK between inputs x1 (n1, d) and x2 (n2, d), each (n1, n2), per output and in float64.

    With x2 None they are those of x1 with itself: exactly symmetric, and equal inputs give exactly equal rows, the
    diagonal included. `network` is an MLP, or a kernel function (or the triple holding it) of neural_tangents.stax.
    Raises ValueError for inputs that are not two-dimensional, differ in features, or are not finite.
    """
    if not isinstance(network, MLP):
        from ntkhpc import tangents  # seconds to import, and only for architectures that are not fully connected

        return tangents.nngp_ntk(network, x1, x2)
    x1 = _checked("x1", x1)
    if x2 is None:
        return _symmetric(network, x1)
    x2 = _checked("x2", x2)
    if x1.shape[1] != x2.shape[1]:
        raise ValueError(f"x1 {x1.shape} and x2 {x2.shape} differ in features")
    nngp, ntk = np.empty((len(x1), len(x2))), np.empty((len(x1), len(x2)))
    for rows in _slices(len(x1)):
        for columns in _slices(len(x2)):
            nngp[rows, columns], ntk[rows, columns] = _tile(network, x1[rows], x2[columns])
    return nngp, ntk


def expectations(
    activation: Activation, k12: np.ndarray, k11: np.ndarray, k22: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """<phi phi'> and <dphi dphi'> over one layer's pre-activations, of covariance k12 and variances k11, k22.

    The arrays broadcast. ReLU at nearly parallel inputs is accurate in `nngp_ntk` alone, which knows the inputs.
    """
    related, _ = _EXPECTATIONS[activation]
    return related(k12, k11, k22)


def lambda_max(kernel: np.ndarray) -> float:
    """Largest eigenvalue of a symmetric (n, n) matrix, by Lanczos iteration from a fixed start."""
    from scipy.sparse import linalg  # half a second to import, and only the data phase asks

    n = kernel.shape[0]
    if n < 3:
        return float(np.linalg.eigvalsh(kernel)[-1])
    # The NTK of ReLU networks has positive entries, so its leading vector is close to the constant one.
    start = np.full(n, 1 / math.sqrt(n))
    value = linalg.eigsh(kernel, k=1, which="LA", v0=start, tol=0, return_eigenvectors=False)
    return float(value[0])


def _checked(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}; it must be (n, features)")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"{name}[{row}, {column}] = {x[row, column]} is not finite")
    return x


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, min(start + TILE, n)) for start in range(0, n, TILE))


def _symmetric(mlp: MLP, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK of x with itself, by the tiles on and below the diagonal; the others are their transposes."""
    kernels = np.empty((len(x), len(x))), np.empty((len(x), len(x)))
    for rows in _slices(len(x)):
        for columns in _slices(rows.stop):
            for kernel, tile in zip(kernels, _tile(mlp, x[rows], x[columns]), strict=True):
                if rows == columns:
                    tile = np.tril(tile) + np.tril(tile, -1).T
                kernel[rows, columns] = tile
                kernel[columns, rows] = tile.T
    return kernels


def _tile(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = mlp.weight_variance / x1.shape[1]
    k = scale * (x1 @ x2.T) + mlp.bias_variance
    k11, k22 = (scale * np.einsum("ij,ij->i", x, x) + mlp.bias_variance for x in (x1, x2))
    relu = mlp.activation == "relu"
    close = np.nonzero(k11[:, None] * k22 - k * k <= CLOSE * k11[:, None] * k22) if relu else None
    signs = np.sign(k[close]) if close is not None else np.empty(0)
    nngp, ntk = _recursion(mlp, k, k, k11[:, None], k22[None, :], mlp.depth)
    if close is not None:
        for pairs, function in ((signs >= 0, _close_relu_pairs), (signs < 0, _opposite_relu_pairs)):
            i, j = close[0][pairs], close[1][pairs]
            for start in range(0, len(i), _PAIRS_AT_ONCE):
                part = slice(start, start + _PAIRS_AT_ONCE)
                where = i[part], j[part]
                nngp[where], ntk[where] = function(mlp, x1[where[0]], x2[where[1]])
    return nngp, ntk


def _recursion(
    mlp: MLP, k: np.ndarray, theta: np.ndarray, k11: np.ndarray, k22: np.ndarray, layers: int
) -> tuple[np.ndarray, np.ndarray]:
    related, equal = _EXPECTATIONS[mlp.activation]
    for _ in range(layers):
        phi_phi, dphi_dphi = related(k, k11, k22)
        phi_phi *= mlp.weight_variance
        phi_phi += mlp.bias_variance
        dphi_dphi *= mlp.weight_variance
        dphi_dphi *= theta
        dphi_dphi += phi_phi
        k, theta = phi_phi, dphi_dphi
        k11, k22 = (mlp.weight_variance * equal(variance) + mlp.bias_variance for variance in (k11, k22))
    return k, theta


def _relu_related(k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """<phi phi'> and <dphi dphi'> for ReLU; sqrt(det) and the angle come from one quantity, or they disagree near 0."""
    root = k11 * k22
    root -= k12 * k12
    np.maximum(root, 1e-300, out=root)  # two inputs of norm zero, or rounding; `_close_relu` does the rest
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


def _close_relu_pairs(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK (pairs,) of inputs (pairs, d) whose directions are nearly or exactly the same.

    k11 k22 - k12^2 loses half the digits of a small angle, so the recursion runs in v = 1 - cos(angle), which begins as
    half the squared difference of the unit vectors and continues as a sum of positive terms: 0 for equal inputs.
    """
    unit1, unit2, k11, k22 = _directions(mlp, x1, x2)
    v = ((unit1 - unit2) ** 2).sum(axis=1) / 2
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


def _opposite_relu_pairs(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for nearly or exactly opposite directions: one layer from pi - angle; after it they are no longer so."""
    unit1, unit2, k11, k22 = _directions(mlp, x1, x2)
    left = 2 * np.arcsin(np.minimum(np.sqrt(((unit1 + unit2) ** 2).sum(axis=1)) / 2, 1))
    half, b, root = mlp.weight_variance / 2, mlp.bias_variance, np.sqrt(k11 * k22)
    k12 = half * root * (np.sin(left) - left * np.cos(left)) / np.pi + b
    theta = k12 - mlp.weight_variance * left / (2 * np.pi) * root * np.cos(left)
    return _recursion(mlp, k12, theta, half * k11 + b, half * k22 + b, mlp.depth - 1)


def _directions(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (pairs, d + 1) of the inputs, and their squared lengths as the first layer sees them.

    The bias is one more input, the same for all.
    """
    bias = np.full((len(x1), 1), math.sqrt(mlp.bias_variance))
    one, two = (np.hstack([math.sqrt(mlp.weight_variance / x1.shape[1]) * x, bias]) for x in (x1, x2))
    k11, k22 = np.einsum("ij,ij->i", one, one), np.einsum("ij,ij->i", two, two)
    norms = [np.sqrt(np.where(k > 0, k, 1.0))[:, None] for k in (k11, k22)]
    return one / norms[0], two / norms[1], k11, k22

"""The prior covariance of a network's outputs at infinite width, with a precision for every layer of weights.

    C = X X^T / (lam_0 d) ;  K_l = kap(K_(l-1)) / lam_l ,  K_0 = C ,  kap = <phi phi'>

[arXiv:2209.04882]: no biases, 1/sqrt(fan_in) scaling, weights of layer l + 1 ~ N(0, 1/lam_l).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntkhpc.bayesian.inputs import Activation
from ntkhpc.errors import DataError
from ntkhpc.kernels import expectations, nngp_ntk
from ntkhpc.networks import MLP

HOMOGENEOUS = ("relu", "linear")
"""Activations with phi(a h) = a phi(h) for a > 0: their kernels only scale with the kernel of the layer below."""


@dataclass(frozen=True)
class Prior:
    """Covariances: train (P, P), cross (P, M), test (M,), the diagonal; means <phi>/sqrt(lam_L) of the last hidden
    layer: mean_train (P,), mean_test (M,), zero for odd activations."""

    train: np.ndarray
    cross: np.ndarray
    test: np.ndarray
    mean_train: np.ndarray
    mean_test: np.ndarray

    def leading(self, n: int) -> "Prior":
        """The covariances of the first n training points; views, not copies."""
        return Prior(self.train[:n, :n], self.cross[:n], self.test, self.mean_train[:n], self.mean_test)

    def scaled(self, factor: float) -> "Prior":
        """The covariances of outputs multiplied by sqrt(factor)."""
        root = math.sqrt(factor)
        return Prior(
            factor * self.train, factor * self.cross, factor * self.test, root * self.mean_train, root * self.mean_test
        )

    def centred(self) -> "Prior":
        """K - M with M = m m^T: the covariance of phi about its mean, over the hidden units."""
        m, m0 = self.mean_train, self.mean_test
        return Prior(
            self.train - np.outer(m, m), self.cross - np.outer(m, m0), self.test - m0**2, np.zeros_like(m), 0 * m0
        )

    def through_erf(self, scale: float) -> "Prior":
        """scale * kap of these covariances for erf; ReLU at close inputs needs the inputs, and needs no recursion."""
        variance = np.diag(self.train)
        train, _ = expectations("erf", self.train, variance[:, None], variance[None, :])
        cross, _ = expectations("erf", self.cross, variance[:, None], self.test[None, :])
        test, _ = expectations("erf", self.test, self.test, self.test)
        return Prior(scale * train, scale * cross, scale * test, self.mean_train, self.mean_test)


def first_layer(x_train: np.ndarray, x_test: np.ndarray, precision: float) -> Prior:
    """C of the pre-activations of the first hidden layer, at x_train (P, d) and x_test (M, d)."""
    scale = 1 / (precision * x_train.shape[1])
    test = scale * np.einsum("ij,ij->i", x_test, x_test)
    zeros = np.zeros(len(x_train)), np.zeros(len(x_test))
    return Prior(scale * (x_train @ x_train.T), scale * (x_train @ x_test.T), test, *zeros)


def output_layer(x_train: np.ndarray, x_test: np.ndarray, activation: Activation, precisions: Sequence[float]) -> Prior:
    """K_L of a network with L = len(precisions) - 1 hidden layers, at x_train (P, d) and x_test (M, d)."""
    first = first_layer(x_train, x_test, precisions[0])
    if activation == "linear":
        return first.scaled(1 / math.prod(precisions[1:]))
    if activation == "erf":
        for precision in precisions[1:]:
            first = first.through_erf(1 / precision)
        return first
    # ReLU is homogeneous, so all precisions factor out and the kernel of unit variances knows close inputs exactly.
    depth, factor = len(precisions) - 1, 1 / math.prod(precisions)
    network = MLP(depth, "relu", weight_variance=1.0)
    test = np.einsum("ij,ij->i", x_test, x_test) / (x_test.shape[1] * 2**depth)
    train, _ = nngp_ntk(network, x_train)
    cross, _ = nngp_ntk(network, x_train, x_test)
    # <relu> = sqrt(variance / 2 pi), and the kernel is half the variance below.
    means = (np.sqrt(diagonal / np.pi) for diagonal in (np.diag(train), test))
    return Prior(train, cross, test, *means).scaled(factor)


def require_regular(kernel: np.ndarray, smallest: float, largest: float) -> None:
    """Raises DataError if a kernel (P, P) with these extreme eigenvalues has no inverse in float64.

    Only temperature 0 needs the inverse; it is told which two rows are at fault, where there are two such.
    """
    if smallest > len(kernel) * np.finfo(float).eps * largest:
        return
    scale = np.sqrt(np.diag(kernel))
    cause = "the training inputs are dependent under this kernel (a linear network allows at most `features` rows)"
    if not scale.all():
        cause = f"training input {int(np.argmin(scale))} is zero in every feature"
    else:
        cosine = np.tril(kernel / np.outer(scale, scale), -1)
        row, other = np.unravel_index(int(cosine.argmax()), cosine.shape)
        if cosine[row, other] > 1 - 1e-13:
            cause = f"training inputs {other} and {row} are equal, or equal up to a factor"
    raise DataError(
        "the kernel of the training inputs is singular, so there is no posterior at temperature 0",
        cause=cause,
        todo="remove duplicate rows, or give a positive temperature",
    )

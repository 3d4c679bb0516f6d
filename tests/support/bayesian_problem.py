"""A small regression problem, and dense algebra for it in the textbooks' form."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import special

RNG = np.random.default_rng(7)
P, M, FEATURES = 12, 5, 14
X, X_TEST = RNG.normal(size=(P, FEATURES)), RNG.normal(size=(M, FEATURES))
Y, Y_TEST = 1.5 * RNG.normal(size=P), RNG.normal(size=M)
Y2, Y2_TEST = RNG.normal(size=(P, 3)) @ RNG.normal(size=(3, 3)), RNG.normal(size=(M, 3))
DATA, DATA2 = (X, Y, X_TEST, Y_TEST), (X, Y2, X_TEST, Y2_TEST)
ACTIVATIONS = ["erf", "relu", "linear"]
LAM = (0.7, 1.6)


def kap(k: np.ndarray, activation: str) -> np.ndarray:
    """<phi phi'> for a whole covariance matrix, in the textbooks' form."""
    d = np.diag(k)
    if activation == "linear":
        return k
    if activation == "erf":
        return 2 / np.pi * np.arcsin(2 * k / np.sqrt(np.outer(1 + 2 * d, 1 + 2 * d)))
    root = np.sqrt(np.outer(d, d))
    angle = np.arccos(np.clip(k / root, -1, 1))
    np.fill_diagonal(angle, 0)
    return root * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


def joint(activation: str, lam: tuple[float, ...], q_bar: tuple[float, ...] | None = None) -> np.ndarray:
    """Nested kernel of training and test points together."""
    x = np.concatenate([X, X_TEST])
    k = x @ x.T / (lam[0] * FEATURES)
    for precision, q in zip(lam[1:], q_bar or [1.0] * (len(lam) - 1), strict=True):
        k = q / precision * kap(k, activation)
    return k


def regression(k: np.ndarray, y: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, variance at the test points and log evidence of a Gaussian process with covariance k (P + M, P + M)."""
    a, cross = k[:P, :P] + temperature * np.eye(P), k[:P, P:]
    evidence = -0.5 * (y @ np.linalg.solve(a, y) + np.linalg.slogdet(a)[1] + P * math.log(2 * math.pi))
    mean = cross.T @ np.linalg.solve(a, y)
    return mean, np.diag(k)[P:] - np.diag(cross.T @ np.linalg.solve(a, cross)), float(evidence)


def loss(mean: np.ndarray, variance: np.ndarray) -> float:
    return float(np.mean((Y_TEST - mean) ** 2 + variance))


def derivative(function: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """The gradient of a function at x, by central differences of fourth order."""
    h = 1e-3
    return np.array(
        [
            (8 * (function(x + e) - function(x - e)) - function(x + 2 * e) + function(x - 2 * e)) / (12 * h)
            for e in h * np.eye(len(x))
        ]
    )


NARROW_WIDTH, NARROW_T = 8, 0.05


def narrow() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train, y_train, x_test, y_test: inputs that nearly lie on a line, of which the weights of erf units learn."""
    rng, points = np.random.default_rng(11), 4
    x = rng.normal(size=(points + 10, 1)) * np.ones(6) + 0.2 * rng.normal(size=(points + 10, 6))
    y = np.tanh(x.mean(axis=1))
    return x[:points], y[:points], x[points:], y[points:]


@cache
def weighted_prior() -> tuple[float, float]:
    """Posterior mean of the loss of 8 erf units on these, by draws of their prior, and its standard error."""
    x_train, y_train, x_test, y_test = narrow()
    x, points, rng = np.concatenate([x_train, x_test]), len(x_train), np.random.default_rng(12)
    log_weights, losses = [], []
    for _ in range(40):
        w = rng.normal(size=(2000, x.shape[1], NARROW_WIDTH))
        f = special.erf(x @ w / math.sqrt(x.shape[1])) / math.sqrt(NARROW_WIDTH)
        train, test = f[:, :points], f[:, points:]
        a = train @ train.transpose(0, 2, 1) + NARROW_T * np.eye(points)
        inverse, cross = np.linalg.inv(a), test @ train.transpose(0, 2, 1)
        residual = inverse @ y_train
        log_weights.append(-0.5 * (np.linalg.slogdet(a)[1] + residual @ y_train))
        mean = np.einsum("nma,na->nm", cross, residual)
        variance = (test**2).sum(axis=2) - np.einsum("nma,nab,nmb->nm", cross, inverse, cross)
        losses.append(((mean - y_test) ** 2 + variance).mean(axis=1))
    weight = np.exp(np.concatenate(log_weights) - np.max(log_weights))
    weight /= weight.sum()
    loss = np.concatenate(losses)
    expected = float(weight @ loss)
    return expected, math.sqrt(float(weight**2 @ (loss - expected) ** 2))

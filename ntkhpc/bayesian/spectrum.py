"""A regression in the eigenbasis of its kernel: one eigendecomposition for all widths and temperatures.

With K = V diag(k) V^T, z = V^T y, A = T I + Qb K and u = log Qb:

    F(u) = log det A + y^T A^-1 y = sum_i [ log(T + Qb k_i) + z_i^2/(T + Qb k_i) ]
    F'(u) = sum_i [ Qb k_i/(T + Qb k_i) - z_i^2 Qb k_i/(T + Qb k_i)^2 ]
    mean = Qb kappa^T A^-1 y ;  variance = Qb kappa_0 - Qb^2 kappa^T A^-1 kappa
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ntkhpc import linalg
from ntkhpc.bayesian.prior import Prior, require_regular

_AT_ONCE = 256


@dataclass(frozen=True)
class Spectrum:
    """values k (P,), ascending and not negative; targets z (P, D), cross V^T kappa (P, M), test kappa_0 (M,)."""

    values: np.ndarray
    targets: np.ndarray
    cross: np.ndarray
    test: np.ndarray

    @classmethod
    def make(cls, prior: Prior, y_train: np.ndarray) -> tuple["Spectrum", np.ndarray]:
        """The spectrum of a kernel and targets (P, D), and the eigenvectors (P, P), one a column."""
        values, vectors = linalg.eigh(prior.train)
        # Rounding leaves values of either sign at zero; with T > 0 they are as good as zero.
        return cls(np.maximum(values, 0), vectors.T @ y_train, vectors.T @ prior.cross, prior.test), vectors

    def scaled(self, factor: float) -> "Spectrum":
        return Spectrum(factor * self.values, self.targets, factor * self.cross, factor * self.test)

    @cached_property
    def power(self) -> np.ndarray:
        """z_i^2 (P,), the mean over outputs: what a common order parameter of all outputs sees."""
        return (self.targets**2).mean(axis=1)

    def require_regular(self, kernel: np.ndarray, temperature: float) -> None:
        """Raises DataError for a kernel (P, P) without inverse at temperature 0."""
        if temperature == 0:
            require_regular(kernel, float(self.values[0]), float(self.values[-1]))

    def inverse_form(self) -> float:
        """y^T K^-1 y, inf where K is singular in a direction the targets have."""
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(self.power > 0, self.power / self.values, 0.0)
        return float(terms.sum())

    def data_action(self, log_q: np.ndarray, temperature: float) -> np.ndarray:
        """F (G,) at each u of log_q (G,), per output."""
        return _by_parts(log_q, lambda u: self._terms(u, temperature)[0])

    def slope(self, log_q: np.ndarray, temperature: float) -> np.ndarray:
        """F' (G,) at each u of log_q (G,), per output."""
        return _by_parts(log_q, lambda u: self._terms(u, temperature)[1])

    def data_change(self, log_q: np.ndarray, start: float, temperature: float) -> np.ndarray:
        """F - F(start) (G,) at each u of log_q (G,): small where F itself is huge, as at a small temperature."""
        before = temperature + math.exp(start) * self.values

        def change(u: np.ndarray) -> np.ndarray:
            after = temperature + np.exp(u)[:, None] * self.values
            ratio = math.exp(start) * np.expm1(u - start)[:, None] * self.values / before
            near = np.abs(ratio) < 0.5
            logs = np.where(near, np.log1p(np.where(near, ratio, 0)), np.log(after / before))
            return (logs - self.power * ratio / after).sum(axis=1)

        return _by_parts(log_q, change)

    def _terms(self, log_q: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        scaled = np.exp(log_q)[:, None] * self.values
        a = temperature + scaled
        fit = self.power / a
        return (np.log(a) + fit).sum(axis=1), (scaled / a * (1 - fit)).sum(axis=1)

    def predict(self, q_bar: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean (M, D, G) and variance of each output (M, G) for order parameters q_bar (G,) common to all outputs."""
        response = q_bar / (temperature + self.values[:, None] * q_bar)  # Qb A^-1, (P, G)
        weights = self.targets[:, :, None] * response[:, None, :]
        mean = self.cross.T @ weights.reshape(len(weights), -1)
        variance = q_bar * self.test[:, None] - (self.cross**2).T @ (q_bar * response)
        # At a training point and T = 0 rounding may leave a little less than nothing.
        return mean.reshape(-1, *weights.shape[1:]), np.maximum(variance, 0)

    def sign(self, temperature: float) -> float:
        """s of the sign rule, per output: > 1 exactly where F'(0) < 0, so that Qb > 1."""
        a = temperature + self.values
        return float((self.power * self.values / a**2).sum() / (self.values / a).sum())


def _by_parts(log_q: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The function of many u, without a temporary of all u by all eigenvalues."""
    starts = range(0, len(log_q), _AT_ONCE)
    return np.concatenate([function(log_q[start : start + _AT_ONCE]) for start in starts])

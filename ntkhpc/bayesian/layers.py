"""Bayesian networks of several hidden layers, each with an order parameter that rescales its kernel.

    K_l = (Qb_l/lam_l) kap(K_(l-1)) ,  A = T I + K_L                                   (nested)
    K_L = (prod_l Qb_l) times the kernel at infinite width                              (vanilla)
    Phi = sum_l N_l (Qb_l - 1 - log Qb_l) + log det A + y^T A^-1 y , a minimum over all log Qb_l

[arXiv:2209.04882, for equal widths; the weights N_l follow from its derivation.] For ReLU and linear networks the two
are one, and one equation finds all order parameters. For erf the nested kernel is a heuristic of that paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg

from ntkhpc.bayesian import inputs, saddle
from ntkhpc.bayesian.inputs import Activation, Data
from ntkhpc.bayesian.minimum import minimum
from ntkhpc.bayesian.posterior import Posterior, errors, log_evidence
from ntkhpc.bayesian.prior import HOMOGENEOUS, Prior, first_layer, output_layer
from ntkhpc.bayesian.spectrum import Spectrum
from ntkhpc.kernels import expectations


@dataclass(frozen=True, kw_only=True)
class DeepPosterior(Posterior):
    """Order parameters q_bar (L,), from the first hidden layer to the last."""

    q_bar: np.ndarray


def deep(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    widths: Sequence[float],
    temperature: float,
    activation: Activation,
    precisions: Sequence[float] | None = None,
    variant: Literal["nested", "vanilla"] = "nested",
) -> DeepPosterior:
    """Posterior of a network with hidden layers of these `widths` (inf allowed for any of them), one output.

    Arguments as in `one_hidden_layer`; precisions lam_0 to lam_L, of L + 1 layers of weights, all 1 by default.
    Raises ValueError for shapes and settings that make no sense, DataError for dependent inputs at temperature 0,
    RuntimeError if no minimum of the action is found.
    """
    inputs.require_activation(activation)
    inputs.require_widths(widths)
    inputs.require_temperature(temperature)
    precisions = [1.0] * (len(widths) + 1) if precisions is None else precisions
    inputs.require_precisions(precisions, len(widths))
    if variant not in ("nested", "vanilla"):
        raise ValueError(f"variant = {variant!r} is neither 'nested' nor 'vanilla'")
    data = Data.make(x_train, y_train, x_test, y_test)
    data.require_one_output()
    prior = output_layer(data.x_train, data.x_test, activation, precisions)
    spectrum, _ = Spectrum.make(prior, data.y_train)
    spectrum.require_regular(prior.train, temperature)
    common = saddle.solve(spectrum, widths, temperature)
    q_bar, action = common.q_bar, common.action
    if variant == "nested" and activation not in HOMOGENEOUS and min(widths) < math.inf:
        network = Nested(
            first_layer(data.x_train, data.x_test, precisions[0]), np.asarray(precisions[1:], np.float64),
            data.y_train[:, 0], np.asarray(widths, np.float64), temperature,
        )  # fmt: skip
        q_bar = network.order_parameters([np.log(common.q_bar), np.zeros(len(widths))])
        action = network.action(np.log(q_bar))[0]
        mean, variance = network.predict(q_bar)
    else:
        mean, variance = _common(spectrum, float(q_bar.prod()), temperature)
    bias, spread = errors(mean, variance, data.y_test)
    return DeepPosterior(
        temperature=temperature,
        mean=mean[:, 0],
        point_variance=variance[:, 0],
        bias=bias,
        variance=spread,
        log_evidence=log_evidence(action, len(data.y_train)),
        s=spectrum.sign(temperature),
        infinite_width_loss=sum(errors(*_common(spectrum, 1.0, temperature), data.y_test)),
        q_bar=q_bar,
    )


def _common(spectrum: Spectrum, q_bar: float, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = spectrum.predict(np.array([q_bar]), temperature)
    return mean[:, :, 0], variance


@dataclass(frozen=True)
class Nested:
    """An erf network: C of its first layer, precisions lam_1 to lam_L (L,), targets (P,), widths (L,)."""

    first: Prior
    precisions: np.ndarray
    y_train: np.ndarray
    widths: np.ndarray
    temperature: float

    def order_parameters(self, starts: Sequence[np.ndarray]) -> np.ndarray:
        """Qb_l (L,) of the least action; 1 where the width is infinite."""
        finite = np.isfinite(self.widths)

        def action(x: np.ndarray) -> tuple[float, np.ndarray]:
            log_q = np.zeros(len(self.widths))
            log_q[finite] = x
            value, gradient = self.action(log_q)
            return value, gradient[finite]

        q_bar = np.ones(len(self.widths))
        q_bar[finite] = np.exp(minimum(action, [start[finite] for start in starts]))
        return q_bar

    def action(self, log_q: np.ndarray) -> tuple[float, np.ndarray]:
        """Phi and its gradient at log Qb_l (L,): forward through the kernels, then back through their derivatives.

        With erf, d kap_ij = D_ij [ dk_ij - k_ij (dk_ii/(1 + 2 k_ii) + dk_jj/(1 + 2 k_jj)) ], D = <dphi dphi'>.
        """
        scales = np.exp(log_q) / self.precisions
        kernel, passed = self.first.train, []
        for scale in scales:
            variance = np.diag(kernel)
            related, slope = expectations("erf", kernel, variance[:, None], variance[None, :])
            passed.append((kernel, scale * slope))
            kernel = scale * related
        a = kernel + self.temperature * np.eye(len(kernel))
        factor = scipy.linalg.cholesky(a, lower=True, check_finite=False)
        inverse = scipy.linalg.cho_solve((factor, True), np.eye(len(a)), check_finite=False)
        answer = inverse @ self.y_train
        value = saddle.width_action(self.widths, log_q)
        value += 2 * float(np.log(np.diag(factor)).sum()) + float(self.y_train @ answer)
        adjoint = inverse - np.outer(answer, answer)
        gradient = np.where(np.isfinite(self.widths), self.widths, 0) * np.expm1(log_q)
        for layer in reversed(range(len(scales))):
            gradient[layer] += np.vdot(adjoint, kernel)
            kernel, slope = passed[layer]
            adjoint = slope * adjoint
            along = 2 * np.einsum("ij,ij->i", adjoint, kernel) / (1 + 2 * np.diag(kernel))
            adjoint[np.diag_indices(len(along))] -= along
        return value, gradient

    def predict(self, q_bar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (M, 1) at the test points."""
        prior = self.first
        for scale in q_bar / self.precisions:
            prior = prior.through_erf(scale)
        a = prior.train + self.temperature * np.eye(len(prior.train))
        factor = scipy.linalg.cholesky(a, lower=True, check_finite=False)
        turned = scipy.linalg.solve_triangular(factor, prior.cross, lower=True, check_finite=False)
        answer = scipy.linalg.solve_triangular(factor, self.y_train, lower=True, check_finite=False)
        variance = np.maximum(prior.test - np.einsum("ij,ij->j", turned, turned), 0)
        return (turned.T @ answer)[:, None], variance[:, None]

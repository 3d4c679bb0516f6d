"""Bayesian networks of one hidden layer at finite alpha = P/N1 [arXiv:2209.04882]: kernel once, any width after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ntkhpc.bayesian import inputs, mixing, outputs, saddle, two_parameters
from ntkhpc.bayesian.inputs import Activation, Data
from ntkhpc.bayesian.mixing import MixturePosterior
from ntkhpc.bayesian.outputs import MultiOutputPosterior
from ntkhpc.bayesian.posterior import Posterior, errors, log_evidence
from ntkhpc.bayesian.prior import Prior, output_layer, require_regular
from ntkhpc.bayesian.spectrum import Spectrum
from ntkhpc.bayesian.two_parameters import Centred


@dataclass(frozen=True, kw_only=True)
class OneLayerPosterior(Posterior):
    """Order parameters q_bar = Qb, which multiplies the kernel, and q = Q; with one order parameter Q = 1/Qb - 1."""

    q_bar: float
    q: float


@dataclass(frozen=True)
class OneLayerProblem:
    """Data and kernel of a network with one hidden layer; what the width and the temperature leave alone.

    y_train (P, D), y_test (M, D). The eigendecomposition is made when first asked for, and kept.
    """

    prior: Prior
    y_train: np.ndarray
    y_test: np.ndarray

    @classmethod
    def make(
        cls,
        x_train: Any,
        y_train: Any,
        x_test: Any,
        y_test: Any,
        *,
        activation: Activation,
        precisions: Sequence[float] = (1.0, 1.0),
    ) -> "OneLayerProblem":
        """x_train (P, d), x_test (M, d), targets (P,) and (M,) or (P, D) and (M, D); precisions (lam_0, lam_1).

        Raises ValueError for shapes and settings that make no sense.
        """
        inputs.require_activation(activation)
        inputs.require_precisions(precisions, 1)
        data = Data.make(x_train, y_train, x_test, y_test)
        return cls(output_layer(data.x_train, data.x_test, activation, precisions), data.y_train, data.y_test)

    def leading(self, n: int) -> "OneLayerProblem":
        """The problem of the first n training points: same kernel, an eigendecomposition of its own."""
        if not 1 <= n <= len(self.y_train):
            raise ValueError(f"n = {n} must be from 1 to {len(self.y_train)}")
        return OneLayerProblem(self.prior.leading(n), self.y_train[:n], self.y_test)

    def with_readout_precision(self, ratio: float) -> "OneLayerProblem":
        """The problem with lam_1 multiplied by `ratio`, which only scales the eigenvalues."""
        inputs.require_precisions([1.0, ratio], 1)
        other = OneLayerProblem(self.prior.scaled(1 / ratio), self.y_train, self.y_test)
        # A cached_property lives in __dict__, so that the decomposition there is can be handed on.
        other.__dict__["spectrum"] = self.spectrum.scaled(1 / ratio)
        return other

    def solve(self, width: float, temperature: float, order_parameters: Literal[1, 2] = 1) -> OneLayerPosterior:
        """The posterior at the saddle point, for one output; see `one_hidden_layer`."""
        spectrum = self._checked(width, temperature, 1)
        if order_parameters not in (1, 2):
            raise ValueError(f"order_parameters = {order_parameters} must be 1 or 2")
        common_mean, common_variance = spectrum.predict(np.ones(1), temperature)
        if order_parameters == 2 and self.prior.mean_train.any():
            centred = self._centred
            if temperature == 0:
                values = centred.spectrum.values
                require_regular(self.prior.train, float(values[0]), float(values[-1]))
            two = two_parameters.solve(centred, width, temperature)
            q_bar, q, action = two.q_bar, two.q, two.action
            mean, variance = two_parameters.predict(centred, two, temperature)
        else:
            one = saddle.solve(spectrum, [width], temperature)
            q_bar, q, action = float(one.q_bar[0]), float(1 / one.q_bar[0] - 1), one.action
            means, variances = spectrum.predict(one.q_bar, temperature)
            mean, variance = means[:, :, 0], variances[:, 0]
        bias, spread = errors(mean, variance[:, None], self.y_test)
        return OneLayerPosterior(
            temperature=temperature,
            mean=mean[:, 0],
            point_variance=variance,
            bias=bias,
            variance=spread,
            log_evidence=log_evidence(action, len(self.y_train)),
            s=spectrum.sign(temperature),
            infinite_width_loss=sum(errors(common_mean[:, :, 0], common_variance, self.y_test)),
            q_bar=q_bar,
            q=q,
        )

    def mixture(self, width: float, temperature: float, tolerance: float = 1e-8) -> MixturePosterior:
        """The posterior without a saddle point, for one output; see the function `mixture`."""
        spectrum = self._checked(width, temperature, 1)
        if not tolerance > 0:
            raise ValueError(f"tolerance = {tolerance} must be positive")
        return mixing.solve(spectrum, self.y_test, width, temperature, tolerance)

    def multi_output(self, width: float, temperature: float) -> MultiOutputPosterior:
        """The posterior with a matrix of order parameters; see the function `multi_output`."""
        return outputs.solve(self._checked(width, temperature, None), self.y_test, width, temperature)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigenvalues of the kernel of the training inputs, and everything else in their eigenbasis."""
        return Spectrum.make(self.prior, self.y_train)[0]

    @cached_property
    def _centred(self) -> Centred:
        spectrum, vectors = Spectrum.make(self.prior.centred(), self.y_train)
        return Centred(spectrum, vectors.T @ self.prior.mean_train, self.prior.mean_test)

    def _checked(self, width: float, temperature: float, wanted: int | None) -> Spectrum:
        inputs.require_widths([width])
        inputs.require_temperature(temperature)
        if wanted and self.y_train.shape[1] != wanted:
            raise ValueError(f"y_train has {self.y_train.shape[1]} outputs; more than one are for multi_output")
        self.spectrum.require_regular(self.prior.train, temperature)
        return self.spectrum


def one_hidden_layer(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    width: float,
    *,
    temperature: float,
    activation: Activation,
    precisions: Sequence[float] = (1.0, 1.0),
    order_parameters: Literal[1, 2] = 1,
) -> OneLayerPosterior:
    """Posterior of a network with one hidden layer of `width` units (inf: Gaussian-process regression), one output.

    x_train (P, d), y_train (P,) or (P, 1), x_test (M, d), y_test alike; p(theta | data) ~ exp{ -SSE/(2 temperature)
    - sum_l lam_l |W_l|^2/2 } with precisions (lam_0, lam_1); temperature 0 interpolates. [arXiv:2209.04882, at
    the saddle point of least action.] Two order parameters treat the mean of a non-odd activation (ReLU) apart.

    Raises ValueError for shapes and settings that make no sense, DataError for dependent inputs at temperature 0.
    """
    problem = OneLayerProblem.make(x_train, y_train, x_test, y_test, activation=activation, precisions=precisions)
    return problem.solve(width, temperature, order_parameters)


def mixture(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    width: float,
    *,
    temperature: float,
    activation: Activation,
    precisions: Sequence[float] = (1.0, 1.0),
    tolerance: float = 1e-8,
) -> MixturePosterior:
    """As `one_hidden_layer`, with the order parameter integrated over: exact for a linear network of any width.

    `tolerance` bounds the `quadrature_error` of the result; raises RuntimeError if it cannot be reached.
    """
    problem = OneLayerProblem.make(x_train, y_train, x_test, y_test, activation=activation, precisions=precisions)
    return problem.mixture(width, temperature, tolerance)


def multi_output(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    width: float,
    *,
    temperature: float,
    activation: Activation,
    precisions: Sequence[float] = (1.0, 1.0),
) -> MultiOutputPosterior:
    """As `one_hidden_layer` for y_train (P, D), y_test (M, D): a D x D matrix of order parameters [arXiv:2412.15911].

    Raises RuntimeError if no minimum of the action is found.
    """
    problem = OneLayerProblem.make(x_train, y_train, x_test, y_test, activation=activation, precisions=precisions)
    return problem.multi_output(width, temperature)

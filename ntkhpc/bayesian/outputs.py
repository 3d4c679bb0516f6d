"""One hidden layer with several outputs: the order parameter is a matrix, the kernel changes its shape.

    S = Tr Qb - log det Qb + [ log det B + vec(Y)^T B^-1 vec(Y) ]/N1 ,  B = T I + Qb (x) K ,  Qb (D, D) > 0

[arXiv:2412.15911; arXiv:2209.04882 for D = 1.] In the eigenbasis of K, B falls into P blocks T + k_i Qb, so that a
step costs P D^2. The minimum is sought over the matrix logarithm of Qb, where every point is allowed. At temperature
0 it is closed: Qb has the eigenvectors of Y^T K^-1 Y, each eigenvalue as with one output.
"""

import math
from dataclasses import dataclass

import numpy as np

from ntkhpc.bayesian import saddle
from ntkhpc.bayesian.minimum import minimum
from ntkhpc.bayesian.posterior import Posterior, errors, log_evidence
from ntkhpc.bayesian.spectrum import Spectrum


@dataclass(frozen=True, kw_only=True)
class MultiOutputPosterior(Posterior):
    """Order parameter q_bar (D, D); mean and point_variance are (M, D), s the mean over outputs.

    output_covariance (M, D, D): covariance of the outputs with each other at each test point.
    """

    q_bar: np.ndarray
    output_covariance: np.ndarray


def solve(spectrum: Spectrum, y_test: np.ndarray, width: float, temperature: float) -> MultiOutputPosterior:
    """The posterior at y_test (M, D). Raises RuntimeError if no minimum is found."""
    outputs = y_test.shape[1]
    q_bar = order_parameter(spectrum, width, temperature)
    mean, covariance = _predict(spectrum, q_bar, temperature)
    variance = np.einsum("mdd->md", covariance)
    common_mean, common_variance = spectrum.predict(np.ones(1), temperature)
    bias, spread = errors(mean, variance, y_test)
    data, _ = _data_terms(spectrum, *np.linalg.eigh(q_bar), temperature)
    order = width * (np.trace(q_bar) - outputs - np.linalg.slogdet(q_bar)[1]) if width < math.inf else 0.0
    return MultiOutputPosterior(
        temperature=temperature,
        mean=mean,
        point_variance=variance,
        bias=bias,
        variance=spread,
        log_evidence=log_evidence(float(order + data), spectrum.targets.size),
        s=spectrum.sign(temperature),
        infinite_width_loss=sum(errors(common_mean[:, :, 0], np.repeat(common_variance, outputs, axis=1), y_test)),
        q_bar=q_bar,
        output_covariance=covariance,
    )


def order_parameter(spectrum: Spectrum, width: float, temperature: float) -> np.ndarray:
    """Qb (D, D), symmetric and positive."""
    points, outputs = spectrum.targets.shape
    if width == math.inf:
        return np.eye(outputs)
    form = (spectrum.targets.T / (temperature + spectrum.values)) @ spectrum.targets
    forms, basis = np.linalg.eigh(form)
    alpha = points / width
    if temperature == 0 and forms[0] <= np.finfo(float).eps * points * max(forms[-1], 1e-300) and alpha >= 1:
        raise ValueError(
            f"the outputs are linearly dependent and width {width:g} <= {points} points: at temperature 0 the "
            "posterior collapses on fewer outputs and has no order parameter"
        )
    apart = [saddle.zero_temperature(max(value, 0.0) / width, alpha) for value in forms]
    if temperature == 0:
        return (basis * apart) @ basis.T
    common = saddle.solve(spectrum, [width], temperature).q_bar[0]
    # The best multiple of the identity, and every combination of the outputs for itself.
    each = [_alone(spectrum, basis[:, [d]], width, temperature) for d in range(outputs)]
    starts = [_vector(math.log(common) * np.eye(outputs)), _vector((basis * np.log(each)) @ basis.T)]
    found = minimum(lambda x: _action(spectrum, x, width, temperature), starts)
    values, vectors = np.linalg.eigh(_matrix(found, outputs))
    return (vectors * np.exp(values)) @ vectors.T


def _alone(spectrum: Spectrum, direction: np.ndarray, width: float, temperature: float) -> float:
    one = Spectrum(spectrum.values, spectrum.targets @ direction, spectrum.cross, spectrum.test)
    return float(saddle.solve(one, [width], temperature).q_bar[0])


def _action(spectrum: Spectrum, x: np.ndarray, width: float, temperature: float) -> tuple[float, np.ndarray]:
    """N1 (S - D) and its gradient by the entries x of log Qb.

    The derivative of exp(H) along dH is, in the eigenbasis of H, dH times the divided differences of exp.
    """
    log_q, basis = np.linalg.eigh(_matrix(x, spectrum.targets.shape[1]))
    q = np.exp(log_q)
    data, gradient = _data_terms(spectrum, q, basis, temperature)
    gradient[np.diag_indices(len(q))] += width * (1 - 1 / q)
    half = (log_q[:, None] - log_q) / 2
    near = np.abs(half) < 1e-4
    sinhc = np.where(near, 1 + half**2 / 6, np.sinh(half) / np.where(near, 1, half))
    gradient *= np.exp((log_q[:, None] + log_q) / 2) * sinhc
    value = width * float((np.expm1(log_q) - log_q).sum()) + data
    return value, _vector(basis @ gradient @ basis.T)


def _data_terms(spectrum: Spectrum, q: np.ndarray, basis: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    """log det B + vec(Y)^T B^-1 vec(Y), and its derivative by Qb = U q U^T, in the basis U."""
    k = spectrum.values[:, None]
    a = temperature + k * q
    solved = (spectrum.targets @ basis) / a
    gradient = -(k * solved).T @ solved
    gradient[np.diag_indices(len(q))] += (k / a).sum(axis=0)
    return float(np.log(a).sum() + (a * solved**2).sum()), gradient


def _predict(spectrum: Spectrum, q_bar: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (M, D) and covariance over outputs (M, D, D)."""
    q, basis = np.linalg.eigh(q_bar)
    response = q / (temperature + spectrum.values[:, None] * q)
    mean = spectrum.cross.T @ (spectrum.targets @ basis * response)
    variance = np.maximum(spectrum.test[:, None] * q - (spectrum.cross**2).T @ (q * response), 0)
    return mean @ basis.T, np.einsum("da,ma,ea->mde", basis, variance, basis)


def _vector(matrix: np.ndarray) -> np.ndarray:
    """Lower triangle of a symmetric matrix, scaled so that lengths stay the same."""
    rows, columns = np.tril_indices(len(matrix))
    return matrix[rows, columns] * np.where(rows == columns, 1, math.sqrt(2))


def _matrix(vector: np.ndarray, size: int) -> np.ndarray:
    rows, columns = np.tril_indices(size)
    matrix = np.zeros((size, size))
    matrix[rows, columns] = matrix[columns, rows] = vector / np.where(rows == columns, 1, math.sqrt(2))
    return matrix

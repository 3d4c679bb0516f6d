"""The order parameter integrated over: against quadrature and networks drawn from the prior."""

import math

import numpy as np
import pytest
from scipy import integrate, special
from support.bayesian_problem import (
    DATA,
    LAM,
    P,
    Y,
    joint,
    regression,
)

from ntkhpc.bayesian import mixing, mixture, one_hidden_layer
from ntkhpc.bayesian.spectrum import Spectrum


def exact_linear(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, width: int, temperature: float, lam: tuple[float, float]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log evidence, mean and variance at the test points of a linear network with two weights in its first layer.

    The read-out is Gaussian given the first layer, which is integrated over by an even grid in each weight: the
    integrand is smooth and vanishes at 9 standard deviations, so the sum is exact to 1e-10 (checked by doubling).
    """
    grid = np.linspace(-9, 9, 201)
    weights = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, width, x.shape[1])
    log_prior = -0.5 * (weights**2).sum(axis=(1, 2)) - math.log(2 * math.pi) + 2 * math.log(grid[1] - grid[0])
    everything = np.concatenate([x, x_test])
    h = np.einsum("nd,gwd->gnw", everything, weights) / math.sqrt(lam[0] * x.shape[1])
    k = np.einsum("gnw,gmw->gnm", h, h) / (lam[1] * width)
    n = len(x)
    a, cross = k[:, :n, :n] + temperature * np.eye(n), k[:, :n, n:]
    answer = np.linalg.solve(a, np.broadcast_to(y[:, None], (len(a), n, 1)))[:, :, 0]
    log_p = log_prior - 0.5 * (answer @ y + np.linalg.slogdet(a)[1] + n * math.log(2 * math.pi))
    evidence = float(special.logsumexp(log_p))
    p = np.exp(log_p - evidence)
    mean = np.einsum("gnm,gn->gm", cross, answer)
    variance = np.einsum("gmm->gm", k[:, n:, n:]) - np.einsum("gnm,gnm->gm", cross, np.linalg.solve(a, cross))
    return evidence, p @ mean, p @ (variance + mean**2) - (p @ mean) ** 2


@pytest.mark.promise(
    "The mixture agrees with the exact posterior of linear networks with two hidden weights, to 7 digits."
)
@pytest.mark.parametrize(("features", "width"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_mixture_is_exact_for_linear_networks(features: int, width: int, scale: float) -> None:
    rng = np.random.default_rng(3)
    x, x_test = rng.normal(size=(3, features)), rng.normal(size=(2, features))
    y, y_test = scale * rng.normal(size=3), rng.normal(size=2)
    evidence, mean, variance = exact_linear(x, y, x_test, width, 0.4, LAM)
    found = mixture(x, y, x_test, y_test, width, temperature=0.4, activation="linear", precisions=LAM)
    assert found.log_evidence == pytest.approx(evidence, abs=1e-7)
    np.testing.assert_allclose(found.mean, mean, atol=1e-7)
    np.testing.assert_allclose(found.point_variance, variance, atol=1e-7)
    assert found.quadrature_error < 1e-8
    assert found.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("width", [1, 3, 12, 30, 200])
def test_the_mixture_without_noise_is_closed(width: int) -> None:
    """At temperature 0 the posterior of Qb is generalised inverse Gaussian, the evidence a Bessel function of it."""
    k, n = joint("erf", LAM), width / 2
    form = float(Y @ np.linalg.solve(k[:P, :P], Y))
    order, argument = n - P / 2, math.sqrt(width * form)
    bessel = math.log(special.kve(order, argument)) - argument
    evidence = (
        n * math.log(n) - special.gammaln(n) - 0.5 * (P * math.log(2 * math.pi) + np.linalg.slogdet(k[:P, :P])[1])
    )
    evidence += math.log(2) + order / 2 * math.log(form / width) + bessel
    q_bar = math.sqrt(form / width) * special.kve(order + 1, argument) / special.kve(order, argument)
    found = mixture(*DATA, width, temperature=0, activation="erf", precisions=LAM)
    assert found.log_evidence == pytest.approx(evidence, abs=1e-8)
    assert found.q_bar == pytest.approx(q_bar, rel=1e-8)
    mean, variance, _ = regression(k, Y, 0)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(found.point_variance, q_bar * variance, rtol=1e-8)


def test_the_mixture_of_two_saddles_has_both() -> None:
    """Against adaptive quadrature of the same density, where it has two maxima of about the same weight."""
    values, z, width, temperature = np.array([1e-5] + 60 * [1.0]), np.array([1.502] + 60 * [0.3]), 10.0, 1e-3
    spectrum = Spectrum(values, z[:, None], np.ones((61, 1)), np.array([61.0]))

    def density(u: float) -> float:
        a = temperature + math.exp(u) * values
        return float(np.exp(-0.5 * (width * (math.exp(u) - 1 - u) + (np.log(a) + z**2 / a).sum() - 2170)))

    moments = [integrate.quad(lambda u, r=r: math.exp(r * u) * density(u), -6, 8, limit=500)[0] for r in (0, 1)]
    found = mixing.solve(spectrum, np.zeros((1, 1)), width, temperature, 1e-8)
    assert found.q_bar == pytest.approx(moments[1] / moments[0], rel=1e-6)
    assert 0.05 < found.weights[found.nodes > 2].sum() < 0.95


def test_the_mixture_of_a_wide_network_is_its_saddle_point() -> None:
    found, point = (f(*DATA, 1000, temperature=0.1, activation="erf") for f in (mixture, one_hidden_layer))
    assert found.test_loss == pytest.approx(point.test_loss, rel=2e-3)
    assert found.log_evidence == pytest.approx(point.log_evidence, abs=0.05)
    assert found.q_bar == pytest.approx(point.q_bar, rel=5e-3)


@pytest.mark.parametrize(("activation", "allowed"), [("linear", 0.0), ("erf", 0.02)])
def test_the_evidence_is_that_of_networks_drawn_from_the_prior(activation: str, allowed: float) -> None:
    """Mean likelihood of 400,000 drawn networks, to 4.5 standard errors; for erf the theory itself is allowed 2 %."""
    rng, width, temperature, draws = np.random.default_rng(5), 8, 0.5, 400_000
    x, y = rng.normal(size=(3, 2)), np.array([0.8, -0.4, 0.6])
    total, squares = 0.0, 0.0
    for _ in range(4):
        w = rng.normal(size=(draws // 4, 2, width)) / math.sqrt(LAM[0] * 2)
        v = rng.normal(size=(draws // 4, width)) / math.sqrt(LAM[1] * width)
        h = np.einsum("nd,gdw->gnw", x, w)
        f = np.einsum("gnw,gw->gn", special.erf(h) if activation == "erf" else h, v)
        p = np.exp(-((y - f) ** 2).sum(axis=1) / (2 * temperature)) / (2 * math.pi * temperature) ** 1.5
        total, squares = total + p.sum(), squares + (p**2).sum()
    mean = total / draws
    error = math.sqrt((squares / draws - mean**2) / draws)
    settings = {"temperature": temperature, "activation": activation, "precisions": LAM}
    found = mixture(x, y, x[:1], y[:1], width, **settings)
    assert abs(math.exp(found.log_evidence) - mean) < 4.5 * error + allowed * mean
    assert error < 0.005 * mean
    # The saddle point leaves out fluctuations, a correction of relative order P/N1.
    assert one_hidden_layer(x, y, x[:1], y[:1], width, **settings).log_evidence == pytest.approx(
        found.log_evidence, abs=3 / width
    )

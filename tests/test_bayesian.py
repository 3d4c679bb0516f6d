"""Bayesian networks at finite width: every formula against dense algebra, quadrature or sampling written here."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, special

from ntkhpc import loss_law
from ntkhpc.bayesian import OneLayerProblem, deep, layers, mixing, mixture, multi_output, one_hidden_layer, saddle
from ntkhpc.bayesian.spectrum import Spectrum
from ntkhpc.data import cifar10, mnist
from ntkhpc.errors import DataError
from ntkhpc.sources import Cifar10, Mnist

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
    """By central differences of fourth order."""
    h = 1e-3
    return np.array(
        [
            (8 * (function(x + e) - function(x - e)) - function(x + 2 * e) + function(x - 2 * e)) / (12 * h)
            for e in h * np.eye(len(x))
        ]
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_infinite_width_is_gaussian_process_regression(activation: str, temperature: float) -> None:
    mean, variance, evidence = regression(joint(activation, LAM), Y, temperature)
    settings = {"temperature": temperature, "activation": activation, "precisions": LAM}
    for found in (
        one_hidden_layer(*DATA, math.inf, **settings),
        one_hidden_layer(*DATA, math.inf, order_parameters=2, **settings),
        mixture(*DATA, math.inf, **settings),
        multi_output(*DATA, math.inf, **settings),
        deep(*DATA, widths=[math.inf], **settings),
    ):
        np.testing.assert_allclose(found.mean.ravel(), mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.point_variance.ravel(), variance, rtol=0, atol=1e-10)
        assert found.test_loss == pytest.approx(loss(mean, variance), abs=1e-10)
        assert found.infinite_width_loss == pytest.approx(found.test_loss, abs=1e-12)
        assert found.log_evidence == pytest.approx(evidence, abs=1e-9)
        assert found.bias == pytest.approx(float(np.mean((Y_TEST - mean) ** 2)), abs=1e-10)
    lam = (0.7, 1.6, 0.8)
    two = deep(*DATA, widths=[math.inf] * 2, temperature=temperature, activation=activation, precisions=lam)
    mean, variance, _ = regression(joint(activation, lam), Y, temperature)
    np.testing.assert_allclose(two.mean, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(two.point_variance, variance, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_wide_network_comes_near_infinite_width(activation: str) -> None:
    for temperature in (0.0, 0.05):
        settings = {"temperature": temperature, "activation": activation}
        for solve in (one_hidden_layer, mixture, multi_output):
            found = solve(*DATA, 1e7, **settings)
            assert found.test_loss == pytest.approx(found.infinite_width_loss, rel=1e-4)
            assert found.test_loss != found.infinite_width_loss


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("temperature", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("width", [3, 12, 40])
def test_the_action_is_stationary_and_the_prediction_that_of_the_scaled_kernel(
    activation: str, temperature: float, width: int
) -> None:
    k = joint(activation, LAM)
    found = one_hidden_layer(*DATA, width, temperature=temperature, activation=activation, precisions=LAM)

    def action(u: np.ndarray) -> float:
        a = temperature * np.eye(P) + math.exp(u[0]) * k[:P, :P]
        return math.exp(u[0]) - u[0] + (np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y)) / width

    u = np.array([math.log(found.q_bar)])
    assert abs(derivative(action, u)[0]) < 1e-9 * max(1, P / width)
    grid = np.linspace(-8, 8, 4001)
    assert action(u) <= min(action(np.array([v])) for v in grid) + 1e-12
    mean, variance, _ = regression(found.q_bar * k, Y, temperature)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.point_variance, variance, rtol=1e-8, atol=1e-10)
    evidence = -0.5 * (width * (action(u) - 1) + P * math.log(2 * math.pi))
    assert found.log_evidence == pytest.approx(evidence, rel=1e-10)


@pytest.mark.parametrize("width", [2, 12, 100])
def test_zero_temperature_is_closed_and_is_the_limit(width: int) -> None:
    """Qb^2 - (1 - alpha) Qb - alpha s = 0, reached from above and through the bracketed roots."""
    k = joint("erf", LAM)[:P, :P]
    s, alpha = float(Y @ np.linalg.solve(k, Y)) / P, P / width
    settings = {"activation": "erf", "precisions": LAM}
    cold = one_hidden_layer(*DATA, width, temperature=0, **settings)
    assert cold.s == pytest.approx(s, rel=1e-10)
    assert cold.q_bar == pytest.approx(np.roots([1, alpha - 1, -alpha * s]).max(), rel=1e-10)
    cool = one_hidden_layer(*DATA, width, temperature=1e-10, **settings)
    assert cool.q_bar == pytest.approx(cold.q_bar, rel=1e-7)
    assert cool.test_loss == pytest.approx(cold.test_loss, rel=1e-7)
    assert cool.log_evidence == pytest.approx(cold.log_evidence, rel=1e-7)


@pytest.mark.parametrize("size", [0.3, 3.0])
@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_the_sign_rule(size: float, temperature: float) -> None:
    found = one_hidden_layer(X, size * Y, X_TEST, Y_TEST, 30, temperature=temperature, activation="erf")
    assert found.finite_width_helps == (found.q_bar < 1) == (size < 1)
    k = kap(X @ X.T / FEATURES, "erf")
    g = np.linalg.inv(k + temperature * np.eye(P))
    assert found.s == pytest.approx(size**2 * (Y @ g @ k @ g @ Y) / np.trace(k @ g), rel=1e-9)
    if temperature == 0:
        assert found.finite_width_helps == (found.test_loss < found.infinite_width_loss)


@pytest.mark.parametrize(("target", "far"), [(1.5, False), (1.7, True)])
def test_of_several_saddles_the_one_of_least_action_is_taken(target: float, far: bool) -> None:
    """More easy small targets than units ask for a small Qb, one that the prior hardly allows for a large one."""
    values, z, width, temperature = np.array([1e-5] + 60 * [1.0]), np.array([target] + 60 * [0.3]), 10.0, 1e-3
    spectrum = Spectrum(values, z[:, None], np.eye(61), np.ones(61))
    minima = saddle.minima(spectrum, [width], temperature)
    assert len(minima) == 2
    grid = np.linspace(-4, 7, 20001)
    a = temperature + np.exp(grid)[:, None] * values
    action = width * (np.exp(grid) - 1 - grid) + (np.log(a) + z**2 / a).sum(axis=1)
    lowest = grid[action.argmin()]
    assert math.log(saddle.solve(spectrum, [width], temperature).q_bar[0]) == pytest.approx(lowest, abs=1e-3)
    assert (lowest > 2) == far
    assert minima[0].action == pytest.approx(action.min(), rel=1e-6)
    assert minima[0].action < minima[1].action


def test_one_decomposition_serves_widths_temperatures_precisions_and_nested_sizes() -> None:
    problem = OneLayerProblem.make(*DATA, activation="erf", precisions=LAM)
    for n, ratio in ((P, 1.0), (7, 1.0), (P, 2.5), (7, 0.4)):
        part = problem.leading(n).with_readout_precision(ratio)
        other = OneLayerProblem.make(
            X[:n], Y[:n], X_TEST, Y_TEST, activation="erf", precisions=(LAM[0], ratio * LAM[1])
        )
        for width, temperature in ((5, 0.0), (20, 0.1), (math.inf, 0.1)):
            one, two = part.solve(width, temperature), other.solve(width, temperature)
            assert one.test_loss == pytest.approx(two.test_loss, rel=1e-10)
            assert one.log_evidence == pytest.approx(two.log_evidence, rel=1e-10)
    with pytest.raises(ValueError, match="n = 13"):
        problem.leading(P + 1)


def test_the_loss_in_the_normalisation_of_the_package() -> None:
    one = one_hidden_layer(*DATA, math.inf, temperature=0.1, activation="relu")
    k = joint("relu", (1.0, 1.0))
    a, cross = k[:P, :P] + 0.1 * np.eye(P), k[:P, P:]
    covariance = k[P:, P:] - cross.T @ np.linalg.solve(a, cross)
    assert one.mu_L == pytest.approx(loss_law.loss_moments(one.mean[:, None], covariance, Y_TEST[:, None])[0], rel=1e-9)
    many = multi_output(*DATA2, math.inf, temperature=0.1, activation="relu")
    assert many.mu_L == pytest.approx(loss_law.loss_moments(many.mean, covariance, Y2_TEST)[0], rel=1e-9)


# Two order parameters


@pytest.mark.parametrize("temperature", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("width", [4, 12, 60])
def test_two_order_parameters_solve_their_equations(temperature: float, width: int) -> None:
    """Fixed point as published, stationarity of the action, and a maximum over Q at the minimum over Qb."""
    k, y = joint("relu", LAM), np.abs(Y)
    found = one_hidden_layer(
        X, y, X_TEST, Y_TEST, width, temperature=temperature, activation="relu", precisions=LAM, order_parameters=2
    )
    x = np.concatenate([X, X_TEST])
    m = np.sqrt((x * x).sum(axis=1) / (LAM[0] * FEATURES) / (2 * np.pi * LAM[1]))
    centred, outer = k - np.outer(m, m), np.outer(m, m)

    def matrix(q_bar: float, q: float) -> np.ndarray:
        return q_bar * centred + outer / (1 + q)

    a = matrix(found.q_bar, found.q)[:P, :P] + temperature * np.eye(P)
    g, one = np.linalg.inv(a), m[:P]
    q = (np.trace(g @ centred[:P, :P]) - y @ g @ centred[:P, :P] @ g @ y) / width
    q_bar = 1 / (1 + found.q) - (one @ g @ one - (one @ g @ y) ** 2) / (width * (1 + found.q) ** 2)
    assert found.q == pytest.approx(q, rel=1e-8, abs=1e-9)
    assert found.q_bar == pytest.approx(q_bar, rel=1e-8)

    def action(point: np.ndarray) -> float:
        q_bar, q = math.exp(point[0]), math.exp(point[1]) - 1
        a = matrix(q_bar, q)[:P, :P] + temperature * np.eye(P)
        return -q * q_bar + math.log(1 + q) + (np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)) / width

    at = np.array([math.log(found.q_bar), math.log(1 + found.q)])
    np.testing.assert_allclose(derivative(action, at), 0, atol=1e-8 * (1 + abs(found.q)))
    for step in (-0.1, 0.1):
        assert action(at + np.array([0, step])) < action(at)
    assert found.log_evidence == pytest.approx(-0.5 * (width * action(at) + P * math.log(2 * math.pi)), rel=1e-9)
    mean, variance, _ = regression(matrix(found.q_bar, found.q), y, temperature)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.point_variance, variance, rtol=1e-7, atol=1e-9)


def test_two_order_parameters_are_one_for_odd_activations_and_near_it_for_relu() -> None:
    for activation in ACTIVATIONS:
        settings = {"temperature": 0.05, "activation": activation}
        one, two = (one_hidden_layer(*DATA, 40, order_parameters=n, **settings) for n in (1, 2))
        if activation == "relu":
            assert 1e-6 < abs(two.q_bar / one.q_bar - 1) < 0.05
        else:
            assert two.q_bar == one.q_bar
            assert two.q == pytest.approx(1 / two.q_bar - 1)


# The mixture


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


# Deep networks


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("temperature", [0.0, 0.05])
@pytest.mark.parametrize("width", [4, 30])
def test_one_layer_of_deep_is_one_hidden_layer(activation: str, temperature: float, width: int) -> None:
    settings = {"temperature": temperature, "activation": activation, "precisions": LAM}
    one = one_hidden_layer(*DATA, width, **settings)
    for variant in ("nested", "vanilla"):
        found = deep(*DATA, widths=[width], variant=variant, **settings)
        assert found.q_bar[0] == pytest.approx(one.q_bar, rel=1e-8)
        assert found.test_loss == pytest.approx(one.test_loss, rel=1e-8)
        assert found.log_evidence == pytest.approx(one.log_evidence, rel=1e-8)
        np.testing.assert_allclose(found.mean, one.mean, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("temperature", [0.0, 0.05])
@pytest.mark.parametrize("widths", [(10, 10), (5, 40, 12), (math.inf, 6), (8, math.inf)])
@pytest.mark.parametrize("variant", ["nested", "vanilla"])
def test_deep_actions_are_stationary(
    activation: str, temperature: float, widths: tuple[float, ...], variant: str
) -> None:
    lam = (0.7, 1.6, 0.8, 1.2)[: len(widths) + 1]
    found = deep(*DATA, widths=widths, temperature=temperature, activation=activation, precisions=lam, variant=variant)
    finite = np.isfinite(widths)
    sizes = np.array(widths)[finite]

    def kernel(x: np.ndarray) -> np.ndarray:
        q_bar = np.ones(len(widths))
        q_bar[finite] = np.exp(x)
        return joint(activation, lam, tuple(q_bar)) if variant == "nested" else q_bar.prod() * joint(activation, lam)

    def action(x: np.ndarray) -> float:
        a = kernel(x)[:P, :P] + temperature * np.eye(P)
        return float((sizes * (np.exp(x) - 1 - x)).sum() + np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y))

    x = np.log(found.q_bar[finite])
    assert (found.q_bar[~finite] == 1).all()
    np.testing.assert_allclose(derivative(action, x), 0, atol=1e-7 * (P + sizes.sum()))
    for move in np.random.default_rng(0).normal(size=(20, len(x))):
        assert action(x + 0.3 * move) > action(x)
    mean, variance, _ = regression(kernel(x), Y, temperature)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.point_variance, variance, rtol=1e-6, atol=1e-8)
    assert found.log_evidence == pytest.approx(-0.5 * (action(x) + P * math.log(2 * math.pi)), rel=1e-9)


def test_the_gradient_of_nested_kernels_is_exact() -> None:
    network = layers.Nested(
        layers.first_layer(X, X_TEST, 0.7), np.array([1.6, 0.8, 1.2]), Y, np.array([7.0, math.inf, 9.0]), 0.1
    )
    x = np.array([0.3, -0.2, 0.5])
    expected = derivative(lambda at: network.action(at)[0], x)
    np.testing.assert_allclose(network.action(x)[1], expected, rtol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("width", [6, 50])
@pytest.mark.parametrize("depth", [2, 3])
def test_deep_scale_free_networks_obey_their_polynomial(activation: str, width: int, depth: int) -> None:
    """Qb^(L+1) - (1 - alpha) Qb^L - alpha s = 0 at temperature 0 and equal widths; nested and vanilla are one."""
    settings = {"widths": [width] * depth, "temperature": 0.0, "activation": activation}
    nested, vanilla = (deep(*DATA, variant=variant, **settings) for variant in ("nested", "vanilla"))
    k, alpha = joint(activation, (1.0,) * (depth + 1))[:P, :P], P / width
    s = float(Y @ np.linalg.solve(k, Y)) / P
    roots = np.roots([1, alpha - 1, *[0] * (depth - 1), -alpha * s])
    np.testing.assert_allclose(nested.q_bar, roots[np.abs(roots.imag) < 1e-9].real.max(), rtol=1e-8)
    assert nested.test_loss == vanilla.test_loss


def test_the_variants_differ_for_erf() -> None:
    settings = {"widths": [10, 10], "temperature": 0.05, "activation": "erf"}
    nested, vanilla = (deep(*DATA, variant=variant, **settings) for variant in ("nested", "vanilla"))
    assert 1e-3 < abs(nested.test_loss / vanilla.test_loss - 1) < 0.3


# Several outputs


@pytest.mark.parametrize("temperature", [0.0, 0.05])
@pytest.mark.parametrize("width", [4, 30])
def test_one_of_several_outputs_is_one_output(temperature: float, width: int) -> None:
    settings = {"temperature": temperature, "activation": "erf"}
    one, many = (solve(*DATA, width, **settings) for solve in (one_hidden_layer, multi_output))
    assert many.q_bar[0, 0] == pytest.approx(one.q_bar, rel=1e-9)
    np.testing.assert_allclose(many.mean[:, 0], one.mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(many.point_variance[:, 0], one.point_variance, rtol=1e-9, atol=1e-10)
    for name in ("test_loss", "bias", "variance", "log_evidence", "s", "infinite_width_loss", "mu_L"):
        assert getattr(many, name) == pytest.approx(getattr(one, name), rel=1e-9), name


def test_the_several_outputs_of_a_matrix_are_a_minimum_of_its_action() -> None:
    """With the Kronecker product written out; then away from the saddle in random directions."""
    width, temperature, k = 9, 0.1, joint("erf", LAM)
    found = multi_output(*DATA2, width, temperature=temperature, activation="erf", precisions=LAM)
    y = Y2.T.ravel()

    def action(q: np.ndarray) -> float:
        b = temperature * np.eye(3 * P) + np.kron(q, k[:P, :P])
        return float(
            np.trace(q) - np.linalg.slogdet(q)[1] + (np.linalg.slogdet(b)[1] + y @ np.linalg.solve(b, y)) / width
        )

    def along(x: np.ndarray) -> float:
        direction = np.zeros((3, 3))
        direction[np.tril_indices(3)] = x
        return action(found.q_bar + direction + direction.T)

    np.testing.assert_allclose(derivative(along, np.zeros(6)), 0, atol=1e-7)
    for move in np.random.default_rng(0).normal(size=(30, 3, 3)):
        turn = np.eye(3) + 0.2 * move
        assert action(turn @ found.q_bar @ turn.T) > action(found.q_bar)
    assert abs(found.q_bar - np.diag(np.diag(found.q_bar))).max() > 0.05
    kron = np.kron(found.q_bar, k)
    train = np.concatenate([np.arange(P) + d * (P + M) for d in range(3)])
    test = np.setdiff1d(np.arange(len(kron)), train)
    a, cross = kron[np.ix_(train, train)] + temperature * np.eye(3 * P), kron[np.ix_(train, test)]
    np.testing.assert_allclose(found.mean, (cross.T @ np.linalg.solve(a, y)).reshape(3, M).T, rtol=1e-8, atol=1e-9)
    covariance = kron[np.ix_(test, test)] - cross.T @ np.linalg.solve(a, cross)
    blocks = covariance.reshape(3, M, 3, M)
    np.testing.assert_allclose(found.output_covariance, np.einsum("dmem->mde", blocks), rtol=1e-7, atol=1e-9)
    evidence = -0.5 * (width * (action(found.q_bar) - 3) + 3 * P * math.log(2 * math.pi))
    assert found.log_evidence == pytest.approx(evidence, rel=1e-9)


def test_several_outputs_at_zero_temperature_are_closed_and_the_limit() -> None:
    cold, cool = (multi_output(*DATA2, 9, temperature=t, activation="erf") for t in (0.0, 1e-9))
    form = Y2.T @ np.linalg.solve(joint("erf", (1.0, 1.0))[:P, :P], Y2)
    q = cold.q_bar
    np.testing.assert_allclose(q @ q - (1 - P / 9) * q, form / 9, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(cool.q_bar, q, rtol=1e-5, atol=1e-6)
    assert cool.test_loss == pytest.approx(cold.test_loss, rel=1e-6)


def test_ten_outputs() -> None:
    """Independent of the order of the outputs and of a rotation among them."""
    rng = np.random.default_rng(1)
    y, y_test = rng.normal(size=(P, 10)), rng.normal(size=(M, 10))
    turn = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    one = multi_output(X, y, X_TEST, y_test, 20, temperature=0.1, activation="relu")
    two = multi_output(X, y @ turn, X_TEST, y_test @ turn, 20, temperature=0.1, activation="relu")
    np.testing.assert_allclose(turn @ two.q_bar @ turn.T, one.q_bar, atol=1e-8)
    assert two.test_loss == pytest.approx(one.test_loss, rel=1e-8)


# Real data


def problem_of(module, section) -> OneLayerProblem:  # type: ignore[no-untyped-def]
    split = module.load(section)
    return OneLayerProblem.make(split.x_train, split.y_train, split.x_test, split.y_test, activation="erf")


def test_mnist_as_published(shared_data: Path) -> None:
    """Fig. 1a of arXiv:2209.04882: digits 0 and 1, infinite-width losses, and a loss that rises with the width."""
    problem = problem_of(
        mnist,
        Mnist(
            pool=1000, test=1000, classes=(0, 1), targets=(0.0, 1.0), order="file",
            pixels="fixed", pixel_mean=0.1307, pixel_std=0.3081,
        ),
    )  # fmt: skip
    for n, published in ((100, 0.069677), (300, 0.037884), (1000, 0.017212)):
        part = problem.leading(n)
        found = [part.solve(width, 0.0) for width in (50, 200, 1000, math.inf)]
        assert found[-1].test_loss == pytest.approx(published, rel=0.03)
        assert found[0].s < 1
        losses = [one.test_loss for one in found]
        assert losses == sorted(losses)


def test_cifar_10_the_other_way_round(shared_data: Path) -> None:
    """Airplanes and automobiles, 28 x 28 grey: s > 1, and the loss falls with the width."""
    problem = problem_of(
        cifar10,
        Cifar10(
            pool=300, test=175, classes=("airplane", "automobile"), targets=(0.0, 1.0), order="file", grey=True,
            size=28, pixels="fixed", pixel_mean=0.48, pixel_std=0.24,
        ),
    )  # fmt: skip
    for n in (100, 300):
        found = [problem.leading(n).solve(width, 0.0) for width in (50, 200, 1000, math.inf)]
        assert found[0].s > 1
        losses = [one.test_loss for one in found]
        assert losses == sorted(losses, reverse=True)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"width": 0.5}, "width = 0.5"),
        ({"width": math.nan}, "width = nan"),
        ({"activation": "tanh"}, "none of erf, relu, linear"),
        ({"precisions": (1.0,)}, "1 precisions given"),
        ({"precisions": (1.0, 0.0)}, "precision = 0.0"),
        ({"order_parameters": 3}, "order_parameters = 3"),
        ({"y_train": Y[:-1]}, "differ in rows"),
        ({"y_train": Y2}, "differ in outputs"),
        ({"y_train": Y2, "y_test": Y2_TEST}, "3 outputs"),
        ({"x_test": X_TEST[:, 1:]}, "differ in features"),
        ({"x_train": X[0]}, "must be"),
        ({"x_train": X * math.nan}, "not finite"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict, message: str) -> None:
    given = dict(zip(("x_train", "y_train", "x_test", "y_test"), DATA, strict=True))
    with pytest.raises(ValueError, match=message):
        one_hidden_layer(**({**given, "width": 10, "temperature": 0.1, "activation": "erf"} | change))


def test_what_makes_no_sense_in_deep_networks_is_refused() -> None:
    settings = {"temperature": 0.1, "activation": "erf"}
    for change, message in (
        ({"widths": []}, "no widths"), ({"widths": [3, 0]}, "width = 0"), ({"variant": "old"}, "variant"),
        ({"precisions": (1.0, 1.0)}, "2 precisions given"), ({"temperature": -1}, "temperature"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            deep(*DATA, **({"widths": [3, 3]} | settings | change))
    with pytest.raises(ValueError, match="3 outputs"):
        deep(*DATA2, widths=[3], **settings)


@pytest.mark.parametrize("order_parameters", [1, 2])
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_equal_inputs_have_no_posterior_at_zero_temperature(activation: str, order_parameters: int) -> None:
    x = X.copy()
    x[9] = x[4]
    given, settings = (x, Y, X_TEST, Y_TEST), {"activation": activation}
    for solve in (one_hidden_layer, mixture, multi_output):
        with pytest.raises(DataError, match="4 and 9 are equal"):
            solve(*given, 10, temperature=0, **settings)
    with pytest.raises(DataError, match="4 and 9 are equal"):
        deep(*given, widths=[10, 10], temperature=0, **settings)
    warm = one_hidden_layer(*given, 10, temperature=1e-6, order_parameters=order_parameters, **settings)
    assert math.isfinite(warm.test_loss)


def test_more_rows_than_features_are_too_many_for_a_linear_network_without_noise() -> None:
    with pytest.raises(DataError, match="dependent"):
        one_hidden_layer(X[:, :3], Y, X_TEST[:, :3], Y_TEST, 10, temperature=0, activation="linear")


def test_targets_of_zero_collapse_a_narrow_network_without_noise() -> None:
    for solve in (one_hidden_layer, mixture):
        with pytest.raises(ValueError, match="zero"):
            solve(X, 0 * Y, X_TEST, Y_TEST, P, temperature=0, activation="erf")
    with pytest.raises(ValueError, match="dependent"):
        multi_output(X, 0 * Y2, X_TEST, Y2_TEST, P, temperature=0, activation="erf")
    found = one_hidden_layer(X, 0 * Y, X_TEST, Y_TEST, 2 * P, temperature=0, activation="erf")
    assert found.q_bar == pytest.approx(0.5)

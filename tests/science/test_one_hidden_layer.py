"""Bayesian networks of one hidden layer: saddle points against dense algebra written here."""

import math

import numpy as np
import pytest
from support.bayesian_problem import (
    ACTIVATIONS,
    DATA,
    DATA2,
    FEATURES,
    LAM,
    X_TEST,
    Y2_TEST,
    Y_TEST,
    P,
    X,
    Y,
    derivative,
    joint,
    kap,
    loss,
    regression,
)

from ntkhpc import loss_law
from ntkhpc.bayesian import OneLayerProblem, deep, mixture, multi_output, one_hidden_layer, saddle
from ntkhpc.bayesian.spectrum import Spectrum


@pytest.mark.promise("At infinite width each Bayesian theory is Gaussian process regression, within 10^-10.")
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


@pytest.mark.promise("The order parameter of one hidden layer minimises its action, written out here in dense algebra.")
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

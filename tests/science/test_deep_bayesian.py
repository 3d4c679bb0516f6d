"""Deep Bayesian networks: nested kernels, and the vanilla variant."""

import math

import numpy as np
import pytest
from support.bayesian_problem import (
    ACTIVATIONS,
    DATA,
    LAM,
    X_TEST,
    P,
    X,
    Y,
    derivative,
    joint,
    regression,
)

from ntkhpc.bayesian import deep, layers, one_hidden_layer


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


@pytest.mark.promise("The order parameters of deep networks minimise their action, written out here in dense algebra.")
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

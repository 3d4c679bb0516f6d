"""Integrals over orthants and expectations at four inputs, against closed forms and quadratures of other kinds."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

from ntkhpc.expectations import expectations
from ntkhpc.four_points import four_points, two_points
from ntkhpc.networks import Activation
from ntkhpc.orthants import orthant_moments, orthant_probability

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("loadings", [(0.5, 0.3, -0.7, 0.2), (0.9, 0.8, 0.95, -0.6), (0.99, 0.98, 0.97, 0.96)], ids=str)
def test_variables_with_one_common_factor(loadings: tuple[float, ...]) -> None:
    """r_ij = l_i l_j: independent given the factor, so one integral [Dunnett and Sobel 1955]."""
    weights = np.array(loadings)
    r = np.outer(weights, weights)
    np.fill_diagonal(r, 1)
    z = np.linspace(-10, 10, 100_001)
    product = special.ndtr(weights[:, None] * z / np.sqrt(1 - weights[:, None] ** 2)).prod(axis=0)
    expected = (product * np.exp(-(z**2) / 2)).sum() * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    scale = np.array([1, 20, 0.3, 5])
    assert orthant_probability((r * np.outer(scale, scale))[None])[0] == pytest.approx(expected, abs=1e-10)


def test_orders_of_independent_variables() -> None:
    """Five of them are in increasing order once in 5! times, four are larger than the fifth once in five."""
    chain = np.eye(4) - np.diag([0.5] * 3, 1) - np.diag([0.5] * 3, -1)
    found = orthant_probability(np.stack([chain, (np.ones((4, 4)) + np.eye(4)) / 2]))
    np.testing.assert_allclose(found, [1 / 120, 1 / 5], rtol=1e-12)


@pytest.mark.parametrize("spread", [1, 0.1, 0.01, 1e-3])
def test_moments_over_all_orthants_are_those_of_all_space(spread: float) -> None:
    """Signs of the variables move each orthant to the first: sums have the moments of Gaussians [Isserlis 1918]."""
    v = RNG.normal(size=(20, 4, 4))
    v[:, 3] = v[:, :3].sum(axis=1) + spread * v[:, 3]
    k = v @ v.transpose(0, 2, 1)
    sums = {powers: np.zeros(20) for powers in ((0, 0, 0, 0), (1, 1, 0, 0), (2, 0, 2, 0), (1, 1, 1, 1))}
    for signs in itertools.product((1, -1), repeat=4):
        moment = orthant_moments(k * np.array(signs) * np.array(signs)[:, None])
        for powers, total in sums.items():
            total += np.prod(np.array(signs) ** powers) * moment(powers)
    expected = {
        (0, 0, 0, 0): np.ones(20),
        (1, 1, 0, 0): k[:, 0, 1],
        (2, 0, 2, 0): k[:, 0, 0] * k[:, 2, 2] + 2 * k[:, 0, 2] ** 2,
        (1, 1, 1, 1): k[:, 0, 1] * k[:, 2, 3] + k[:, 0, 2] * k[:, 1, 3] + k[:, 0, 3] * k[:, 1, 2],
    }
    for powers, total in sums.items():
        size = np.prod(np.sqrt(np.einsum("qii->qi", k)) ** powers, axis=1)
        np.testing.assert_allclose(total / size, expected[powers] / size, atol=3e-7)


def test_relu_of_inputs_in_a_plane_is_an_integral_over_an_angle() -> None:
    """Four inputs of two dimensions are degenerate; beside them equal, parallel and opposite ones. The expectations are
    radial moments times means over the circle, by Gauss and Legendre's rule from kink to kink."""
    x = RNG.normal(size=(7, 2))
    x[4], x[5], x[6] = x[0], 3 * x[1], -0.5 * x[2]
    inputs = np.array(list(itertools.combinations_with_replacement(range(7), 4)))
    inputs = np.concatenate([inputs, inputs[:, [2, 0, 3, 1]]])
    direction = np.arctan2(x[:, 1], x[:, 0])
    kinks = np.sort(np.concatenate([direction + np.pi / 2, direction - np.pi / 2]) % (2 * np.pi))
    ends = np.append(kinks, kinks[0] + 2 * np.pi)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half = np.diff(ends)[:, None] / 2
    angles = (ends[:-1, None] + half * (nodes + 1)).ravel()
    share = (half * weights).ravel() / (2 * np.pi)
    z = x @ np.stack([np.cos(angles), np.sin(angles)])
    factors = {"s": np.maximum(z, 0), "d": (z > 0).astype(float)}
    found, size = four_points("relu", x @ x.T, inputs), np.linalg.norm(x, axis=1)
    for got, kinds, radial in zip(found, ("ssss", "ssdd", "ddss", "dddd"), (8, 2, 2, 1), strict=True):
        at = [factors[kind][inputs[:, slot]] for slot, kind in enumerate(kinds)]
        scale = np.prod([size[inputs[:, slot]] for slot, kind in enumerate(kinds) if kind == "s"] or [1.0], axis=0)
        expected = radial * (np.prod(at, axis=0) @ share)
        np.testing.assert_allclose(got / scale, expected / scale, atol=2e-7)


def test_erf_at_four_inputs_is_a_quadrature_in_four_dimensions() -> None:
    """Gauss and Hermite's rule with 24^4 nodes; an input that occurs twice is no special case."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    w = np.prod(np.meshgrid(*[weights] * 4), axis=0).ravel() / (2 * np.pi) ** 2
    root = 0.3 * RNG.normal(size=(4, 4))
    z = root @ np.stack([one.ravel() for one in np.meshgrid(*[nodes] * 4)])
    s, d = special.erf(z), 2 / np.sqrt(np.pi) * np.exp(-z * z)
    inputs = np.array([[0, 1, 2, 3], [2, 0, 0, 1], [3, 3, 1, 1], [2, 2, 2, 2], [1, 3, 3, 3]])
    found = four_points("erf", root @ root.T, inputs)
    for got, kinds in zip(found, ("ssss", "ssdd", "ddss", "dddd"), strict=True):
        factors = [{"s": s, "d": d}[kind] for kind in kinds]
        expected = [(np.prod([f[i] for f, i in zip(factors, row, strict=True)], axis=0) * w).sum() for row in inputs]
        np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_slopes_are_differences_of_expectations(activation: Activation) -> None:
    """Also along a change under which equal and parallel inputs stay so."""
    x, move = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))
    if activation == "relu":
        x[3], move[3] = 2 * x[1], 2 * move[1]
    else:
        x[3], move[3] = x[1], move[1]
    k, change, step = x @ x.T, x @ move.T + move @ x.T, 1e-5
    two = two_points(activation, k)
    own = np.diag(k)
    for got, expected in zip(two, expectations(activation, k, own[:, None], own[None]), strict=False):
        np.testing.assert_allclose(got, expected, atol=1e-7)
    up, down = (two_points(activation, k + sign * step * change) for sign in (1, -1))
    for slope, one, other in (
        (two.values_slope, up.values, down.values),
        (two.derivatives_slope, up.derivatives, down.derivatives),
    ):
        np.testing.assert_allclose(slope.along(change), (one - other) / (2 * step), atol=1e-7)
        np.testing.assert_allclose(slope.diagonal() * np.diag(change), np.diag(one - other) / (2 * step), atol=1e-7)

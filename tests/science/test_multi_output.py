"""Bayesian networks of several outputs: a matrix of order parameters."""

import math

import numpy as np
import pytest
from support.bayesian_problem import (
    DATA,
    DATA2,
    LAM,
    X_TEST,
    Y2,
    M,
    P,
    X,
    derivative,
    joint,
)

from ntkhpc.bayesian import multi_output, one_hidden_layer


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


@pytest.mark.promise(
    "The order-parameter matrix of several outputs minimises its action, written out with Kronecker products."
)
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

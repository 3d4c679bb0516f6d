"""The dual form of the first layer against training of the weights themselves."""

import jax
import numpy as np
import pytest

from ntkhpc import optimisers, training
from ntkhpc.lanes import MAPPED
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm

RNG = np.random.default_rng(0)
FEATURES = 96
X, Y = RNG.normal(size=(30, FEATURES)), RNG.normal(size=(30, 2))
X_TEST, Y_TEST = RNG.normal(size=(11, FEATURES)), RNG.normal(size=(11, 2))

ALGORITHMS = [
    Algorithm(),
    Algorithm("momentum", 0.8),
    Algorithm("nesterov", 0.8, "cosine"),
    Algorithm("gd", weight_decay=0.02),
    Algorithm("momentum", 0.5, weight_decay=0.02, decay_towards="start"),
]


def train(algorithm: Algorithm, precision: str, mlp: MLP) -> training.Trained:
    program = training.Program(mlp, 24, (0, 3, 40), precision=precision, drawn="float32", algorithm=algorithm)
    data = (X, Y, X_TEST, Y_TEST)
    return training.train_tile(program, *data, learning_rate=0.3, seed=1, members=[0, 5, 7], lanes=MAPPED)


@pytest.mark.promise(
    "Training in the dual form agrees with training of the weights: to 1e-5 in float32, 1e-12 in float64."
)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: f"{one.optimiser}-{one.schedule}-{one.decay_towards}")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_the_dual_form_is_training_of_the_weights(
    algorithm: Algorithm, precision: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlp = MLP(depth=2, activation="relu", bias_variance=0.1, outputs=2)
    assert algorithm.is_dual(FEATURES, len(X))
    dual = train(algorithm, precision, mlp)
    monkeypatch.setattr(optimisers, "DUAL_SHARE", 0.0)
    jax.clear_caches()  # the rule is part of the code, not of what a program is made from
    primal = train(algorithm, precision, mlp)
    jax.clear_caches()
    scale = abs(primal.predictions).max()
    np.testing.assert_allclose(dual.predictions, primal.predictions, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(dual.train_loss, primal.train_loss, rtol=20 * tolerance)
    np.testing.assert_allclose(dual.test_loss, primal.test_loss, rtol=20 * tolerance)
    assert (dual.predictions != primal.predictions).any(), "both ways were the same one"
    np.testing.assert_array_equal(dual.test_loss[:, 0], primal.test_loss[:, 0])  # the same weights, before any step


def test_the_form_is_a_rule_of_the_sizes_and_the_algorithm() -> None:
    assert Algorithm().is_dual(784, 1000)
    assert not Algorithm().is_dual(784, 1176)
    assert not Algorithm().is_dual(25, 32)
    assert not Algorithm("sgd", batch=8).is_dual(784, 100)
    assert not Algorithm("adam").is_dual(784, 100)

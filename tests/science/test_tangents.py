"""neural-tangents through `tangents`: against our own recursion, random networks, and laws written out."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.runs import ROOT

from ntkhpc import infinite_width, kernels, tangents
from ntkhpc.networks import MLP

NETWORKS = [
    MLP(depth=1, activation="relu"),
    MLP(depth=2, activation="relu", weight_variance=1.3),
    MLP(depth=3, activation="relu", bias_variance=0.1),
    MLP(depth=1, activation="erf", weight_variance=1.5),
    MLP(depth=3, activation="erf", bias_variance=0.3),
]
RNG = np.random.default_rng(0)
X, X_TEST, Y = RNG.normal(size=(9, 5)), RNG.normal(size=(6, 5)), RNG.normal(size=(9, 2))
names = [f"{m.activation}-{m.depth}" for m in NETWORKS]


def as_stax(mlp: MLP) -> tuple:
    stax = tangents.load().stax
    std = {"W_std": mlp.weight_variance**0.5, "b_std": mlp.bias_variance**0.5, "parameterization": "ntk"}
    activation = {"relu": stax.Relu, "erf": stax.Erf}[mlp.activation]
    hidden = [layer for _ in range(mlp.depth) for layer in (stax.Dense(1, **std), activation())]
    return stax.serial(*hidden, stax.Dense(1, **std))


def image_network(width: int, outputs: int) -> tuple:
    stax = tangents.load().stax
    return stax.serial(
        stax.Conv(width, (3, 3), padding="SAME", W_std=1.4, b_std=0.3),
        stax.Relu(),
        stax.GlobalAvgPool(),
        stax.Dense(outputs, W_std=1.2, b_std=0.2),
    )


@pytest.mark.promise("neural-tangents agrees with our kernels to 12 digits off the diagonal.")
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_fully_connected_networks_have_the_kernels_of_our_recursion(mlp: MLP) -> None:
    rng = np.random.default_rng(1)
    x1, x2 = rng.normal(size=(9, 5)), rng.normal(size=(6, 5))
    for own, other in zip(kernels.nngp_ntk(mlp, x1, x2), kernels.nngp_ntk(as_stax(mlp), x1, x2), strict=True):
        assert other.dtype == np.float64
        np.testing.assert_allclose(other, own, rtol=1e-12)
    off = ~np.eye(9, dtype=bool)
    for own, other in zip(kernels.nngp_ntk(mlp, x1), tangents.nngp_ntk(as_stax(mlp)[2], x1), strict=True):
        np.testing.assert_array_equal(other, other.T)
        np.testing.assert_allclose(other[off], own[off], rtol=1e-12)
        np.testing.assert_allclose(np.diag(other), np.diag(own), rtol=1e-7)  # its angle of a vector with itself: 2e-8


def test_a_convolutional_network_has_the_mean_kernels_of_random_finite_ones() -> None:
    """4.5 standard errors over 400 networks (false alarm 1e-4). One hidden layer: no bias at finite width."""
    x = np.random.default_rng(2).normal(size=(3, 3, 3, 2))
    init, apply, _ = network = image_network(width=32, outputs=32)

    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        p = init(key, x.shape)[1]
        f = apply(p, x)
        jacobian = jax.jacobian(lambda q: apply(q, x)[:, 0])(p)
        flat = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
        return f @ f.T / f.shape[1], flat @ flat.T

    samples = jax.lax.map(sample, jax.random.split(jax.random.key(0), 400), batch_size=50)
    for drawn, exact in zip(samples, tangents.nngp_ntk(network, x), strict=True):
        error = np.std(drawn, axis=0) / np.sqrt(len(drawn))
        assert (error < 0.03 * exact).all()
        assert (abs(np.mean(drawn, axis=0) - exact) < 4.5 * error).all()


@pytest.mark.promise("neural-tangents agrees with our law of the end of training to 8 digits.")
def test_the_end_of_training_is_its_prediction() -> None:
    with jax.enable_x64(True):
        predict = tangents.load().predict.gradient_descent_mse_ensemble(as_stax(NETWORKS[4])[2], X, Y, diag_reg=0.0)
        theirs = predict(x_test=X_TEST, get="ntk", compute_cov=True)
    mean, covariance = infinite_width.trained_law(NETWORKS[4], X, Y, X_TEST)
    np.testing.assert_allclose(theirs.mean, mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(theirs.covariance, covariance, rtol=1e-8, atol=1e-10)


def test_gradient_flow_is_the_limit_of_small_steps() -> None:
    """Its continuous time at t = 4 against 40,000 steps of 1e-4, to the first order that separates them."""
    with jax.enable_x64(True):
        predict = tangents.load().predict.gradient_descent_mse_ensemble(as_stax(NETWORKS[0])[2], X, Y, diag_reg=0.0)
        theirs = predict(t=4.0, x_test=X_TEST, get="ntk", compute_cov=True)
    mean, covariance = infinite_width.trained_law(NETWORKS[0], X, Y, X_TEST, time=40_000, learning_rate=1e-4)
    np.testing.assert_allclose(theirs.mean, mean, atol=1e-4)
    np.testing.assert_allclose(theirs.covariance, covariance, atol=1e-4)


def test_laws_and_kernels_take_any_network() -> None:
    images, targets = np.random.default_rng(5).normal(size=(3, 4, 4, 2)), Y[:3]
    network = image_network(width=8, outputs=1)
    mean, covariance = infinite_width.trained_law(network, images, targets, images)
    np.testing.assert_allclose(mean, targets, atol=1e-8)
    np.testing.assert_allclose(covariance, 0, atol=1e-8)


@pytest.mark.parametrize(
    ("x1", "x2"),
    [
        (np.ones((0, 3)), None),
        (np.ones((2, 0)), None),
        (np.ones(3), None),
        (np.ones(()), None),
        (np.array([[1.0, np.nan, 2.0]]), None),
        (np.ones((2, 3)), np.array([[1.0, np.inf, 2.0]])),
        (np.ones((2, 3)), np.ones((0, 3))),
        (np.ones((2, 3)), np.ones((2, 4))),
    ],
)
def test_inputs_without_a_kernel_are_refused(x1: np.ndarray, x2: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match=r"x[12]"):
        tangents.nngp_ntk(as_stax(NETWORKS[0]), x1, x2)


def test_a_network_with_many_output_positions_is_refused() -> None:
    stax = tangents.load().stax
    with pytest.raises(ValueError, match="Flatten"):
        tangents.nngp_ntk(stax.serial(stax.Conv(1, (3, 3)), stax.Relu()), np.ones((2, 5, 5, 1)))


def run(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neural_tangents_is_imported_only_on_request_and_jax_is_left_as_it_was() -> None:
    run("""
import sys, jax, jax.core, jax.interpreters.ad, jax.extend.core
import ntkhpc.kernels, ntkhpc.tangents
assert not [name for name in sys.modules if name.startswith("neural_tangents")]
before = [set(vars(module)) for module in (jax.core, jax.interpreters.ad)]
assert ntkhpc.tangents.load() is ntkhpc.tangents.load() is sys.modules["neural_tangents"]
assert before == [set(vars(module)) for module in (jax.core, jax.interpreters.ad)]
assert "jax.util" not in sys.modules
""")


def test_a_missing_installation_is_said() -> None:
    said = run("""
import sys
sys.modules["neural_tangents"] = None
from ntkhpc import errors, tangents
try:
    tangents.load()
except errors.SurroundingsError as error:
    print(error)
""")
    assert "cause: ModuleNotFoundError" in said

"""neural-tangents beside our own recursion, and for networks that only it knows."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT

from ntkhpc import infinite_width, kernels, tangents
from ntkhpc.networks import MLP

RNG = np.random.default_rng(0)
X1, X2, Y = RNG.normal(size=(9, 5)), RNG.normal(size=(6, 5)), RNG.normal(size=(9, 2))

NETWORKS = [
    MLP(1, "relu"),
    MLP(3, "relu", bias_variance=0.1),
    MLP(1, "erf", weight_variance=1.5),
    MLP(2, "erf", bias_variance=0.3),
]


def as_stax(mlp: MLP) -> tuple:
    stax = tangents.load().stax
    scales = {"W_std": mlp.weight_variance**0.5, "b_std": mlp.bias_variance**0.5 or None}
    hidden = [layer() for _ in range(mlp.depth) for layer in (
        lambda: stax.Dense(8, **scales), stax.Relu if mlp.activation == "relu" else stax.Erf)]  # fmt: skip
    return stax.serial(*hidden, stax.Dense(mlp.outputs, **scales))


@pytest.mark.parametrize("mlp", NETWORKS, ids=str)
def test_the_two_engines_agree(mlp: MLP) -> None:
    """1e-12 off the diagonal; its ReLU diagonal is known to be off by 5e-8."""
    for ours, theirs in zip(kernels.nngp_ntk(mlp, X1, X2), kernels.nngp_ntk(as_stax(mlp), X1, X2), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)
    for ours, theirs in zip(kernels.nngp_ntk(mlp, X1), tangents.nngp_ntk(as_stax(mlp)[2], X1), strict=True):
        off = ~np.eye(len(X1), dtype=bool)
        np.testing.assert_allclose(theirs[off], ours[off], rtol=1e-12)
        np.testing.assert_allclose(np.diag(theirs), np.diag(ours), rtol=1e-7)


def test_the_end_of_training_is_its_prediction() -> None:
    mlp = NETWORKS[3]
    nt = tangents.load()
    with jax.enable_x64(True):
        predict = nt.predict.gradient_descent_mse_ensemble(as_stax(mlp)[2], X1, Y, diag_reg=0.0)
        theirs = predict(x_test=X2, get="ntk", compute_cov=True)
    mean, covariance = infinite_width.trained_law(mlp, X1, Y, X2)
    np.testing.assert_allclose(theirs.mean, mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(theirs.covariance, covariance, rtol=1e-8, atol=1e-10)


def test_gradient_flow_is_the_limit_of_small_steps() -> None:
    """Its continuous time at t = 4 against 40,000 steps of 1e-4, to the first order that separates them."""
    mlp = NETWORKS[0]
    nt = tangents.load()
    with jax.enable_x64(True):
        predict = nt.predict.gradient_descent_mse_ensemble(as_stax(mlp)[2], X1, Y, diag_reg=0.0)
        theirs = predict(t=4.0, x_test=X2, get="ntk", compute_cov=True)
    mean, covariance = infinite_width.trained_law(mlp, X1, Y, X2, time=40_000, learning_rate=1e-4)
    np.testing.assert_allclose(theirs.mean, mean, atol=1e-4)
    np.testing.assert_allclose(theirs.covariance, covariance, atol=1e-4)


def test_a_convolutional_network_has_the_kernels_of_random_networks() -> None:
    """Mean over 600 networks of 64 channels within 4.5 standard errors and 5/64 (false alarm 1e-3 in all)."""
    stax = tangents.load().stax
    images = RNG.normal(size=(3, 4, 4, 2))
    init, apply, kernel_fn = stax.serial(
        stax.Conv(64, (3, 3), padding="SAME", W_std=1.4), stax.Relu(), stax.Flatten(), stax.Dense(1, W_std=1.0)
    )
    nngp, ntk = kernels.nngp_ntk((init, apply, kernel_fn), images)

    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        parameters = init(key, images.shape)[1]
        f = apply(parameters, images)[:, 0]
        jacobian = jax.tree.leaves(jax.jacobian(lambda p: apply(p, images)[:, 0])(parameters))
        flat = jax.numpy.concatenate([leaf.reshape(3, -1) for leaf in jacobian], axis=1)
        return f[:, None] * f[None, :], flat @ flat.T

    drawn = jax.lax.map(sample, jax.random.split(jax.random.key(3), 600), batch_size=50)
    for values, exact in zip(drawn, (nngp, ntk), strict=True):
        error = np.std(values, axis=0) / np.sqrt(600)
        assert (abs(np.mean(values, axis=0) - exact) < 4.5 * error + 5 / 64 * abs(exact)).all()
    law = infinite_width.trained_law(kernel_fn, images, Y[:3], RNG.normal(size=(2, 4, 4, 2)))
    assert np.isfinite(law[1]).all()


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 5)), np.array([[1.0, np.inf, 0, 0, 0]])])
def test_input_that_makes_no_sense_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="x1"):
        kernels.nngp_ntk(as_stax(NETWORKS[0]), bad)


def test_it_is_imported_only_when_asked_for() -> None:
    script = "import sys, ntkhpc.infinite_width, ntkhpc.phases.curve; print('neural_tangents' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "False"

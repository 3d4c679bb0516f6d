"""Leaps against training, linearised twins against brute force, and their parts against dense algebra."""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from ntkhpc import lanczos, leap_responses, leaps, optimisers, tangent_products, training, twins
from ntkhpc.lanes import Lanes
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm
from ntkhpc.output_scale import ONE, OutputScale

SAMPLES, FEATURES, WIDTH, STEPS, RATE = 14, 5, 16, 40, 0.3

CASES = [
    (MLP(1, "relu"), Algorithm(), ONE),
    (MLP(2, "erf", bias_variance=0.1, outputs=2), Algorithm("nesterov", 0.8, "warmup-cosine"), ONE),
    (MLP(3, "relu", outputs=2), Algorithm("momentum", 0.9), OutputScale(2.0, centred=True)),
]
"""Depth, activation, biases, outputs, momentum, schedules and output scales."""


def data(outputs: int = 1) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shapes = (SAMPLES, FEATURES), (SAMPLES, outputs), (7, FEATURES), (7, outputs)
    return tuple(rng.normal(size=shape) for shape in shapes)


def program(mlp: MLP, algorithm: Algorithm = optimisers.PLAIN, scale: OutputScale = ONE, **more: Any) -> Any:
    more = {"width": WIDTH, "precision": "float64", **more}
    return training.Program(mlp, trace_steps=(0, STEPS), algorithm=algorithm, output_scale=scale, **more)


def leapt(made: Any, *, members: Any = range(2), **how: Any) -> leaps.Leapt:
    return leaps.leap_tile(made, *data(made.mlp.outputs), learning_rate=RATE, seed=1, members=members, **how)


@pytest.mark.parametrize(("mlp", "algorithm", "scale"), CASES, ids=["plain", "nesterov", "momentum"])
def test_leaps_of_one_step_are_training(mlp: MLP, algorithm: Algorithm, scale: OutputScale) -> None:
    made = program(mlp, algorithm, scale)
    trained = training.train_tile(made, *data(mlp.outputs), learning_rate=RATE, seed=1, members=range(2))
    found = leapt(made, leaps=range(1, STEPS + 1))
    rounding = 1e-11 if algorithm.schedule == "constant" else 1e-7  # optax makes schedules in single precision
    np.testing.assert_allclose(found.predictions, trained.predictions, rtol=0, atol=rounding)
    np.testing.assert_allclose(found.train_loss, trained.train_loss[:, -1], rtol=10 * rounding)
    np.testing.assert_allclose(found.test_loss, trained.test_loss[:, -1], rtol=10 * rounding)
    assert (found.leaps == STEPS).all()


@pytest.mark.parametrize(("mlp", "algorithm", "scale"), CASES, ids=["plain", "nesterov", "momentum"])
def test_twins_are_linearised_networks_trained_step_by_step(mlp: MLP, algorithm: Algorithm, scale: OutputScale) -> None:
    made = program(mlp, algorithm, scale)
    found = twins.twin_tile(made, *data(mlp.outputs), learning_rate=RATE, seed=1, members=range(2))
    x, y, x_test, _ = data(mlp.outputs)
    with jax.enable_x64(True):
        for member in range(2):
            drawn = training.initial_weights(made, FEATURES)._draw(jnp.uint32(1), jnp.uint32(member))
            begun, shaped = jax.flatten_util.ravel_pytree(drawn)

            def outputs(flat: Any, at: Any, shaped: Any = shaped) -> Any:
                return mlp.of_width(WIDTH).apply(shaped(flat), at).reshape(-1)

            (start, start_test) = (np.asarray(outputs(begun, at)) for at in (x, x_test))
            (jacobian, jacobian_test) = (np.asarray(jax.jacobian(outputs)(begun, at)) for at in (x, x_test))
            aim = scale.gamma * y.reshape(-1) + (start if scale.centred else 0)
            moved, velocity = np.zeros((2, len(begun)))
            for eta in RATE * optimisers.multipliers(algorithm.schedule, STEPS):
                gradient = jacobian.T @ (start + jacobian @ moved - aim) / aim.size
                velocity = gradient + algorithm.momentum * velocity
                nesterov = algorithm.optimiser == "nesterov"
                moved = moved - eta * (gradient + algorithm.momentum * velocity if nesterov else velocity)
            expected = start_test + jacobian_test @ moved - (start_test if scale.centred else 0)
            np.testing.assert_allclose(found.predictions[member].reshape(-1), expected / scale.gamma, atol=1e-10)
            residual = (start + jacobian @ moved - aim) / scale.gamma
            np.testing.assert_allclose(found.train_loss[member], 0.5 * np.mean(residual**2), rtol=1e-9)
            np.testing.assert_allclose(found.kernel[member], np.mean((jacobian**2).sum(axis=1)), rtol=1e-12)


@pytest.mark.parametrize(("mlp", "algorithm", "scale"), CASES, ids=["plain", "nesterov", "momentum"])
def test_errors_fall_with_the_tolerance(mlp: MLP, algorithm: Algorithm, scale: OutputScale) -> None:
    made = program(mlp, algorithm, scale, precision="float32", width=256)
    truth = training.train_tile(made, *data(mlp.outputs), learning_rate=RATE, seed=1, members=range(8))
    deviations, counts, errors = [], [], []
    for tolerance in (0.3, 0.03, 0.003):
        found = leapt(made, members=range(8), tolerance=tolerance)
        deviations.append(np.sqrt(np.mean((found.test_loss / truth.test_loss[:, -1] - 1) ** 2)))
        counts.append(found.leaps.mean())
        errors.append(found.error.mean())
    assert deviations[0] > deviations[1] > deviations[2], deviations
    assert counts[0] < counts[1] < counts[2] <= STEPS, counts
    assert errors[0] > errors[1] > errors[2], errors
    assert deviations[1] < 0.05


def test_a_step_of_a_nearly_linear_network_deviates_little_and_the_next_leap_is_long() -> None:
    made = program(MLP(1, "erf"), width=4096, precision="float32")
    found = leapt(made, members=[0], tolerance=0.003)
    assert found.leaps[0] < STEPS / 3
    assert 0 < found.error[0] < 0.03


def test_a_member_has_the_same_bits_in_every_tile_and_side_by_side_the_same_loss() -> None:
    made = program(MLP(1, "relu"), precision="float32")
    found, alone = leapt(made, members=range(4)), leapt(made, members=[2])
    assert (found.predictions[2] == alone.predictions[0]).all()
    assert found.error[2] == alone.error[0]
    together = leapt(made, members=range(4), lanes=Lanes(3))
    np.testing.assert_allclose(together.test_loss, found.test_loss, rtol=1e-4)
    assert (together.leaps == found.leaps).all()


def test_the_twin_of_a_network_beyond_the_stability_bound_does_not_overflow() -> None:
    made, kernel = program(MLP(1, "relu"), precision="float32"), 0.0
    for rate in (RATE, 3 * SAMPLES):  # the largest eigenvalue of T is more than its mean: beyond 2 c/lambda_max
        rate = rate / max(kernel, 1)
        twin = twins.twin_tile(made, *data(), learning_rate=rate, seed=1, members=[1])
        kernel = float(twin.kernel[0])
        assert np.isfinite([twin.train_loss, twin.test_loss]).all()
    assert twin.train_loss[0] < 3


def test_fixed_leaps_end_where_they_are_told_to() -> None:
    assert leaps.boundaries(5, 1024) == (3, 32, 128, 341, 1024)
    assert leaps.boundaries(8, 1024) == (2, 6, 32, 64, 128, 256, 512, 1024)
    assert leaps.boundaries(5, 4) == (1, 3, 4)
    assert leaps.boundaries(5, 1) == (1,)
    assert leaps.boundaries([2, 9], 9) == (2, 9)
    for wrong in (6, [2, 8], [0, 9], [3, 3, 9], []):
        with pytest.raises(ValueError, match="leaps"):
            leaps.boundaries(wrong, 9)


def test_what_leaps_cannot_take_is_refused() -> None:
    refused = Algorithm("sgd", batch=4), Algorithm("adam"), Algorithm("gd", weight_decay=0.1)
    for algorithm in refused:
        for tile in (leaps.leap_tile, twins.twin_tile):
            with pytest.raises(ValueError, match="full-batch descent"):
                tile(program(MLP(1, "relu"), algorithm), *data(), learning_rate=RATE, seed=1, members=[0])
    for tolerance in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            leapt(program(MLP(1, "relu")), tolerance=tolerance)
    with pytest.raises(ValueError, match="no members"):
        leapt(program(MLP(1, "relu")), members=[])


@pytest.mark.parametrize("mlp", [case[0] for case in CASES] + [MLP(1, "erf", 1.5, 0.3, 3)], ids=str)
def test_the_kernel_as_a_matrix_is_the_product_of_jacobians(mlp: MLP) -> None:
    with jax.enable_x64(True):
        x, network = jnp.asarray(data()[0]), mlp.of_width(9)
        parameters = network.init(jax.random.key(0), FEATURES, jnp.float64)
        flat, shaped = jax.flatten_util.ravel_pytree(parameters)
        jacobian = np.asarray(jax.jacobian(lambda these: network.apply(shaped(these), x).reshape(-1))(flat))
        matrix = tangent_products.empirical_ntk(mlp, parameters, x, x @ x.T)
        np.testing.assert_allclose(matrix, jacobian @ jacobian.T, rtol=1e-12, atol=1e-12)
        vector = jnp.asarray(np.random.default_rng(1).normal(size=len(jacobian)))
        for gram in (x @ x.T, None):
            found = tangent_products.tangents(mlp, network, parameters, x, gram)
            np.testing.assert_allclose(found.product(vector), jacobian @ (jacobian.T @ vector), rtol=1e-11)
            transposed = jax.flatten_util.ravel_pytree(found.transposed(vector))[0]
            np.testing.assert_allclose(transposed, jacobian.T @ vector, rtol=1e-11, atol=1e-12)
        for known in (mlp, object()):  # by layers, and as of a network that is not fully connected
            diagonal = tangent_products.diagonal(known, network, parameters, x)
            np.testing.assert_allclose(diagonal, (jacobian**2).sum(axis=1), rtol=1e-12)


def test_functions_of_a_kernel_are_those_of_its_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    half, start = rng.normal(size=(60, 60)), rng.normal(size=60)
    matrix = half @ np.diag(np.geomspace(1, 1e-5, 60)) @ half.T
    values, vectors = np.linalg.eigh(matrix)
    with jax.enable_x64(True):
        space = lanczos.krylov(lambda v: matrix @ v, jnp.asarray(start), 40)
        gram = np.asarray(space.basis @ space.basis.T)
        np.testing.assert_allclose(gram, np.eye(40), atol=1e-12)
        expected = vectors @ (np.exp(-values) * (vectors.T @ start))
        np.testing.assert_allclose(space.applied(jnp.exp(-space.values)), expected, atol=1e-10)
        few = lanczos.krylov(lambda v: matrix @ v, jnp.asarray(start), 40, 3)  # exact for squares
        np.testing.assert_allclose(few.applied(few.values**2), matrix @ (matrix @ start), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("top", [0.5, 1.999])
@pytest.mark.parametrize("decay", [0.5, 1.5])
@pytest.mark.parametrize(("precision", "error"), [("float32", 5e-5), ("float64", 1e-12)])
def test_a_space_ends_when_it_holds_what_all_steps_leave(
    decay: float, top: float, precision: str, error: float
) -> None:
    """Eigenvalues fall as a power, the largest at half of the stability bound or just below it. The error is of |r|."""
    size, steps = 200, 800
    rng = np.random.default_rng(0)
    values = top * np.arange(1, size + 1) ** -decay
    vectors = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrix, start = (vectors * values) @ vectors.T, rng.normal(size=size)
    expected = vectors @ ((1 - values) ** steps * (vectors.T @ start))
    with jax.enable_x64(precision == "float64"):
        matrix_, start_ = jnp.asarray(matrix, precision), jnp.asarray(start, precision)
        enough = leap_responses.enough(optimisers.PLAIN, 1.0, 1, steps, start_.dtype)
        space = lanczos.krylov(lambda v: matrix_ @ v, start_, size, **enough)
        found = np.asarray(space.applied(1 - space.values * leap_responses.closed(space.values, 1.0, 1, steps)))
        products, beyond = int(space.products), np.asarray(space.basis[space.products :])
    assert np.linalg.norm(found - expected) < error * np.linalg.norm(start)
    assert 10 < products < 70
    assert (beyond == 0).all()


def test_an_invariant_subspace_and_no_start_at_all_end_the_basis() -> None:
    matrix = np.diag([3.0, 3.0, 1.0, 0.5])
    with jax.enable_x64(True):
        space = lanczos.krylov(lambda v: matrix @ v, jnp.asarray([1.0, 2.0, 0.0, 1.0]), 4)
        expected = np.sqrt(np.diag(matrix)) * [1.0, 2.0, 0.0, 1.0]
        found = space.applied(jnp.sqrt(jnp.maximum(space.values, 0)))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        nothing = lanczos.krylov(lambda v: matrix @ v, jnp.zeros(4), 4)
        assert (nothing.applied(jnp.ones(4)) == 0).all()


def test_plain_descent_in_closed_form_is_that_of_its_steps() -> None:
    """Also between half the stability bound and the bound, which networks of finite width often reach."""
    values = np.array([0.0, 1e-9, 1e-4, 0.2, 1.0, 3.0, 5.0, 5.9, 9.0, 9.9, 12.0])
    with jax.enable_x64(True):
        for steps in (1, 2, 7, 300):
            rate, c = 1.2, 6
            closed = leap_responses.closed(jnp.asarray(values), rate, c, steps)
            answers = leap_responses.stepped(jnp.asarray(values), optimisers.PLAIN, rate, c, 0, steps, jnp.ones(steps))
            np.testing.assert_allclose(closed, answers.of_residual.weights, rtol=1e-11)
            residual = np.ones(len(values))
            total = np.zeros(len(values))
            for _ in range(steps):
                total, residual = total + rate / c * residual, residual * (1 - rate * values / c)
            total[-1] = rate / c if steps == 1 else 1 / values[-1]  # beyond the bound
            np.testing.assert_allclose(closed, total, rtol=1e-11)


def test_twins_between_half_the_stability_bound_and_the_bound_are_trained_step_by_step_too() -> None:
    """Their largest modes change sign with every step; a twin without them has several times the loss."""
    made, (x, y, _, _) = program(MLP(1, "relu")), data()
    with jax.enable_x64(True):
        drawn = training.initial_weights(made, FEATURES)._draw(jnp.uint32(1), jnp.uint32(0))
        begun, shaped = jax.flatten_util.ravel_pytree(drawn)

        def outputs(flat: Any) -> Any:
            return made.mlp.of_width(WIDTH).apply(shaped(flat), x).reshape(-1)

        start, jacobian = np.asarray(outputs(begun)), np.asarray(jax.jacobian(outputs)(begun))
    kernel, residual = jacobian @ jacobian.T, start - y.reshape(-1)
    rate = 1.5 * SAMPLES / float(np.linalg.eigvalsh(kernel)[-1])
    for _ in range(STEPS):
        residual = residual - rate / SAMPLES * kernel @ residual
    found = twins.twin_tile(made, *data(), learning_rate=rate, seed=1, members=[0])
    np.testing.assert_allclose(found.train_loss, 0.5 * np.mean(residual**2), rtol=1e-8)

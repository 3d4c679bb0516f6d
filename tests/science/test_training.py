"""Training against plain NumPy written from the equations, and what a tile may not depend on."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkhpc import kernels, seeds, studies, training
from ntkhpc.lanes import MAPPED
from ntkhpc.networks import MLP
from ntkhpc.rises import sound_rises
from ntkhpc.studies.ensemble import data as data_phase
from ntkhpc.studies.ensemble import train as ensemble

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 5)), RNG.normal(size=(12, 2))
X_TEST, Y_TEST = RNG.normal(size=(7, 5)), RNG.normal(size=(7, 2))


def numpy_descent(mlp: MLP, parameters: list[list[np.ndarray]], eta: float, momentum: float, steps: int) -> np.ndarray:
    """Full-batch heavy-ball descent of a one-hidden-layer ReLU network; gradients by hand. Test predictions."""
    (w1, b1), (w2, b2) = parameters
    d, n = w1.shape
    s1, s2, sb = np.sqrt(mlp.weight_variance / d), np.sqrt(mlp.weight_variance / n), np.sqrt(mlp.bias_variance)
    velocity = [np.zeros_like(p) for p in (w1, b1, w2, b2)]
    for _ in range(steps):
        z = s1 * X @ w1 + sb * b1
        h = np.maximum(z, 0)
        residual = (s2 * h @ w2 + sb * b2 - Y) / Y.size
        back = s2 * (residual @ w2.T) * (z > 0)
        gradients = (s1 * X.T @ back, sb * back.sum(0), s2 * h.T @ residual, sb * residual.sum(0))
        velocity = [momentum * v + g for v, g in zip(velocity, gradients, strict=True)]
        w1, b1, w2, b2 = (p - eta * v for p, v in zip((w1, b1, w2, b2), velocity, strict=True))
    return s2 * np.maximum(s1 * X_TEST @ w1 + sb * b1, 0) @ w2 + sb * b2


@pytest.mark.promise("Training agrees with gradients written out in NumPy, to 10 digits, with momentum and without.")
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_training_is_full_batch_descent_of_the_normalised_cost(momentum: float) -> None:
    mlp = MLP(depth=1, activation="relu", bias_variance=0.2, outputs=2)
    program = training.Program(mlp, 16, (0, 3, 50), momentum=momentum, precision="float64")
    trained = training.train_tile(program, X, Y, X_TEST, Y_TEST, learning_rate=0.7, seed=3, members=[4, 9])
    for row, member in enumerate([4, 9]):
        with jax.enable_x64(True):
            layers = mlp.init(seeds.member_key(3, 16, member), 5, [16], np.float64)
        expected = numpy_descent(mlp, [[np.asarray(p) for p in layer] for layer in layers], 0.7, momentum, 50)
        np.testing.assert_allclose(trained.predictions[row], expected, rtol=1e-10, atol=1e-12)
        assert trained.test_loss[row, -1] == pytest.approx(((expected - Y_TEST) ** 2).mean() / 2, rel=1e-10)


@pytest.mark.promise(
    "Of networks trained one after another the bits do not depend on the others of the tile, nor on the place in it."
)
def test_a_member_does_not_depend_on_its_tile() -> None:
    program = training.Program(MLP(depth=2, activation="erf"), 24, (0, 20))

    def train(members: list[int]) -> training.Trained:
        data = (X, Y[:, :1], X_TEST, Y_TEST[:, :1])
        return training.train_tile(program, *data, learning_rate=0.3, seed=1, members=members, lanes=MAPPED)

    one, other = train([0, 1, 2, 3]), train([7, 2, 5, 0])
    np.testing.assert_array_equal(one.predictions[2], other.predictions[1])
    np.testing.assert_array_equal(one.predictions[0], other.predictions[3])
    assert (one.predictions[0] != one.predictions[1]).any()


def test_initial_outputs_have_the_variance_of_the_nngp_kernel() -> None:
    """2,000 networks: the sample variance within 4.5 standard errors (false alarm 1e-5)."""
    program = training.Program(MLP(depth=1, activation="relu"), 512, (0, 0))
    x_test = X_TEST[:1]
    drawn = training.train_tile(
        program, X, Y[:, :1], x_test, Y_TEST[:1, :1], learning_rate=0.0, seed=2, members=range(2000)
    ).predictions[:, 0, 0]
    expected = 2 * (x_test**2).mean()
    assert abs(drawn.var() / expected - 1) < 4.5 * np.sqrt(2 / 2000)
    assert abs(drawn.mean()) < 4.5 * np.sqrt(expected / 2000)


def test_divergence_is_recorded_per_member() -> None:
    """Far above the stability bound all explode; steps_done tells when losses were last finite."""
    mlp = MLP(depth=1, activation="relu")
    program = training.Program(mlp, 16, (0, 1, 2, 400))
    trained = training.train_tile(
        program, X, Y[:, :1], X_TEST, Y_TEST[:, :1], learning_rate=50.0, seed=0, members=range(4)
    )
    values = ensemble.tile_values(program.trace_steps, trained, Y_TEST[:, :1], 4)
    assert (values["status"] == ensemble.DIVERGED).all()
    assert (values["steps_done"] < 400).all()
    assert np.isnan(values["prediction_mean"]).all()


def test_learning_rates_are_the_fraction_of_the_stability_bound() -> None:
    """At the stated fraction below 1 the linear iteration on the leading mode contracts, above 1 it does not."""
    wanted = studies.loads(
        'name = "t"\n[data]\nsource = "calorimeter"\n[network]\nwidths = [8]\n[training]\nmomentum = 0.5\n'
        "[ensemble]\nn_train = [9, 12]\nmembers = 2"
    )
    order = np.arange(12)[None]
    lambda_max, rate = data_phase.learning_rates(wanted, X, order)
    assert lambda_max.shape == rate.shape == (1, 2)

    def grows(eta: float) -> bool:
        # Heavy ball on one mode: the spectral radius of its two-step matrix.
        curvature = lambda_max[0, 1] / 12
        step = np.array([[1 + 0.5 - eta * curvature, -0.5], [1.0, 0.0]])
        return max(abs(np.linalg.eigvals(step))) > 1

    assert not grows(1.99 * rate[0, 1])
    assert grows(2.01 * rate[0, 1])


def test_learning_rates_of_large_sizes_come_from_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of three sizes, of which two are beyond what is held whole."""
    wanted = studies.loads(
        'name = "t"\n[data]\nsource = "calorimeter"\n[network]\nwidths = [8]\ndepth = 2\n'
        "[ensemble]\nn_train = [9, 300, 520]\nmembers = 2\ndraws = 2"
    )
    rng = np.random.default_rng(3)
    x, order = rng.normal(size=(520, 6)), np.stack([rng.permutation(520) for _ in range(2)])
    whole = data_phase.learning_rates(wanted, x, order)
    monkeypatch.setattr(data_phase, "DENSE", 100)
    for found, expected in zip(data_phase.learning_rates(wanted, x, order), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.promise("300 networks of width 2048 follow the law of their own steps, and not that of fewer steps.")
def test_a_wide_ensemble_follows_the_exact_law_of_its_own_steps() -> None:
    """300 networks of width 2048 after 40 steps against G_t = I - (I - eta T/c)^t [arXiv:1902.06720].

    Mean and variance at each of 7 points within 4.5 standard errors and 2 % of the initial spread for the finite width
    (false alarm below 1e-4); a network trained for another number of steps is not within them.
    """
    mlp = MLP(depth=1, activation="relu")
    y, y_test = Y[:, :1], Y_TEST[:, :1]
    nngp, ntk = kernels.nngp_ntk(mlp, X)
    cross_nngp, cross_ntk = kernels.nngp_ntk(mlp, X_TEST, X)
    eta = 0.5 * 2 * len(X) / kernels.lambda_max(ntk)

    def law(steps: int) -> tuple[np.ndarray, np.ndarray]:
        g = np.eye(len(X)) - np.linalg.matrix_power(np.eye(len(X)) - eta * ntk / len(X), steps)
        a = cross_ntk @ np.linalg.solve(ntk, g)
        cross = a @ cross_nngp.T
        return (a @ y)[:, 0], np.diag(kernels.nngp_ntk(mlp, X_TEST)[0] - cross - cross.T + a @ nngp @ a.T)

    program = training.Program(mlp, 2048, (0, 40))
    f = training.train_tile(program, X, y, X_TEST, y_test, learning_rate=eta, seed=0, members=range(300)).predictions[
        ..., 0
    ]

    def agrees(mean: np.ndarray, variance: np.ndarray) -> bool:
        slack = 0.02 * np.sqrt(np.diag(kernels.nngp_ntk(mlp, X_TEST)[0]))
        same_mean = abs(f.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / 300) + slack
        same_variance = abs(f.var(axis=0, ddof=1) / variance - 1) < 4.5 * np.sqrt(2 / 299) + 0.02
        return bool(same_mean.all() and same_variance.all())

    assert agrees(*law(40))
    assert not agrees(*law(4))


def test_another_precision_starts_from_the_weights_that_were_drawn() -> None:
    """Before any step: the same numbers, and not those that the same key gives in the other precision."""
    mlp = MLP(depth=1, activation="relu", outputs=2)

    def start(precision: str, drawn: str) -> np.ndarray:
        program = training.Program(mlp, 16, (0, 0), precision=precision, drawn=drawn)
        return training.train_tile(program, X, Y, X_TEST, Y_TEST, learning_rate=0.0, seed=3, members=[4]).predictions[0]

    w1, w2 = (np.asarray(layer[0], np.float64) for layer in mlp.init(seeds.member_key(3, 16, 4), 5, [16]))
    expected = np.sqrt(2 / 16) * np.maximum(np.sqrt(2 / 5) * X_TEST @ w1, 0) @ w2
    np.testing.assert_allclose(start("float64", "float32"), expected, rtol=1e-12)
    np.testing.assert_allclose(start("float32", "float64"), start("float64", ""), rtol=1e-4, atol=1e-5)
    assert abs(start("float64", "") - expected).max() > 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("fraction", [0.5, 1.3])
def test_the_last_rise_of_the_training_loss_is_seen_and_watching_changes_no_bit(
    momentum: float, fraction: float
) -> None:
    """Against the loss of every step, at a rate below the stability bound of 8 networks and at one above it."""
    mlp, steps = MLP(depth=1, activation="relu"), 60
    bound = 2 * (1 + momentum) * len(X) / kernels.lambda_max(kernels.nngp_ntk(mlp, X)[1])

    def train(watched: bool, trace: tuple[int, ...]) -> training.Trained:
        program = training.Program(mlp, 8, trace, momentum, watched=watched)
        data = (X, Y[:, :1], X_TEST, Y_TEST[:, :1])
        return training.train_tile(program, *data, learning_rate=fraction * bound, seed=0, members=range(8))

    plain, watched = train(False, tuple(range(steps + 1))), train(True, (0, 7, steps))
    np.testing.assert_array_equal(plain.predictions, watched.predictions)
    assert (plain.last_rise == -1).all()
    loss = plain.train_loss.astype(np.float64)
    allowed = np.zeros(steps)
    sound = sound_rises(momentum, steps)
    allowed[: len(sound)] = sound
    with np.errstate(invalid="ignore"):  # of those that diverge
        rose = np.diff(loss, axis=1) > allowed * loss[:, :1] + 1e-5 * loss[:, :1]
    clearly = np.where(rose, np.arange(1, steps + 1), 0).max(axis=1)
    assert (watched.last_rise >= clearly).all()
    if not momentum:  # between that threshold and rounding there is no rise in these
        np.testing.assert_array_equal(watched.last_rise, clearly)
    assert (clearly > 0).any() or fraction < 1


@given(
    momentum=st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    weights=st.lists(st.floats(0.01, 1), min_size=6, max_size=6),
)
def test_no_stable_linear_model_rises_by_more_than_is_sound(
    momentum: float, fractions: list[float], weights: list[float]
) -> None:
    """Heavy-ball descent itself, of a quadratic cost with any curvatures up to the stability bound."""
    curvature = 2 * (1 + momentum) * np.array(fractions)
    theta, velocity = np.sqrt(weights[: len(curvature)]), np.zeros(len(curvature))
    losses = []
    for _ in range(301):
        losses.append((theta**2).sum())  # the loss of a mode is its residual squared
        velocity = momentum * velocity + curvature * theta
        theta = theta - velocity
    allowed = np.full(300, 1e-9)
    sound = sound_rises(momentum, 300)
    allowed[: len(sound)] = sound
    assert (np.diff(losses) <= 1.02 * allowed * losses[0] + 1e-9).all()


def test_what_is_sound_is_needed_and_dies_out() -> None:
    """A single mode rises as much at some curvature, and beyond the bound a loss rises by more without end."""
    for momentum in (0.3, 0.9):
        sound = sound_rises(momentum, 2000)
        assert len(sound) < 400
        assert sound.max() > 0.1
        x, growth = 2 * (1 + momentum) * 1.02, [1.0, 1 - 2 * (1 + momentum) * 1.02]
        for _ in range(1000):
            growth.append((1 + momentum - x) * growth[-1] - momentum * growth[-2])
        assert (np.diff(np.square(growth))[len(sound) :] > 0).all()
    assert len(sound_rises(0.0, 2000)) == 0

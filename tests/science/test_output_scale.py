"""Networks over gamma and centred ones: training against a loop in plain NumPy, laws against ensembles, stability."""

import math
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from ntkhpc import infinite_width, kernels, loss_law, minibatches, optimisers, output_scale, seeds, training
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm
from ntkhpc.output_scale import OutputScale

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(10, 4)), RNG.normal(size=(10, 2))
X_TEST, Y_TEST = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 2))
SEED, MEMBER, STEPS = 5, 2, 15

Layers = list[list[np.ndarray]]


def outputs(mlp: MLP, layers: Layers, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """g, and the preactivations of each hidden layer."""
    h, hidden = x, []
    for number, (w, *b) in enumerate(layers):
        z = math.sqrt(mlp.weight_variance / len(w)) * h @ w + (math.sqrt(mlp.bias_variance) * b[0] if b else 0)
        if number < len(layers) - 1:
            hidden.append(z)
            h = phi(mlp, z)
    return z, hidden


def phi(mlp: MLP, z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0) if mlp.activation == "relu" else np.vectorize(math.erf)(z)


def slope(mlp: MLP, z: np.ndarray) -> np.ndarray:
    return (z > 0) * 1.0 if mlp.activation == "relu" else 2 / math.sqrt(math.pi) * np.exp(-(z**2))


def gradients(mlp: MLP, layers: Layers, x: np.ndarray, back: np.ndarray) -> Layers:
    """sum_ak back_ak dg_ak/dtheta of each parameter, layer by layer from the last."""
    _, hidden = outputs(mlp, layers, x)
    found: Layers = []
    for number in reversed(range(len(layers))):
        w, *b = layers[number]
        below = phi(mlp, hidden[number - 1]) if number else x
        scale = math.sqrt(mlp.weight_variance / len(w))
        found.insert(0, [scale * below.T @ back, *([math.sqrt(mlp.bias_variance) * back.sum(axis=0)] if b else [])])
        if number:
            back = scale * (back @ w.T) * slope(mlp, hidden[number - 1])
    return found


def drawn(mlp: MLP, width: int, precision: type) -> Layers:
    with jax.enable_x64(precision == np.float64):
        key = seeds.member_key(SEED, width, MEMBER)
        made = mlp.init(key, X.shape[1], [width] * mlp.depth, precision)
    return [[np.asarray(one, np.float64) for one in layer] for layer in made]


def batches(algorithm: Algorithm) -> Iterator[np.ndarray]:
    for s in range(STEPS):
        if not algorithm.batch:
            yield np.arange(len(X))
            continue
        epoch, place = divmod(s, len(X) // algorithm.batch)
        order = np.asarray(minibatches.epoch_order(seeds.order_key(SEED, None), epoch, len(X)))
        yield order[place * algorithm.batch : (place + 1) * algorithm.batch]


def by_hand(
    mlp: MLP, width: int, scale: OutputScale, algorithm: Algorithm, eta: float, precision: type = np.float64
) -> tuple[list[float], np.ndarray]:
    """Losses of f = [g(theta) - g(theta_0)]/gamma, or g/gamma, at the rate eta gamma^2, as it is written: the training
    loss before each step and after the last, and f at the test points."""
    theta, start = drawn(mlp, width, precision), drawn(mlp, width, precision)
    velocity = [[0 * one for one in layer] for layer in theta]

    def f(x: np.ndarray) -> np.ndarray:
        before = outputs(mlp, start, x)[0] if scale.centred else 0
        return (outputs(mlp, theta, x)[0] - before) / scale.gamma

    losses = []
    for chosen in batches(algorithm):
        losses.append(float(((f(X) - Y) ** 2).mean() / 2))
        x, y = X[chosen], Y[chosen]
        back = (f(x) - y) / y.size / scale.gamma
        beta, nesterov = algorithm.momentum, algorithm.optimiser == "nesterov"
        for layer, (at, found) in enumerate(zip(theta, gradients(mlp, theta, x, back), strict=True)):
            for number, gradient in enumerate(found):
                v = velocity[layer][number] = gradient + beta * velocity[layer][number]
                step = gradient + beta * v if nesterov else v
                rest = start[layer][number] if algorithm.decay_towards == "start" else 0
                decayed = eta * algorithm.weight_decay * (at[number] - rest)
                at[number] = at[number] - eta * scale.gamma**2 * step - decayed
    losses.append(float(((f(X) - Y) ** 2).mean() / 2))
    return losses, f(X_TEST)


CASES = [
    (MLP(1, "relu", outputs=2), OutputScale(3.0), Algorithm()),
    (MLP(2, "erf", bias_variance=0.3, outputs=2), OutputScale(0.5, centred=True), Algorithm()),
    (MLP(2, "relu", outputs=2), output_scale.mean_field(1.0, 16, centred=True), Algorithm("nesterov", 0.5)),
    (MLP(1, "erf", bias_variance=0.1, outputs=2), output_scale.mean_field(0.5, 16), Algorithm("sgd", batch=4)),
    (MLP(1, "relu", outputs=2), OutputScale(2.0, centred=True), Algorithm("sgd", batch=3)),
    (MLP(1, "relu", outputs=2), OutputScale(2.0), Algorithm("gd", weight_decay=0.1)),
    (MLP(1, "relu", outputs=2), OutputScale(2.0, centred=True),
     Algorithm("momentum", 0.6, weight_decay=0.1, decay_towards="start")),
]  # fmt: skip


@pytest.mark.promise(
    "Networks over gamma, and centred ones, train as a loop in plain NumPy at the rate eta gamma^2 does."
)
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize(("precision", "digits"), [("float64", 1e-9), ("float32", 1e-5)])
def test_each_step_is_that_of_plain_numpy(case: int, precision: str, digits: float) -> None:
    mlp, scale, algorithm = CASES[case]
    program = training.Program(
        mlp, 16, tuple(range(STEPS + 1)), precision=precision, algorithm=algorithm, output_scale=scale
    )
    data = (X, Y, X_TEST, Y_TEST)
    trained = training.train_tile(program, *data, learning_rate=0.2, seed=SEED, members=[MEMBER])
    losses, predictions = by_hand(mlp, 16, scale, algorithm, 0.2, np.dtype(precision).type)
    np.testing.assert_allclose(trained.train_loss[0], losses, rtol=digits)
    np.testing.assert_allclose(trained.predictions[0], predictions, rtol=10 * digits, atol=10 * digits)
    assert trained.test_loss[0, -1] == pytest.approx(((predictions - Y_TEST) ** 2).mean() / 2, rel=10 * digits)
    if scale.centred:
        assert losses[0] == pytest.approx((Y**2).mean() / 2)
    other = by_hand(mlp, 16, OutputScale(scale.gamma, not scale.centred), algorithm, 0.2)[0]
    assert abs(other[-1] / losses[-1] - 1) > 1e-3


def test_gamma_one_is_the_program_without_a_scale_bit_for_bit() -> None:
    mlp, data = MLP(2, "relu", outputs=2), (X, Y, X_TEST, Y_TEST)
    found = [
        training.train_tile(program, *data, learning_rate=0.3, seed=1, members=[0, 1])
        for program in (
            training.Program(mlp, 16, (0, 20), watched=True),
            training.Program(mlp, 16, (0, 20), watched=True, output_scale=OutputScale(1.0)),
        )
    ]
    np.testing.assert_array_equal(found[0].predictions, found[1].predictions)
    np.testing.assert_array_equal(found[0].train_loss, found[1].train_loss)


def half_bound(mlp: MLP) -> float:
    return len(X) * mlp.outputs / kernels.lambda_max(kernels.nngp_ntk(mlp, X)[1])


@pytest.mark.promise("300 networks of width 2048 over gamma = 3 follow the law with the covariance over gamma^2.")
def test_a_wide_ensemble_over_gamma_follows_the_lazy_law() -> None:
    """Mean and variance at each of 6 points and 2 outputs within 4.5 standard errors (24 numbers: false alarm 2e-4)
    and, for the finite width, 20/width of the mean and 10 % of the variance. The law of gamma = 1 has 9 times it."""
    mlp, scale, members = MLP(1, "relu", outputs=2), OutputScale(3.0), 300
    rate = half_bound(mlp) / 2
    law = {"time": 40, "learning_rate": rate}
    mean, covariance = infinite_width.trained_law(mlp, X, Y, X_TEST, **law, output_scale=scale)
    program = training.Program(mlp, 2048, (0, 40), output_scale=scale)
    found = training.train_tile(
        program, X, Y, X_TEST, Y_TEST, learning_rate=rate, seed=SEED, members=range(members)
    ).predictions.astype(float)
    variance = np.diag(covariance)[:, None]
    assert (abs(found.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / members) + 20 / 2048).all()
    ratio = found.var(axis=0, ddof=1) / variance
    assert (abs(ratio - 1) < 4.5 * math.sqrt(2 / members) + 0.1).all()
    plain = infinite_width.trained_law(mlp, X, Y, X_TEST, **law)
    np.testing.assert_allclose(plain[0], mean)
    np.testing.assert_allclose(plain[1], 9 * covariance)


def test_members_of_wide_centred_networks_are_nearly_one() -> None:
    """Their law has no spread. At finite width the variance falls as 1/n, by two to eight from 128 to 512, where it is
    less than a twentieth of that of uncentred networks. The mean is within 4.5 standard errors and 8/width; 40 members.
    """
    mlp, scale = MLP(1, "relu", outputs=2), OutputScale(1.0, centred=True)
    mean, covariance = infinite_width.trained_law(mlp, X, Y, X_TEST, time=40, output_scale=scale)
    uncentred = np.diag(infinite_width.trained_law(mlp, X, Y, X_TEST, time=40)[1]).mean()
    assert not covariance.any()
    spread = {}
    for width in (128, 512):
        program = training.Program(mlp, width, (0, 40), output_scale=scale)
        found = training.train_tile(
            program, X, Y, X_TEST, Y_TEST, learning_rate=half_bound(mlp), seed=SEED, members=range(40)
        ).predictions.astype(float)
        spread[width] = found.var(axis=0, ddof=1).mean()
        error = 4.5 * found.std(axis=0, ddof=1) / math.sqrt(40)
        assert (abs(found.mean(axis=0) - mean) < error + 8 / width).all()
    assert spread[512] < 0.05 * uncentred
    assert 2 < spread[128] / spread[512] < 8


def test_the_law_of_the_loss_without_spread_is_one_number() -> None:
    mean, covariance = infinite_width.trained_law(
        MLP(1, "relu", outputs=2), X, Y, X_TEST, time=40, output_scale=OutputScale(2.0, centred=True)
    )
    expected = ((mean - Y_TEST) ** 2).mean() / 2
    found = loss_law.statistics(mean, covariance, Y_TEST, [3, 6])
    assert found.mu_L == pytest.approx(expected)
    assert (found.sigma2_L, found.eps_L, found.eps_pop, found.size_variance) == (0, 0, 0, (0, 0))
    quantiles = loss_law.quantiles(mean, covariance, Y_TEST, np.array([0.01, 0.5, 0.99]))
    np.testing.assert_allclose(quantiles, expected)


@pytest.mark.parametrize("algorithm", [Algorithm("nesterov", 0.5, "cosine"), Algorithm("gd", weight_decay=0.05)])
def test_laws_of_other_algorithms_are_over_gamma_too(algorithm: Algorithm) -> None:
    """200 networks of width 2048 over gamma = 4: the mean of L within 4.5 standard errors and 3 %."""
    mlp, scale = MLP(1, "relu", outputs=2), OutputScale(4.0)
    law = infinite_width.trained_law(
        mlp, X, Y, X_TEST, time=30, learning_rate=0.5 * half_bound(mlp), optimiser=algorithm, output_scale=scale
    )
    expected = loss_law.statistics(*law, Y_TEST)
    program = training.Program(mlp, 2048, (0, 30), algorithm=algorithm, output_scale=scale)
    found = training.train_tile(
        program, X, Y, X_TEST, Y_TEST, learning_rate=0.5 * half_bound(mlp), seed=SEED, members=range(200)
    ).test_loss[:, -1]
    assert abs(found.mean() / expected.mu_L - 1) < 4.5 * expected.eps_L / math.sqrt(200) + 0.03


@pytest.mark.parametrize("gamma", [0.3, 1.0, 4.0])
def test_the_stability_bound_has_no_gamma(gamma: float) -> None:
    """Width 2048: the loss never rises at 0.9 of the bound, and explodes or rises at 1.1 of it."""
    mlp = MLP(1, "relu", outputs=2)

    def trained(share: float) -> training.Trained:
        program = training.Program(mlp, 2048, (0, 60), watched=True, output_scale=OutputScale(gamma))
        return training.train_tile(
            program, X, Y, X_TEST, Y_TEST, learning_rate=2 * share * half_bound(mlp), seed=SEED, members=range(4)
        )

    assert (trained(0.9).last_rise == 0).all()
    assert (trained(1.1).last_rise > 0).all()


@pytest.mark.parametrize("depth", [1, 3])
def test_the_rate_that_is_lowered_beyond_gamma0_one_is_stable(depth: int) -> None:
    """gamma0 = 4, a linear target of mean square 1: at half the bound of a linear model networks explode, or their loss
    goes up and down to the end; with the factor they learn."""
    mlp, gamma0, rng = MLP(depth, "relu"), 4.0, np.random.default_rng(2)
    x, weights = rng.normal(size=(24, 5)), rng.normal(size=(5, 1))
    y = x @ weights / math.sqrt(((x @ weights) ** 2).mean())
    half = 24 / kernels.lambda_max(kernels.nngp_ntk(mlp, x)[1])

    def trained(factor: float) -> tuple[np.ndarray, np.ndarray]:
        scale = output_scale.mean_field(gamma0, 128)
        program = training.Program(mlp, 128, (0, 300), watched=True, output_scale=scale)
        found = training.train_tile(
            program, x, y, x[:2], y[:2], learning_rate=factor * half, seed=SEED, members=range(8)
        )
        return found.train_loss[:, -1] / found.train_loss[:, 0], found.last_rise

    left, last = trained(1.0)
    assert (~np.isfinite(left) | (last > 270)).all()
    left, _ = trained(output_scale.rate_factor(gamma0, depth))
    assert (left < 1e-3).all()
    assert output_scale.rate_factor(0.5, depth) == output_scale.rate_factor(1.0, depth) == 1
    assert output_scale.rate_factor(2.0, 1) == pytest.approx(1 / 2)


def test_rounding_of_what_is_subtracted_is_no_rise() -> None:
    """Centred networks with a gamma so small that their residuals are near the resolution of what is subtracted."""
    program = training.Program(
        MLP(1, "relu", outputs=2), 2048, (0, 300), watched=True, output_scale=OutputScale(1e-3, centred=True)
    )
    trained = training.train_tile(
        program, X, Y, X_TEST, Y_TEST, learning_rate=half_bound(MLP(1, "relu", outputs=2)), seed=SEED, members=range(4)
    )
    assert (trained.train_loss[:, -1] < 0.1 * trained.train_loss[:, 0]).all()
    assert (trained.last_rise == 0).all()


def test_rates_of_single_layers_are_those_of_plain_numpy() -> None:
    """Adam in the mu-parametrisation, two hidden layers: weights between them learn at eta/sqrt(width)."""
    mlp, width, eta = MLP(2, "relu", bias_variance=0.2, outputs=2), 16, 0.05
    scale = output_scale.mean_field(0.5, width)
    program = training.Program(
        mlp, width, tuple(range(STEPS + 1)), precision="float64", algorithm=Algorithm("adam"), output_scale=scale,
        layerwise=True,
    )  # fmt: skip
    data = (X, Y, X_TEST, Y_TEST)
    trained = training.train_tile(program, *data, learning_rate=eta, seed=SEED, members=[MEMBER])
    theta, losses = drawn(mlp, width, np.float64), []
    m, q = ([[0 * one for one in layer] for layer in theta] for _ in range(2))
    for s in range(STEPS + 1):
        g = outputs(mlp, theta, X)[0]
        losses.append(((g / scale.gamma - Y) ** 2).mean() / 2)
        # The gradient of gamma^2 C, of which Adam keeps nothing but the sign and 1e-8.
        for layer, found in enumerate(gradients(mlp, theta, X, (g - scale.gamma * Y) / Y.size)):
            for number, gradient in enumerate(found):
                m[layer][number] = 0.9 * m[layer][number] + 0.1 * gradient
                q[layer][number] = 0.999 * q[layer][number] + 0.001 * gradient**2
                first, second = m[layer][number] / (1 - 0.9 ** (s + 1)), q[layer][number] / (1 - 0.999 ** (s + 1))
                rate = eta / math.sqrt(width) if (layer, number) == (1, 0) else eta
                theta[layer][number] = theta[layer][number] - rate * first / (np.sqrt(second) + 1e-8)
    np.testing.assert_allclose(trained.train_loss[0], losses, rtol=1e-8)


def test_adam_in_the_mu_parametrisation_changes_outputs_alike_at_every_width() -> None:
    """After 5 steps, of 4 members: within 20 % from width 64 to 256, where one rate for all layers makes it more than
    1.4 times as much."""
    mlp = MLP(2, "relu")

    def moved(width: int, layerwise: bool, eta: float) -> float:
        program = training.Program(
            mlp, width, (0, 5), algorithm=Algorithm("adam"), layerwise=layerwise,
            output_scale=output_scale.mean_field(1.0, width, centred=True),
        )  # fmt: skip
        found = training.train_tile(
            program, X, Y[:, :1], X_TEST, Y_TEST[:, :1], learning_rate=eta, seed=SEED, members=range(4)
        )
        return float(np.sqrt((found.predictions**2).mean()))

    assert moved(256, True, 0.01) / moved(64, True, 0.01) == pytest.approx(1, abs=0.2)
    assert moved(256, False, 0.01 * 16) / moved(64, False, 0.01 * 8) > 1.4


def test_what_is_not_known_of_scaled_networks_is_refused() -> None:
    given = (MLP(1, "relu", outputs=2), X, Y, X_TEST)
    with pytest.raises(ValueError, match="gamma = 0"):
        OutputScale(0.0)
    with pytest.raises(ValueError, match="posterior"):
        infinite_width.trained_law(*given, kind="nngp", ridge=0.1, output_scale=OutputScale(2.0))
    with pytest.raises(ValueError, match="no known law of centred"):
        infinite_width.trained_law(
            *given, time=5, optimiser=Algorithm(weight_decay=0.1), output_scale=OutputScale(centred=True)
        )
    with pytest.raises(ValueError, match="fully connected"):
        training.Program(object(), 4, (0, 1), layerwise=True)


def test_the_curve_of_a_scale_is_that_of_its_laws() -> None:
    given = (MLP(1, "relu", outputs=2), X, Y, X_TEST, Y_TEST, [5, 10])
    plain = infinite_width.learning_curve(*given, time=20)
    found = infinite_width.learning_curve(*given, time=20, output_scale=OutputScale(2.0))
    np.testing.assert_allclose(found.variance, plain.variance / 4)
    np.testing.assert_allclose(found.bias2, plain.bias2)
    ends = infinite_width.learning_curve(*given, output_scale=OutputScale(2.0, centred=True))
    assert (ends.eps_L == 0).all()


def test_layers_have_their_scales() -> None:
    parameters = MLP(3, "relu", bias_variance=0.1).init(jax.random.key(0), 4, [16, 16, 16])
    assert optimisers.layer_scales(parameters, 16) == ((1, 1), (0.25, 1), (0.25, 1), (1, 1))

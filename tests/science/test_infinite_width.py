"""Laws against the affine iteration they sum up, direct solves, and wide ensembles."""

import math

import numpy as np
import pytest
from scipy import stats

from ntkhpc import infinite_width, kernels, loss_law, training
from ntkhpc.errors import DataError
from ntkhpc.networks import MLP

RNG = np.random.default_rng(0)
N, M, OUTPUTS = 14, 6, 2
X, Y = RNG.normal(size=(N, 5)), RNG.normal(size=(N, OUTPUTS))
X_TEST, Y_TEST = RNG.normal(size=(M, 5)), RNG.normal(size=(M, OUTPUTS))
NETWORKS = [MLP(1, "relu"), MLP(2, "erf", 1.5, 0.2)]
names = ["relu", "erf"]


def iterated(mlp: MLP, steps: int, rate: float, momentum: float, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance at the test points by iterating the linearised network's descent on its coefficients.

    f = f_0 + T a, a <- a - rate/c [(T + ridge at the training points) a + f_0 - y]: affine in f_0, so its matrix is
    found by running it on unit vectors.
    """
    everything = np.concatenate([X, X_TEST])
    nngp, ntk = kernels.nngp_ntk(mlp, everything)
    c = N * OUTPUTS
    response, velocity = np.zeros((N, N)), np.zeros((N, N))  # a = response (y - f_0)
    for _ in range(steps):
        velocity = momentum * velocity + (ntk[:N, :N] + ridge * np.eye(N)) @ response - np.eye(N)
        response = response - rate / c * velocity
    a = ntk[N:, :N] @ response
    whole = np.hstack([-a, np.eye(M)])
    return a @ Y, whole @ nngp @ whole.T


@pytest.mark.promise("The law after t steps agrees with the linearised descent iterated t times, to 9 digits.")
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
@pytest.mark.parametrize(("momentum", "ridge"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.3), (0.6, 0.3)])
@pytest.mark.parametrize("steps", [0, 1, 2, 37, 500])
def test_the_law_is_that_of_the_iterated_descent(mlp: MLP, momentum: float, ridge: float, steps: int) -> None:
    largest = kernels.lambda_max(kernels.nngp_ntk(mlp, X)[1]) + ridge
    rate = 0.5 * 2 * (1 + momentum) * N * OUTPUTS / largest
    settings = {"momentum": momentum, "ridge": ridge, "time": steps}
    expected = iterated(mlp, steps, rate, momentum, ridge)
    for given in ({}, {"learning_rate": rate}):
        found = infinite_width.trained_law(mlp, X, Y, X_TEST, **settings, **given)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.promise("The law of the end of training agrees with its closed form, to 9 digits.")
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_end_of_training_is_the_direct_solution(mlp: MLP, ridge: float) -> None:
    nngp, ntk = kernels.nngp_ntk(mlp, X)
    cross_nngp, cross_ntk = kernels.nngp_ntk(mlp, X_TEST, X)
    a = cross_ntk @ np.linalg.inv(ntk + ridge * np.eye(N))
    test = kernels.nngp_ntk(mlp, X_TEST)[0]
    covariance = test - a @ cross_nngp.T - cross_nngp @ a.T + a @ nngp @ a.T
    found = infinite_width.trained_law(mlp, X, Y, X_TEST, ridge=ridge)
    np.testing.assert_allclose(found[0], a @ Y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found[1], covariance, rtol=1e-9, atol=1e-11)
    late = infinite_width.trained_law(mlp, X, Y, X_TEST, ridge=ridge, time=1e9)
    np.testing.assert_allclose(late[0], found[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(late[1], found[1], rtol=1e-6, atol=1e-8)


def test_the_posterior_is_gaussian_conditioning() -> None:
    """Conditions the joint Gaussian of noisy training and clean test values by its inverse (a Schur complement)."""
    mlp, noise = NETWORKS[0], 0.1
    joint = kernels.nngp_ntk(mlp, np.concatenate([X, X_TEST]))[0]
    joint[:N, :N] += noise * np.eye(N)
    precision = np.linalg.inv(joint)
    covariance = np.linalg.inv(precision[N:, N:])
    found = infinite_width.trained_law(mlp, X, Y, X_TEST, ridge=noise, kind="nngp")
    np.testing.assert_allclose(found[0], -covariance @ precision[N:, :N] @ Y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found[1], covariance, rtol=1e-9, atol=1e-11)


SETTINGS = [
    {}, {"ridge": 0.2}, {"kind": "nngp", "ridge": 0.2}, {"time": 30}, {"time": lambda n: 4 * n, "momentum": 0.5},
]  # fmt: skip


@pytest.mark.promise(
    "Every size of a learning curve agrees with the law of that size computed by itself, to 10 digits."
)
@pytest.mark.parametrize("settings", SETTINGS, ids=["inf", "ridge", "nngp", "steps", "rule"])
def test_a_curve_is_every_size_by_itself(settings: dict) -> None:
    sizes = [3, 7, 8, N]
    curve = infinite_width.learning_curve(NETWORKS[0], X, Y, X_TEST, Y_TEST, sizes, **settings)
    assert list(curve) == list(loss_law.COLUMNS)
    for n in sizes:
        own = {**settings, "time": settings["time"](n)} if callable(settings.get("time")) else settings
        law = infinite_width.trained_law(NETWORKS[0], X[:n], Y[:n], X_TEST, **own)
        statistics = loss_law.statistics(*law, Y_TEST)
        for name in loss_law.COLUMNS:
            assert float(curve[name].sel(n_train=n)) == pytest.approx(getattr(statistics, name), rel=1e-10), name


def test_nested_laws_of_hundreds_of_points_are_direct_solutions() -> None:
    x, y = RNG.normal(size=(300, 8)), RNG.normal(size=(300, 1))
    blocks = infinite_width.panels(NETWORKS[0], x, X_TEST_8 := RNG.normal(size=(40, 8)))
    for n, (mean, covariance) in zip(
        [100, 211, 300], infinite_width.nested_laws(blocks, y, [100, 211, 300]), strict=True
    ):
        nngp, ntk = kernels.nngp_ntk(NETWORKS[0], x[:n])
        cross_nngp, cross_ntk = kernels.nngp_ntk(NETWORKS[0], X_TEST_8, x[:n])
        a = np.linalg.solve(ntk, cross_ntk.T).T
        direct = blocks.nngp_test - a @ cross_nngp.T - cross_nngp @ a.T + a @ nngp @ a.T
        np.testing.assert_allclose(mean, a @ y[:n], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(covariance, direct, rtol=1e-10, atol=1e-10 * direct.max())


def test_slow_modes_keep_their_digits() -> None:
    """G(l)/l of an eigenvalue 1e-12 of the largest after one step is the step itself."""
    values = np.array([0.0, 1e-12, 1.0])
    for momentum in (0.0, 0.7):
        slow = infinite_width.Training(time=1, momentum=momentum)
        np.testing.assert_allclose(infinite_width.filtered_inverse(values, slow, 0.9), [0.9] * 3, rtol=1e-12)
        later = infinite_width.Training(time=3, momentum=momentum)
        path = 3 + 2 * momentum + momentum**2
        found = infinite_width.filtered_inverse(values, later, 0.9)
        np.testing.assert_allclose(found[:2], 0.9 * path, rtol=1e-10)


def whitened(f: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """Probability of a larger chi-squared of an ensemble's mean and second moments, whitened by the law.

    f is (members, points). Mean: M d^T Sigma^-1 d ~ chi2_m. Second moments z z^T of whitened members: the m(m+1)/2
    entries of their mean, less the identity, have variances (1 + [a = b])/M and are uncorrelated.
    """
    members, points = f.shape
    z = np.linalg.solve(np.linalg.cholesky(covariance), (f - mean).T)
    chi2 = members * (z.mean(axis=1) ** 2).sum()
    excess = (z @ z.T / members - np.eye(points))[np.tril_indices(points)]
    variance = (1 + np.eye(points)[np.tril_indices(points)]) / members
    chi2 += (excess**2 / variance).sum()
    return float(stats.chi2(points + len(excess)).sf(chi2))


@pytest.mark.promise("3,000 networks of width 2048 obey the law in mean and covariance; 3,000 of width 128 do not.")
def test_a_wide_ensemble_obeys_the_law_and_a_width_128_ensemble_does_not() -> None:
    """Whitened chi-squared of mean and covariance at 6 points, 3,000 networks; false alarm 1e-3, seeds fixed."""
    mlp, points, steps, members = NETWORKS[0], M, 56, 3000
    y, x_test, y_test = Y[:, :1], X_TEST[:points], Y_TEST[:points, :1]
    rate = 0.5 * 2 * N / kernels.lambda_max(kernels.nngp_ntk(mlp, X)[1])
    mean, covariance = infinite_width.trained_law(mlp, X, y, x_test, time=steps)

    def ensemble(width: int) -> np.ndarray:
        program = training.Program(mlp, width, (0, steps))
        data = (X, y, x_test, y_test)
        trained = training.train_tile(program, *data, learning_rate=rate, seed=11, members=range(members))
        return trained.predictions[..., 0]

    wide = ensemble(2048)
    assert whitened(wide, mean[:, 0], covariance) > 1e-3
    assert whitened(ensemble(128), mean[:, 0], covariance) < 1e-3
    other = infinite_width.trained_law(mlp, X, y, x_test, time=4 * steps)
    assert whitened(wide, other[0][:, 0], other[1]) < 1e-6


def test_equal_training_inputs_are_named() -> None:
    x = X.copy()
    x[9] = 2 * x[4]
    with pytest.raises(DataError, match="4 and 9 are equal") as refusal:
        infinite_width.trained_law(NETWORKS[0], x, Y, X_TEST)
    assert refusal.value.rows == (4, 9)
    mean, _ = infinite_width.trained_law(NETWORKS[0], x, Y, X_TEST, ridge=0.1)
    assert np.isfinite(mean).all()
    x[9] = 1e-9 * X[9]  # small is not singular
    assert np.isfinite(infinite_width.trained_law(NETWORKS[0], x, Y, X_TEST)[0]).all()
    x[9] = 0
    with pytest.raises(DataError, match=r"input 9 is zero|9 are equal"):
        infinite_width.trained_law(MLP(depth=1, activation="relu"), x, Y, X_TEST)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": 10, "learning_rate": 1e4}, "diverges"),
        ({"time": 1.5}, "whole number"),
        ({"time": -1}, "whole number"),
        ({"time": 10, "momentum": 1.0}, "momentum"),
        ({"time": 10, "kind": "nngp"}, "knows no time"),
        ({"kind": "gp"}, "neither"),
        ({"kind": "gp", "time": 5}, "neither"),
        ({"ridge": -0.1, "time": 5}, "ridge"),
        ({"time": 5, "learning_rate_fraction": 1.0}, "learning_rate_fraction"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infinite_width.trained_law(NETWORKS[0], X, Y, X_TEST, **settings)


@pytest.mark.parametrize("sizes", [[], [3, 3], [5, 4], [0, 4], [4, N + 1]])
def test_sizes_that_make_no_sense_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="train_sizes"):
        infinite_width.learning_curve(NETWORKS[0], X, Y, X_TEST, Y_TEST, sizes)


def test_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="targets of shape"):
        infinite_width.trained_law(NETWORKS[0], X, Y[:-1], X_TEST)
    with pytest.raises(ValueError, match="targets of shape"):
        infinite_width.trained_law(NETWORKS[0], X, Y[:, 0], X_TEST, time=math.inf)

"""Joint cumulants of losses of the same networks, against the law of one and against samples."""

import numpy as np
import pytest

from ntkhpc import infinite_width, loss_law
from ntkhpc.joint_loss import joint_cumulants, log_covariances, log_errors
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm

RNG = np.random.default_rng(4)
SETS, POINTS, OUTPUTS, HIDDEN = 3, 6, 2, 8
MAPS = [RNG.normal(size=(POINTS, HIDDEN)) / 3 + 0.2 * np.eye(POINTS, HIDDEN) for _ in range(SETS)]
MEANS = [RNG.normal(size=(POINTS, OUTPUTS)) for _ in range(SETS)]
FOUND = joint_cumulants(MEANS, lambda i, j: MAPS[i] @ MAPS[j].T)


@pytest.fixture(scope="module")
def losses() -> np.ndarray:
    """(sets, networks): Gaussian outputs with these means and covariances between sets."""
    g = np.random.default_rng(5).normal(size=(400_000, HIDDEN, OUTPUTS))
    return np.array([((m + t @ g) ** 2).mean(axis=(1, 2)) / 2 for m, t in zip(MEANS, MAPS, strict=True)])


def test_of_one_set_they_are_the_cumulants_of_the_law() -> None:
    for i in range(SETS):
        known = loss_law.loss_moments(MEANS[i], MAPS[i] @ MAPS[i].T, np.zeros_like(MEANS[i]))
        diagonal = [FOUND.first[i], FOUND.second[i, i], FOUND.third[i, i], FOUND.fourth[i, i]]
        assert diagonal == pytest.approx(known, rel=1e-12)


def test_of_two_sets_they_are_those_of_samples(losses: np.ndarray) -> None:
    """Means of products of centred losses, within 5 standard errors (21 numbers: a false alarm in 80,000)."""
    x = losses - FOUND.first[:, None]

    def near(values: np.ndarray, truth: float) -> bool:
        return bool(abs(values.mean() - truth) < 5 * values.std() / np.sqrt(values.size))

    for i in range(SETS):
        assert near(x[i], 0.0)
        for j in range(SETS):
            if i <= j:
                assert near(x[i] * x[j], FOUND.second[i, j])
                products = FOUND.second[i, i] * FOUND.second[j, j] + 2 * FOUND.second[i, j] ** 2
                assert near(x[i] ** 2 * x[j] ** 2, FOUND.fourth[i, j] + products)
            assert near(x[i] ** 2 * x[j], FOUND.third[i, j])


def test_errors_of_logarithms_are_those_of_many_small_ensembles(losses: np.ndarray) -> None:
    """1,000 ensembles of 400 members: covariances within 20 % of variances, 4.5 standard errors (1e-4 for all 18)."""
    parts = losses.reshape(SETS, 1000, 400)
    mu, sigma = parts.mean(axis=2), parts.std(axis=2, ddof=1)
    logarithms = {"mu_L": np.log(mu), "sigma_L": np.log(sigma), "eps_L": np.log(sigma / mu)}
    for name, covariance in log_covariances(FOUND).items():
        scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        assert np.abs((400 * np.cov(logarithms[name]) - covariance) / scale).max() < 0.2


def test_errors_of_one_set_are_the_diagonal() -> None:
    for i in range(SETS):
        of_one = log_errors(np.array([one[i, i] for one in (np.diag(FOUND.first), FOUND.second, FOUND.third,
                                                            FOUND.fourth)]))  # fmt: skip
        for name, covariance in log_covariances(FOUND).items():
            assert of_one[name] ** 2 == pytest.approx(covariance[i, i], rel=1e-12)


def test_losses_without_a_spread_are_refused() -> None:
    with pytest.raises(ValueError, match="without a spread"):
        log_errors(np.array([1.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    "algorithm",
    [
        Algorithm(),
        Algorithm("nesterov", 0.6, schedule="cosine"),
        Algorithm(weight_decay=0.02),
        Algorithm("sgd", batch=3, weight_decay=0.02, decay_towards="start"),
    ],
    ids=["gd", "nesterov", "decay", "sgd"],
)
def test_responses_at_the_test_points_make_the_law(algorithm: Algorithm) -> None:
    """Those of f_* = scale [f_0* - of_start^T f_0 + of_targets^T y], with the NNGP kernel of f_0."""
    mlp, n, m = MLP(depth=1, activation="relu"), 9, 4
    x, y = RNG.normal(size=(n + m, 5)), RNG.normal(size=(n, 2))
    blocks = infinite_width.panels(mlp, x[:n], x[n:])
    training = infinite_width.Training(time=12, algorithm=algorithm, degree=2)
    ((mean, covariance),) = infinite_width.finite_time_laws(blocks, y, [training])
    (found,) = infinite_width.finite_time_responses(blocks, 2, [training])
    whole = np.block([[blocks.nngp_train, blocks.nngp_cross], [blocks.nngp_cross.T, blocks.nngp_test]])
    turn = found.scale * np.hstack([-found.of_start.T, np.eye(m)])
    assert turn @ whole @ turn.T == pytest.approx(covariance, rel=1e-10, abs=1e-12)
    assert found.scale * found.of_targets.T @ y == pytest.approx(mean, rel=1e-12)

"""Laws of training algorithms against the linearised descent itself, and against ensembles that it should describe."""

import math

import numpy as np
import pytest
from scipy import stats

from ntkhpc import infinite_width, kernels, minibatches, mixtures, optimisers, seeds, training
from ntkhpc.infinite_width import Training
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm

RNG = np.random.default_rng(11)
N, M, D, OUTPUTS = 8, 5, 4, 2
X, Y = RNG.normal(size=(N, D)), RNG.normal(size=(N, OUTPUTS))
X_TEST, Y_TEST = RNG.normal(size=(M, D)), RNG.normal(size=(M, OUTPUTS))
RELU, DEEP, ERF = MLP(1, "relu"), MLP(2, "relu"), MLP(2, "erf", 1.5, 0.2)

CASES = [
    (RELU, Algorithm(schedule="cosine")),
    (ERF, Algorithm(schedule="warmup-cosine")),
    (RELU, Algorithm("nesterov", 0.8)),
    (ERF, Algorithm("nesterov", 0.8, "cosine")),
    (DEEP, Algorithm("momentum", 0.9, "warmup-cosine")),
    (ERF, Algorithm("sgd", batch=3)),
    (RELU, Algorithm("sgd", batch=2, schedule="cosine")),
    (ERF, Algorithm(weight_decay=0.2, decay_towards="start")),
    (ERF, Algorithm("nesterov", 0.6, weight_decay=0.2, decay_towards="start")),
    (ERF, Algorithm("sgd", batch=3, weight_decay=0.2, decay_towards="start")),
    (RELU, Algorithm(weight_decay=0.2)),
    (DEEP, Algorithm("momentum", 0.6, "cosine", weight_decay=0.2)),
    (DEEP, Algorithm("sgd", batch=3, weight_decay=0.1)),
]


def named(one: object) -> str:
    if not isinstance(one, Algorithm):
        return ""
    return f"{one.optimiser}-{one.schedule}-{one.batch}-{one.weight_decay}-{one.decay_towards}"


def described(mlp: MLP, algorithm: Algorithm, eta: float, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance at the test points by descending on the weights of a random-feature model with the kernel T.

    f = rho^k (f_0 + phi delta), theta = rho (theta_0 + delta), phi phi^T = T: the network's weights themselves, as
    matrices over what f_0 and the targets are, with the gradient of a homogeneous network. No filter, no B or C.
    """
    everything = np.concatenate([X, X_TEST])
    nngp, ntk = kernels.nngp_ntk(mlp, everything)
    phi = np.linalg.cholesky(ntk)
    degree = optimisers.homogeneity(mlp)
    shrinks = bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"
    k, rho, size = (degree or 1) if shrinks else 1, 1.0, N + M
    start = np.hstack([np.eye(size), np.zeros((size, N))])  # f_0 of all points, then the targets, as unit vectors
    targets = np.hstack([np.zeros((N, size)), np.eye(N)])
    delta, velocity = np.zeros((size, size + N)), np.zeros((size, size + N))
    orders = minibatches.batches(seeds.order_key(seed), N, algorithm.batch, steps) if algorithm.batch else None
    for s, part in enumerate(optimisers.multipliers(algorithm.schedule, steps)):
        rows = orders[s] if orders is not None else np.arange(N)
        f = rho**k * (start + phi @ delta)
        gradient = rho ** (k - 1) * phi[rows].T @ (f[rows] - targets[rows]) / (len(rows) * OUTPUTS)
        velocity = gradient + algorithm.momentum * velocity
        used = gradient + algorithm.momentum * velocity if algorithm.optimiser == "nesterov" else velocity
        decay = eta * part * algorithm.weight_decay
        if shrinks:
            # theta' = (1 - decay) theta - eta u, over rho' = (1 - decay) rho.
            moved = (1 - decay) * rho * delta - eta * part * used
            rho *= 1 - decay
            delta = moved / rho
        else:
            delta = (1 - decay) * delta - eta * part * used
    f = rho**k * (start + phi @ delta)[N:]
    return f[:, size:] @ Y, f[:, :size] @ nngp @ f[:, :size].T


@pytest.mark.promise(
    "Laws of momentum, schedules, mini-batches and weight decay agree with their descent, to 11 digits."
)
@pytest.mark.parametrize(("mlp", "algorithm"), CASES, ids=named)
@pytest.mark.parametrize("steps", [0, 1, 25])
def test_a_law_is_that_of_its_own_descent(mlp: MLP, algorithm: Algorithm, steps: int) -> None:
    rate = 0.3
    found = infinite_width.trained_law(mlp, X, Y, X_TEST, time=steps, learning_rate=rate, optimiser=algorithm, seed=4)
    for one, other in zip(found, described(mlp, algorithm, rate, steps, 4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("algorithm", [Algorithm("nesterov", 0.8), Algorithm("gd", schedule="cosine"),
                                       Algorithm("momentum", 0.9, schedule="cosine")], ids=named)  # fmt: skip
def test_modes_that_hardly_move_keep_their_digits(algorithm: Algorithm) -> None:
    """b(l) of l = 1e-17: the sum of what steps make of a residual of 1, which 1 - p/l would have lost."""
    from ntkhpc import responses

    rates = 0.4 * optimisers.multipliers(algorithm.schedule, 7)
    found = responses.of_eigenvalues(np.array([1e-17]), algorithm, rates, 2.0, None).of_start[0]
    velocity = moved = 0.0
    for rate in rates:
        velocity = 1 + algorithm.momentum * velocity
        used = 1 + algorithm.momentum * velocity if algorithm.optimiser == "nesterov" else velocity
        moved += rate / 2 * used
    assert found == pytest.approx(moved, rel=1e-14)


@pytest.mark.parametrize(
    ("algorithm", "ridge"),
    [(Algorithm("nesterov", 0.5), 0.0), (Algorithm("sgd", batch=4), 0.0),
     (Algorithm(weight_decay=0.3, decay_towards="start"), 0.3 * N * OUTPUTS),
     (Algorithm("momentum", 0.5, weight_decay=0.3, decay_towards="start"), 0.15 * N * OUTPUTS)],
    ids=named,
)  # fmt: skip
def test_the_end_of_training_is_where_many_steps_lead(algorithm: Algorithm, ridge: float) -> None:
    """The kernel solved directly, with the ridge of the decay, and 40,000 steps."""
    settings = {"optimiser": algorithm, "learning_rate_fraction": 0.9}
    law = infinite_width.trained_law(ERF, X, Y, X_TEST, **settings)
    for one, other in zip(law, infinite_width.trained_law(ERF, X, Y, X_TEST, ridge=ridge), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    late = infinite_width.trained_law(ERF, X, Y, X_TEST, time=40_000, **settings)
    for one, other in zip(law, late, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    curve = infinite_width.learning_curve(ERF, X, Y, X_TEST, Y_TEST, [N], **settings)
    assert curve.mu_L.values[0] == pytest.approx(float(((law[0] - Y_TEST) ** 2).mean() + np.trace(law[1]) / M) / 2)


@pytest.mark.parametrize(
    ("mlp", "time", "algorithm", "said"),
    [
        (RELU, 9, Algorithm("adam"), "no known law"),
        (RELU, 9, Algorithm("adamw", weight_decay=0.1), "no known law"),
        (ERF, 9, Algorithm(weight_decay=0.1), "ReLU networks without biases only"),
        (RELU, math.inf, Algorithm(weight_decay=0.1), "no law at the end of training"),
        (RELU, math.inf, Algorithm("sgd", batch=2, weight_decay=0.1, decay_towards="start"), "no fixed point"),
    ],
)
def test_what_has_no_law_is_refused(mlp: MLP, time: float, algorithm: Algorithm, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        infinite_width.trained_law(mlp, X, Y, X_TEST, time=time, optimiser=algorithm)


def test_rates_above_the_bound_are_refused() -> None:
    """Nesterov's bound is below that of heavy-ball descent."""
    largest = kernels.lambda_max(kernels.nngp_ntk(RELU, X)[1])
    rate = 1.2 * 2 * N * OUTPUTS / largest
    infinite_width.trained_law(RELU, X, Y, X_TEST, time=5, learning_rate=rate, optimiser="momentum", momentum=0.8)
    with pytest.raises(ValueError, match="the bound of nesterov"):
        infinite_width.trained_law(RELU, X, Y, X_TEST, time=5, learning_rate=rate, optimiser="nesterov", momentum=0.8)


def test_a_mixture_has_the_moments_of_its_draws() -> None:
    """200,000 draws of 6 laws: moments within 5 standard errors (false alarm below 1e-4), quantiles within 1 %.

    Between laws the variance is that of a population of which these are a sample: draws see (R - 1)/R of it.
    """
    rng, laws = np.random.default_rng(3), 6
    means = rng.normal(size=(laws, M, OUTPUTS))
    roots = 0.4 * rng.normal(size=(laws, M, M))
    covariances = roots @ roots.transpose(0, 2, 1)
    parts = [
        mixtures.MixedLaw.of(mean, covariance, Y_TEST, (2, M), distribution=True)
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    which, normal = rng.integers(laws, size=200_000), rng.normal(size=(200_000, M, OUTPUTS))
    f = means[which] + roots[which] @ normal
    points = ((f - Y_TEST) ** 2).sum(axis=2) / (2 * OUTPUTS)
    loss, found = points.mean(axis=1), mixtures.statistics(parts, Y_TEST, (2, M))
    mu = np.array([part.statistics.mu_L for part in parts])
    sampled = mu.var(ddof=1) - mu.var()
    assert abs(loss.mean() - found.mu_L) < 5 * loss.std() / math.sqrt(len(loss))
    fourth = math.sqrt((stats.moment(loss, 4) - loss.var() ** 2) / len(loss))
    assert abs(loss.var() - (found.sigma2_L - sampled)) < 5 * fourth
    assert found.size_variance[1] == pytest.approx(found.sigma2_L)
    assert found.point_covariance.mean() == pytest.approx(found.sigma2_L)
    assert found.bias2 + found.variance == pytest.approx(
        found.mu_L + means.var(axis=0, ddof=1).mean() / 2 - means.var(axis=0).mean() / 2
    )
    np.testing.assert_allclose(found.point_mean, points.mean(axis=0), rtol=0.02)
    cumulants = mixtures.cumulants(parts)
    unbiased = (stats.skew(loss) * loss.std() ** 3, stats.kurtosis(loss) * loss.var() ** 2)
    between = laws / (laws - 1)
    k1, k2, k3, _ = np.array([part.cumulants for part in parts]).T
    less3 = 3 * (between - 1) * np.cov(k1, k2, ddof=0)[0, 1]
    less4 = (between - 1) * (4 * np.cov(k1, k3, ddof=0)[0, 1] + 3 * k2.var())
    np.testing.assert_allclose(cumulants[2:] - [less3, less4], unbiased, rtol=0.1)
    asked = np.array([0.05, 0.3, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(mixtures.quantiles(parts, asked), np.quantile(loss, asked), rtol=0.01)


WIDE = [
    (RELU, Algorithm(schedule="warmup-cosine")),
    (RELU, Algorithm("nesterov", 0.5)),
    (RELU, Algorithm("sgd", batch=3)),
    (RELU, Algorithm(weight_decay=0.02)),
    (RELU, Algorithm("sgd", batch=2, order="own")),
]
MEMBERS, WIDTH, STEPS, SEED = 400, 1024, 30, 1


def misfit(f: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """p of the whitened chi-squared of outputs f (members, points): of their mean, and of all second moments."""
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (f - mean).T)
    members = len(f)
    pulls = math.sqrt(members) * white.mean(axis=1)
    second = white @ white.T / members - np.eye(len(mean))
    upper = np.triu_indices(len(mean))
    scale = np.where(upper[0] == upper[1], math.sqrt(2), 1.0)
    squares = (pulls**2).sum() + members * ((second[upper] / scale) ** 2).sum()
    return float(stats.chi2.sf(squares, len(pulls) + len(upper[0])))


def trained(algorithm: Algorithm, width: int, rate: float) -> np.ndarray:
    program = training.Program(RELU, width, (0, STEPS), algorithm=algorithm)
    data = (X, Y[:, :1], X_TEST, Y_TEST[:, :1])
    return (
        training.train_tile(program, *data, learning_rate=rate, seed=SEED, members=range(MEMBERS))
        .predictions[..., 0]
        .astype(float)
    )


@pytest.mark.promise("400 networks of width 1024 follow the law of each algorithm that has one; narrow ones do not.")
@pytest.mark.parametrize(("mlp", "algorithm"), WIDE, ids=named)
def test_wide_networks_follow_the_law_of_their_algorithm(mlp: MLP, algorithm: Algorithm) -> None:
    """Outputs at 5 test points, whitened by the law: chi-squared of their mean and second moments, p > 1e-4 (the false
    alarm of each). Networks of width 4 have p < 1e-6, and so have these against plain descent at the same rate, unless
    their algorithm differs too little from it: mini-batches.
    """
    y = Y[:, :1]
    ntk = kernels.nngp_ntk(mlp, X)[1]
    bound = optimisers.stability_bound(algorithm, kernels.lambda_max(ntk), N, 1, np.diag(ntk))
    rate = 0.5 * float(bound)

    def law(one: Algorithm) -> tuple[np.ndarray, np.ndarray]:
        blocks = infinite_width.panels(mlp, X, X_TEST)
        orders = range(12) if one.order == "own" else [None]
        degree = optimisers.homogeneity(mlp)
        trainings = [Training(STEPS, rate, algorithm=one, seed=SEED, order=order, degree=degree) for order in orders]
        laws = list(infinite_width.finite_time_laws(blocks, y, trainings))
        means = np.array([mean[:, 0] for mean, _ in laws])
        between = np.cov(means.T) if len(means) > 1 else 0.0
        return means.mean(axis=0), np.mean([one for _, one in laws], axis=0) + between

    f = trained(algorithm, WIDTH, rate)
    assert misfit(f, *law(algorithm)) > 1e-4
    assert misfit(trained(algorithm, 4, rate), *law(algorithm)) < 1e-6
    if not algorithm.batch:
        assert misfit(f, *law(Algorithm())) < 1e-6

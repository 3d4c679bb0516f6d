"""The exact law of trained infinitely wide networks, and of their test loss.

Full-batch training of C = 1/(2c) sum (f - y)^2, c = n_train * outputs, keeps the outputs at test points Gaussian over
initialisations [arXiv:1902.06720]. With T the NTK, K the NNGP kernel, X the training and * the test inputs:

    mean = A Y ;  Sigma = K_** - A K_X* - K_*X A^T + A K_XX A^T ;  A = T_*X T_XX^-1 G
    G = I at infinite time ;  G = I - (I - eta T_XX / c)^t after t steps of gradient descent

the same Sigma for every output, outputs independent. Ridge r, a penalty r |theta - theta_0|^2 / (2c), is
T_XX -> T_XX + r. The NNGP posterior with noise variance r has A = K_*X (K_XX + r)^-1 and Sigma = K_** - A K_X*.

Of every other algorithm whose steps are affine in f_0 the law is, with B, C and rho^k of responses.py,

    mean = rho^k T_*X C Y ;  Sigma as above with A = T_*X B, times rho^2k

Of outputs g/gamma whose weights learn at eta gamma^2 the mean is the same and Sigma is over gamma^2 (output_scale.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.linalg

from ntkhpc import dependence, kernels, linalg, loss_law, minibatches, optimisers, responses, symmetric
from ntkhpc.kernels import nngp_ntk
from ntkhpc.loss_law import loss_moments
from ntkhpc.optimisers import Algorithm
from ntkhpc.output_scale import ONE, OutputScale
from ntkhpc.responses import Response

if TYPE_CHECKING:
    import xarray

__all__ = [
    "Panels", "Training", "finite_time_laws", "finite_time_responses", "learning_curve", "learning_rate",
    "loss_moments", "nested_laws", "panels", "trained_law",
]  # fmt: skip

Kind = Literal["ntk", "nngp"]
Law = tuple[np.ndarray, np.ndarray]
"""Mean (n_test, outputs) and covariance (n_test, n_test) of the outputs at the test points."""

_SINGULAR = 1e-14


@dataclass(frozen=True)
class Panels:
    """Kernels of training and test inputs: *_train (n, n), *_cross (n, n_test), nngp_test (n_test, n_test)."""

    nngp_train: np.ndarray
    ntk_train: np.ndarray
    nngp_cross: np.ndarray
    ntk_cross: np.ndarray
    nngp_test: np.ndarray

    def leading(self, n: int) -> "Panels":
        """Those of the first n training points; views, not copies."""
        return Panels(
            self.nngp_train[:n, :n], self.ntk_train[:n, :n], self.nngp_cross[:n], self.ntk_cross[:n], self.nngp_test
        )


@dataclass(frozen=True)
class Training:
    """How long and how fast: `time` steps (inf: to the end) at `learning_rate`, or, where that is None, at
    `learning_rate_fraction` of the stability bound, 2 (1 + momentum) c / lambda_max for heavy-ball descent.

    Orders of mini-batches are those of `seed`: what all members share, or one (`order`) of those that stand for the
    members' own. `degree` is the `homogeneity` of the network, which weight decay to zero needs.
    """

    time: float = math.inf
    learning_rate: float | None = None
    learning_rate_fraction: float = 0.5
    momentum: float = 0.0
    algorithm: Algorithm = optimisers.PLAIN
    seed: int = 0
    order: int | None = None
    degree: int | None = None

    @property
    def trained_by(self) -> Algorithm:
        """The algorithm with its momentum."""
        return optimisers.trained_by(self.algorithm, self.momentum)

    def __post_init__(self) -> None:
        algorithm = self.trained_by
        if not algorithm.has_law(self.degree):
            raise ValueError(
                f"optimiser = {algorithm.optimiser!r} with weight_decay = {algorithm.weight_decay:g} has no "
                "known law: adam and adamw have none, decay to zero has one for ReLU networks without biases only"
            )
        if not (self.time == math.inf or (self.time >= 0 and self.time == int(self.time))):
            raise ValueError(f"time = {self.time} must be a whole number of steps, or inf")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum = {self.momentum} must be in [0, 1)")
        if not 0 < self.learning_rate_fraction < 1:
            raise ValueError(f"learning_rate_fraction = {self.learning_rate_fraction} must be in (0, 1)")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate = {self.learning_rate} must be positive")


def panels(network: Any, x_train: Any, x_test: Any, nngp_test: np.ndarray | None = None) -> Panels:
    """Kernels of a network (an MLP, or a kernel function of neural_tangents.stax) at x_train (n, d), x_test (m, d).

    `nngp_test` (m, m) is that of the test points, where it is known already.
    """
    nngp_train, ntk_train = nngp_ntk(network, x_train)
    nngp_cross, ntk_cross = nngp_ntk(network, x_train, x_test)
    if nngp_test is None:
        nngp_test = nngp_ntk(network, x_test)[0]
    return Panels(nngp_train, ntk_train, nngp_cross, ntk_cross, nngp_test)


def trained_law(
    network: Any,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    *,
    time: float = math.inf,
    learning_rate: float | None = None,
    learning_rate_fraction: float = 0.5,
    momentum: float = 0.0,
    ridge: float = 0.0,
    kind: Kind = "ntk",
    optimiser: Algorithm | optimisers.OptimiserName = "gd",
    seed: int = 0,
    output_scale: OutputScale = ONE,
) -> Law:
    """Mean (m, outputs) and covariance (m, m) over initialisations of the trained outputs at x_test (m, d).

    x_train (n, d), y_train (n, outputs); `time` steps of full-batch gradient descent (heavy ball with `momentum`) on
    the cost per sample and output, or of another `optimiser`: a name, or an Algorithm, of which mini-batches are in the
    order that members of `seed` share. `kind="nngp"` is the Bayesian posterior with noise variance `ridge`, which knows
    no time. [arXiv:1902.06720, eqs. 14-16.] With an `output_scale` the outputs are those of the network over gamma, or
    centred ones; rates are then in units of gamma^2, and `ridge` is added to the NTK of the network itself. Raises
    ValueError for shapes and settings that make no sense or a learning rate that diverges, DataError for equal training
    inputs at infinite time without ridge.
    """
    _require_sense(kind, ridge)
    y_train = _targets(y_train, len(x_train))
    algorithm = _algorithm(optimiser, momentum)
    _require_scalable(output_scale, kind, algorithm)
    training = _training(network, algorithm, time, learning_rate, learning_rate_fraction, seed)
    blocks = panels(network, x_train, x_test)
    if kind == "nngp" or time == math.inf:
        _require_infinite(kind, time)
        ridge += 0.0 if kind == "nngp" else ridge_of_decay(algorithm, y_train.size)
        (law,) = nested_laws(blocks, y_train, [len(y_train)], ridge=ridge, kind=kind)
        return output_scale.law(*law)
    (law,) = finite_time_laws(blocks, y_train, [training], ridge=ridge)
    return output_scale.law(*law)


def learning_curve(
    network: Any,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    train_sizes: Sequence[int],
    *,
    time: float | Callable[[int], float] = math.inf,
    learning_rate: float | None = None,
    learning_rate_fraction: float = 0.5,
    momentum: float = 0.0,
    ridge: float = 0.0,
    kind: Kind = "ntk",
    optimiser: Algorithm | optimisers.OptimiserName = "gd",
    seed: int = 0,
    output_scale: OutputScale = ONE,
) -> "xarray.Dataset":
    """mu_L, sigma_L, eps_L, eps_pop, bias2 and variance of the test loss over `n_train`, the first n rows each time.

    Arguments as in `trained_law`; `time` may be a function of n. At infinite time all sizes come from one Cholesky
    factorisation, at finite time each from its eigendecomposition. `loss_law.statistics` says what the variables are.
    """
    import xarray  # most of a second, and no phase asks for a dataset

    _require_sense(kind, ridge)
    x_train, sizes = np.asarray(x_train, np.float64), [int(n) for n in train_sizes]
    y_train, y_test = _targets(y_train, len(x_train)), _targets(y_test, len(x_test))
    if not sizes or sizes != sorted(set(sizes)) or not 0 < sizes[0] <= sizes[-1] <= len(x_train):
        raise ValueError(f"train_sizes = {sizes} must increase from at least 1 to at most {len(x_train)}")
    blocks = panels(network, x_train[: sizes[-1]], x_test)
    algorithm = _algorithm(optimiser, momentum)
    _require_scalable(output_scale, kind, algorithm)
    times = [time(n) if callable(time) else time for n in sizes]
    if kind == "nngp" or math.inf in times:
        for one in times:
            _require_infinite(kind, one)
        if kind == "ntk" and algorithm.weight_decay:
            laws = decayed_laws(blocks, y_train, sizes, algorithm, ridge=ridge)
        else:
            laws = nested_laws(blocks, y_train, sizes, ridge=ridge, kind=kind)
    else:
        laws = (
            next(
                finite_time_laws(
                    blocks.leading(n),
                    y_train[:n],
                    [_training(network, algorithm, steps, learning_rate, learning_rate_fraction, seed)],
                    ridge=ridge,
                )
            )
            for n, steps in zip(sizes, times, strict=True)
        )
    rows = [loss_law.statistics(*output_scale.law(*law), y_test) for law in laws]
    columns = {name: ("n_train", [getattr(row, name) for row in rows]) for name in loss_law.COLUMNS}
    return xarray.Dataset(columns, coords={"n_train": sizes})


def nested_laws(
    blocks: Panels, y_train: np.ndarray, sizes: Sequence[int], *, ridge: float = 0.0, kind: Kind = "ntk"
) -> Iterator[Law]:
    """The law at infinite time of the first n training points, for every n of `sizes`, from one Cholesky factor L.

    The leading n rows of V = L^-1 T_X*, u = L^-1 Y, W = L^-1 K_X* and the leading block of M = L^-1 K_XX L^-T belong to
    the first n points, so that mean = V^T u and Sigma = K_** - V^T W - W^T V + V^T M V are sums that grow with n: all
    sizes together cost about what the largest costs alone.
    """
    largest = sizes[-1]
    if kind == "nngp":
        factor = _cholesky(blocks.nngp_train[:largest, :largest], ridge)
        cross = blocks.nngp_cross
    else:
        factor = _cholesky(blocks.ntk_train[:largest, :largest], ridge)
        cross = blocks.ntk_cross
    v = _solve(factor, cross[:largest])
    u = _solve(factor, y_train[:largest])
    if kind == "ntk" and len(sizes) == 1:  # M is not worth its while for one size
        weights = _solve(factor, v, transposed=True)
        yield v.T @ u, _covariance(blocks.leading(largest), weights)
        return
    turned = -v / 2 if kind == "nngp" else -_solve(factor, blocks.nngp_cross[:largest])
    m = None if kind == "nngp" else _congruent(blocks.nngp_train[:largest, :largest], factor)
    mean, covariance, start = np.zeros((cross.shape[1], y_train.shape[1])), blocks.nngp_test, 0
    for n in sizes:
        new = slice(start, n)
        if m is not None:
            square = np.tril(m[new, new])
            square[np.diag_indices(n - start)] /= 2
            # Half of the new square, as the other half is its transpose.
            turned[new] += m[new, :start] @ v[:start] + square @ v[new]
        product = v[new].T @ turned[new]
        symmetric.add_transposed(product, covariance)
        mean, covariance, start = mean + v[new].T @ u[new], product, n
        yield mean, covariance


def decayed_laws(
    blocks: Panels, y_train: np.ndarray, sizes: Sequence[int], algorithm: Algorithm, *, ridge: float = 0.0
) -> Iterator[Law]:
    """The same with weight decay, which is a ridge of its own at every size: a factorisation for each."""
    for n in sizes:
        whole = ridge + ridge_of_decay(algorithm, n * y_train.shape[1])
        yield from nested_laws(blocks.leading(n), y_train[:n], [n], ridge=whole)


def ridge_of_decay(algorithm: Algorithm, c: float) -> float:
    """r of the end of training with weight decay; c = n_train * outputs. Raises ValueError where nothing is reached.

    Towards the start the fixed point is that of the penalty r |theta - theta_0|^2 / (2c) with r = (1 - momentum)
    weight_decay c, as a constant gradient makes a velocity of 1/(1 - momentum) times itself and the decay none. To
    zero the untrained part of f dies out, and with it the law; mini-batches have no fixed point in common.
    """
    if not algorithm.weight_decay:
        return 0.0
    if algorithm.decay_towards == "zero":
        raise ValueError("time = inf: weight decay to zero has no law at the end of training, where kernels have moved")
    if algorithm.batch:
        raise ValueError(
            "time = inf: mini-batches with weight decay have no fixed point in common; name a number of steps"
        )
    return (1 - algorithm.momentum) * algorithm.weight_decay * c


def finite_time_laws(
    blocks: Panels, y_train: np.ndarray, trainings: Sequence[Training], *, ridge: float = 0.0
) -> Iterator[Law]:
    """The law after each of several trainings on the same points, from one eigendecomposition of T + ridge.

    `y_train` is (n, outputs). Mini-batches take products of T with matrices (n, n), one a step.
    Raises ValueError for a learning rate at which descent diverges, and for infinite time,
    where `nested_laws` tells a singular kernel from another.
    """
    for found in finite_time_responses(blocks, y_train.shape[1], trainings, ridge=ridge):
        covariance = _covariance(blocks, found.of_start)
        if found.scale != 1:
            covariance *= found.scale**2
        yield found.scale * (found.of_targets.T @ y_train), covariance


def finite_time_responses(
    blocks: Panels, outputs: int, trainings: Sequence[Training], *, ridge: float = 0.0
) -> Iterator[Response]:
    """How outputs at the test points answer to those before training, f_0, for the trainings of `finite_time_laws`:

        f_* = scale [f_0* - of_start^T f_0 + of_targets^T y] ,  of_start and of_targets (n, n_test)

    Networks that begin with the same weights have the same f_0 at every training set: what they do together follows.
    Raises ValueError as `finite_time_laws` does.
    """
    if any(training.time == math.inf for training in trainings):
        raise ValueError("time = inf is for nested_laws")
    if ridge and any(_is_decayed(training.trained_by) or training.trained_by.batch for training in trainings):
        raise ValueError(f"ridge = {ridge:g} is for full batches without weight decay to zero")
    n = len(blocks.ntk_train)
    kernel = blocks.ntk_train + ridge * np.eye(n) if ridge else blocks.ntk_train
    if all(training.trained_by.batch for training in trainings):
        largest = kernels.lambda_max(kernel)
    else:
        values, vectors = linalg.eigh(kernel)
        projected, largest = vectors.T @ blocks.ntk_cross, float(values[-1])

    def weights(filtered: np.ndarray) -> np.ndarray:
        return vectors @ (filtered[:, None] * projected)

    for training in trainings:
        algorithm, steps = training.trained_by, int(training.time)
        eta = learning_rate(training, largest, n * outputs, np.diag(kernel))
        if algorithm.is_plain:
            plain = weights(filtered_inverse(values, training, eta / (n * outputs)))
            yield Response(plain, plain)
            continue
        rates = eta * optimisers.multipliers(algorithm.schedule, steps)
        if algorithm.batch:
            chosen = minibatches.law_batches(training.seed, training.order, n, algorithm.batch, steps)
            found = responses.of_batches(kernel, chosen, algorithm, rates, outputs, training.degree)
            start, targets = (one.T @ blocks.ntk_cross for one in (found.of_start, found.of_targets))
        else:
            found = responses.of_eigenvalues(values, algorithm, rates, n * outputs, training.degree)
            start, targets = weights(found.of_start), weights(found.of_targets)
        yield Response(start, targets, found.scale)


def _is_decayed(algorithm: Algorithm) -> bool:
    return bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"


def learning_rate(training: Training, largest: float, c: float, diagonal: np.ndarray | None = None) -> float:
    """eta of a training, its peak, given lambda_max and c = n_train * outputs. Raises ValueError if it diverges.

    `diagonal` (n_train,) is that of the kernel, which the bound of mini-batches needs.
    """
    algorithm = training.trained_by
    samples = c if diagonal is None else len(diagonal)
    if algorithm.batch:
        bound = optimisers.stability_bound(algorithm, largest, samples, c / samples, diagonal)
    else:
        bound = optimisers.stability_bound(algorithm, largest, c, 1)
    if training.learning_rate is None:
        return training.learning_rate_fraction * bound
    if training.time < math.inf and training.learning_rate >= bound:
        raise ValueError(
            f"learning_rate = {training.learning_rate:g} diverges: the bound "
            f"{'2 (1 + momentum) c/lambda_max' if algorithm.is_plain else f'of {algorithm.optimiser}'} is {bound:g}"
        )
    return training.learning_rate


def filtered_inverse(values: np.ndarray, training: Training, rate: float) -> np.ndarray:
    """G(l)/l at each eigenvalue l: what multiplies T^-1 after `time` steps; `rate` is eta/c.

    G = 1 - p_t(l) with p_0 = 1, p_1 = 1 - rate l, p_(t+1) = (1 + beta - rate l) p_t - beta p_(t-1): gradient descent
    for beta = 0. G is computed without the difference, which would lose the modes that have hardly moved. Raises
    ValueError for other algorithms, which responses.py is for.
    """
    if not training.trained_by.is_plain:
        raise ValueError(f"the filter of {training.trained_by.optimiser} is in ntkhpc.responses")
    if training.time == math.inf:
        return 1 / values
    x, steps, beta = rate * values, int(training.time), training.trained_by.momentum
    if not beta:
        with np.errstate(divide="ignore"):
            slow = -np.expm1(steps * np.log1p(-np.minimum(x, 0.5)))
        g = np.where(x < 0.5, slow, 1 - (1 - x) ** steps)
    else:
        before, g = np.zeros_like(x), x if steps else np.zeros_like(x)
        for _ in range(steps - 1):
            before, g = g, (1 + beta - x) * g - beta * before + x
    # At l = 0 (rounding may leave a little less) the limit is the sum of all steps.
    tiny = abs(values) < np.finfo(float).tiny
    return np.where(tiny, rate * _path_length(steps, beta), g / np.where(tiny, 1, values))


def _path_length(steps: int, beta: float) -> float:
    """dG/dx at x = 0: the sum over steps of 1 + beta + beta^2 + ... up to the step's own number of terms."""
    return (steps - beta * (1 - beta**steps) / (1 - beta)) / (1 - beta)


def _covariance(blocks: Panels, weights: np.ndarray) -> np.ndarray:
    """Sigma for A^T = weights (n, m): one product of (m, n) and (n, m) makes all three of its terms."""
    turned = blocks.nngp_train @ weights
    symmetric.subtract_multiple(turned, 2.0, blocks.nngp_cross)
    covariance = weights.T @ turned
    symmetric.symmetrise(covariance, blocks.nngp_test)
    return covariance


def _cholesky(kernel: np.ndarray, ridge: float) -> np.ndarray:
    matrix = kernel
    if ridge:
        matrix = np.array(kernel, order="F")
        matrix[np.diag_indices(len(kernel))] += ridge
    unreduced = np.diag(matrix).copy()
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True, check_finite=False, overwrite_a=bool(ridge))
    except scipy.linalg.LinAlgError as error:
        raise dependence.of_matrix(kernel) from error
    pivots = np.diag(factor) ** 2
    if (pivots < _SINGULAR * unreduced).any():
        raise dependence.of_matrix(kernel)
    return factor


def _solve(factor: np.ndarray, right: np.ndarray, *, transposed: bool = False) -> np.ndarray:
    return scipy.linalg.solve_triangular(factor, right, lower=True, trans=int(transposed), check_finite=False)


def _congruent(matrix: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The lower triangle of L^-1 K L^-T for symmetric K; half the work of two triangular solves."""
    found, info = scipy.linalg.lapack.dsygst(matrix, factor, lower=1)
    if info:
        raise ValueError(f"dsygst refuses its argument {-info}")
    return found


def _require_sense(kind: str, ridge: float) -> None:
    if kind not in ("ntk", "nngp"):
        raise ValueError(f"kind = {kind!r} is neither 'ntk' nor 'nngp'")
    if not (ridge >= 0 and math.isfinite(ridge)):
        raise ValueError(f"ridge = {ridge} must be finite and not negative")


def _require_infinite(kind: str, time: float) -> None:
    if time != math.inf:
        raise ValueError(
            f"time = {time}: the NNGP posterior is an equilibrium and knows no time"
            if kind == "nngp"
            else "time must be finite at every n_train, or infinite at every one"
        )


def _require_scalable(scale: OutputScale, kind: str, algorithm: Algorithm) -> None:
    if kind == "nngp" and not scale.is_one:
        raise ValueError("kind = 'nngp' is the posterior of networks with gamma = 1 that are not centred")
    if scale.centred and _is_decayed(algorithm):
        raise ValueError("weight decay to zero has no known law of centred networks")


def _algorithm(optimiser: Algorithm | optimisers.OptimiserName, momentum: float) -> Algorithm:
    if isinstance(optimiser, Algorithm):
        return optimisers.trained_by(optimiser, momentum)
    named = "momentum" if momentum and optimiser == "gd" else optimiser
    return Algorithm(named, momentum)


def _training(
    network: Any, algorithm: Algorithm, time: float, rate: float | None, fraction: float, seed: int
) -> Training:
    degree = optimisers.homogeneity(network)
    return Training(time, rate, fraction, algorithm.momentum, algorithm, seed=seed, degree=degree)


def _targets(y: Any, rows: int) -> np.ndarray:
    y = np.asarray(y, np.float64)
    if y.ndim != 2 or len(y) != rows or not np.isfinite(y).all():
        raise ValueError(f"targets of shape {y.shape} must be finite and (rows, outputs), for {rows} rows of inputs")
    return y

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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkhpc import loss_law, optimisers
from ntkhpc.dense_laws import Kind, Law, Panels, decayed_laws, finite_time_laws, finite_time_responses, nested_laws
from ntkhpc.exact_training import Training, filtered_inverse, learning_rate, ridge_of_decay, shrinks
from ntkhpc.kernels import nngp_ntk
from ntkhpc.loss_law import loss_moments
from ntkhpc.optimisers import Algorithm
from ntkhpc.output_scale import ONE, OutputScale

if TYPE_CHECKING:
    import xarray

__all__ = [
    "Kind", "Law", "Panels", "Training", "decayed_laws", "filtered_inverse", "finite_time_laws",
    "finite_time_responses", "learning_curve", "learning_rate", "loss_moments", "nested_laws", "panels", "trained_law",
]  # fmt: skip


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
    if scale.centred and shrinks(algorithm):
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

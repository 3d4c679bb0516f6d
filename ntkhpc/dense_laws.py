"""The exact law of trained infinitely wide networks from kernels that are whole matrices in memory.

Formulas are those of infinite_width.py: at infinite time one Cholesky factor gives the laws of all leading parts of the
training points, at finite times one eigendecomposition gives those of several trainings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg

from ntkhpc import dependence, exact_training, kernels, linalg, minibatches, optimisers, responses, symmetric
from ntkhpc.exact_training import Training
from ntkhpc.optimisers import Algorithm
from ntkhpc.responses import Response

Kind = Literal["ntk", "nngp"]
Law = tuple[np.ndarray, np.ndarray]
"""Mean (n_test, outputs) and covariance (n_test, n_test) of the outputs at the test points."""

_SINGULAR = 1e-14
"""Pivot over diagonal below which a kernel counts as singular."""


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
        whole = ridge + exact_training.ridge_of_decay(algorithm, n * y_train.shape[1])
        yield from nested_laws(blocks.leading(n), y_train[:n], [n], ridge=whole)


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
    if ridge and any(
        exact_training.shrinks(training.trained_by) or training.trained_by.batch for training in trainings
    ):
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
        eta = exact_training.learning_rate(training, largest, n * outputs, np.diag(kernel))
        if algorithm.is_plain:
            plain = weights(exact_training.filtered_inverse(values, training, eta / (n * outputs)))
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

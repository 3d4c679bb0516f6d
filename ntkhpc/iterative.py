"""The test loss of trained infinitely wide networks without their kernel matrices: the same law as `infinite_width`, at
infinite time, for more training points than a matrix of them has memory.

mean = T_*X T^-1 Y by conjugate gradients. The covariance Sigma is only multiplied: with b = T^-1 T_X* z (T^-1 with the
ridge) and c = T^-1 (K_XX b - K_X* z),

    z'.Sigma z = z'.K_** z - b'.K_X* z - b.K_X* z' + b'.K_XX b ;  Sigma z = K_** z - K_*X b + T_*X c

so that d^T Sigma d takes one solution and Sigma z two. Random signs z give the traces (`probes`), where solving for
every test point does not cost less. Every number comes with two errors: of the choice of probes, and of residuals
(`residuals`).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ntkhpc import probes as probing
from ntkhpc import residuals, seeds
from ntkhpc.conjugate_gradients import Solution, System
from ntkhpc.dependence import require_independent
from ntkhpc.kernel_products import (
    ComputedCross,
    ComputedKernels,
    CrossProducts,
    SymmetricProducts,
)
from ntkhpc.preconditioner import preconditioner
from ntkhpc.probes import CHECKS, Estimated, Sums, exact_costs_less
from ntkhpc.residuals import Solved


@dataclass(frozen=True)
class Iteration:
    """How a law is iterated.

    `kind="nngp"` is the Bayesian posterior with noise variance `ridge`. `probes` random vectors from `seed`, at least
    8; conjugate gradients to residuals of `tolerance` times the right-hand side, preconditioned to a rank of `rank`, in
    at most `limit` + 1 products for each of the two rounds. `exact`: solve for every test point instead of probes;
    None: where that costs less. Raises ValueError for what makes no sense.

    Probes share a search: at 8,000 training points 128 of them took less time than 32.
    """

    kind: Literal["ntk", "nngp"] = "ntk"
    ridge: float = 0.0
    probes: int = 128
    seed: int = 0
    tolerance: float = 1e-6
    rank: int = probing.RANK
    limit: int = 500
    exact: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("ntk", "nngp"):
            raise ValueError(f"kind = {self.kind!r} is neither 'ntk' nor 'nngp'")
        if not (self.ridge >= 0 and math.isfinite(self.ridge)):
            raise ValueError(f"ridge = {self.ridge} must be finite and not negative")
        if self.probes < probing.FEWEST:
            raise ValueError(f"probes = {self.probes} must be at least {probing.FEWEST}, or their error is not known")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance = {self.tolerance} must be between 0 and 1")
        if self.rank < 0 or self.limit < 1 or self.seed < 0:
            raise ValueError(f"rank = {self.rank}, limit = {self.limit} and seed = {self.seed} must not be negative")


@dataclass(frozen=True)
class LawKernels:
    """Kernels of n training and m test inputs, as products."""

    train: SymmetricProducts
    cross: CrossProducts
    test: SymmetricProducts


@dataclass(frozen=True)
class IteratedStatistics:
    """Moments of the test loss, each with its errors; `probes` is 0 where every test point was solved for.

    `iterations` are products with the training kernels, `largest_residual` is the largest of b - T x over that of b.
    """

    mu_L: Estimated
    sigma2_L: Estimated
    eps_L: Estimated
    population_variance: Estimated
    eps_pop: Estimated
    bias2: Estimated
    variance: Estimated
    probes: int
    iterations: int
    largest_residual: float

    @property
    def exact(self) -> bool:
        """Whether the covariance was found whole, so that residuals are the only error."""
        return self.probes == 0


def trained_statistics(
    network: Any,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    iteration: Iteration | None = None,
    *,
    threads: int = 1,
) -> IteratedStatistics:
    """Moments of the test loss at infinite time.

    x_train (n, d), y_train (n, outputs), x_test (m, d), y_test (m, outputs). Memory is that of the inputs, of n times
    (rank + 17 (probes + outputs)) numbers and of a few tiles a thread; with `exact`, of n times (rank + 12 m) numbers.
    An MLP's kernels are shared among `threads`, which change no bit; each calls BLAS, which should have one. Raises
    ValueError for shapes that do not fit, DataError where the kernel is singular (two equal training inputs are named)
    and there is no ridge, DivergedError where conjugate gradients do not converge.
    """
    iteration = iteration or Iteration()
    x_train, x_test = np.asarray(x_train, np.float64), np.asarray(x_test, np.float64)
    y_train, y_test = _targets(y_train, len(x_train)), _targets(y_test, len(x_test))
    if y_train.shape[1] != y_test.shape[1]:
        raise ValueError(f"y_train {y_train.shape} and y_test {y_test.shape} differ in outputs")
    if not iteration.ridge:
        require_independent(network, x_train, iteration.kind)
    kernels = LawKernels(
        ComputedKernels(network, x_train, threads=threads),
        ComputedCross(network, x_train, x_test, threads=threads),
        ComputedKernels(network, x_test, threads=threads),
    )
    return law_statistics(kernels, y_train, y_test, iteration)


def law_statistics(
    kernels: LawKernels, y_train: np.ndarray, y_test: np.ndarray, iteration: Iteration
) -> IteratedStatistics:
    """The same of kernels that are only multiplied; y_train (n, outputs), y_test (m, outputs)."""
    kernel = iteration.kind
    pivots = seeds.generator(iteration.seed, seeds.PIVOTS)
    matrix = preconditioner(kernels.train, kernel, iteration.rank, pivots, ridge=iteration.ridge)
    system = System(kernels.train, kernel, iteration.ridge, matrix, iteration.tolerance, iteration.limit)
    exact = iteration.exact
    if exact is None:
        exact = exact_costs_less(kernels.train.operations, len(y_test), y_test.shape[1], iteration.probes)
    if exact:
        return _solved_whole(kernels, system, y_train, y_test)
    return _probed(kernels, system, y_train, y_test, iteration)


def _solved_whole(kernels: LawKernels, system: System, y_train: np.ndarray, y_test: np.ndarray) -> IteratedStatistics:
    points = len(y_test)
    unit = np.eye(points)
    cross = kernels.cross.products({"nngp": unit, system.kernel: unit})
    solution = system.solve(np.hstack([cross[system.kernel], y_train]))
    weights, targets = _parts(system, solution, points, solution.smallest)
    mean = cross[system.kernel].T @ targets.x
    test = kernels.test.products({"nngp": unit})["nngp"]
    if system.kernel == "nngp":
        covariance, energies = test - cross["nngp"].T @ weights.x, None
    else:
        image = solution.nngp[:, :points]
        covariance = test + weights.x.T @ (image - 2 * cross["nngp"])
        energies = residuals.energies(system.preconditioner, solution.smallest, image - cross["nngp"])
    covariance = (covariance + covariance.T) / 2
    d = mean - y_test
    bounds = residuals.exact_bounds(covariance, d, weights, targets, energies)
    return _result(probing.exact_sums(covariance, d), None, bounds, y_test.shape, 0, [solution])


def _probed(
    kernels: LawKernels, system: System, y_train: np.ndarray, y_test: np.ndarray, iteration: Iteration
) -> IteratedStatistics:
    (points, outputs), count, kernel = y_test.shape, iteration.probes, system.kernel
    z, more = (probing.signs(points, many, iteration.seed, i) for i, many in enumerate((count, CHECKS)))
    cross = kernels.cross.products({"nngp": z, kernel: z})
    first = system.solve(np.hstack([cross[kernel], y_train]))
    d = kernels.cross.transposed({kernel: first.x[:, count:]})[kernel] - y_test

    both = np.hstack([d, more])
    crossed = kernels.cross.products({"nngp": both, kernel: both})
    right, of_d = [crossed[kernel]], crossed["nngp"][:, :outputs]
    if kernel == "ntk":
        right.append(first.nngp[:, :count] - cross["nngp"])
    second = system.solve(np.hstack(right))
    smallest = min(first.smallest, second.smallest)
    of_probes, targets = _parts(system, first, count, smallest)
    differences, rest = _parts(system, second, outputs, smallest)
    checks, twice = rest.part(slice(CHECKS)), rest.part(slice(CHECKS, None))

    test = kernels.test.products({"nngp": np.hstack([z, d])})["nngp"]
    forms = np.vdot(d, test[:, count:])
    if kernel == "ntk":
        turned = second.nngp[:, :outputs] - of_d
        forms += np.vdot(differences.x, turned - of_d)
        back = kernels.cross.transposed({"nngp": of_probes.x, "ntk": twice.x})
        found = test[:, :count] - back["nngp"] + back["ntk"]
        energies = residuals.energies(system.preconditioner, smallest, turned)
        stages = residuals.Stages(targets, of_probes, differences, checks, twice, energies)
    else:
        forms -= np.vdot(differences.x, of_d)
        found = test[:, :count] - kernels.cross.transposed({"nngp": of_probes.x})["nngp"]
        stages = residuals.Stages(targets, of_probes, differences, checks, None, None)
    whole, without = probing.probed_sums(z, found, d, float(forms))
    bounds = residuals.probe_bounds(stages, z, found, d, float(forms))
    return _result(whole, without, bounds, y_test.shape, count, [first, second])


def _parts(system: System, solution: Solution, border: int, smallest: float) -> tuple[Solved, Solved]:
    """The columns before and after the border, with their energies."""
    found = residuals.energies(system.preconditioner, smallest, solution.residuals)
    solved = Solved(solution.x, solution.residuals, found)
    return solved.part(slice(border)), solved.part(slice(border, None))


def _result(
    sums: Sums, without: Sums | None, bounds: Sums, shape: tuple[int, ...], count: int, solutions: list[Solution]
) -> IteratedStatistics:
    values = probing.statistics_of(sums, *shape)
    probe_errors = probing.jackknife(sums, without, *shape) if without else dict.fromkeys(probing.NAMES, 0.0)
    residual_errors = probing.propagated(sums, bounds, *shape)
    return IteratedStatistics(
        **{name: Estimated(float(values[name]), probe_errors[name], residual_errors[name]) for name in probing.NAMES},
        probes=count,
        iterations=sum(solution.iterations for solution in solutions),
        largest_residual=float(max(solution.relative.max() for solution in solutions)),
    )


def _targets(y: Any, rows: int) -> np.ndarray:
    y = np.asarray(y, np.float64)
    if y.ndim != 2 or len(y) != rows or not np.isfinite(y).all():
        raise ValueError(f"targets of shape {y.shape} must be finite and (rows, outputs), for {rows} rows of inputs")
    return y

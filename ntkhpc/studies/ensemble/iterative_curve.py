"""Phase `curve` without kernel matrices: each size by itself, by conjugate gradients and random probes.

Every number has two errors beside it. The probes of a draw are the same at all its sizes, and other ones for each draw.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc import probes, seeds
from ntkhpc.blocks import STRIP, strips
from ntkhpc.errors import DivergedError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.ensemble import curve
from ntkhpc.studies.ensemble.curve import CURVE
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, pair_operations, start_seconds

if TYPE_CHECKING:
    from ntkhpc.iterative import IteratedStatistics
    from ntkhpc.studies.ensemble.curve import Time
    from ntkhpc.studies.ensemble.study import EnsembleStudy

_ERROR = (*CURVE, "error_part")
_PARTS = "iterated curve: standard error by the choice of probes (0: none), and largest change by residuals, of "

ARRAYS = (
    *curve.MOMENTS,
    Array("curve_mu_error", _ERROR, "f8", "1", _PARTS + "mu_L"),
    Array("curve_sigma2_error", _ERROR, "f8", "1", _PARTS + "sigma_L^2"),
    Array("curve_eps_error", _ERROR, "f8", "1", _PARTS + "eps_L"),
    Array("curve_population_variance_error", _ERROR, "f8", "1", _PARTS + "sigma_pop^2"),
    Array("curve_eps_pop_error", _ERROR, "f8", "1", _PARTS + "eps_pop"),
    Array("curve_bias2_error", _ERROR, "f8", "1", _PARTS + "the bias^2 / 2"),
    Array("curve_variance_error", _ERROR, "f8", "1", _PARTS + "the variance / 2"),
    Array("curve_probes", CURVE, "i4", "1", "iterated curve: random probes; 0: every test point was solved for"),
    Array("curve_iterations", CURVE, "i4", "1", "iterated curve: products with the kernels of the training points"),
    Array("curve_residual", CURVE, "f8", "1", "iterated curve: largest residual over its right-hand side"),
)

_VALUES = {array.name: curve.COLUMNS[array.name] for array in curve.MOMENTS}
_ERRORS = {
    **{f"{name}_error": column for name, column in _VALUES.items()},
    "curve_eps_error": "eps_L",
    "curve_eps_pop_error": "eps_pop",
}
_POWERS = {"mu_L": 2, "sigma2_L": 4, "population_variance": 4, "bias2": 2, "variance": 2, "eps_L": 0, "eps_pop": 0}
"""Of 1/gamma, that a loss of outputs over gamma has: f misses y by what gamma f misses gamma y, over gamma."""

_COUNTS = {
    "curve_probes": ("probes", np.int32),
    "curve_iterations": ("iterations", np.int32),
    "curve_residual": ("largest_residual", np.float64),
}

_GROWTH = 0.4
"""Products grow with this power of the size: 18, 31, 43 in both rounds at 1,000, 2,000, 4,000 (128 probes, 25 features,
one layer, ReLU)."""

_MOST_THREADS = 16

_THREAD = 4 * STRIP**2
"""Numbers that a thread holds: both kernels of a tile of STRIP rows, its workspace, products that wait to be added."""

_STREAMED = 2e9
"""Numbers a second of vectors that are combined: memory moves them, few operations."""


def compute(work: "Work[EnsembleStudy]") -> Values:
    gamma = work.study.network.gamma
    found = [_values(statistics(work, time), gamma) for time in work.study.infinite_width.times]
    return {name: np.stack([one[name] for one in found])[None, :, None] for name in found[0]}


def _values(found: "IteratedStatistics", gamma: float) -> dict[str, np.ndarray]:
    """Of targets times gamma, in units of the targets."""
    columns = _VALUES | _ERRORS
    estimates = {name: getattr(found, column) for name, column in columns.items()}
    units = {name: gamma ** -_POWERS[column] for name, column in columns.items()}
    values = {name: np.array(estimates[name].value) * units[name] for name in _VALUES}
    errors = {
        name: np.array((estimates[name].probe_error, estimates[name].residual_error)) * units[name] for name in _ERRORS
    }
    counts = {name: np.array(getattr(found, column), dtype) for name, (column, dtype) in _COUNTS.items()}
    return values | errors | counts


def statistics(work: "Work[EnsembleStudy]", time: "Time") -> "IteratedStatistics":
    """Of the law at one of the study's times, of networks and targets times gamma; their probes are the same."""
    from ntkhpc import iterative

    study, inputs, block = work.study, work.inputs, work.block
    draw, n = block.value("curve_draw"), block.value("curve_n_train")
    chosen = inputs["permutation"][block.index("curve_draw"), :n]
    iteration = iterative.Iteration(
        kind=curve.KERNELS[time],
        ridge=study.infinite_width.added(time),
        probes=study.infinite_width.probes,
        seed=seeds.cell_seed(study.seed, seeds.PROBES, draw),
        tolerance=study.infinite_width.tolerance,
    )
    gamma = study.network.gamma
    samples = (
        inputs["x_train"][chosen], gamma * inputs["y_train"][chosen], inputs["x_test"], gamma * inputs["y_test"],
    )  # fmt: skip
    try:
        with pool_rows.named(study, draw, chosen):
            return iterative.trained_statistics(mlp(study), *samples, iteration, threads=work.threads)
    except DivergedError as error:
        raise DivergedError(
            error.what,
            where=error.where,
            cause=error.cause,
            todo="raise infinite_width.tolerance, infinite_width.ridge (of a posterior, its noise) or "
            "network.bias_variance; or method = 'exact', of which the numbers do not depend on how fast an iteration "
            "converges",
        ) from error


def solves_whole(study: "EnsembleStudy") -> bool:
    """Whether every test point is solved for, as that costs less than probes."""
    return probes.exact_costs_less(pair_operations(study), study.data.test, study.outputs, study.infinite_width.probes)


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """Of each product the kernels of half of the pairs, then vectors; two rounds of them, or one without probes."""
    n, test, rank = float(block.value("curve_n_train")), study.data.test, probes.RANK
    kernels = kernel_seconds(study, n**2 / 2)
    if solves_whole(study):
        columns, rounds = test + study.outputs, 1
    else:
        columns, rounds = study.infinite_width.probes + study.outputs + probes.CHECKS, 2
    flops = 2 * n**2 * columns + 8 * n * rank * columns + 10 * n * columns**2
    product = kernels + flops / cost.FLOPS_FLOAT64 + 12 * n * columns / _STREAMED
    tightened = math.log(2 / study.infinite_width.tolerance) / math.log(2e6)
    taken = rounds * (2 + tightened * probes.products(columns) * (n / 8000) ** _GROWTH)
    across = kernel_seconds(study, 4 * n * test + test**2)
    across += 16 * n * test * columns / cost.FLOPS_FLOAT64
    preconditioner = kernel_seconds(study, 2 * n * rank)
    preconditioner += 10 * n * rank**2 / cost.FLOPS_FLOAT64
    each = taken * product + across + preconditioner
    return start_seconds(study) + len(study.infinite_width.times) * each


def wide(study: "EnsembleStudy") -> int:
    """Threads that find tiles to compute; their products are added by one. Other architectures are computed by one."""
    if study.network.architecture:
        return 1
    return min(strips(study.curve_sizes[-1]), _MOST_THREADS)


def memory_bytes(study: "EnsembleStudy") -> int:
    """As `iterative.trained_statistics` says: the inputs of a draw, vectors of training and of test points; tiles."""
    n, test, outputs = study.curve_sizes[-1], study.data.test, study.outputs
    if solves_whole(study):
        vectors = n * (probes.RANK + 12 * test) + 6 * test**2
    else:
        columns = study.infinite_width.probes + outputs + probes.CHECKS
        vectors = n * (probes.RANK + 17 * columns) + 8 * test * columns
    numbers = n * (study.features + outputs) + vectors + wide(study) * _THREAD
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(numbers)


PHASE = Phase(
    "curve",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation"),
    writes=ARRAYS,
    blocks=("curve_draw", "curve_n_train"),
    when=curve.is_iterated,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="lower infinite_width.draws",
    lower="infinite_width.n_train, infinite_width.probes or data.test",
    wide=wide,
)

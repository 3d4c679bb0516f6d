"""Phase `curve` without kernel matrices: each size by itself, by conjugate gradients and random probes.

Every number has two errors beside it. The probes of a draw are the same at all its sizes, and other ones for each draw.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc import probes, seeds
from ntkhpc.errors import DataError, DivergedError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.ensemble import curve
from ntkhpc.studies.ensemble.curve import CURVE
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, pair_operations, start_seconds
from ntkhpc.words import joined

if TYPE_CHECKING:
    from ntkhpc.iterative import IteratedStatistics
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
_COUNTS = {
    "curve_probes": ("probes", np.int32),
    "curve_iterations": ("iterations", np.int32),
    "curve_residual": ("largest_residual", np.float64),
}

_GROWTH = 0.4
"""Products grow with this power of the size: 18, 31, 43 in both rounds at 1,000, 2,000, 4,000 (128 probes, 25 features,
one layer, ReLU)."""

_STREAMED = 2e9
"""Numbers a second of vectors that are combined: memory moves them, few operations."""


def compute(work: "Work[EnsembleStudy]") -> Values:
    found = statistics(work)
    estimates = {name: getattr(found, column) for name, column in (_VALUES | _ERRORS).items()}
    values = {name: estimates[name].value for name in _VALUES}
    errors = {name: (estimates[name].probe_error, estimates[name].residual_error) for name in _ERRORS}
    counts = {name: np.array(getattr(found, column), dtype) for name, (column, dtype) in _COUNTS.items()}
    return {name: np.asarray(value)[None, None, None] for name, value in (values | errors | counts).items()}


def statistics(work: "Work[EnsembleStudy]") -> "IteratedStatistics":
    from ntkhpc import iterative

    study, inputs, block = work.study, work.inputs, work.block
    draw, n = block.value("curve_draw"), block.value("curve_n_train")
    chosen = inputs["permutation"][block.index("curve_draw"), :n]
    iteration = iterative.Iteration(
        probes=study.infinite_width.probes,
        seed=seeds.cell_seed(study.seed, seeds.PROBES, draw),
        tolerance=study.infinite_width.tolerance,
    )
    samples = inputs["x_train"][chosen], inputs["y_train"][chosen], inputs["x_test"], inputs["y_test"]
    try:
        return iterative.trained_statistics(mlp(study), *samples, iteration)
    except DivergedError as error:
        raise DivergedError(
            error.what,
            where=error.where,
            cause=error.cause,
            todo="raise infinite_width.tolerance, or network.bias_variance; or method = 'exact', of which the numbers "
            "do not depend on how fast an iteration converges",
        ) from error
    except DataError as error:
        raise _placed(error, chosen, draw) from error


def _placed(error: DataError, chosen: np.ndarray, draw: int) -> DataError:
    """The same error, which counts among the samples of a draw, with the rows of the pool that they are."""
    where = f"draw {draw}, its first {len(chosen):,} samples"
    rows = tuple(int(chosen[row]) for row in error.rows)
    if rows:
        where += f"; training input{'s' * (len(rows) > 1)} {joined(error.rows)} of these, counted from 0, "
        where += f"{'are rows' if len(rows) > 1 else 'is row'} {joined(rows)} of the pool (x_train)"
    return DataError(error.what, where=where, cause=error.cause, todo=error.todo)


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
    return start_seconds(study) + taken * product + across + preconditioner


def memory_bytes(study: "EnsembleStudy") -> int:
    """As `iterative.trained_statistics` says: the inputs of a draw, vectors of training and of test points; 8 tiles."""
    n, test, outputs = study.curve_sizes[-1], study.data.test, study.outputs
    if solves_whole(study):
        vectors = n * (probes.RANK + 12 * test) + 6 * test**2
    else:
        columns = study.infinite_width.probes + outputs + probes.CHECKS
        vectors = n * (probes.RANK + 17 * columns) + 8 * test * columns
    numbers = n * (study.features + outputs) + vectors + 8 * 512**2
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
)

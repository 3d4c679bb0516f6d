"""Phase `curve`: the learning curve of infinitely wide networks for one draw of the training set.

Here are its section of a study file ([infinite_width]), its arrays, its cost and its computation.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.settings import Natural, NonNegativeFloat, Positive, Settings, require_increasing
from ntkhpc.phase.work import Values, Work
from ntkhpc.probes import FEWEST
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.ensemble import exact
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds
from ntkhpc.words import count, joined, numbers

if TYPE_CHECKING:
    from ntkhpc.infinite_width import Kind, Law, Panels
    from ntkhpc.loss_law import Statistics
    from ntkhpc.studies.ensemble.study import EnsembleStudy

Time = Literal["steps", "fixed", "infinite", "posterior"]
Method = Literal["exact", "iterative"]

LARGEST_FINITE = 20_000
"""Training points of laws after a finite number of steps: beyond, an eigendecomposition is no sensible way."""

TIMES: tuple[Time, ...] = ("steps", "fixed", "infinite", "posterior")
"""Meaning of the coordinate `time`: 0, 1, 2, 3."""

FINITE: tuple[Time, ...] = ("steps", "fixed")
"""Those that take an eigendecomposition of the NTK; the others take a linear system."""


class InfiniteWidth(Settings, frozen=True, kw_only=True):
    """The exact learning curve of infinitely wide networks. Without `n_train`, at the ensemble's sizes.

    `redraws` are further draws of the training set, at the ensemble's own sizes and steps (phase `redraws`). Kernels of
    more than `tile` training points are computed, factored and kept in tiles of so many rows; the factor is one in
    `factor_precision`, and one in float32 is refined against the kernel in float64. With `method="iterative"` none is
    kept: conjugate gradients to relative residuals of `tolerance`, and random `probes` (phase `curve`,
    iterative_curve.py).

    The time "infinite" is the end of training, on the cost C + ridge |theta - theta_0|^2 / (2 N_D K): that adds the
    ridge to the NTK. "posterior" is that of the Gaussian process with the NNGP kernel, given standardised targets with
    noise of the variance `noise`.
    """

    introduced: ClassVar[dict[str, object]] = {"redraws": 0}

    n_train: tuple[Positive, ...] = ()
    draws: Positive = 1
    times: Annotated[tuple[Time, ...], Meta(min_length=1)] = ("steps", "infinite")
    fixed_steps: Positive = 512
    redraws: Natural = 32
    tile: Annotated[int, Meta(ge=16, le=32768)] = 4096
    factor_precision: Literal["float64", "float32"] = "float64"
    method: Method = "exact"
    probes: Annotated[int, Meta(ge=FEWEST, le=4096)] = 128
    tolerance: Annotated[float, Meta(ge=1e-12, lt=1)] = 1e-6
    ridge: NonNegativeFloat = 0.0
    noise: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)
        if self.method == "iterative" and self.finite:
            raise ValueError(
                f"times = {list(self.times)}: method = 'iterative' solves linear systems, which are the law at the end "
                "of training; after finitely many steps it takes an eigendecomposition, which needs the matrix. Say "
                "times = ['infinite'], or method = 'exact'"
            )
        for name, time in (("ridge", "infinite"), ("noise", "posterior")):
            if getattr(self, name) and time not in self.times:
                raise ValueError(
                    f"{name} = {getattr(self, name):g} is that of the time {time!r}, which times = {list(self.times)} "
                    "does not name"
                )
        if len(set(self.times)) < len(self.times):
            raise ValueError(f"times = {list(self.times)} names one of them twice")

    @property
    def finite(self) -> tuple[Time, ...]:
        """The times that take an eigendecomposition."""
        return tuple(time for time in self.times if time in FINITE)

    @property
    def endless(self) -> tuple[Time, ...]:
        """The times that take a linear system."""
        return tuple(time for time in self.times if time not in FINITE)

    def added(self, time: Time) -> float:
        """What is added to the diagonal of the kernel of an endless time."""
        return self.noise if time == "posterior" else self.ridge

    def require_possible(self, sizes: tuple[int, ...]) -> None:
        """Raises ValueError for a finite number of steps at more points than an eigendecomposition is made of."""
        finite = self.finite
        if finite and sizes[-1] > LARGEST_FINITE:
            hours = 30.0 * sizes[-1] ** 3 / cost.FLOPS_FLOAT64 / 3600
            gib = memory.of_numbers(5 * sizes[-1] ** 2) / 2**30
            raise ValueError(
                f"infinite_width.times = {list(self.times)} has {finite[0]!r}, which takes an eigendecomposition of "
                f"each size: {gib:,.0f} GiB and {hours:,.0f} h of one core for {sizes[-1]:,}; {LARGEST_FINITE:,} "
                "points are the most. times = ['infinite'] has no such limit; RUN= names a run that was made before"
            )

    def description(self, rule: str, sizes: tuple[int, ...]) -> str:
        """The curve in a sentence of a methods section; `rule` says how many steps the ensemble trains."""
        words = {
            "steps": rule,
            "fixed": f"{self.fixed_steps:,} steps at every N_D",
            "infinite": "the end of training" + self._penalised(),
            "posterior": "the posterior of the Gaussian process with the NNGP kernel"
            + (f" and noise of variance {self.noise:g}" if self.noise else ", without noise"),
        }
        return (
            f"Learning curves at infinite width are for {joined(words[time] for time in self.times)}, at "
            f"N_D = {numbers(sizes)}, each for {count(self.draws, 'draw')} of the training set."
            + self._refined(sizes)
            + self._iterated()
            + self._further()
        )

    def _penalised(self) -> str:
        if not self.ridge:
            return ""
        return f" on the cost with the penalty {self.ridge:g} |theta - theta_0|^2/(2 N_D K), a ridge of the NTK"

    def _refined(self, sizes: tuple[int, ...]) -> str:
        exact = self.method == "exact" and bool(self.endless)
        if self.factor_precision == "float64" or sizes[-1] <= self.tile or not exact:
            return ""
        factored = [name for time, name in (("infinite", "NTK"), ("posterior", "NNGP kernel")) if time in self.times]
        return (
            f" The Cholesky factor of the {joined(factored)} is in float32; the weights that follow from it are "
            "refined by residuals in float64 until they change by less than 1e-11."
        )

    def _iterated(self) -> str:
        if self.method == "exact":
            return ""
        return (
            " This law was iterated, without kernel matrices: block conjugate gradients on computed tiles, "
            "preconditioned by a randomly pivoted Cholesky factor (arXiv:2304.12465), to residuals of "
            f"{self.tolerance:g} of the right-hand side; traces of covariances by {self.probes:,} random probes, the "
            "same at all sizes of a draw, or by every test point where that costs less."
        )

    def _further(self) -> str:
        if not self.redraws:
            return ""
        return (
            f" The law at the ensembles' own sizes and steps, for {count(self.redraws, 'further draw')}, says what "
            "another training set would change."
        )


CURVE = ("curve_draw", "time", "curve_n_train")

MOMENTS = (
    Array("curve_mu", CURVE, "f8", "1", "infinite width: mu_L, the mean of L over initialisations"),
    Array("curve_sigma2", CURVE, "f8", "1", "infinite width: sigma_L^2, the variance of L"),
    Array("curve_population_variance", CURVE, "f8", "1", "infinite width: sigma_pop^2"),
    Array("curve_bias2", CURVE, "f8", "1", "infinite width: mean over test points of bias^2 / 2"),
    Array("curve_variance", CURVE, "f8", "1", "infinite width: mean over test points of the variance / 2"),
)
"""What every way to compute the curve finds."""

ARRAYS = (
    *MOMENTS,
    Array("curve_size_variance", (*CURVE, "test_size"), "f8", "1",
          "infinite width: Var L on a block of test_size points"),
    Array("curve_largest_share", CURVE, "f8", "1", "infinite width: the largest test point's share of mu_L"),
    Array("curve_point_mean", (*CURVE, "test_point"), "f8", "1",
          "infinite width: mean of each test point's loss l_a, of which L is the mean"),
    Array("curve_point_variance", (*CURVE, "test_point"), "f8", "1", "infinite width: Var l_a of each test point"),
    Array("curve_point_covariance", (*CURVE, "test_point"), "f8", "1",
          "infinite width: Cov(l_a, L) of each test point, of which Var L is the mean"),
)  # fmt: skip

COLUMNS = {
    "curve_mu": "mu_L",
    "curve_sigma2": "sigma2_L",
    "curve_population_variance": "population_variance",
    "curve_bias2": "bias2",
    "curve_variance": "variance",
    "curve_size_variance": "size_variance",
    "curve_largest_share": "largest_share",
    "curve_point_mean": "point_mean",
    "curve_point_variance": "point_variance",
    "curve_point_covariance": "point_covariance",
}


KERNELS: dict[Time, "Kind"] = {"infinite": "ntk", "posterior": "nngp"}
"""The kernel of the linear system of an endless time."""


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import infinite_width

    study, inputs = work.study, work.inputs
    chosen = inputs["permutation"][work.block.index("curve_draw"), : study.curve_sizes[-1]]
    blocks = infinite_width.panels(mlp(study), inputs["x_train"][chosen], inputs["x_test"])
    with pool_rows.named(study, work.block.value("curve_draw"), chosen):
        statistics = curve(study, blocks, inputs["y_train"][chosen], inputs["y_test"])
    return {
        array: np.array([[[getattr(one, column) for one in row] for row in statistics]])
        for array, column in COLUMNS.items()
    }


def curve(
    study: "EnsembleStudy", blocks: "Panels", y_train: np.ndarray, y_test: np.ndarray
) -> "list[list[Statistics]]":
    """Statistics of the loss for every time and every size: one factorisation for the end of training of all sizes, one
    eigendecomposition a size for the finite times."""
    from ntkhpc import infinite_width, loss_law

    sizes, times = study.curve_sizes, study.infinite_width.times

    def describe(law: "Law") -> "Statistics":
        return loss_law.statistics(*exact.scaled(study, law), y_test, study.test_sizes)

    rows: dict[str, list[Statistics]] = {time: [] for time in times}
    for time in study.infinite_width.endless:
        ridge, kind = study.infinite_width.added(time), KERNELS[time]
        if time == "infinite" and exact.algorithm(study).weight_decay:
            laws = exact.end_of_training(study, blocks, y_train, sizes)
        else:
            laws = infinite_width.nested_laws(blocks, y_train, sizes, ridge=ridge, kind=kind)
        rows[time] = [describe(law) for law in laws]
    finite = study.infinite_width.finite
    for n in sizes if finite else ():
        steps = [study.finite_steps(time, n) for time in finite]
        found = exact.statistics(study, blocks.leading(n), y_train[:n], y_test, steps, study.test_sizes)
        for time, one in zip(finite, found, strict=True):
            rows[time].append(one)
    return [rows[time] for time in times]


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """One draw: kernels at the largest size, one factorisation, and a law for every size and time."""
    test, sizes = study.data.test, study.curve_sizes
    pairs = sizes[-1] ** 2 / 2 + sizes[-1] * test + test**2 / 2
    finite, endless = study.infinite_width.finite, study.infinite_width.endless
    flops, batched = max(1, len(endless)) * (sizes[-1] ** 3 + 2.0 * sizes[-1] ** 2 * test), 0.0
    for n in sizes:
        law = 2 * n * test**2 + 4 * n**2 * test
        flops += len(study.infinite_width.times) * (law + 4 * test**2)
        flops += (30 * n**3 + 2 * n**2 * test + len(finite) * 2 * n**2 * test) if finite else 0
        batched += sum(exact.batched_seconds(study, n, study.finite_steps(time, n)) for time in finite)
    kernels = kernel_seconds(study, pairs)
    return start_seconds(study) + kernels + flops / cost.FLOPS_FLOAT64 + batched


def memory_bytes(study: "EnsembleStudy") -> int:
    n, test = study.curve_sizes[-1], study.data.test
    moments = [memory.covariance(n, test)]
    if study.infinite_width.endless and len(study.curve_sizes) > 1:
        moments.append(memory.nested(n, test))
    if study.infinite_width.finite:
        moments.append(memory.eigenvectors(n, test))
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(max(moments))


def is_iterated(study: "EnsembleStudy") -> bool:
    return exact.has_curves(study) and study.infinite_width.method == "iterative"


def fits_a_tile(study: "EnsembleStudy") -> bool:
    """Whether whole matrices are computed, in one piece."""
    return exact.has_curves(study) and not is_iterated(study) and study.curve_sizes[-1] <= study.infinite_width.tile


PHASE = Phase(
    "curve",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation"),
    writes=ARRAYS,
    blocks=("curve_draw",),
    when=fits_a_tile,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="lower infinite_width.draws",
    lower="infinite_width.n_train or data.test",
)

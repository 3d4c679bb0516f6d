"""Every array of the store: name, dimensions, type, chunks, unit and meaning. The only place that knows them.

The README's table is `markdown()`; a test keeps the two equal.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ntkhpc.study import Study

TARGET_UNIT = "that of the data"

Region = Mapping[str, tuple[int, int]]
"""Half-open index range per dimension; a dimension that is not named is meant whole."""

CELL = ("width", "n_train", "draw")
CUT = ("ensemble", "finalise", "law", "curve")
"""Phases whose arrays have a chunk for each cell or draw."""

TIMES = ("steps", "fixed", "infinite")
"""Meaning of the coordinate `time`: 0, 1, 2."""

ROW_CHUNK_BYTES = 16 * 2**20


CURVE = ("curve_draw", "time", "curve_n_train")


@dataclass(frozen=True)
class Array:
    """One array. `phase` names the phase that writes it; "create" means: with the run directory."""

    name: str
    phase: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str
    only_if: str = ""

    def shape(self, study: Study) -> tuple[int, ...]:
        sizes = dimension_sizes(study)
        return tuple(sizes[dim] for dim in self.dims)

    def chunks(self, study: Study) -> tuple[int, ...]:
        """A shard's whole range for what shards write, rows of at most 16 MB for data, everything otherwise."""
        ensemble = study.ensemble
        per_shard = {"member": ensemble.shard_members, "tile": ensemble.shard_members // ensemble.tile}
        cut = {**dict.fromkeys((*CELL, "curve_draw"), 1), **per_shard} if self.phase in CUT else {}
        shape = self.shape(study)
        chunks = [max(1, min(size, cut.get(dim, size))) for dim, size in zip(self.dims, shape, strict=True)]
        if self.phase == "data" and chunks:
            row_bytes = math.prod(chunks[1:]) * self.itemsize
            chunks[0] = max(1, min(chunks[0], ROW_CHUNK_BYTES // row_bytes))
        return tuple(chunks)

    def region(self, study: Study, region: Region) -> tuple[slice, ...]:
        """The part of this array that belongs to a shard's region."""
        sizes = dimension_sizes(study)
        return tuple(slice(*region.get(dim, (0, sizes[dim]))) for dim in self.dims)

    def unit_in(self, study: Study) -> str:
        return study.data.unit if self.unit == TARGET_UNIT else self.unit

    @property
    def itemsize(self) -> int:
        return int(self.dtype[-1])

    @property
    def fill_value(self) -> float | int:
        """What is read where nothing was written."""
        return float("nan") if self.dtype.startswith("f") else -1


def dimension_sizes(study: Study) -> dict[str, int]:
    ensemble = study.ensemble
    return {
        "pool": study.data.pool,
        "test_point": study.data.test,
        "feature": study.data.features,
        "output": study.data.outputs,
        "width": len(study.network.widths),
        "n_train": len(ensemble.n_train),
        "draw": ensemble.draws,
        "member": ensemble.members,
        "tile": math.ceil(ensemble.members / ensemble.tile),
        "trace_point": ensemble.trace_points,
        "order": max(ensemble.draws, study.infinite_width.draws),
        "test_size": len(study.test_sizes),
        "cumulant": 4,
        "quantile": len(PROBABILITIES),
        "curve_draw": study.infinite_width.draws,
        "curve_n_train": len(study.curve_sizes),
        "time": len(study.infinite_width.times),
    }


PROBABILITIES = tuple(i / 200 for i in range(1, 200))
"""At which the distribution of the loss is tabulated."""

OK, DIVERGED, MISSING = 0, 1, -1
"""Values of `status`; the last, its fill value, means: not computed."""

ARRAYS = (
    Array("width", "create", ("width",), "i8", "1", "hidden units per layer"),
    Array("n_train", "create", ("n_train",), "i8", "1", "training-set size N_D"),
    Array("draw", "create", ("draw",), "i8", "1", "number of the draw of the training set"),
    Array("member", "create", ("member",), "i8", "1", "number of the initialisation"),
    Array("n_steps", "create", ("n_train",), "i8", "1", "full-batch steps trained at each n_train"),
    Array("trace_step", "create", ("n_train", "trace_point"), "i8", "1", "steps at which losses are traced"),
    Array("test_size", "create", ("test_size",), "i8", "1", "test points in a block; the last is the whole test set"),
    Array("quantile", "create", ("quantile",), "f8", "1", "probability that L is below law_quantile"),
    Array("time", "create", ("time",), "i1", "1", "0 the study's rule of steps, 1 a fixed number of steps, 2 infinite"),
    Array("curve_draw", "create", ("curve_draw",), "i8", "1", "number of the draw of the training set"),
    Array("curve_n_train", "create", ("curve_n_train",), "i8", "1", "training-set size N_D at infinite width"),
    Array("curve_steps", "create", ("time", "curve_n_train"), "i8", "1", "steps at infinite width; -1 is the end"),
    Array("x_train", "data", ("pool", "feature"), "f8", "1", "standardised inputs of the training pool"),
    Array("y_train", "data", ("pool", "output"), "f8", "1", "standardised targets of the training pool"),
    Array("x_test", "data", ("test_point", "feature"), "f8", "1", "test inputs, standardised as the pool"),
    Array("y_test", "data", ("test_point", "output"), "f8", "1", "test targets, standardised as the pool"),
    Array("target_train", "data", ("pool", "output"), "f8", TARGET_UNIT, "targets of the pool as measured"),
    Array("target_test", "data", ("test_point", "output"), "f8", TARGET_UNIT, "targets of the test points as measured"),
    Array("feature_mean", "data", ("feature",), "f8", "1", "mean of each raw input over the pool, subtracted"),
    Array("feature_scale", "data", ("feature",), "f8", "1", "divides the centred raw inputs"),
    Array("target_mean", "data", ("output",), "f8", "1", "subtracted from the targets, or from their logarithms"),
    Array("target_scale", "data", ("output",), "f8", "1", "divides the centred targets, or logarithms"),
    Array("permutation", "data", ("order", "pool"), "i8", "1", "order d of the pool: draw d trains on its first rows"),
    Array("lambda_max", "data", ("draw", "n_train"), "f8", "1", "largest eigenvalue of the infinite-width NTK"),
    Array("learning_rate", "data", ("draw", "n_train"), "f8", "1", "step size eta of the cost per sample and output"),
    Array("test_point_loss", "ensemble", (*CELL, "member", "test_point"), "f4", "1",
          "sum over outputs of (f-y)^2 / (2 outputs) at each test point"),
    Array("test_loss", "ensemble", (*CELL, "member"), "f8", "1", "L: mean of test_point_loss over test points"),
    Array("train_loss", "ensemble", (*CELL, "member"), "f8", "1", "mean of the same loss over the training points"),
    Array("test_loss_trace", "ensemble", (*CELL, "member", "trace_point"), "f4", "1", "L during training"),
    Array("train_loss_trace", "ensemble", (*CELL, "member", "trace_point"), "f4", "1", "training loss during training"),
    Array("steps_done", "ensemble", (*CELL, "member"), "i4", "1", "steps after which the losses were last finite"),
    Array("status", "ensemble", (*CELL, "member"), "i1", "1", "0 trained, 1 diverged, -1 not computed"),
    Array("prediction_mean", "ensemble", (*CELL, "tile", "test_point", "output"), "f8", "1",
          "mean of f over the trained members of each tile"),
    Array("prediction_m2", "ensemble", (*CELL, "tile", "test_point", "output"), "f8", "1",
          "sum over a tile's trained members of (f - prediction_mean)^2"),
    Array("prediction", "ensemble", (*CELL, "member", "test_point", "output"), "f4", "1",
          "f of each member, if ensemble.predictions", only_if="predictions"),
    Array("bias2", "finalise", (*CELL, "test_point"), "f8", "1",
          "sum over outputs of (mean f - y)^2 / (2 outputs)"),
    Array("variance", "finalise", (*CELL, "test_point"), "f8", "1",
          "sum over outputs of the unbiased variance of f / (2 outputs)"),
    Array("members_used", "finalise", CELL, "i4", "1", "members that did not diverge"),
    Array("law_mean", "law", ("draw", "n_train", "test_point", "output"), "f8", "1",
          "infinite width, the ensemble's own steps: mean of f over initialisations"),
    Array("law_variance", "law", ("draw", "n_train", "test_point"), "f8", "1", "the same: variance of f, every output"),
    Array("law_cumulant", "law", ("draw", "n_train", "cumulant"), "f8", "1", "the same: cumulants 1 to 4 of L"),
    Array("law_population_variance", "law", ("draw", "n_train"), "f8", "1",
          "the same: sigma_pop^2, the part of Var L that an endless test set would leave"),
    Array("law_size_variance", "law", ("draw", "n_train", "test_size"), "f8", "1",
          "the same: Var L on a block of test_size points, mean over disjoint blocks"),
    Array("law_quantile", "law", ("draw", "n_train", "quantile"), "f8", "1", "the same: exact quantiles of L"),
    Array("curve_mu", "curve", CURVE, "f8", "1", "infinite width: mu_L, the mean of L over initialisations"),
    Array("curve_sigma2", "curve", CURVE, "f8", "1", "infinite width: sigma_L^2, the variance of L"),
    Array("curve_population_variance", "curve", CURVE, "f8", "1", "infinite width: sigma_pop^2"),
    Array("curve_bias2", "curve", CURVE, "f8", "1", "infinite width: mean over test points of bias^2 / 2"),
    Array("curve_variance", "curve", CURVE, "f8", "1", "infinite width: mean over test points of the variance / 2"),
    Array("curve_size_variance", "curve", (*CURVE, "test_size"), "f8", "1",
          "infinite width: Var L on a block of test_size points"),
    Array("curve_largest_share", "curve", CURVE, "f8", "1", "infinite width: the largest test point's share of mu_L"),
)  # fmt: skip


def arrays(study: Study, phase: str | None = None) -> tuple[Array, ...]:
    """The arrays of a study's store, or those that one phase writes."""
    return tuple(
        array
        for array in ARRAYS
        if phase in (None, array.phase) and (not array.only_if or getattr(study.ensemble, array.only_if))
    )


def chunk_count(array: Array, study: Study) -> int:
    pairs = zip(array.shape(study), array.chunks(study), strict=True)
    return math.prod(math.ceil(size / chunk) for size, chunk in pairs)


def chunk_bytes(array: Array, study: Study) -> int:
    """Size of one chunk file: chunks are stored whole, uncompressed, with a 4-byte crc32c."""
    return math.prod(array.chunks(study)) * array.itemsize + 4


def markdown() -> str:
    """The table of the README."""
    rows = ["| array | dimensions | type | unit | written by | meaning |", "|---|---|---|---|---|---|"]
    for array in ARRAYS:
        dims = ", ".join(array.dims)
        cells = (f"`{array.name}`", dims, array.dtype, array.unit, array.phase, array.meaning)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"

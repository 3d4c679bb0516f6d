"""Kind `ensemble`: the dimensions of its store, and its phases in order."""

import math
from collections.abc import Callable
from typing import Any

from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.dimension import Dim
from ntkhpc.phase.kind import Kind
from ntkhpc.studies import analysis, dims, memory
from ntkhpc.studies.ensemble import (
    curve,
    data,
    factor,
    iterative_curve,
    kernel,
    law,
    leaps,
    moments,
    nngp_factor,
    recheck,
    redraws,
    tiled_curve,
    train,
)
from ntkhpc.studies.ensemble.probe import speed
from ntkhpc.studies.ensemble.study import EnsembleStudy

DIMS = (
    *dims.COMMON,
    Dim("width", lambda study: study.network.widths, "hidden units per layer", label="w"),
    Dim("n_train", lambda study: study.ensemble.n_train, "training-set size N_D", label="n"),
    Dim("draw", lambda study: range(study.ensemble.draws), "number of the draw of the training set", label="d"),
    Dim("member", lambda study: range(study.trained_members), "number of the initialisation",
        every=lambda study: study.ensemble.shard_members, label="m"),
    Dim("tile", size=lambda study: math.ceil(study.trained_members / study.ensemble.tile),
        every=lambda study: study.ensemble.tile, follows="member"),
    Dim("leap_member", lambda study: range(study.leapt_members),
        "number of the initialisation of a network trained in leaps; those of `member` are the same",
        every=leaps.shard_members, label="m"),
    Dim("leap_tile", size=lambda study: math.ceil(study.leapt_members / leaps.tile_members(study)),
        every=leaps.tile_members, follows="leap_member"),
    Dim("trace_point", size=lambda study: study.ensemble.trace_points),
    Dim("cumulant", size=lambda study: 4),
    dims.quantile("law_quantile"),
    Dim("time", lambda study: [curve.TIMES.index(time) for time in study.infinite_width.times],
        "0 the study's rule of steps, 1 a fixed number of steps, 2 infinite, 3 the NNGP posterior", "i1"),
    Dim("curve_draw", lambda study: range(study.infinite_width.draws), "number of the draw of the training set",
        label="d"),
    Dim("redraw", redraws.numbers, "number of the draw of the training set, after the ensemble's own",
        every=lambda study: redraws.DRAWS, label="d"),
    Dim("curve_n_train", lambda study: study.curve_sizes, "training-set size N_D at infinite width", label="n"),
    Dim("error_part", size=lambda study: 2),
    Dim("factor_column", lambda study: range(kernel.column_count(study)), label="c"),
    Dim("kernel_tile", lambda study: range(kernel.tile_count(study)), label="t", follows="factor_column",
        span=lambda study, column: kernel.blocks(study).span(column)),
    Dim("tile_row", size=kernel.tile_size),
    Dim("tile_column", size=kernel.tile_size),
)  # fmt: skip


def _curve_steps(study: EnsembleStudy) -> list[list[int]]:
    steps = [[study.curve_steps(time, n) for n in study.curve_sizes] for time in study.infinite_width.times]
    return [[-1 if one is None else one for one in row] for row in steps]


CONSTANTS = (
    Array("n_steps", ("n_train",), "i8", "1", "steps, updates of the weights, trained at each n_train",
          values=lambda study: [study.training.steps(n) for n in study.ensemble.n_train]),
    Array("trace_step", ("n_train", "trace_point"), "i8", "1", "steps at which losses are traced",
          values=lambda study: [study.trace_steps(n) for n in study.ensemble.n_train]),
    Array("curve_steps", ("time", "curve_n_train"), "i8", "1", "steps at infinite width; -1 is the end, or none",
          values=_curve_steps),
)  # fmt: skip


def analysis_seconds(study: EnsembleStudy, block: Block) -> float:
    members = study.trained_members + study.leapt_members
    return 15.0 + _cells(study) * members * study.data.test * 30e-9


def analysis_bytes(study: EnsembleStudy) -> int:
    """What is kept, and of as many cells as there are threads a block of the store, as it is read and as it is joined
    from parts of shards, one of numbers in work, and mean predictions of few tiles."""
    ensemble, threads = study.ensemble, memory.REPORT_THREADS
    part = max(train.chunk_bytes(study, name) for name in ("test_point_loss", "prediction_mean"))
    part = max(part, leaps.chunk_bytes(study, "leap_point_loss"))
    joined = max(part, min(memory.BLOCK, part * _shards(study)))
    tiles = min(memory.HELD_TILES, math.ceil(study.trained_members / ensemble.tile))
    held = min(_cells(study), threads) * memory.of_numbers(tiles * study.data.test * study.outputs)
    return memory.REPORT["ensemble"] + threads * (part + joined) + held + kept_bytes(study)


def kept_bytes(study: EnsembleStudy) -> int:
    """What the analysis keeps of all members, test points and shards."""
    cells, members = _cells(study), study.trained_members + study.leapt_members
    points = (2 if study.leapt_members else 1) * study.data.test  # of trained members, and of leapt ones
    numbers = memory.of_numbers(cells * (memory.MEMBER * members + memory.POINT * points))
    return numbers + memory.RECEIPT * cells * _shards(study)


def _cells(study: EnsembleStudy) -> int:
    return math.prod((len(study.network.widths), len(study.ensemble.n_train), study.ensemble.draws))


def _shards(study: EnsembleStudy) -> int:
    """Of each cell."""
    leapt = math.ceil(study.leapt_members / leaps.shard_members(study))
    return math.ceil(study.trained_members / study.ensemble.shard_members) + leapt


def remarks(study: EnsembleStudy, load: Callable[[str], Any]) -> tuple[str, ...]:
    """What a user must know before using the results: members that diverged."""
    said = remarks_on(study, load("members_used"))
    return (*said, *leaps.remarks(study, load("leap_status"))) if study.leapt_members else said


def remarks_on(study: EnsembleStudy, used: Any) -> tuple[str, ...]:
    """The same, from the members of each cell that did not diverge."""
    lost = int(used.size * study.trained_members - used.sum())
    if not lost:
        return ()
    rate = "learning_rate_fraction" if study.training.algorithm.entry.bound else "learning_rate"
    return (
        f"{lost:,} networks diverged (status 1); they are in no mean, so look at them before you use the rest: lower "
        f"training.{rate}, or mind the initial variance",
    )


_PHASES = (
    data.PHASE,
    train.PHASE,
    leaps.PHASE,
    law.PHASE,
    law.LAZY_PHASE,
    kernel.PHASE,
    factor.PHASE,
    nngp_factor.PHASE,
    curve.PHASE,
    tiled_curve.PHASE,
    iterative_curve.PHASE,
    redraws.PHASE,
    moments.PHASE,
    recheck.PHASE,
)

KIND = Kind(
    "ensemble",
    EnsembleStudy,
    title="Test loss over the initialisation ensemble",
    loss="L = sum over test points a and outputs k of (f_k(x_a) - y_ak)^2 / (2 N_T K)",
    dims=DIMS,
    constants=CONSTANTS,
    phases=(
        *_PHASES,
        analysis.phase(
            _PHASES, seconds=analysis_seconds, memory_bytes=analysis_bytes, lower="data.test or ensemble.members"
        ),
    ),
    probe=speed,
    smaller="data.test or ensemble.members",
    remarks=remarks,
)

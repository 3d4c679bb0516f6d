"""Phase `curve` where a learning curve goes beyond one tile: each size by itself, from the tiles of both kernels."""

from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.blocks import strips
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.ensemble import curve
from ntkhpc.studies.ensemble.factor import is_single
from ntkhpc.studies.ensemble.kernel import blocks, is_tiled
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds

if TYPE_CHECKING:
    from ntkhpc.infinite_width import Law
    from ntkhpc.refinement import Refined
    from ntkhpc.studies.ensemble.study import EnsembleStudy
    from ntkhpc.tile_panels import Tile


def _is_refined(study: "EnsembleStudy") -> bool:
    return is_single(study) and "infinite" in study.infinite_width.times


_SIZE = ("curve_draw", "curve_n_train")

ARRAYS = (
    *curve.ARRAYS,
    Array("curve_sweeps", _SIZE, "i4", "1", "infinite width, a factor in float32: sweeps of refinement",
          when=_is_refined),
    Array("curve_condition", _SIZE, "f8", "1",
          "infinite width, a factor in float32: condition of the NTK and its ridge, as the first sweep tells it",
          when=_is_refined),
)  # fmt: skip


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import loss_law

    study, inputs = work.study, work.inputs
    if "curve_n_train" not in work.block.region:  # planned before kernels had tiles
        return curve.compute(work)
    n = work.block.value("curve_n_train")
    chosen = inputs["permutation"][work.block.index("curve_draw"), :n]
    with pool_rows.named(study, work.block.value("curve_draw"), chosen):
        laws, refined = _laws(work, n, inputs["y_train"][chosen])
    found = [loss_law.statistics(*law, inputs["y_test"], study.test_sizes) for law in laws]
    values = {array: np.array([[[getattr(one, column)] for one in found]]) for array, column in curve.COLUMNS.items()}
    if refined is not None:
        values["curve_sweeps"] = np.array([[refined.sweeps]], np.int32)
        values["curve_condition"] = np.array([[refined.condition]])
    return values


def _laws(work: "Work[EnsembleStudy]", n: int, y_train: np.ndarray) -> "tuple[list[Law], Refined | None]":
    """After each of the study's times, in their order; and how the weights of a factor in float32 were refined."""
    from ntkhpc import infinite_width, kernels, tile_panels, tiled

    study, cut = work.study, blocks(work.study)
    nngp, ntk, factor = (_tiles(work, name) for name in ("kernel_nngp", "kernel_ntk", "kernel_factor"))
    ridge = study.infinite_width.ridge
    nngp_test = kernels.nngp_ntk(mlp(study), work.inputs["x_test"])[0]
    laws, refined = {}, None
    if "infinite" in study.infinite_width.times:
        laws["infinite"], refined = tiled.refined_law(
            n, cut, factor, nngp, nngp_test, y_train, kernel=ntk, ridge=ridge, threads=work.threads
        )
    if finite := study.infinite_width.finite:
        trainings = [curve.training(study, study.curve_steps(time, n)) for time in finite]
        panels = infinite_width.Panels(
            tiled.leading(n, cut, nngp), tiled.leading(n, cut, ntk), tile_panels.panel(n, cut, nngp).T,
            tile_panels.panel(n, cut, ntk).T, nngp_test,
        )  # fmt: skip
        laws |= dict(zip(finite, infinite_width.finite_time_laws(panels, y_train, trainings), strict=True))
    return [laws[time] for time in study.infinite_width.times], refined


def _tiles(work: "Work[EnsembleStudy]", name: str) -> "Tile":
    opened, cut, draw = work.inputs.open(name), blocks(work.study), work.block.index("curve_draw")
    return lambda i, j: opened[draw, cut.number(i, j)]


SWEEPS = 3
"""Of refinement: two at a condition of 3e4, three at 2e5, five at the edge of what is refused."""


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """Of each size: tiles, two panels by half of a square of tiles, and covariances; eigenvectors at finite times.

    A sweep of refinement multiplies a panel by the NTK and divides it twice by the factor in float32.
    """
    n, test = block.value("curve_n_train"), study.data.test
    finite = study.infinite_width.finite
    flops = 3.0 * n**2 * test + 2.0 * n * test**2 if "infinite" in study.infinite_width.times else 0.0
    flops += (30.0 * n**3 + len(finite) * (4.0 * n**2 * test + 2.0 * n * test**2)) if finite else 0.0
    flops += 4.0 * len(study.infinite_width.times) * test**2
    read = n * (n + 2 * test) * (1.0 + bool(finite))
    if is_single(study) and "infinite" in study.infinite_width.times:
        flops += (3.0 * SWEEPS - 0.5) * n**2 * test
        read += n * (n + test) * SWEEPS - n * (n + 2 * test) / 4
    kernels = kernel_seconds(study, test**2 / 2)
    return start_seconds(study) + kernels + flops / cost.FLOPS_FLOAT64 + read / cost.NUMBERS_READ


def memory_bytes(study: "EnsembleStudy") -> int:
    n, test, tile = study.curve_sizes[-1], study.data.test, study.infinite_width.tile
    moments = [0.0]
    if "infinite" in study.infinite_width.times:
        moments.append((2.5 if is_single(study) else 2) * n * test + 3 * tile**2 + 4 * test**2)
    if study.infinite_width.finite:
        moments.append(max(memory.eigenvectors(n, test), memory.covariance(n, test)))
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(max(moments))


PHASE = Phase(
    "curve",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "kernel_nngp", "kernel_ntk", "kernel_factor"),
    writes=ARRAYS,
    blocks=("curve_draw", "curve_n_train"),
    when=is_tiled,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="lower infinite_width.draws",
    lower="infinite_width.n_train or data.test",
    wide=lambda study: 1 if study.infinite_width.finite else strips(study.data.test),
)

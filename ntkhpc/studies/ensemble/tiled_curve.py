"""Phase `curve` where a learning curve goes beyond one tile: each size by itself, from the tiles of both kernels."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.blocks import strips
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.ensemble import curve, exact
from ntkhpc.studies.ensemble.curve import Time
from ntkhpc.studies.ensemble.factor import is_single
from ntkhpc.studies.ensemble.kernel import blocks, is_tiled
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds

if TYPE_CHECKING:
    from ntkhpc.infinite_width import Law
    from ntkhpc.loss_law import Statistics
    from ntkhpc.refinement import Refined
    from ntkhpc.studies.ensemble.study import EnsembleStudy
    from ntkhpc.tile_panels import Tile


FACTORS: dict[Time, str] = {"infinite": "kernel_factor", "posterior": "nngp_factor"}
"""The factor that the linear system of an endless time takes."""

_REFINED: dict[Time, tuple[str, str]] = {
    "infinite": ("curve_sweeps", "curve_condition"),
    "posterior": ("curve_posterior_sweeps", "curve_posterior_condition"),
}
"""Arrays that say how the weights of a factor in float32 were refined."""


def _is_refined(time: Time) -> "Callable[[EnsembleStudy], bool]":
    return lambda study: is_single(study) and time in study.infinite_width.times


_SIZE = ("curve_draw", "curve_n_train")

ARRAYS = (
    *curve.ARRAYS,
    Array("curve_sweeps", _SIZE, "i4", "1", "infinite width, a factor in float32: sweeps of refinement",
          when=_is_refined("infinite")),
    Array("curve_condition", _SIZE, "f8", "1",
          "infinite width, a factor in float32: condition of the NTK and its ridge, as the first sweep tells it",
          when=_is_refined("infinite")),
    Array("curve_posterior_sweeps", _SIZE, "i4", "1", "NNGP posterior, a factor in float32: sweeps of refinement",
          when=_is_refined("posterior")),
    Array("curve_posterior_condition", _SIZE, "f8", "1",
          "NNGP posterior, a factor in float32: condition of the NNGP kernel and its noise, as the first sweep tells",
          when=_is_refined("posterior")),
)  # fmt: skip


def compute(work: "Work[EnsembleStudy]") -> Values:
    study, inputs = work.study, work.inputs
    if "curve_n_train" not in work.block.region:  # planned before kernels had tiles
        return curve.compute(work)
    n = work.block.value("curve_n_train")
    chosen = inputs["permutation"][work.block.index("curve_draw"), :n]
    with pool_rows.named(study, work.block.value("curve_draw"), chosen):
        found, refined = _statistics(work, n, inputs["y_train"][chosen])
    values = {
        array: np.array([[[getattr(found[time], column)] for time in study.infinite_width.times]])
        for array, column in curve.COLUMNS.items()
    }
    for time, one in refined.items():
        sweeps, condition = _REFINED[time]
        values |= {sweeps: np.array([[one.sweeps]], np.int32), condition: np.array([[one.condition]])}
    return values


def _statistics(
    work: "Work[EnsembleStudy]", n: int, y_train: np.ndarray
) -> "tuple[dict[Time, Statistics], dict[Time, Refined]]":
    """Of the loss after each of the study's times; and how the weights of factors in float32 were refined.

    One law is held at a time.
    """
    from ntkhpc import infinite_width, kernels, loss_law, tile_panels, tiled

    study, cut = work.study, blocks(work.study)
    nngp, ntk = _tiles(work, "kernel_nngp"), _tiles(work, "kernel_ntk")
    tiles = {"ntk": ntk, "nngp": nngp}
    nngp_test = kernels.nngp_ntk(mlp(study), work.inputs["x_test"])[0]
    found: dict[Time, Statistics] = {}
    refined: dict[Time, Refined] = {}

    def describe(law: "Law") -> "Statistics":
        return loss_law.statistics(*exact.scaled(study, law), work.inputs["y_test"], study.test_sizes)

    for time in study.infinite_width.endless:
        law, sweeps = tiled.refined_law(
            n,
            cut,
            _tiles(work, FACTORS[time]),
            nngp,
            nngp_test,
            y_train,
            posterior=time == "posterior",
            kernel=tiles[curve.KERNELS[time]],
            ridge=study.infinite_width.added(time),
            threads=work.threads,
        )
        found[time] = describe(law)
        refined |= {} if sweeps is None else {time: sweeps}
        del law
    if finite := study.infinite_width.finite:
        trainings = [exact.training(study, study.finite_steps(time, n)) for time in finite]
        panels = infinite_width.Panels(
            tiled.leading(n, cut, nngp), tiled.leading(n, cut, ntk), tile_panels.panel(n, cut, nngp).T,
            tile_panels.panel(n, cut, ntk).T, nngp_test,
        )  # fmt: skip
        laws = infinite_width.finite_time_laws(panels, y_train, trainings)
        found |= {time: describe(law) for time, law in zip(finite, laws, strict=True)}
    return found, refined


def _tiles(work: "Work[EnsembleStudy]", name: str) -> "Tile":
    opened, cut, draw = work.inputs.open(name), blocks(work.study), work.block.index("curve_draw")
    return lambda i, j: opened[draw, cut.number(i, j)]


SWEEPS = 3
"""Of refinement: two at a condition of 3e4, three at 2e5, five at the edge of what is refused."""


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """Of each size: tiles, two panels by half of a square of tiles, and covariances; eigenvectors at finite times. Of
    a posterior one panel.

    A sweep of refinement multiplies a panel by the kernel and divides it twice by the factor in float32.
    """
    n, test = block.value("curve_n_train"), study.data.test
    finite, endless = study.infinite_width.finite, study.infinite_width.endless
    flops = read = 0.0
    for time in endless:
        products = time != "posterior"  # by half of a square of tiles of the NNGP kernel
        flops += (3.0 if products else 1.0) * n**2 * test + 2.0 * n * test**2
        read += n * (n + 2 * test) - (0 if products else n**2 / 2)
        if is_single(study):
            flops += (3.0 * SWEEPS - 0.5) * n**2 * test
            read += n * (n + test) * SWEEPS - n * (n + 2 * test) / 4
    if finite:
        flops += 30.0 * n**3 + len(finite) * (4.0 * n**2 * test + 2.0 * n * test**2)
        read += n * (n + 2 * test)
    flops += 4.0 * len(study.infinite_width.times) * test**2
    kernels = kernel_seconds(study, test**2 / 2)
    return start_seconds(study) + kernels + flops / cost.FLOPS_FLOAT64 + read / cost.NUMBERS_READ


def memory_bytes(study: "EnsembleStudy") -> int:
    n, test, tile = study.curve_sizes[-1], study.data.test, study.infinite_width.tile
    moments = [0.0]
    if study.infinite_width.endless:
        moments.append((2.5 if is_single(study) else 2) * n * test + 3 * tile**2 + 4 * test**2)
    if study.infinite_width.finite:
        moments.append(max(memory.eigenvectors(n, test), memory.covariance(n, test)))
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(max(moments))


PHASE = Phase(
    "curve",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "kernel_nngp", "kernel_ntk", *FACTORS.values()),
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

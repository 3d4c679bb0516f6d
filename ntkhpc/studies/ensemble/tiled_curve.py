"""Phase `curve` where a learning curve goes beyond one tile: each size by itself, from the tiles of both kernels."""

from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.blocks import strips
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.ensemble import curve, exact
from ntkhpc.studies.ensemble.factor import is_single
from ntkhpc.studies.ensemble.kernel import blocks, is_tiled
from ntkhpc.studies.ensemble.network import mlp

if TYPE_CHECKING:
    from ntkhpc.infinite_width import Law
    from ntkhpc.studies.ensemble.study import EnsembleStudy
    from ntkhpc.tile_panels import Tile


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import loss_law

    study, inputs = work.study, work.inputs
    if "curve_n_train" not in work.block.region:  # planned before kernels had tiles
        return curve.compute(work)
    n = work.block.value("curve_n_train")
    chosen = inputs["permutation"][work.block.index("curve_draw"), :n]
    laws = _laws(work, n, inputs["y_train"][chosen])
    found = [loss_law.statistics(*law, inputs["y_test"], study.test_sizes) for law in laws]
    return {array: np.array([[[getattr(one, column)] for one in found]]) for array, column in curve.COLUMNS.items()}


def _laws(work: "Work[EnsembleStudy]", n: int, y_train: np.ndarray) -> "list[Law]":
    """After each of the study's times, in their order."""
    from ntkhpc import infinite_width, kernels, tile_panels, tiled

    study, cut = work.study, blocks(work.study)
    nngp, ntk, factor = (_tiles(work, name) for name in ("kernel_nngp", "kernel_ntk", "kernel_factor"))
    nngp_test = kernels.nngp_ntk(mlp(study), work.inputs["x_test"])[0]
    laws = {}
    if "infinite" in study.infinite_width.times:
        laws["infinite"] = tiled.law(n, cut, factor, nngp, nngp_test, y_train, kernel=ntk, threads=work.threads)
    if finite := [time for time in study.infinite_width.times if time != "infinite"]:
        trainings = [exact.training(study, study.finite_steps(time, n)) for time in finite]
        panels = infinite_width.Panels(
            tiled.leading(n, cut, nngp), tiled.leading(n, cut, ntk), tile_panels.panel(n, cut, nngp).T,
            tile_panels.panel(n, cut, ntk).T, nngp_test,
        )  # fmt: skip
        laws |= dict(zip(finite, infinite_width.finite_time_laws(panels, y_train, trainings), strict=True))
    return [laws[time] for time in study.infinite_width.times]


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
    finite = [time for time in study.infinite_width.times if time != "infinite"]
    flops = 3.0 * n**2 * test + 2.0 * n * test**2 if "infinite" in study.infinite_width.times else 0.0
    flops += (30.0 * n**3 + len(finite) * (4.0 * n**2 * test + 2.0 * n * test**2)) if finite else 0.0
    flops += 4.0 * len(study.infinite_width.times) * test**2
    read = n * (n + 2 * test) * (1.0 + bool(finite))
    if is_single(study) and "infinite" in study.infinite_width.times:
        flops += (3.0 * SWEEPS - 0.5) * n**2 * test
        read += n * (n + test) * SWEEPS - n * (n + 2 * test) / 4
    kernels = cost.kernel_seconds(test**2 / 2, study.features, study.network.depth)
    return cost.SECONDS_PER_SHARD + kernels + flops / cost.FLOPS_FLOAT64 + read / cost.NUMBERS_READ


def memory_bytes(study: "EnsembleStudy") -> int:
    n, test, tile = study.curve_sizes[-1], study.data.test, study.infinite_width.tile
    moments = [0.0]
    if "infinite" in study.infinite_width.times:
        moments.append((2.5 if is_single(study) else 2) * n * test + 3 * tile**2 + 4 * test**2)
    if set(study.infinite_width.times) != {"infinite"}:
        moments.append(max(memory.eigenvectors(n, test), memory.covariance(n, test)))
    return memory.KERNELS + memory.rows(study) + memory.of_numbers(max(moments))


PHASE = Phase(
    "curve",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "kernel_nngp", "kernel_ntk", "kernel_factor"),
    writes=curve.ARRAYS,
    blocks=("curve_draw", "curve_n_train"),
    when=is_tiled,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="lower infinite_width.draws",
    lower="infinite_width.n_train or data.test",
    wide=lambda study: strips(study.data.test) if set(study.infinite_width.times) == {"infinite"} else 1,
)

"""Phase `redraws`: the ensemble's laws at infinite width for further draws of its training sets, after its own steps.

They tell how much a value of the ensemble would move had other samples been drawn: at the sizes of the ensemble, draw
by draw, where `curve` has the sizes of the exact curve and fewer draws. As many draws as the pool allows share no
sample: they are as independent as draws of fresh data.
"""

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.errors import RunError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.ensemble import exact
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

DRAWS = 8
"""Draws of one shard; each is a tile."""

REDRAW = ("redraw", "n_train")

ARRAYS = (
    Array("redraw_mu", REDRAW, "f8", "1",
          "infinite width, same steps, further draws: mu_L. The k-th, from 0, has the rows from (k % a) n_train on of "
          "order draws + k // a, with the largest n_train and a = pool // n_train"),
    Array("redraw_sigma2", REDRAW, "f8", "1",
          "infinite width, same steps, further draws: sigma_L^2, the variance of L"),
    Array("redraw_population_variance", REDRAW, "f8", "1",
          "infinite width, same steps, further draws: sigma_pop^2"),
    Array("redraw_bias2", REDRAW, "f8", "1",
          "infinite width, same steps, further draws: mean over test points of bias^2 / 2"),
    Array("redraw_variance", REDRAW, "f8", "1",
          "infinite width, same steps, further draws: mean over test points of the variance / 2"),
)  # fmt: skip

_COLUMNS = {
    "redraw_mu": "mu_L",
    "redraw_sigma2": "sigma2_L",
    "redraw_population_variance": "population_variance",
    "redraw_bias2": "bias2",
    "redraw_variance": "variance",
}


def numbers(study: "EnsembleStudy") -> range:
    """Of the further draws, counted on from the ensemble's own."""
    return range(study.ensemble.draws, study.ensemble.draws + study.infinite_width.redraws)


def apart(study: "EnsembleStudy") -> int:
    """How many further draws one after another share no sample: all that fit into the pool, at least one."""
    return max(study.data.pool // study.ensemble.n_train[-1], 1)


def orders(study: "EnsembleStudy") -> int:
    """Permutations of the pool that the further draws are cut from, after those of the ensemble's own draws."""
    return math.ceil(study.infinite_width.redraws / apart(study))


def chosen(study: "EnsembleStudy", permutation: np.ndarray, draw: int) -> np.ndarray:
    """The samples (largest size,) of a further draw."""
    if len(permutation) != study.orders:
        raise RunError(
            f"the data have {len(permutation)} permutations of the pool, this code makes {study.orders}",
            cause="an early version made them, which took a permutation for each further draw",
            todo="go on without ACCEPT_CHANGE, with the run's own code, or make the run anew",
        )
    order, place = divmod(draw - study.ensemble.draws, apart(study))
    largest = study.ensemble.n_train[-1]
    return np.asarray(permutation[study.ensemble.draws + order, place * largest : (place + 1) * largest])


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import kernels

    study = work.study
    nngp_test = kernels.nngp_ntk(mlp(study), work.inputs["x_test"])[0]  # the same for every draw
    draws = [work.block.axes["redraw"][index] for index in work.block.range("redraw")]
    tiles = [work.tile(draw, partial(_laws, work, draw, nngp_test)) for draw in draws]
    return {array: np.stack([tile[array] for tile in tiles]) for array in _COLUMNS}


def _laws(work: "Work[EnsembleStudy]", draw: int, nngp_test: np.ndarray) -> Values:
    """Each array's values (n_train,) of one draw."""
    from ntkhpc import infinite_width

    study, inputs, sizes = work.study, work.inputs, work.study.ensemble.n_train
    rows = chosen(study, inputs["permutation"], draw)
    y_train, y_test = inputs["y_train"][rows], inputs["y_test"]
    blocks = infinite_width.panels(mlp(study), inputs["x_train"][rows], inputs["x_test"], nngp_test)
    statistics = []
    for n in sizes:
        steps = [study.training.steps(n)]
        statistics += exact.statistics(study, blocks.leading(n), y_train[:n], y_test, steps)
    return {array: np.array([getattr(one, column) for one in statistics]) for array, column in _COLUMNS.items()}


def seconds(study: "EnsembleStudy", block: Block) -> float:
    draws = len(block.range("redraw"))
    test_kernel = kernel_seconds(study, study.data.test**2 / 2)
    return start_seconds(study) + test_kernel + draws * draw_seconds(study)


def tile_seconds(study: "EnsembleStudy", block: Block) -> float:
    test_kernel = kernel_seconds(study, study.data.test**2 / 2)
    return start_seconds(study) + test_kernel + draw_seconds(study)


def draw_seconds(study: "EnsembleStudy") -> float:
    """Kernels at the largest size; of each size an eigendecomposition, a covariance, and passes over its memory."""
    test, sizes = study.data.test, study.ensemble.n_train
    pairs = sizes[-1] ** 2 / 2 + sizes[-1] * test
    flops = sum(30 * n**3 + 4 * n**2 * test + (2 * n + 250) * test**2 for n in sizes)
    batched = sum(exact.batched_seconds(study, n, study.training.steps(n)) for n in sizes)
    return kernel_seconds(study, pairs) + flops / cost.FLOPS_FLOAT64 + batched


def memory_bytes(study: "EnsembleStudy") -> int:
    n, test = study.ensemble.n_train[-1], study.data.test
    moments = (memory.eigenvectors(n, test), memory.covariance(n, test))
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(max(moments))


PHASE = Phase(
    "redraws",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation"),
    writes=ARRAYS,
    blocks=("redraw",),
    when=lambda study: study.infinite_width.redraws > 0 and exact.has_curves(study),
    seconds=seconds,
    tile_seconds=tile_seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="lower infinite_width.redraws",
    lower="ensemble.n_train or data.test",
    shorten="ensemble.n_train or data.test",
)

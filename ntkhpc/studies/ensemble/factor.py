"""Phase `factor`: the Cholesky factor of the NTK of one draw, a column of tiles after the other."""

from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.blocks import strips
from ntkhpc.errors import DataError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.ensemble.kernel import TILE, blocks, is_tiled

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

_MEANING = "Cholesky factor of the NTK and its ridge, in the same tiles; the rows of the test points are T_*X L^-T"


def is_single(study: "EnsembleStudy") -> bool:
    """Whether the factor is in float32."""
    return study.infinite_width.factor_precision == "float32"


ARRAYS = (
    Array("kernel_factor", TILE, "f8", "1", _MEANING, when=lambda study: not is_single(study), scratch=True),
    Array("kernel_factor", TILE, "f4", "1", f"{_MEANING}; where infinite_width.factor_precision is float32",
          when=is_single, scratch=True),
)  # fmt: skip


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import tiled

    cut, draw, j = blocks(work.study), work.block.index("curve_draw"), work.block.index("factor_column")
    ntk, factor = work.inputs.open("kernel_ntk"), work.inputs.open("kernel_factor")
    precision = work.study.infinite_width.factor_precision

    def kernel(row: int, column: int) -> np.ndarray:
        return np.asarray(ntk[draw, cut.number(row, column)])

    column = tiled.factor_column(
        j,
        cut,
        kernel,
        lambda row, column: factor[draw, cut.number(row, column)],
        ridge=work.study.infinite_width.ridge,
        precision=precision,
        threads=work.threads,
    )
    found = np.empty((1, len(cut.column(j)), cut.size, cut.size), precision)
    try:
        for place, tile in enumerate(column):
            found[0, place] = tile
    except DataError as error:
        chosen = work.inputs["permutation"][draw, : cut.n]
        with pool_rows.named(work.study, work.block.value("curve_draw"), chosen):
            raise tiled.named(error, cut, kernel, precision) from error
    return {"kernel_factor": found}


def flops(study: "EnsembleStudy", j: int) -> float:
    """Of a column: its rows less products with what is on the left of it, then divided by the tile on the diagonal."""
    cut = blocks(study)
    left, width = float(j * cut.size), float(cut.height(j))
    below = study.curve_sizes[-1] - left - width + study.data.test
    return below * width * (2 * left + width) + width**2 * (left + width / 3)


def seconds(study: "EnsembleStudy", block: Block) -> float:
    cut, j = blocks(study), block.index("factor_column")
    tiles, width = len(cut.column(j)), 0.5 if is_single(study) else 1.0
    read, written = tiles / 2 + width * (j * tiles + j), width * tiles
    moved = read / cost.NUMBERS_READ + written / cost.NUMBERS_WRITTEN
    return cost.SECONDS_PER_SHARD + width * flops(study, j) / cost.FLOPS_FLOAT64 + moved * cut.size**2


def memory_bytes(study: "EnsembleStudy") -> int:
    """The row of tiles on the left, the column that is made, and five tiles: read, reduced, in products and files.

    A row of j tiles goes with a column that has j tiles less than the first one. In float32 all of them are half as
    large, but for the tiles of the kernel: one that is read and one that is converted.
    """
    cut = blocks(study)
    tiles = cut.train + cut.test + 5.0
    if is_single(study):
        tiles = tiles / 2 + 1
    return memory.KERNELS + memory.of_numbers(tiles * cut.size**2)


PHASE = Phase(
    "factor",
    reads=("kernel_ntk", "kernel_factor", "permutation"),
    writes=ARRAYS,
    blocks=("curve_draw", "factor_column"),
    when=is_tiled,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="raise infinite_width.tile, or lower infinite_width.n_train",
    lower="infinite_width.tile or infinite_width.n_train",
    chained=True,
    wide=lambda study: strips(study.infinite_width.tile),
)

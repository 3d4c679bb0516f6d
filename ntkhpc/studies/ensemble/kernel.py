"""Phase `kernel`: tiles of NNGP and NTK of one draw, where a learning curve goes beyond what one tile holds."""

from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.blocks import Blocks
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.ensemble import curve
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

TILE = ("curve_draw", "kernel_tile", "tile_row", "tile_column")

ARRAYS = (
    Array("kernel_nngp", TILE, "f8", "1",
          "NNGP kernel, in tiles: column after column of blocks, each from the diagonal down, the test points last",
          scratch=True),
    Array("kernel_ntk", TILE, "f8", "1", "NTK, in the same tiles", scratch=True),
)  # fmt: skip


def is_tiled(study: "EnsembleStudy") -> bool:
    return not (curve.is_iterated(study) or curve.fits_a_tile(study))


def blocks(study: "EnsembleStudy") -> Blocks:
    """How the training inputs of the largest size, and the test inputs, are cut."""
    return Blocks(study.curve_sizes[-1], study.data.test, study.infinite_width.tile)


def tile_count(study: "EnsembleStudy") -> int:
    return blocks(study).tiles if is_tiled(study) else 0


def column_count(study: "EnsembleStudy") -> int:
    return blocks(study).train if is_tiled(study) else 0


def tile_size(study: "EnsembleStudy") -> int:
    return study.infinite_width.tile if is_tiled(study) else 0


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import tiled

    study, inputs, cut = work.study, work.inputs, blocks(work.study)
    chosen = inputs["permutation"][work.block.index("curve_draw"), : study.curve_sizes[-1]]
    i, j = cut.place(work.block.index("kernel_tile"))
    nngp, ntk = tiled.filled_tile(mlp(study), cut, inputs["x_train"][chosen], inputs["x_test"], i, j)
    return {"kernel_nngp": nngp[None, None], "kernel_ntk": np.asarray(ntk)[None, None]}


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """Half of a tile on the diagonal; and what is written is hashed, checked and read back."""
    i, j = blocks(study).place(block.index("kernel_tile"))
    pairs = study.infinite_width.tile**2 / (2 if i == j else 1)
    written = 2 * study.infinite_width.tile**2
    return start_seconds(study) + kernel_seconds(study, pairs) + written / cost.NUMBERS_WRITTEN


def memory_bytes(study: "EnsembleStudy") -> int:
    """Both kernels, and a copy of one while it is written; the rows of the draw beside those of the pool."""
    tile, features = study.infinite_width.tile, study.features
    numbers = 4 * tile**2 + study.curve_sizes[-1] * features
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(numbers)


PHASE = Phase(
    "kernel",
    reads=("x_train", "x_test", "permutation"),
    writes=ARRAYS,
    blocks=("curve_draw", "kernel_tile"),
    when=is_tiled,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="raise infinite_width.tile, or lower infinite_width.n_train",
    lower="infinite_width.tile or data.pool",
)

"""Phase `kernel`: tiles of NNGP and NTK of one draw, where a learning curve goes beyond what one tile holds."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkhpc.blocks import Blocks
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.shared import Shared
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.ensemble import curve, exact
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
    return exact.has_curves(study) and not (curve.is_iterated(study) or curve.fits_a_tile(study))


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
    x_train, x_test = inputs["x_train"][chosen], inputs["x_test"]
    i, j = cut.place(work.block.index("kernel_tile"))
    rows = [x_train[cut.rows(j)], (x_train if i < cut.train else x_test)[cut.rows(i)]]
    made_from = ["diagonal" if i == j else "below it", *(_digest(one) for one in rows)]
    known = [work.known(array.name, 0, made_from) for array in ARRAYS]
    found = {array.name: chunk for array, chunk in zip(ARRAYS, known, strict=True) if chunk is not None}
    if len(found) == len(ARRAYS):
        return found
    nngp, ntk = tiled.filled_tile(mlp(study), cut, x_train, x_test, i, j, accelerated=work.accelerated)
    return {"kernel_nngp": nngp[None, None], "kernel_ntk": np.asarray(ntk)[None, None], **found}


def _digest(rows: np.ndarray) -> str:
    """sha256 of type, shape and values."""
    found = hashlib.sha256(f"{rows.dtype.str}{rows.shape}".encode())
    found.update(np.ascontiguousarray(rows).data)
    return found.hexdigest()


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """Half of a tile on the diagonal; and what is written is hashed, checked and read back."""
    i, j = blocks(study).place(block.index("kernel_tile"))
    pairs = study.infinite_width.tile**2 / (2 if i == j else 1)
    written = 2 * study.infinite_width.tile**2
    return start_seconds(study) + kernel_seconds(study, pairs) + written / cost.NUMBERS_WRITTEN


ELSEWHERE = ("n_train", "draws", "times", "fixed_steps", "redraws", "method", "probes", "tolerance")
"""Fields of [infinite_width] that decide no tile, but which there are. A field that comes later does, if it is set."""

ADDED = ("ridge", "noise")
"""Fields of [infinite_width] of which each decides the factor of its own kernel, and no other tile."""


def decides(study: "EnsembleStudy", but: Sequence[str] = (*ELSEWHERE, *ADDED, "factor_precision")) -> Any:
    """What of a study decides the tiles of its kernels: data, network and tile size; no width, no training."""
    content = study.content
    network = {name: value for name, value in content["network"].items() if name != "widths"}
    section = {name: value for name, value in content.get("infinite_width", {}).items() if name not in but}
    return {"data": content["data"], "network": network, "infinite_width": section}


def name(study: "EnsembleStudy", draw: int, i: int, j: int) -> str:
    """Of the tile (i, j) of a draw: its training or test rows, and its columns."""
    cut = blocks(study)
    rows, columns = cut.rows(i), cut.rows(j)
    kind = "training" if i < cut.train else "test"
    return f"draw {draw}, {kind} rows {rows.start}-{rows.stop}, columns {columns.start}-{columns.stop}"


def names(study: "EnsembleStudy", block: Block) -> tuple[str, ...]:
    return (name(study, block.index("curve_draw"), *blocks(study).place(block.index("kernel_tile"))),)


def shared_seconds(study: "EnsembleStudy", block: Block, known: Sequence[bool]) -> float:
    """A tile of both kernels that is known is read and written."""
    if not all(known):
        return seconds(study, block)
    numbers = 2 * study.infinite_width.tile**2
    return cost.SECONDS_PER_SHARD + numbers / cost.NUMBERS_READ + numbers / cost.NUMBERS_WRITTEN


def memory_bytes(study: "EnsembleStudy") -> int:
    """Both kernels, and room for one more; the rows of the draw beside those of the pool."""
    tile, features = study.infinite_width.tile, study.features
    numbers = 3 * tile**2 + study.curve_sizes[-1] * features
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
    shared=Shared(decides, names, shared_seconds),
)

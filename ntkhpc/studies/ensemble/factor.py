"""Phase `factor`: the Cholesky factor of the NTK of one draw, a column of tiles after the other.

Phase `nngp_factor`, that of the NNGP kernel, is the same work on other tiles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkhpc.blocks import strips
from ntkhpc.errors import DataError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.shared import Shared
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.ensemble import kernel as kernels
from ntkhpc.studies.ensemble.kernel import TILE, blocks, is_tiled

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy


def is_single(study: "EnsembleStudy") -> bool:
    """Whether the factor is in float32."""
    return study.infinite_width.factor_precision == "float32"


def _is_double(study: "EnsembleStudy") -> bool:
    return not is_single(study)


@dataclass(frozen=True)
class Factored:
    """A kernel that is factored: its array `kernel`, the field of [infinite_width] that is `added` to its diagonal, and
    the array `name` of its factor, which `meaning` says."""

    kernel: str
    added: str
    name: str
    meaning: str

    def phase(self, name: str, when: Callable[["EnsembleStudy"], bool]) -> Phase:
        """The phase that makes the factor, a column a shard."""
        single = f"{self.meaning}; where infinite_width.factor_precision is float32"
        return Phase(
            name,
            reads=(self.kernel, self.name, "permutation"),
            writes=(
                Array(self.name, TILE, "f8", "1", self.meaning, when=_is_double, scratch=True),
                Array(self.name, TILE, "f4", "1", single, when=is_single, scratch=True),
            ),
            blocks=("curve_draw", "factor_column"),
            when=when,
            seconds=seconds,
            memory_bytes=memory_bytes,
            compute=self.compute,
            fewer="raise infinite_width.tile, or lower infinite_width.n_train",
            lower="infinite_width.tile or infinite_width.n_train",
            chained=True,
            wide=lambda study: strips(study.infinite_width.tile),
            shared=Shared(self.decides, names, shared_seconds),
        )

    def compute(self, work: "Work[EnsembleStudy]") -> Values:
        from ntkhpc import tiled

        cut, draw, j = blocks(work.study), work.block.index("curve_draw"), work.block.index("factor_column")
        tiles, factor = work.inputs.open(self.kernel), work.inputs.open(self.name)
        precision, rows = work.study.infinite_width.factor_precision, cut.column(j)

        def kernel(row: int, column: int) -> np.ndarray:
            return np.asarray(tiles[draw, cut.number(row, column)])

        found = np.empty((1, len(rows), cut.size, cut.size), precision)
        missing = self._take_known(work, found)
        column = tiled.factor_column(
            j,
            cut,
            kernel,
            lambda row, column: factor[draw, cut.number(row, column)],
            ridge=getattr(work.study.infinite_width, self.added),
            precision=precision,
            threads=work.threads,
            accelerated=work.accelerated,
            rows=missing,
            corner=found[0, 0],
            memory=lambda i: found[0, rows.index(i)],
        )
        try:
            for i, tile in zip(missing, column, strict=True):
                work.finish(self.name, rows.index(i), tile[np.newaxis, np.newaxis])
        except DataError as error:
            chosen = work.inputs["permutation"][draw, : cut.n]
            with pool_rows.named(work.study, work.block.value("curve_draw"), chosen):
                raise tiled.named(error, cut, kernel, precision) from error
        return {self.name: found}

    def _take_known(self, work: "Work[EnsembleStudy]", column: np.ndarray) -> list[int]:
        """Put the tiles of a column that another run has where they belong; the block rows of all others.

        A tile is made from those of the kernel and of the factor that are read for it: no more is asked of another run
        than that it read tiles of the same digests.
        """
        cut, draw, j = blocks(work.study), work.block.index("curve_draw"), work.block.index("factor_column")
        kernel, factor = work.inputs.open(self.kernel), work.inputs.open(self.name)

        def read_of(i: int) -> list[str]:
            return [kernel.digest(draw, cut.number(i, j)), *(factor.digest(draw, cut.number(i, k)) for k in range(j))]

        corner, missing = read_of(j), []
        for place, i in enumerate(cut.column(j)):
            shape = f"{cut.height(i)} rows, {cut.height(j)} columns"
            made_from = [shape, *corner, *(["below it", *read_of(i)] if i != j else ["diagonal"])]
            tile = work.known(self.name, place, made_from)
            if tile is None:
                missing.append(i)
            else:
                column[:, place : place + 1] = tile
        return missing

    def decides(self, study: "EnsembleStudy") -> Any:
        """What decides the tiles of its kernels, the precision of the factor, and what is added to this kernel."""
        others = [name for name in kernels.ADDED if name != self.added]
        return kernels.decides(study, (*kernels.ELSEWHERE, *others))


def names(study: "EnsembleStudy", block: Block) -> tuple[str, ...]:
    """Of each tile of a column, of whose columns all before are made from the same training rows."""
    draw, j = block.index("curve_draw"), block.index("factor_column")
    return tuple(kernels.name(study, draw, i, j) for i in blocks(study).column(j))


def flops(study: "EnsembleStudy", j: int, rows: Sequence[int] | None = None) -> float:
    """Of a column, or these block rows of it: less products with what is on the left, then divided by the diagonal."""
    cut = blocks(study)
    left, width = float(j * cut.size), float(cut.height(j))
    rows = cut.column(j) if rows is None else rows
    below = sum(cut.height(i) for i in rows if i != j)
    return below * width * (2 * left + width) + (width**2 * (left + width / 3) if j in rows else 0.0)


def seconds(study: "EnsembleStudy", block: Block) -> float:
    return shared_seconds(study, block, [False] * len(blocks(study).column(block.index("factor_column"))))


def shared_seconds(study: "EnsembleStudy", block: Block, known: Sequence[bool]) -> float:
    """Tiles that are known are read. For all others it takes the row of tiles on the left, once."""
    cut, j = blocks(study), block.index("factor_column")
    rows = [i for i, one in zip(cut.column(j), known, strict=True) if not one]
    width = 0.5 if is_single(study) else 1.0
    read = len(rows) / 2 + width * (j * len(rows) + (j if rows else 0)) + width * (len(known) - len(rows))
    moved = read / cost.NUMBERS_READ + width * len(known) / cost.NUMBERS_WRITTEN
    return cost.SECONDS_PER_SHARD + width * flops(study, j, rows) / cost.FLOPS_FLOAT64 + moved * cut.size**2


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


def _needs_ntk(study: "EnsembleStudy") -> bool:
    """Not for a posterior beside finite times. Of finite times alone nothing reads it: runs that have the phase planned
    must know it, so it stays."""
    times = study.infinite_width.times
    return is_tiled(study) and ("infinite" in times or "posterior" not in times)


PHASE = Factored(
    "kernel_ntk",
    "ridge",
    "kernel_factor",
    "Cholesky factor of the NTK and its ridge, in the same tiles; the rows of the test points are T_*X L^-T",
).phase("factor", _needs_ntk)

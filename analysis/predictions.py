"""bias^2 and variance of predictions from the moments of their tiles, a chunk of tiles at a time.

A tile of n members has the mean of f over them and the sum of squares about it. With N members, their mean prediction
c, e = (tile's mean) - c, and points a and outputs k summed over, what is needed of a tile are four numbers

    n ;  the sum of its m2 ;  e.e ;  e.(c - y)

from which both quantities follow for all tiles, and for all without one: sums of the others about c have the mean
-n e/(N - n). The means are read once for c and once about it, so that no square cancels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import xarray

from analysis import pieces, tasks
from analysis.pieces import Piece
from analysis.tasks import Task
from analysis.workers import threads_of_each
from ntkhpc.studies import frozen, memory
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import OK

NAMES = ("bias2", "variance")

_MANY_TILES = memory.HELD_TILES
"""With more, what `_less_excess` takes off is below a hundredth."""

_BLOCK_VALUES = 2**17
"""Of what is computed with at a time, which a core's cache holds."""


def prediction_variance(
    store: xarray.Dataset, chosen: np.ndarray | None = None, scale: np.ndarray | float = 1.0
) -> xarray.Dataset:
    """bias2 and variance over cells, averaged over the `chosen` test points (all of them), and their standard errors.

    From the moments of the tiles; the errors are the jackknife's over tiles, `<name>_deviates` (tile) what each tile
    does to the logarithm of the value, as in `aggregate.moments`. `scale` (outputs,) multiplies f and y.
    """
    tile, shape = _tile(store), tuple(store.sizes[dim] for dim in CELL)
    counts = _tile_counts(store.status.transpose(*CELL, "member").values, tile)
    enough = (counts.sum(axis=-1) >= 4) & ((counts > 0).sum(axis=-1) >= 2)
    cells = [cell for cell in np.ndindex(shape) if enough[cell]]
    threads, y = threads_of_each(len(cells)), store.y_test.values
    jackknifes = tasks.each(
        "predictions", [Task(_of_cell, store.isel(_place(one))[list(_READ)], counts[one], y, chosen, scale, threads)
                        for one in cells]
    )  # fmt: skip
    found = {name: np.full(shape, np.nan) for name in (*NAMES, "bias2_stderr", "variance_stderr")}
    deviates = {name: np.full(counts.shape, np.nan) for name in NAMES}
    for cell, jackknife in zip(cells, jackknifes, strict=True):
        for name, (value, moved) in jackknife.items():
            found[name][cell], found[f"{name}_stderr"][cell] = value, np.sqrt((moved**2).sum())
            deviates[name][cell] = moved / abs(value)
    variables = {name: (CELL, value) for name, value in found.items()}
    relative = {f"{name}_deviates": ((*CELL, "tile"), value) for name, value in deviates.items()}
    return xarray.Dataset(variables | relative, coords={dim: store[dim] for dim in CELL})


_READ = ("prediction_mean", "prediction_m2")


def mean_prediction(store: xarray.Dataset, cell: dict[str, int]) -> np.ndarray:
    """(test_point, output): the mean of f over the trained members of a cell, given by indices of its dimensions."""
    one = store.isel(cell)
    counts = _tile_counts(one.status.values, _tile(store))
    mean = _Moments.of(one.prediction_mean).mean(counts, threads_of_each(1))
    return mean.reshape(one.sizes["test_point"], one.sizes["output"])


def _place(cell: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(CELL, cell, strict=True))


def _tile(store: xarray.Dataset) -> int:
    """Members of a tile, by the study that the store holds; stores of format 1 do not name their format."""
    study = frozen.loads(store.attrs["study_toml"], format=store.attrs.get("format", 1))
    return study.of_kind(EnsembleStudy).ensemble.tile


def _tile_counts(status: np.ndarray, tile: int) -> np.ndarray:
    """Trained members (..., tile) of each tile of `tile` members (..., member); the last may be shorter."""
    return np.add.reduceat(status == OK, np.arange(0, status.shape[-1], tile), axis=-1, dtype=int)


@dataclass(frozen=True)
class _Moments:
    """A moment of every tile (tile, test_point, output) at the `chosen` test points, times `factor`."""

    read: Sequence[Piece]
    chosen: np.ndarray | None
    factor: np.ndarray | float

    @classmethod
    def of(
        cls, array: xarray.DataArray, chosen: np.ndarray | None = None, factor: np.ndarray | float = 1.0
    ) -> "_Moments":
        return cls(pieces.along(array.transpose("tile", "test_point", "output")), chosen, factor)

    def blocks(self, piece: Piece, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers of tiles (t,) that have members, and values (t, points * outputs) of theirs, which are not ours."""
        used = piece.begin + np.flatnonzero(counts[piece.rows])
        if not len(used):
            return
        values = piece.read()
        rows = max(1, _BLOCK_VALUES // max(1, values[0].size))
        for start in range(0, len(used), rows):
            tiles = used[start : start + rows]
            whole = tiles[-1] - tiles[0] == len(tiles) - 1
            block = values[tiles[0] - piece.begin :][: len(tiles)] if whole else values[tiles - piece.begin]
            block = block if self.chosen is None else block[:, self.chosen]
            block = block if np.all(self.factor == 1.0) else self.factor * block
            yield tiles, block.reshape(len(tiles), -1)

    def mean(self, counts: np.ndarray, threads: int) -> np.ndarray:
        """(points * outputs,): over all members, of means of tiles."""

        def summed(piece: Piece) -> np.ndarray | float:
            return sum((counts[tiles] @ rows for tiles, rows in self.blocks(piece, counts)), 0.0)

        return np.asarray(sum(pieces.each(summed, self.read, threads), 0.0) / counts.sum())

    def sums(self, counts: np.ndarray, threads: int) -> np.ndarray:
        """(tile,): over points and outputs; 0 of tiles without members."""

        def summed(piece: Piece) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(tiles, rows.sum(axis=1)) for tiles, rows in self.blocks(piece, counts)]

        found = np.zeros(len(counts))
        for tiles, values in chain.from_iterable(pieces.each(summed, self.read, threads)):
            found[tiles] = values
        return found


def _of_cell(
    cell: xarray.Dataset,
    counts: np.ndarray,
    y: np.ndarray,
    chosen: np.ndarray | None,
    scale: np.ndarray | float,
    threads: int,
) -> dict[str, tuple[float, np.ndarray]]:
    mean = _Moments.of(cell.prediction_mean, chosen, scale)
    m2 = _Moments.of(cell.prediction_m2, chosen, np.square(scale))
    return _jackknife(counts, mean, m2, scale * (y if chosen is None else y[chosen]), threads)


def _jackknife(
    counts: np.ndarray, mean: _Moments, m2: _Moments, y: np.ndarray, threads: int = 1
) -> dict[str, tuple[float, np.ndarray]]:
    """bias2 and variance, and what each tile does to them (tile,): 0 of those without members.

    `counts` (tile,) are trained members; y is (points, outputs), and mean and m2 are of the same.
    """
    centre = mean.mean(counts, threads)
    wrong = centre - y.ravel()
    square, along, gram = _about(counts, mean, centre, wrong, threads)
    n, total = counts.astype(float), float(counts.sum())
    second = m2.sums(counts, threads) + n * square
    numbers, spread = 2 * y.size, second.sum()
    variance = spread / (total - 1)
    bias2 = wrong @ wrong - variance / total
    used = counts > 0
    n, square, along, second = n[used], square[used], along[used], second[used]
    # What leaving a tile out changes, and not the difference of two values that many tiles make all but the same.
    others = total - n
    change = (n * spread - (total - 1) * (second + n**2 * square / others)) / ((others - 1) * (total - 1))
    changes = [
        (n / others) ** 2 * square - 2 * n / others * along - (change + variance * n / total) / others,
        change,
    ]
    tiles = len(n)
    factor = np.sqrt((tiles - 1) / tiles)  # so that the squares add up to the jackknife's variance
    moved = np.zeros((len(NAMES), len(counts)))
    moved[:, used] = [factor * (one.mean() - one) / numbers for one in changes]
    moved[0] *= _less_excess(gram, total, y.size, float((moved[0] ** 2).sum()))
    return {
        name: (float(value / numbers), moved[i])
        for i, (name, value) in enumerate(zip(NAMES, (bias2, variance), strict=True))
    }


def _about(
    counts: np.ndarray, mean: _Moments, centre: np.ndarray, wrong: np.ndarray, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """e.e and e.wrong of each tile (tile,), with e = its mean - centre; and, of few tiles, sqrt(n n') e.e' of those
    that have members."""
    used = np.flatnonzero(counts)
    kept = np.empty((len(used), len(centre))) if len(used) <= _MANY_TILES else None

    def products(piece: Piece) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        found = []
        for tiles, values in mean.blocks(piece, counts):
            e = values - centre
            found.append((tiles, np.einsum("ij,ij->i", e, e), e @ wrong))
            if kept is not None:
                kept[np.searchsorted(used, tiles)] = np.sqrt(counts[tiles])[:, None] * e
        return found

    square, along = np.zeros(len(counts)), np.zeros(len(counts))
    for tiles, own, with_wrong in chain.from_iterable(pieces.each(products, mean.read, threads)):
        square[tiles], along[tiles] = own, with_wrong
    return square, along, None if kept is None else kept @ kept.T


def _less_excess(gram: np.ndarray | None, total: float, numbers: int, variance: float) -> float:
    """What the deviates of bias2 are multiplied by; `gram` (tiles, tiles) are sqrt(n n') e.e', None of many tiles.

    The jackknife's `variance` is too large on average for what is quadratic in the mean, by m/(m - 2) times the
    variance of its quadratic part [Efron and Stein 1981],

        2 tr S^2 / (N (N - 1) (2 P)^2) ,

    with N = `total` members in m tiles, the covariance S of f over the P = `numbers` test points and outputs, and tr
    S^2 estimated without bias [Himeno and Yamada 2014]. Half of that excess is taken off, as low values come with low
    errors: 68 and 95 % intervals of bias2, of samples of the exact law of the calorimeter, 60 members in 6 tiles, cover
    72 and 95.5 % with all of it, 68.5 and 94 % with half of it, 65 and 91 % without.
    """
    if gram is None or not (len(gram) >= 4 and variance > 0):
        return 1.0
    m = len(gram)
    squares, trace = (gram**2).sum() / (m - 1) ** 2, np.trace(gram) / (m - 1)
    fourth = (np.diag(gram) ** 2).sum() / (m - 1)
    trace_of_square = (m - 1) / (m * (m - 2) * (m - 3)) * ((m - 1) * (m - 2) * squares + trace**2 - m * fourth)
    quadratic = 2 * trace_of_square / (total * (total - 1)) / (2 * numbers) ** 2
    excess = np.clip(quadratic * m / (m - 2), 0, variance / 2)
    return float(np.sqrt(1 - excess / 2 / variance))

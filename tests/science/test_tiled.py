"""Laws from tiles of kernels, against those of whole matrices."""

import re
import threading

import numpy as np
import pytest
from support import tiles
from support.tiles import Tiles, factored, look

from ntkhpc import infinite_width, threads, tile_panels, tiled
from ntkhpc.blocks import Blocks
from ntkhpc.errors import DataError
from ntkhpc.infinite_width import Law
from ntkhpc.networks import MLP

N, TEST, OUTPUTS = 1_050, 130, 3
SIZES = (50, 64, 300, 777, N)
NETWORK = MLP(2, "relu", 2.0, 0.1, OUTPUTS)

rng = np.random.default_rng(0)
X_TRAIN, X_TEST = rng.normal(size=(N, 12)), rng.normal(size=(TEST, 12))
Y_TRAIN = rng.normal(size=(N, OUTPUTS))


def kernels(blocks: Blocks, x_train: np.ndarray = X_TRAIN) -> tuple[Tiles, Tiles]:
    return tiles.kernels(NETWORK, blocks, x_train, X_TEST)


@pytest.fixture(scope="module")
def whole() -> infinite_width.Panels:
    return infinite_width.panels(NETWORK, X_TRAIN, X_TEST)


def assert_equal(found: Law, expected: Law) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10 * np.abs(other).max())


@pytest.mark.parametrize("size", [64, 100, 333, 1_000])
@pytest.mark.parametrize(("posterior", "ridge"), [(False, 0.0), (False, 0.3), (True, 0.3)])
def test_laws_from_tiles_are_those_of_whole_matrices(
    size: int, posterior: bool, ridge: float, whole: infinite_width.Panels
) -> None:
    """At the end of training, with ridge, and the NNGP posterior; of several outputs, and at sizes off the borders."""
    blocks = Blocks(N, TEST, size)
    nngp, ntk = kernels(blocks)
    factor = factored(blocks, nngp if posterior else ntk, ridge=ridge, threads=2)
    for n in SIZES:
        found = tiled.law(n, blocks, look(factor), look(nngp), whole.nngp_test, Y_TRAIN, posterior=posterior, threads=2)
        expected = infinite_width.nested_laws(
            whole.leading(n), Y_TRAIN[:n], [n], ridge=ridge, kind="nngp" if posterior else "ntk"
        )
        assert_equal(found, next(expected))


def test_the_number_of_threads_changes_no_bit(whole: infinite_width.Panels) -> None:
    blocks = Blocks(N, TEST, 600)
    nngp, ntk = kernels(blocks)
    one, nine = (factored(blocks, ntk, threads=threads) for threads in (1, 9))
    assert all(one[at].tobytes() == nine[at].tobytes() for at in one)
    laws = [
        tiled.law(777, blocks, look(one), look(nngp), whole.nngp_test, Y_TRAIN, threads=threads) for threads in (1, 9)
    ]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*laws, strict=True))


def test_a_longer_curve_goes_on_with_the_tiles_of_a_shorter_one() -> None:
    """But for those that the shorter one had filled up, and its test points, which stand in other rows."""
    short, long = Blocks(777, TEST, 100), Blocks(N, TEST, 100)
    (_, before), (_, after) = kernels(short), kernels(long)
    for smaller, larger in ((before, after), (factored(short, before), factored(long, after))):
        for (i, j), tile in smaller.items():
            row = i if i < short.train else i - short.train + long.train
            if short.train - 1 not in (i, j):
                np.testing.assert_allclose(tile, larger[row, j], rtol=1e-12, atol=1e-12)


def test_leading_blocks_and_panels_are_put_together_from_tiles(whole: infinite_width.Panels) -> None:
    blocks = Blocks(N, TEST, 100)
    nngp, ntk = kernels(blocks)
    np.testing.assert_allclose(tiled.leading(333, blocks, look(ntk)), whole.ntk_train[:333, :333], rtol=1e-12)
    np.testing.assert_allclose(
        tile_panels.panel(333, blocks, look(nngp)).T, whole.nngp_cross[:333], rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("double", [1, 250, 700])
def test_a_singular_kernel_is_named_by_its_rows(double: int) -> None:
    """Of a training input that is there twice, in the same tile or in another one."""
    x_train = X_TRAIN.copy()
    x_train[777] = x_train[double]
    blocks = Blocks(N, TEST, 300)
    with pytest.raises(DataError, match="singular") as refusal:
        factored(blocks, kernels(blocks, x_train)[1])
    first, last = re.findall(r"training inputs ([\d,]+) to ([\d,]+) of a draw", str(refusal.value))[0]
    assert int(first.replace(",", "")) <= 777 <= int(last.replace(",", ""))
    tiles = kernels(blocks, x_train)[1]
    assert tiled.named(refusal.value, blocks, look(tiles)).rows == (double, 777)


def test_of_inputs_that_depend_on_many_others_none_is_named() -> None:
    """More of them than features: in a linear kernel each is a sum of others."""
    blocks = Blocks(N, TEST, 300)
    linear = {(i, j): tiled._filled((X_TRAIN if i < blocks.train else X_TEST)[blocks.rows(i)]
              @ X_TRAIN[blocks.rows(j)].T, 300, diagonal=i == j)
              for j in range(blocks.train) for i in blocks.column(j)}  # fmt: skip
    with pytest.raises(DataError, match="singular") as refusal:
        factored(blocks, linear)
    assert tiled.named(refusal.value, blocks, look(linear)) is refusal.value


def test_tiles_are_counted_column_by_column() -> None:
    blocks = Blocks(1_000, 250, 100)
    places = [(i, j) for j in range(blocks.train) for i in blocks.column(j)]
    assert [blocks.place(number) for number in range(blocks.tiles)] == places
    assert [blocks.number(i, j) for i, j in places] == list(range(blocks.tiles))
    assert [blocks.span(j) for j in (0, 1)] == [(0, 13), (13, 25)]


def test_each_tile_is_read_while_the_one_before_it_is_worked_with_and_no_other() -> None:
    begun = {place: threading.Event() for place in range(3)}

    def read(place: int, _: int) -> np.ndarray:
        begun[place].set()
        return np.full((1, 1), place)

    with tile_panels.ahead([(read, place, 0) for place in begun]) as coming:
        for place in begun:
            assert next(coming) == place
            assert place == 2 or begun[place + 1].wait(60)
            assert place > 0 or not begun[2].is_set()


@pytest.mark.parametrize("work", ["panel", "forward", "backward", "multiply"])
def test_a_thread_of_its_own_reads_each_tile_once_and_hands_on_its_errors(work: str) -> None:
    blocks, n = Blocks(N, TEST, 300), 777
    factor, readers = look(factored(blocks, kernels(blocks)[1])), []

    def read(i: int, j: int) -> np.ndarray:
        readers.append((threading.get_ident(), i, j))
        return factor(i, j)

    def fail(i: int, j: int) -> np.ndarray:
        raise OSError("no tile")

    def do(tile: tile_panels.Tile) -> None:
        with threads.pool(2) as workers:
            if work == "multiply":
                tile_panels.multiply(np.zeros((TEST, n)), np.ones((TEST, n)), 1.0, n, blocks, tile, workers)
            elif work == "panel":
                tile_panels.panel(n, blocks, tile)
            else:
                getattr(tile_panels, work)(np.ones((TEST, n)), n, blocks, tile, workers)

    do(read)
    assert len({thread for thread, _, _ in readers} - {threading.get_ident()}) == 1
    assert len({(i, j) for _, i, j in readers}) == len(readers) == (3 if work == "panel" else 6)
    with pytest.raises(OSError, match="no tile"):
        do(fail)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_some_rows_of_a_column_have_the_bits_of_the_whole(precision: tiled.Precision) -> None:
    """With a last block that is not whole, and however many threads."""
    blocks = Blocks(N, TEST, 400)
    _, ntk = kernels(blocks)
    column = factored(blocks, ntk, precision=precision)
    for j in range(blocks.train):
        for rows in ([blocks.train], [*blocks.column(j)][-2:], [j], [j, blocks.train], []):
            corner = None if j in rows else column[j, j]
            found = tiled.factor_column(
                j, blocks, look(ntk), look(column), precision=precision, threads=2, rows=rows, corner=corner
            )
            for i, tile in zip(rows, found, strict=True):
                assert tile.tobytes() == column[i, j].tobytes()


def test_rows_of_a_column_need_its_corner() -> None:
    blocks = Blocks(N, TEST, 400)
    _, ntk = kernels(blocks)
    for rows in ([1], [1, 0]):
        with pytest.raises(ValueError, match=re.escape(f"rows = {rows} of column 0: the tile (0, 0) is the first")):
            next(tiled.factor_column(0, blocks, look(ntk), look({}), rows=rows))

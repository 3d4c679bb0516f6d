"""Laws from factors in float32, refined, against those of whole matrices in float64."""

import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
from support.tiles import Tiles, factored, kernels, look

from ntkhpc import infinite_width, refinement, tile_panels, tiled
from ntkhpc.blocks import Blocks
from ntkhpc.errors import DataError
from ntkhpc.infinite_width import Law
from ntkhpc.networks import MLP

N, TEST, OUTPUTS = 700, 130, 3
SIZES = (50, 64, 300, 555, N)
NETWORK = MLP(2, "relu", 2.0, 0.1, OUTPUTS)

rng = np.random.default_rng(3)
X_TRAIN, X_TEST = rng.normal(size=(N, 12)), rng.normal(size=(TEST, 12))
Y_TRAIN = rng.normal(size=(N, OUTPUTS))


def similar(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that differ by little: the condition of their NTK goes like one over the spread."""
    return 1 + spread * X_TRAIN, 1 + spread * X_TEST


def close(distance: float) -> np.ndarray:
    """Inputs of which two nearly agree."""
    x_train = X_TRAIN.copy()
    x_train[480] = x_train[250] + distance * X_TRAIN[7]
    return x_train


def law(
    n: int, blocks: Blocks, tiles: tuple[Tiles, Tiles], factor: Tiles, nngp_test: np.ndarray, **options: object
) -> Law:
    """Refined by the NTK, or, for the posterior, by the NNGP kernel."""
    nngp, ntk = tiles
    kernel = look(nngp if options.get("posterior") else ntk)
    return tiled.law(n, blocks, look(factor), look(nngp), nngp_test, Y_TRAIN, kernel=kernel, **options)  # type: ignore[arg-type]  # of a dict


@pytest.mark.promise("A law from a factor in float32, refined, is that of whole matrices in float64 to 1e-9.")
@pytest.mark.parametrize("size", [64, 100, 333, 1_000])
@pytest.mark.parametrize(
    ("spread", "posterior", "ridge"), [(1.0, False, 0.0), (0.02, False, 0.0), (0.02, False, 0.3), (0.02, True, 0.3)]
)
def test_refined_laws_are_those_of_whole_matrices(size: int, spread: float, posterior: bool, ridge: float) -> None:
    """To a condition of 5e5, with ridge, and the NNGP posterior; of several outputs, and at sizes off the borders."""
    (x_train, x_test), blocks = similar(spread), Blocks(N, TEST, size)
    whole = infinite_width.panels(NETWORK, x_train, x_test)
    tiles = kernels(NETWORK, blocks, x_train, x_test)
    factor = factored(blocks, tiles[0 if posterior else 1], ridge=ridge, precision="float32", threads=2)
    assert {tile.dtype for tile in factor.values()} == {np.dtype(np.float32)}
    for n in SIZES:
        found = law(n, blocks, tiles, factor, whole.nngp_test, posterior=posterior, ridge=ridge, threads=2)
        kind: infinite_width.Kind = "nngp" if posterior else "ntk"
        expected = next(infinite_width.nested_laws(whole.leading(n), Y_TRAIN[:n], [n], ridge=ridge, kind=kind))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == np.float64
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max())


def test_the_number_of_threads_changes_no_bit() -> None:
    (x_train, x_test), blocks = similar(0.1), Blocks(N, 600, 600)
    x_test = np.concatenate([x_test] * 5)[:600] + 0.01 * rng.normal(size=(600, 12))
    tiles = kernels(NETWORK, blocks, x_train, x_test)
    one, nine = (factored(blocks, tiles[1], precision="float32", threads=threads) for threads in (1, 9))
    assert all(one[at].tobytes() == nine[at].tobytes() for at in one)
    laws = [law(555, blocks, tiles, one, np.eye(600), threads=threads) for threads in (1, 9)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*laws, strict=True))


def stated(refusal: DataError) -> float:
    found = re.search(r"condition of (?:about|at least) ([\d.e+]+)", str(refusal))
    assert found
    return float(found[1])


@pytest.mark.promise(
    "A kernel whose condition is beyond 1e7 is refused for a factor in float32, and the condition named."
)
@pytest.mark.parametrize("x_train", [similar(3e-4)[0], close(1e-5)], ids=["all similar", "two close"])
def test_a_condition_beyond_float32_is_refused_and_named(x_train: np.ndarray) -> None:
    blocks = Blocks(N, TEST, 100)
    x_test = similar(3e-4)[1] if x_train[0, 0] > 0.9 else X_TEST
    whole = infinite_width.panels(NETWORK, x_train, x_test)
    condition = np.linalg.cond(whole.ntk_train)
    assert condition > 1e7
    tiles = kernels(NETWORK, blocks, x_train, x_test)
    with pytest.raises(DataError, match='factor_precision = "float64"') as refusal:
        law(N, blocks, tiles, factored(blocks, tiles[1], precision="float32"), whole.nngp_test)
    assert 1e6 < stated(refusal.value) < 2 * condition
    law(N, blocks, tiles, factored(blocks, tiles[1]), whole.nngp_test)


@pytest.mark.parametrize("double", [1, 450])
def test_equal_inputs_are_named_by_their_rows_while_the_kernel_is_factored(double: int) -> None:
    x_train, blocks = X_TRAIN.copy(), Blocks(N, TEST, 300)
    x_train[555] = x_train[double]
    with pytest.raises(DataError, match=r"condition of at least 1\.7e\+06") as refusal:
        factored(blocks, kernels(NETWORK, blocks, x_train, X_TEST)[1], precision="float32")
    first, last = re.findall(r"training inputs ([\d,]+) to ([\d,]+) of a draw", str(refusal.value))[0]
    assert int(first) <= 555 <= int(last)
    tiles = kernels(NETWORK, blocks, x_train, X_TEST)[1]
    found = tiled.named(refusal.value, blocks, look(tiles), "float32")
    assert found.rows == (double, 555)
    assert "nearly equal" in str(found)


@pytest.mark.parametrize("x_train", [X_TRAIN, similar(0.1)[0], similar(0.02)[0], close(1e-3)])
def test_the_condition_is_estimated_within_a_factor_of_five(
    x_train: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = Blocks(N, TEST, 100)
    tiles, refined = kernels(NETWORK, blocks, x_train, X_TEST), []
    told = refinement._condition
    monkeypatch.setattr(refinement, "_condition", lambda *found: refined.append(told(*found)) or refined[-1])
    law(N, blocks, tiles, factored(blocks, tiles[1], precision="float32"), np.eye(TEST))
    condition = np.linalg.cond(tiled.leading(N, blocks, look(tiles[1])))
    assert 0.2 < refined[0] / condition < 2


def test_sweeps_that_gain_too_little_are_refused_whatever_the_condition() -> None:
    """The factor of a kernel a fifth larger: each sweep leaves a sixth of the error."""
    blocks = Blocks(N, TEST, 100)
    tiles = kernels(NETWORK, blocks, X_TRAIN, X_TEST)
    other = factored(blocks, {at: 1.2 * tile for at, tile in tiles[1].items()}, precision="float32")
    with pytest.raises(DataError, match=r"condition of about .*, and a sweep of refinement gains \d\.\d times"):
        law(N, blocks, tiles, other, np.eye(TEST))


def test_weights_are_refined_to_what_a_solve_in_float64_leaves() -> None:
    """The residual of A in float64, over its size, as after scipy's own solve."""
    (x_train, x_test), blocks = similar(0.02), Blocks(N, TEST, 100)
    tiles = kernels(NETWORK, blocks, x_train, x_test)
    factor = factored(blocks, tiles[1], precision="float32")
    whole = infinite_width.panels(NETWORK, x_train, x_test)
    with ThreadPoolExecutor(2) as workers:
        guess = tile_panels.panel(N, blocks, look(factor))
        tile_panels.backward(guess, N, blocks, look(factor), workers)
        found = guess.astype(np.float64)
        refinement.refine(found, N, blocks, look(factor), look(tiles[1]), workers)
    exact = scipy.linalg.solve(whole.ntk_train, whole.ntk_cross, assume_a="pos").T
    assert np.abs(guess - exact).max() > 1e-5 * np.abs(exact).max()
    residuals = [np.abs(whole.ntk_cross.T - one @ whole.ntk_train).max() for one in (found, exact)]
    assert residuals[0] < 10 * residuals[1]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9 * np.abs(exact).max())


def test_the_law_holds_the_panels_that_are_projected() -> None:
    """Two, or two and a half where weights are refined, and the test points' covariance with three of its parts."""
    n, blocks = 1_000, Blocks(1_000, TEST, 100)
    x_train = rng.normal(size=(n, 12))
    nngp, ntk = kernels(NETWORK, blocks, x_train, X_TEST)
    nngp_test, y_train = np.eye(TEST), rng.normal(size=(n, 1))
    for precision, panels in (("float64", 2.0), ("float32", 2.5)):
        factor = factored(blocks, ntk, precision=precision)  # type: ignore[arg-type]  # a name of any type
        tracemalloc.start()
        tiled.law(n, blocks, look(factor), look(nngp), nngp_test, y_train, kernel=look(ntk))
        peak = tracemalloc.get_traced_memory()[1] / (8 * n * TEST)
        tracemalloc.stop()
        assert panels - 0.1 < peak < panels + 4 * TEST / n + 0.1, precision


def test_a_factor_in_float32_needs_its_kernel() -> None:
    blocks = Blocks(N, TEST, 1_000)
    nngp, ntk = kernels(NETWORK, blocks, X_TRAIN, X_TEST)
    with pytest.raises(ValueError, match="needs the kernel"):
        tiled.law(N, blocks, look(factored(blocks, ntk, precision="float32")), look(nngp), np.eye(TEST), Y_TRAIN)

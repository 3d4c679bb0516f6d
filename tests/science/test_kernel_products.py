"""Products of kernels that are never whole against those of whole matrices, and inputs that make them singular."""

import re
import threading

import numpy as np
import pytest
from support.kernel_matrices import matrices

from ntkhpc import dependence, kernel_products, kernels, refinement, tile_algebra
from ntkhpc.errors import DataError
from ntkhpc.kernel_products import ComputedCross, ComputedKernels
from ntkhpc.networks import MLP
from ntkhpc.studies.ensemble.curve import InfiniteWidth

RNG = np.random.default_rng(0)
X, X_TEST = RNG.normal(size=(150, 6)), RNG.normal(size=(45, 6))
NETWORKS = [MLP(1, "relu"), MLP(2, "erf", 1.5, 0.2)]
NAMES = ["relu", "erf"]
ONE, TWO = RNG.normal(size=(150, 3)), RNG.normal(size=(150, 5))


@pytest.mark.parametrize("tile", [7, 64, 150, 512])
@pytest.mark.parametrize("mlp", NETWORKS, ids=NAMES)
def test_products_are_those_of_whole_matrices_whatever_the_tile(mlp: MLP, tile: int) -> None:
    """To rounding of a sum of 150 terms. Each kernel may have vectors of its own."""
    whole, computed = matrices(mlp, X), ComputedKernels(mlp, X, tile)
    found = computed.products({"ntk": ONE, "nngp": TWO})
    for kernel, vectors in (("ntk", ONE), ("nngp", TWO)):
        exact = getattr(whole, kernel) @ vectors
        np.testing.assert_allclose(found[kernel], exact, rtol=0, atol=1e-13 * abs(exact).max())
        (alone,) = computed.products({kernel: vectors}).values()
        np.testing.assert_array_equal(alone, found[kernel])
        np.testing.assert_allclose(computed.diagonal(kernel), np.diag(getattr(whole, kernel)), rtol=1e-14)
        np.testing.assert_allclose(
            computed.columns(kernel, np.array([3, 149, 3])), getattr(whole, kernel)[:, [3, 149, 3]], rtol=1e-12
        )
    cross, exact_cross = ComputedCross(mlp, X, X_TEST, tile), matrices(mlp, X, X_TEST)
    test = {"ntk": RNG.normal(size=(45, 2)), "nngp": RNG.normal(size=(45, 4))}
    train = {"ntk": ONE, "nngp": TWO}
    for found, exact in (
        (cross.products(test), exact_cross.products(test)),
        (cross.transposed(train), exact_cross.transposed(train)),
    ):
        for kernel in ("ntk", "nngp"):
            np.testing.assert_allclose(found[kernel], exact[kernel], rtol=0, atol=1e-13 * abs(exact[kernel]).max())


@pytest.mark.parametrize("mlp", NETWORKS, ids=NAMES)
def test_the_number_of_threads_changes_no_bit_of_a_product(mlp: MLP) -> None:
    """Tiles are added in one order, whichever was computed first."""
    vectors, test = {"ntk": ONE, "nngp": TWO}, {"ntk": RNG.normal(size=(45, 2)), "nngp": RNG.normal(size=(45, 4))}
    found = []
    for threads in (1, 2, 9):
        computed, cross = ComputedKernels(mlp, X, 16, threads), ComputedCross(mlp, X, X_TEST, 16, threads)
        products = [computed.products(vectors), cross.products(test), cross.transposed(vectors)]
        columns = computed.columns("ntk", np.array([3, 149, 3]))
        found.append([*(one[kernel].tobytes() for one in products for kernel in ("ntk", "nngp")), columns.tobytes()])
    assert found[0] == found[1] == found[2]


def test_threads_compute_tiles_at_a_time_and_no_more_than_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are at work before any of them ends, and never more."""
    barrier, lock, at_work, most = threading.Barrier(3, timeout=60), threading.Lock(), 0, 0

    def counted(network: MLP, x1: np.ndarray, x2: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        barrier.wait()
        with lock:
            at_work -= 1
        return kernels.nngp_ntk(network, x1, x2)

    monkeypatch.setattr(kernel_products, "nngp_ntk", counted)
    ComputedKernels(NETWORKS[0], X, tile=30, threads=3).products({"ntk": ONE})
    assert most == 3


def test_a_pass_computes_each_tile_of_one_half_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[int] = []

    def counted(network: MLP, x1: np.ndarray, x2: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        pairs.append(len(x1) * len(x1 if x2 is None else x2))
        return kernels.nngp_ntk(network, x1, x2)

    monkeypatch.setattr(kernel_products, "nngp_ntk", counted)
    ComputedKernels(NETWORKS[0], X, tile=30).products({"ntk": ONE, "nngp": ONE})
    assert pairs == [900] * 15  # of 25 tiles


@pytest.mark.parametrize(
    ("mlp", "factor", "refused"),
    [
        (MLP(1, "relu"), 1.0, True),
        (MLP(1, "relu"), 3.7, True),  # homogeneous
        (MLP(2, "relu", 2.0, 0.1), 1.0, True),
        (MLP(2, "relu", 2.0, 0.1), 3.7, False),
        (MLP(1, "relu"), -1.0, False),
        (MLP(1, "erf"), -1.0, True),  # odd
        (MLP(1, "erf"), 3.7, False),
    ],
)
def test_inputs_that_are_equal_for_the_kernel_are_named(mlp: MLP, factor: float, refused: bool) -> None:
    x = X.copy()
    x[97] = factor * x[12]
    for kernel in ("ntk", "nngp"):
        if refused:
            with pytest.raises(DataError, match="12 and 97 are equal"):
                dependence.require_independent(mlp, x, kernel)
        else:
            dependence.require_independent(mlp, x, kernel)
    dependence.require_independent(mlp, X)


@pytest.mark.parametrize("mlp", [MLP(2, "relu", 2.0, 0.1), MLP(2, "erf", 2.0, 0.1), MLP(1, "erf")])
def test_inputs_of_one_feature_are_told_apart_without_comparing_all_pairs(
    mlp: MLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 points, all parallel; few pairs come near one another by chance. Two equal ones are found."""
    calls = 0

    def counted(network: MLP, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal calls
        calls += 1
        assert calls < 50
        return kernels.nngp_ntk(network, x)

    monkeypatch.setattr(dependence, "nngp_ntk", counted)
    x = np.random.default_rng(2).normal(size=(5000, 1))
    dependence.require_independent(mlp, x)
    x[4321] = x[17]
    with pytest.raises(DataError, match="17 and 4321 are equal") as refusal:
        dependence.require_independent(mlp, x)
    assert refusal.value.rows == (17, 4321)


@pytest.mark.parametrize(
    "refusal",
    [
        dependence.singular("equal"),
        tile_algebra.refusal(np.dtype(np.float64), slice(0, 4)),
        refinement.ill_conditioned("a condition", "some"),
    ],
)
def test_advice_on_a_kernel_without_an_inverse_can_be_followed(refusal: DataError) -> None:
    """It names fields that a study has."""
    assert refusal.todo is not None
    fields = re.findall(r"infinite_width\.(\w+)", refusal.todo)
    assert "ridge" in fields
    assert set(fields) <= set(InfiniteWidth.__struct_fields__)


def test_an_input_of_zeros_is_named() -> None:
    x = X.copy()
    x[30] = 0
    with pytest.raises(DataError, match="training input 30 is zero") as refusal:
        dependence.require_independent(MLP(1, "relu"), x)
    assert refusal.value.rows == (30,)
    dependence.require_independent(MLP(1, "relu", 2.0, 0.1), x)
    x[31] = 0
    with pytest.raises(DataError, match="30 and 31 are equal"):
        dependence.require_independent(MLP(1, "relu", 2.0, 0.1), x)

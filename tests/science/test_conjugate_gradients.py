"""Block conjugate gradients and their preconditioner against direct solutions and enumerated probabilities."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from scipy import stats
from support.kernel_matrices import Matrices, matrices

from ntkhpc.conjugate_gradients import System
from ntkhpc.errors import DataError, DivergedError, Retry
from ntkhpc.kernel_products import Kernel
from ntkhpc.networks import MLP
from ntkhpc.preconditioner import Preconditioner, pivoted_cholesky, preconditioner

RNG = np.random.default_rng(0)
N = 300
X = RNG.normal(size=(N, 10)) * np.geomspace(1, 0.1, 10)
KERNELS = matrices(MLP(2, "relu"), X)
RIGHT = RNG.normal(size=(N, 6))


def system(kernels: Matrices = KERNELS, rank: int = 40, ridge: float = 0.0, **settings: float) -> System:
    matrix = preconditioner(kernels, "ntk", rank, np.random.default_rng(1), ridge=ridge)
    chosen = {"tolerance": 1e-10, "limit": 400, **settings}
    return System(kernels, "ntk", ridge, matrix, chosen["tolerance"], int(chosen["limit"]))


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("rank", [0, 40, N])
@pytest.mark.parametrize("columns", [1, 6])
def test_solutions_are_direct_ones_and_residuals_are_true(ridge: float, rank: int, columns: int) -> None:
    right = RIGHT[:, :columns]
    found = system(rank=rank, ridge=ridge).solve(right)
    matrix = KERNELS.ntk + ridge * np.eye(N)
    direct = scipy.linalg.solve(matrix, right, assume_a="pos")
    np.testing.assert_allclose(found.x, direct, rtol=0, atol=1e-7 * abs(direct).max())
    np.testing.assert_allclose(found.residuals, right - matrix @ found.x, rtol=0, atol=1e-12 * abs(right).max())
    relative = np.linalg.norm(found.residuals, axis=0) / np.linalg.norm(right, axis=0)
    np.testing.assert_allclose(found.relative, relative, rtol=1e-2)
    assert (relative <= 1e-10).all()
    np.testing.assert_allclose(found.nngp, KERNELS.nngp @ found.x, rtol=1e-12, atol=1e-12 * abs(found.x).max())


def test_the_least_ritz_value_comes_to_the_least_eigenvalue_from_above() -> None:
    tight = system(tolerance=1e-12)
    root = tight.preconditioner.power(-0.5, np.eye(N))
    least = np.linalg.eigvalsh(root @ KERNELS.ntk @ root)[0]
    seen = [system(tolerance=tolerance).solve(RIGHT).smallest for tolerance in (0.3, 1e-2, 1e-12)]
    assert seen[0] > seen[1] > least * (1 - 1e-6)
    assert seen[2] == pytest.approx(least, rel=1e-2)


def test_equal_nearly_equal_and_empty_right_hand_sides_are_solved() -> None:
    right = np.column_stack(
        [RIGHT[:, 0], RIGHT[:, 0], RIGHT[:, 0] + 1e-9 * RIGHT[:, 1], 0 * RIGHT[:, 0], 1e9 * RIGHT[:, 2]]
    )
    found = system().solve(right)
    direct = scipy.linalg.solve(KERNELS.ntk, right, assume_a="pos")
    np.testing.assert_allclose(
        found.x / abs(direct).max(axis=0).clip(1e-300), direct / abs(direct).max(axis=0).clip(1e-300), atol=1e-6
    )
    assert not found.x[:, 3].any()
    assert found.relative[3] == 0


@pytest.mark.parametrize("columns", [1, 6])
def test_a_preconditioner_and_a_shared_search_save_products(columns: int) -> None:
    plain, low, high = (system(rank=rank, tolerance=1e-6).solve(RIGHT[:, :columns]).iterations for rank in (0, 40, 150))
    assert high < 0.8 * low < 0.8 * 0.8 * plain
    if columns > 1:
        alone = max(system(rank=0, tolerance=1e-6).solve(RIGHT[:, [k]]).iterations for k in range(columns))
        assert plain < 0.7 * alone


def test_a_product_that_has_no_inverse_is_named_and_one_that_is_too_hard_says_what_helps() -> None:
    low_rank = X @ X.T
    singular = Matrices(low_rank, low_rank)
    flat = Preconditioner(np.zeros((N, 0)), np.zeros(0), 1.0)
    indefinite = Matrices(low_rank - np.eye(N), low_rank)
    with pytest.raises(DataError, match=r"(?s)singular.*ridge"):
        System(indefinite, "ntk", 0.0, flat, 1e-8, 400).solve(RIGHT)
    for kernels, settings in ((singular, {}), (KERNELS, {"limit": 3})):
        with pytest.raises((DataError, DivergedError), match=r"(?s)ridge") as caught:
            system(kernels, rank=5, **settings).solve(RIGHT)
        if isinstance(caught.value, DivergedError):
            assert "larger rank" in str(caught.value)
            assert caught.value.retry is Retry.BUG
    found = system(singular, rank=10, ridge=0.1).solve(RIGHT)
    np.testing.assert_allclose((low_rank + 0.1 * np.eye(N)) @ found.x, RIGHT, atol=1e-8)


def test_products_are_as_many_as_the_limit_and_one_for_the_residuals() -> None:
    """It is the iteration, and no more of it, that the limit stops."""
    with pytest.raises(DivergedError, match=r"(?s)after 4 products.*more products"):
        system(limit=3).solve(RIGHT)


def test_what_rounding_keeps_from_converging_is_not_told_to_take_more_products() -> None:
    with pytest.raises(DivergedError, match=r"(?s)in 4 starts rounding") as caught:
        system(tolerance=1e-18, rank=N, limit=10_000).solve(RIGHT)
    assert "more products" not in str(caught.value)


@pytest.mark.parametrize("place", ["kernel", "right"])
def test_what_is_not_finite_is_named_and_no_singular_kernel(place: str) -> None:
    right, ntk = RIGHT.copy(), KERNELS.ntk.copy()
    (ntk if place == "kernel" else right)[7, 3] = np.nan
    flat = Preconditioner(np.zeros((N, 0)), np.zeros(0), 1.0)
    with pytest.raises(DataError, match="hold NaN or infinity"):
        System(Matrices(ntk, KERNELS.nngp), "ntk", 0.0, flat, 1e-8, 400).solve(right)


def test_powers_of_the_preconditioner_are_those_of_its_matrix() -> None:
    matrix = preconditioner(KERNELS, "nngp", 30, np.random.default_rng(3), ridge=0.2)
    assert matrix.rank == 30
    whole = (matrix.vectors * matrix.weights) @ matrix.vectors.T + matrix.shift * np.eye(N)
    values, vectors = np.linalg.eigh(whole)
    for exponent in (-1, -0.5, 0.5, 1):
        expected = (vectors * values**exponent) @ vectors.T @ RIGHT
        np.testing.assert_allclose(matrix.power(exponent, RIGHT), expected, rtol=0, atol=1e-10 * abs(expected).max())


def test_the_factor_leaves_a_positive_semidefinite_rest_nearly_as_small_as_the_best() -> None:
    """The mean over 20 factors of the trace that is left, against twice what the best matrix of that rank leaves."""
    values = np.linalg.eigvalsh(KERNELS.ntk)
    left = []
    for seed in range(20):
        factor, diagonal = pivoted_cholesky(KERNELS, "ntk", 60, np.random.default_rng(seed))
        rest = KERNELS.ntk - factor @ factor.T
        assert np.linalg.eigvalsh(rest)[0] > -1e-10 * values[-1]
        np.testing.assert_allclose(diagonal, np.diag(rest), atol=1e-12 * values[-1])
        left.append(diagonal.sum())
    assert values[:-60].sum() < np.mean(left) < 2 * values[:-60].sum()


def test_pivots_are_drawn_in_proportion_to_what_is_left() -> None:
    """Of 4,000 seeds, the ordered pairs of pivots of a 4 x 4 matrix: chi-squared of 12 cells, false alarm 1e-3."""
    factor = np.random.default_rng(5).normal(size=(4, 4)) * [1, 0.7, 0.4, 0.2]
    matrix = factor @ factor.T
    small = Matrices(matrix, matrix)
    counts = dict.fromkeys(itertools.permutations(range(4), 2), 0)
    for seed in range(4_000):
        found, _ = pivoted_cholesky(small, "ntk", 2, np.random.default_rng(seed))
        first = int(np.argmin(np.abs(np.diag(matrix) - found[:, 0] ** 2)))
        rest = np.diag(matrix) - (found**2).sum(axis=1)
        second = min((i for i in range(4) if i != first), key=lambda i: abs(rest[i]))
        counts[first, second] += 1
    expected = []
    for one, two in counts:
        after = np.diag(matrix) - matrix[:, one] ** 2 / matrix[one, one]
        expected.append(matrix[one, one] / np.trace(matrix) * after[two] / after.sum())
    assert sum(expected) == pytest.approx(1)
    assert stats.chisquare(list(counts.values()), 4_000 * np.array(expected)).pvalue > 1e-3


def test_a_factor_ends_where_no_pivot_is_accepted() -> None:
    """A diagonal that is rounding, of a kernel that is zero."""

    class Rounded(Matrices):
        asked = 0

        def columns(self, kernel: Kernel, indices: np.ndarray) -> np.ndarray:
            Rounded.asked += 1
            assert Rounded.asked < 5
            return super().columns(kernel, indices)

        def diagonal(self, kernel: Kernel) -> np.ndarray:
            return np.full(self.size, 1e-17)

    factor, left = pivoted_cholesky(Rounded(np.zeros((6, 6)), np.zeros((6, 6))), "ntk", 3, np.random.default_rng(0))
    assert factor.shape == (6, 0)
    np.testing.assert_array_equal(left, 1e-17)


def test_a_kernel_of_low_rank_needs_no_more_pivots() -> None:
    factor, left = pivoted_cholesky(Matrices(X @ X.T, X @ X.T), "ntk", 50, np.random.default_rng(0))
    assert factor.shape[1] <= 11  # rounding may leave one more
    assert left.sum() < 1e-12 * np.trace(X @ X.T)

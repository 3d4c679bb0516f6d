"""Sums with transposes in place: the bits are those of sums of whole matrices."""

import numpy as np
import pytest

from ntkhpc import symmetric
from ntkhpc.symmetric import BLOCK, ROWS


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_half_the_sum_with_the_transpose_has_the_bits_of_whole_matrices(size: int) -> None:
    product, added = np.random.default_rng(size).normal(size=(2, size, size))
    expected = (product + product.T) / 2 + added
    symmetric.symmetrise(product, added)
    np.testing.assert_array_equal(product, expected)


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_both_are_added_from_the_left_with_the_bits_of_whole_matrices(size: int) -> None:
    product, start = np.random.default_rng(size).normal(size=(2, size, size))
    kept, expected = start.copy(), start + product + product.T
    symmetric.add_transposed(product, start)
    np.testing.assert_array_equal(product, expected)
    np.testing.assert_array_equal(start, kept)


@pytest.mark.parametrize("rows", [1, ROWS, 3 * ROWS + 7])
def test_a_multiple_is_taken_off_with_the_bits_of_whole_matrices(rows: int) -> None:
    matrix, other = np.random.default_rng(rows).normal(size=(2, rows, 11))
    expected = matrix - 3.0 * other
    symmetric.subtract_multiple(matrix, 3.0, other)
    np.testing.assert_array_equal(matrix, expected)

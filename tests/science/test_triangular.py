"""Divisions by a triangular matrix, against products."""

import numpy as np
import pytest

from ntkhpc.triangular import divide, divide_by_transposed


@pytest.mark.parametrize("n", [1, 7, 511, 512, 513, 1100])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_division_in_blocks_is_undone_by_the_product(n, dtype):
    rng = np.random.default_rng(n)
    lower = np.tril(rng.standard_normal((n, n)) / np.sqrt(n)) + 2 * np.eye(n)
    wide = np.zeros((5, n + 3), dtype)
    x = wide[:, 1 : n + 1]  # a part of what is larger, which stays as it is
    expected = rng.standard_normal((5, n))
    tolerance = 1e-11 if dtype is np.float64 else 1e-4
    for product, undo in ((lower.T, divide_by_transposed), (lower, divide)):
        x[...] = expected @ product
        undo(x, lower.astype(dtype))
        np.testing.assert_allclose(x, expected, rtol=0, atol=tolerance)
        assert not wide[:, 0].any()
        assert not wide[:, n + 1 :].any()

"""What a GPU would compute, on JAX's CPU: kernels and factors equal those of NumPy to rounding."""

import numpy as np
import pytest
from support import tiles
from support.tiles import factored

from ntkhpc.blocks import Blocks
from ntkhpc.device_algebra import DeviceAlgebra
from ntkhpc.errors import DataError
from ntkhpc.kernels import nngp_ntk
from ntkhpc.networks import MLP

rng = np.random.default_rng(1)
X = rng.normal(size=(150, 7))
X[40], X[90], X[91] = X[3], -X[3], X[3] * (1 + 1e-12)
X[92], X[93] = X[5] + 1e-7 * X[6], 0
OTHERS = np.concatenate([rng.normal(size=(60, 7)), X[:5], -X[5:7], 3 * X[7:9], np.zeros((1, 7))])


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize(("depth", "bias"), [(1, 0.0), (3, 0.1)])
@pytest.mark.parametrize("pairs", ["of a set with itself", "of two sets"])
def test_kernels_of_a_device_are_those_of_the_host(activation: str, depth: int, bias: float, pairs: str) -> None:
    """Of equal, opposite and nearly parallel inputs, and of inputs of norm zero, too."""
    mlp = MLP(depth, activation, 1.7, bias)  # type: ignore[arg-type]  # a name of any type
    others = None if pairs == "of a set with itself" else OTHERS
    for found, expected in zip(nngp_ntk(mlp, X, others, accelerated=True), nngp_ntk(mlp, X, others), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max())
        if others is None:
            np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize(("precision", "error"), [("float64", 1e-12), ("float32", 1e-4)])
def test_a_factor_of_a_device_is_that_of_the_host(precision: str, error: float) -> None:
    """Of blocks that are not filled, and of test points."""
    blocks = Blocks(700, 130, 150)
    kernel = tiles.kernels(MLP(2, "relu", 2.0, 0.1), blocks, rng.normal(size=(700, 12)), rng.normal(size=(130, 12)))[1]
    host, device = (
        factored(blocks, kernel, ridge=0.1, precision=precision, accelerated=accelerated)  # type: ignore[arg-type]  # a name of any type
        for accelerated in (False, True)
    )
    for at, expected in host.items():
        assert device[at].dtype == expected.dtype == np.dtype(precision)
        np.testing.assert_allclose(device[at], expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("eigenvalue", [0.0, -1.0])
def test_a_device_refuses_a_matrix_without_a_factor(eigenvalue: float) -> None:
    columns = np.linalg.qr(rng.normal(size=(80, 80)))[0]
    matrix = columns @ np.diag([*np.linspace(1, 2, 79), eigenvalue]) @ columns.T
    algebra = DeviceAlgebra()
    with pytest.raises(DataError, match="training inputs 1,000 to 1,079 of a draw"):
        algebra.cholesky(algebra.load(matrix), np.diag(matrix), slice(1000, 1080))

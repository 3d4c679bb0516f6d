"""The angle and the recursion of one tile, in place, against long double and against the plain formulas."""

import numpy as np
import pytest

from ntkhpc import expectations
from ntkhpc.kernel_tile import COLUMNS, ROWS, Scratch, complement, kernel_tile, radii
from ntkhpc.networks import MLP


def cosines() -> np.ndarray:
    """The whole range, and more closely where the angle changes fastest or is nearly right."""
    steps = np.geomspace(1e-16, 1, 50_001)
    tiny = np.geomspace(1e-140, 1, 50_001)
    even = np.linspace(-1, 1, 200_001)
    angles = np.cos(np.linspace(0, np.pi, 200_001))
    return np.concatenate([even, angles, 1 - steps, steps - 1, tiny, -tiny])


@pytest.mark.promise("The angle between two inputs is exact to 4e-16, over the whole range.")
@pytest.mark.parametrize("radius", [1.0, np.pi, 1.7e-20, 3e40])
def test_the_angle_is_that_of_arctan2_in_long_double(radius: float) -> None:
    k = np.clip(cosines() * radius, -radius, radius)
    sine, angle = np.empty_like(k), np.empty_like(k)
    complement(k, np.full_like(k, radius), sine, angle)
    exact_k, exact_radius = k.astype(np.longdouble), np.longdouble(radius)
    exact_sine = np.sqrt((exact_radius - exact_k) * (exact_radius + exact_k))
    assert abs(angle - np.arctan2(exact_k, exact_sine)).max() < 4e-16
    told = exact_sine > 0
    assert abs(sine[told] / exact_sine[told] - 1).max() < 4e-16
    assert (sine[~told] < 1e-100).all()


def test_the_angle_may_take_the_place_of_the_radius() -> None:
    k = np.linspace(-0.9, 0.9, 101)
    sine, apart, radius = np.empty_like(k), np.empty_like(k), np.ones_like(k)
    complement(k, radius, sine, apart)
    complement(k, radius, sine, radius)
    np.testing.assert_array_equal(radius, apart)


@pytest.mark.parametrize("shape", [(ROWS, COLUMNS), (1, 1), (5, 77)])
@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize(("depth", "bias"), [(1, 0.0), (2, 0.0), (32, 0.0), (400, 0.0), (1, 0.4), (3, 0.4), (33, 0.4)])
def test_a_tile_is_the_plain_recursion(activation: str, bias: float, depth: int, shape: tuple[int, int]) -> None:
    mlp = MLP(depth, activation, weight_variance=1.7, bias_variance=bias)
    rng = np.random.default_rng(depth)
    x1, x2 = (rng.normal(size=(n, 6)) for n in shape)
    variances = [1.7 / 6 * (x**2).sum(axis=1) + bias for x in (x1, x2)]
    k = 1.7 / 6 * (x1 @ x2.T) + bias
    expected = expectations.recursion(mlp, k, k, variances[0][:, None], variances[1], depth)
    nngp, ntk = x1 @ x2.T, np.full(shape, np.nan)
    scratch = Scratch()
    close = kernel_tile(mlp, nngp, 6, (radii(mlp, variances[0]), radii(mlp, variances[1])), (nngp, ntk), scratch)
    assert close is None
    for found, plain in zip((nngp, ntk), expected, strict=True):
        np.testing.assert_allclose(found, plain, rtol=1e-12 * depth, atol=1e-14 * abs(plain).max())


def test_pairs_that_are_too_close_to_tell_are_named() -> None:
    mlp = MLP(1, "relu")
    x = np.random.default_rng(0).normal(size=(8, 4))
    other = np.random.default_rng(1).normal(size=(9, 4))
    other[6], other[2] = 2 * x[5] + 1e-5, -x[1] + 1e-5
    sides = tuple(radii(mlp, 2 / 4 * (one**2).sum(axis=1)) for one in (x, other))
    out = np.empty((8, 9)), np.empty((8, 9))
    close = kernel_tile(mlp, x @ other.T, 4, sides, out, Scratch())
    assert close is not None
    rows, columns, opposite = (part.tolist() for part in close)
    assert (rows, columns, opposite) == ([1, 5], [2, 6], [True, False])

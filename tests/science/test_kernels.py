"""Kernels against quadrature of their defining expectations and against wide random networks."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from ntkhpc import kernels
from ntkhpc.networks import MLP

NETWORKS = [
    MLP(depth=1, activation="relu"),
    MLP(depth=3, activation="relu", bias_variance=0.1),
    MLP(depth=1, activation="erf", weight_variance=1.5),
    MLP(depth=2, activation="erf", bias_variance=0.3),
]
names = [f"{m.activation}-{m.depth}" for m in NETWORKS]

PHI = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
}


def by_quadrature(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[float, float]:
    """NNGP and NTK of two inputs; Gaussian expectations as integrals over radius (exact moments) and angle."""
    d = len(x1)
    k = mlp.weight_variance / d * np.array([[x1 @ x1, x1 @ x2], [x1 @ x2, x2 @ x2]]) + mlp.bias_variance
    theta = k[0, 1]
    phi, dphi = PHI[mlp.activation]
    # z = L (r cos, r sin); midpoints in the angle, Gauss-Laguerre in r^2 / 2.
    angle = (np.arange(200_000) + 0.5) * 2 * np.pi / 200_000
    node, weight = np.polynomial.laguerre.laggauss(2 if mlp.activation == "relu" else 60)
    for _ in range(mlp.depth):
        factor = np.linalg.cholesky(k)
        pp, dd = np.zeros((2, 2)), 0.0
        for t, w in zip(node, weight, strict=True):
            z = factor @ (np.sqrt(2 * t) * np.array([np.cos(angle), np.sin(angle)]))
            pp += w * (phi(z) @ phi(z).T) / len(angle)
            dd += w * np.mean(dphi(z[0]) * dphi(z[1]))
        k = mlp.weight_variance * pp + mlp.bias_variance
        theta = k[0, 1] + mlp.weight_variance * dd * theta
    return k[0, 1], theta


@pytest.mark.promise("Kernels agree with quadrature of the Gaussian expectations that define them.")
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_kernels_are_the_recursion_of_gaussian_expectations(mlp: MLP) -> None:
    x = np.random.default_rng(1).normal(size=(3, 7))
    nngp, ntk = kernels.nngp_ntk(mlp, x)
    tolerance = 5e-5 if mlp.activation == "relu" else 1e-9  # midpoints across ReLU's kink: 1/200,000 per layer
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = by_quadrature(mlp, x[i], x[j])
        np.testing.assert_allclose((nngp[i, j], ntk[i, j]), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.promise("Kernels agree with the mean of 400 random networks of width 256, within statistics and 1/width.")
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_kernels_are_those_of_random_wide_networks(mlp: MLP) -> None:
    """Mean over 400 networks of width 256 within 4.5 standard errors plus 3/width (false alarm below 1e-4 a test)."""
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 5)), jnp.float32)

    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        p = mlp.init(key, 5, [256] * mlp.depth)
        f = mlp.apply(p, x)[:, 0]
        jacobian = jax.jacobian(lambda q: mlp.apply(q, x)[:, 0])(p)
        flat = jnp.concatenate([leaf.reshape(2, -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
        return f[:, None] * f[None, :], flat @ flat.T

    samples = jax.lax.map(sample, jax.random.split(jax.random.key(0), 400), batch_size=50)
    for drawn, exact in zip(samples, kernels.nngp_ntk(mlp, x), strict=True):
        error = np.std(drawn, axis=0) / 20
        assert (abs(np.mean(drawn, axis=0) - exact) < 4.5 * error + 3 / 256 * abs(exact)).all()


@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_the_symmetric_kernel_is_the_general_one_with_an_exact_diagonal(mlp: MLP) -> None:
    x = np.random.default_rng(3).normal(size=(20, 6))
    for symmetric, general in zip(kernels.nngp_ntk(mlp, x), kernels.nngp_ntk(mlp, x, x), strict=True):
        np.testing.assert_array_equal(symmetric, symmetric.T)
        off = ~np.eye(20, dtype=bool)
        np.testing.assert_allclose(symmetric[off], general[off], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(symmetric, general, rtol=1e-6)


def in_long_double(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The textbook recursion for pairs of rows in 80-bit arithmetic, whose lost digits are not float64's."""
    if mlp.activation == "erf":
        return erf_in_long_double(mlp, x1, x2)
    one, two, pi = x1.astype(np.longdouble), x2.astype(np.longdouble), np.arccos(np.longdouble(-1))
    scale = np.longdouble(mlp.weight_variance) / x1.shape[1]
    k, k11, k22 = (scale * (a * b).sum(axis=1) + mlp.bias_variance for a, b in ((one, two), (one, one), (two, two)))
    theta = k
    for _ in range(mlp.depth):
        root = np.sqrt(np.maximum(k11 * k22 - k * k, 0))
        outside = pi - np.arctan2(root, k)
        k = mlp.weight_variance * (root + outside * k) / (2 * pi) + mlp.bias_variance
        theta = k + mlp.weight_variance * outside / (2 * pi) * theta
        k11, k22 = (mlp.weight_variance * variance / 2 + mlp.bias_variance for variance in (k11, k22))
    return k, theta


def erf_in_long_double(mlp: MLP, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two, pi = x1.astype(np.longdouble), x2.astype(np.longdouble), np.arccos(np.longdouble(-1))
    scale = np.longdouble(mlp.weight_variance) / x1.shape[1]
    k, k11, k22 = (scale * (a * b).sum(axis=1) + mlp.bias_variance for a, b in ((one, two), (one, one), (two, two)))
    theta = k
    for _ in range(mlp.depth):
        root = np.sqrt((1 + 2 * k11) * (1 + 2 * k22))
        slope = 4 / pi / np.sqrt(root**2 - 4 * k**2)
        k, k11, k22 = (
            mlp.weight_variance * 2 / pi * np.arcsin(2 * a / b) + mlp.bias_variance
            for a, b in ((k, root), (k11, 1 + 2 * k11), (k22, 1 + 2 * k22))
        )
        theta = k + mlp.weight_variance * slope * theta
    return k, theta


@pytest.mark.promise("ReLU kernels keep 12 digits, however close two inputs are.")
@pytest.mark.parametrize("mlp", NETWORKS[:2], ids=names[:2])
@pytest.mark.parametrize("apart", [1.0, 1e-2, 2e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6])
def test_kernels_keep_12_digits_however_close_two_inputs_are(mlp: MLP, apart: float) -> None:
    rng = np.random.default_rng(8)
    x1 = rng.normal(size=(300, 9))
    x2 = x1 * rng.uniform(0.5, 2, size=(300, 1)) + apart * rng.normal(size=(300, 9))
    for found, expected in zip(kernels.nngp_ntk(mlp, x1, x2), in_long_double(mlp, x1, x2), strict=True):
        assert abs(np.diag(found) / expected - 1).max() < 1e-12


@pytest.mark.promise("ReLU kernels of opposite inputs keep 12 digits of the inputs' norms (9 where exactly opposite).")
@pytest.mark.parametrize("mlp", NETWORKS[:2], ids=names[:2])
@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4, 1e-6, 0.0])
def test_kernels_keep_12_digits_however_opposite_two_inputs_are(mlp: MLP, apart: float) -> None:
    """Relative to the kernels' size, |x1| |x2|: the kernel itself vanishes with the third power of the angle."""
    rng = np.random.default_rng(8)
    x1 = rng.normal(size=(300, 9))
    x2 = -x1 * rng.uniform(0.5, 2, size=(300, 1)) + apart * rng.normal(size=(300, 9))
    size = np.linalg.norm(x1, axis=1) * np.linalg.norm(x2, axis=1)
    for found, expected in zip(kernels.nngp_ntk(mlp, x1, x2), in_long_double(mlp, x1, x2), strict=True):
        assert (abs(np.diag(found) - expected) / size).max() < (1e-12 if apart else 1e-9)  # in long double, sqrt(1e-19)


def with_neighbours(n: int) -> np.ndarray:
    """Inputs (n, 9), n > 300, of which some are nearly parallel or opposite: in one tile, and in tiles far apart."""
    rng = np.random.default_rng(10)
    x = rng.normal(size=(n, 9))
    for i, j, factor in ((3, 299, 1.5), (40, 41, 1), (63, 64, -2), (255, 256, 1), (280, 257, -1), (299, 130, 0.7)):
        x[i] = factor * x[j] + 1e-5 * rng.normal(size=9)
    return x


@pytest.mark.promise("Every entry of a kernel keeps 12 digits, wherever it lies in its tile, for ReLU and erf.")
@pytest.mark.parametrize("mlp", [*NETWORKS, MLP(depth=40, activation="relu")], ids=[*names, "relu-40"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_entry_of_every_tile_is_that_of_the_textbook(mlp: MLP, symmetric: bool) -> None:
    """Relative to the kernels' size, |x1| |x2|: those of nearly opposite inputs vanish."""
    x = with_neighbours(330)
    rows, columns = (x, x) if symmetric else (x[:300], x[70:])
    i, j = np.indices((len(rows), len(columns))).reshape(2, -1)
    off = i != j if symmetric else i != j + 70  # no two inputs are equal: their sine is lost in long double too
    found = kernels.nngp_ntk(mlp, x) if symmetric else kernels.nngp_ntk(mlp, rows, columns)
    sizes = np.linalg.norm(rows, axis=1)[i] * np.linalg.norm(columns, axis=1)[j]
    for kernel, expected in zip(found, in_long_double(mlp, rows[i], columns[j]), strict=True):
        assert (abs(kernel.ravel() - expected) / sizes)[off].max() < 1e-12 * mlp.depth


@pytest.mark.promise("The number of threads changes no bit of a kernel.")
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_the_number_of_threads_changes_no_bit(mlp: MLP) -> None:
    x = with_neighbours(900)
    for inputs in ((x,), (x, x[:301])):
        alone = kernels.nngp_ntk(mlp, *inputs)
        for threads in (2, 3, 50):
            for one, many in zip(alone, kernels.nngp_ntk(mlp, *inputs, threads=threads), strict=True):
                np.testing.assert_array_equal(one, many)


def test_what_fails_in_a_thread_fails_in_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(kernels, "kernel_tile", fail)
    with pytest.raises(MemoryError, match="no room"):
        kernels.nngp_ntk(NETWORKS[0], np.ones((600, 2)), threads=2)


def test_no_thread_is_refused() -> None:
    with pytest.raises(ValueError, match="threads = 0"):
        kernels.nngp_ntk(NETWORKS[0], np.ones((2, 3)), threads=0)


@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_a_block_by_itself_is_that_of_the_whole(mlp: MLP) -> None:
    x = with_neighbours(700)
    blocks = (slice(100, 333), slice(400, 655)), (slice(0, 1), slice(650, 700)), (slice(290, 310), slice(0, 290))
    whole = kernels.nngp_ntk(mlp, x)
    for rows, columns in blocks:
        for kernel, block in zip(whole, kernels.nngp_ntk(mlp, x[rows], x[columns]), strict=True):
            np.testing.assert_allclose(block, kernel[rows, columns], rtol=1e-12, atol=1e-12)


@pytest.mark.promise("Kernels take less than 1 MiB of arrays a thread beside themselves, if no inputs are parallel.")
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("mlp", NETWORKS, ids=names)
def test_kernels_take_little_memory_beside_themselves(mlp: MLP, symmetric: bool) -> None:
    x1, x2 = np.random.default_rng(11).normal(size=(2, 1000, 300))
    kernels.nngp_ntk(mlp, x1[:2])  # what is imported and kept
    tracemalloc.start()
    kernels.nngp_ntk(mlp, x1, None if symmetric else x2, threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < peak - 2 * 8 * 1000**2 < 2 * 2**20


def test_equal_inputs_have_equal_rows_and_meet_as_on_the_diagonal() -> None:
    x = np.random.default_rng(9).normal(size=(600, 7))
    x[500] = x[3]
    for mlp in NETWORKS:
        for kernel in kernels.nngp_ntk(mlp, x):
            np.testing.assert_allclose(kernel[500], kernel[3], rtol=1e-15)
            if mlp.activation == "relu":
                assert kernel[500, 500] == kernel[3, 3] == kernel[500, 3]
            np.testing.assert_array_equal(kernel, kernel.T)


def test_inputs_of_norm_zero_have_kernels() -> None:
    x = np.vstack([np.zeros(3), np.ones(3)])
    for mlp in NETWORKS:
        for kernel in kernels.nngp_ntk(mlp, x):
            assert np.isfinite(kernel).all()
            if not mlp.bias_variance:
                assert kernel[0, 0] == kernel[0, 1] == 0


def test_the_critical_relu_diagonal_is_exact() -> None:
    """C_W = 2, C_b = 0: the NNGP keeps 2|x|^2/d at every layer and the NTK adds it once more per layer."""
    x = np.random.default_rng(4).normal(size=(30, 11))
    variance = 2 * (x**2).sum(axis=1) / 11
    nngp, ntk = kernels.nngp_ntk(MLP(depth=3, activation="relu"), x)
    np.testing.assert_allclose(np.diag(nngp), variance, rtol=1e-15)
    np.testing.assert_allclose(np.diag(ntk), 4 * variance, rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 200])
def test_lambda_max_is_the_largest_eigenvalue(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(n, 25))
    kernel = kernels.nngp_ntk(NETWORKS[1], x)[1]
    assert kernels.lambda_max(kernel) == pytest.approx(np.linalg.eigvalsh(kernel)[-1], rel=1e-12)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 2)), np.array([[1.0, np.nan]]), np.ones((2, 2, 2))])
def test_inputs_that_make_no_sense_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="x1"):
        kernels.nngp_ntk(NETWORKS[0], bad)


def test_inputs_of_different_width_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in features"):
        kernels.nngp_ntk(NETWORKS[0], np.ones((2, 3)), np.ones((2, 4)))

"""Networks of neural_tangents.stax from texts: their kernels against the library's own, their training, refusals."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkhpc import infinite_width, kernel_batches, kernels, stax_cost, tangents, training
from ntkhpc.errors import DataError
from ntkhpc.kernel_products import ComputedKernels
from ntkhpc.networks import MLP
from ntkhpc.stax_network import StaxNetwork
from ntkhpc.stax_text import ArchitectureError

IMAGE = (6, 6, 2)
FEATURES = 72

TEXTS = {
    "convolutions": """
        serial(Conv(width, (3, 3), padding="SAME"), Relu(), Conv(width, (3, 3), (2, 2)), Erf(), Flatten(),
               Dense(outputs))""",
    "pools": """
        serial(Conv(width, (3, 3), padding="SAME"), Relu(), AvgPool((2, 2), (2, 2)), Conv(width, (2, 2)), Relu(),
               GlobalAvgPool(), Dense(outputs))""",
    "residual": """
        serial(Conv(width, (3, 3), padding="SAME"), FanOut(2),
               parallel(Identity(), serial(Relu(), Conv(width, (3, 3), padding="SAME"))), FanInSum(), Relu(),
               Flatten(), Dense(outputs))""",
    "layer norm": """
        serial(Conv(width, (3, 3), padding="SAME"), LayerNorm(), Gelu(), Flatten(), Dense(width), LayerNorm(), Erf(),
               Dense(outputs))""",
    "gelu": "serial(Dense(width), Gelu(), Dense(width), Gelu(), Dense(outputs))",
    "attention": """
        serial(Conv(width, (3, 3), padding="SAME"), Relu(),
               GlobalSelfAttention(width, n_chan_key=width, n_chan_val=width, n_heads=2, linear_scaling=True),
               GlobalAvgPool(), Dense(outputs))""",
}


def network(text: str, **changes: Any) -> StaxNetwork:
    given: dict[str, Any] = {"outputs": 2, "weight_variance": 1.7, "bias_variance": 0.1, "image": IMAGE}
    return StaxNetwork(TEXTS.get(text, text), **{**given, **changes})


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, FEATURES))


def library(built: StaxNetwork) -> Any:
    """The kernel function that the library itself makes of a text, which Python runs here."""
    stax = tangents.load().stax
    std = {"W_std": built.weight_variance**0.5, "b_std": built.bias_variance**0.5}
    layers = {name: partial(getattr(stax, name), **std) for name in ("Dense", "Conv")}
    layers["GlobalSelfAttention"] = partial(stax.GlobalSelfAttention, b_std=std["b_std"])
    return eval(built.text.strip(), {**vars(stax), **layers, "width": 8, "outputs": built.outputs})[2]


def whole(built: StaxNetwork, x1: np.ndarray, x2: np.ndarray | None) -> list[np.ndarray]:
    """The library's own matrices, from images that are made of the rows here."""
    height, width, channels = IMAGE

    def seen(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x.reshape(len(x), channels, height, width), 1, 3) if built.sees_images else x

    with jax.enable_x64(True), tangents.library():
        theirs = library(built)
        kernel_fn = tangents.compiled(lambda *x: tuple(theirs(x[0], x[1] if x[1:] else None, ("nngp", "ntk"))))
        return [np.asarray(one) for one in kernel_fn(*(seen(x) for x in (x1, x2) if x is not None))]


@pytest.mark.parametrize("layers", ["Relu()", "LeakyRelu(0.2)", "ABRelu(0.5, 2.0)", "Abs()"])
def test_equal_and_opposite_inputs_have_the_kernels_of_angle_zero_and_pi(layers: str) -> None:
    """Against a pool over two positions, both of which have the same pixels: all four pairs of positions are equal.

    The reference is a network of the same layers on rows, whose diagonal is written out: slopes a, b pass half of the
    square of each.
    """
    a, b = {"Relu()": (0, 1), "LeakyRelu(0.2)": (0.2, 1), "ABRelu(0.5, 2.0)": (0.5, 2), "Abs()": (-1, 1)}[layers]
    built = StaxNetwork(
        f"serial(Conv(width, (1, 1)), {layers}, GlobalAvgPool(), Dense(outputs))", 1, 1.0, 0.0, (1, 2, 3)
    )
    pixel = np.array([0.3, -0.7, 0.4])
    x = np.repeat(np.stack([pixel, -pixel]), 2, axis=1)  # one channel after the other
    variance = (pixel**2).mean()
    same, opposite = (a**2 + b**2) / 2 * variance, -a * b * variance
    nngp, ntk = kernels.nngp_ntk(built, x)
    np.testing.assert_allclose(nngp, [[same, opposite], [opposite, same]], rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(ntk, [[2 * same, 2 * opposite], [2 * opposite, 2 * same]], rtol=1e-14, atol=1e-16)


def test_an_equal_row_makes_the_kernel_singular() -> None:
    x = rows(6)
    with pytest.raises(DataError, match="singular"):
        infinite_width.trained_law(network("pools"), x[[0, 1, 2, 3, 0]], np.zeros((5, 1)), x)


@pytest.mark.promise("Kernels of any architecture, computed in batches, are those of neural-tangents to 10 digits.")
@pytest.mark.parametrize("name", TEXTS)
def test_batches_are_the_whole_matrix_of_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 4 rows: 9 rows and 6 columns need filled ones, and the symmetric matrix both of its halves."""
    monkeypatch.setattr(kernel_batches, "batch", lambda network, features: 4)
    built, x1, x2 = network(name), rows(9), rows(6, seed=1)
    built.require_sense(FEATURES, [3, 8])
    for own, theirs in zip(kernels.nngp_ntk(built, x1, x2), whole(built, x1, x2), strict=True):
        assert own.dtype == np.float64
        np.testing.assert_allclose(own, theirs, rtol=1e-10)
    off = ~np.eye(9, dtype=bool)
    for own, theirs in zip(kernels.nngp_ntk(built, x1), whole(built, x1, None), strict=True):
        np.testing.assert_array_equal(own, own.T)
        np.testing.assert_allclose(own[off], theirs[off], rtol=1e-10)
        np.testing.assert_allclose(np.diag(own), np.diag(theirs), rtol=1e-7)  # where theirs has 8 digits


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_a_fully_connected_text_is_the_mlp(activation: str) -> None:
    mlp = MLP(2, activation, 1.7, 0.1, outputs=2)  # type: ignore[arg-type]  # a name of any type
    hidden = f"Dense(width), {activation.capitalize()}()"
    for begin in ("", "Flatten(), "):
        built = network(f"serial({begin}{hidden}, {hidden}, Dense(outputs))")
        for own, theirs in zip(kernels.nngp_ntk(built, rows(7), rows(5, seed=1)),
                               kernels.nngp_ntk(mlp, rows(7), rows(5, seed=1)), strict=True):  # fmt: skip
            np.testing.assert_allclose(own, theirs, rtol=1e-12)
        for own, theirs in zip(kernels.nngp_ntk(built, rows(7)), kernels.nngp_ntk(mlp, rows(7)), strict=True):
            np.testing.assert_allclose(own, theirs, rtol=1e-12 if activation == "relu" else 1e-7)
        assert built.seen(rows(3)).shape == ((3, *IMAGE) if begin else (3, FEATURES))


def test_a_text_says_more_than_the_defaults() -> None:
    """W_std and b_std of the text, by name or by place, win over the variances of the study."""
    said = network("serial(Dense(width, 1.3, b_std=None), Relu(), Dense(outputs, W_std=0.9, b_std=0.2))")
    usual = network("serial(Dense(width), Relu(), Dense(outputs))", weight_variance=1.3**2, bias_variance=0.0)
    x1, x2 = rows(4), rows(3, seed=1)
    (said_nngp, said_ntk), (nngp, ntk) = kernels.nngp_ntk(said, x1, x2), kernels.nngp_ntk(usual, x1, x2)
    np.testing.assert_allclose(said_nngp, nngp * (0.9 / 1.3) ** 2 + 0.2**2, rtol=1e-12)
    np.testing.assert_allclose(said_ntk, ntk * (0.9 / 1.3) ** 2 + 0.2**2, rtol=1e-12)


def test_wide_networks_of_a_text_have_the_kernel_as_their_covariance() -> None:
    """4,000 networks of 64 channels: 4.5 standard errors (false alarm 2e-4), without a bias of order 1/width, as one
    layer of weights comes after the non-linearity."""
    built = network('serial(Conv(width, (3, 3), padding="SAME"), Relu(), GlobalAvgPool(), Dense(outputs))', outputs=1)
    x, finite = rows(3), built.of_width(64)

    def outputs(key: jax.Array) -> jax.Array:
        f = finite.apply(finite.init(key, FEATURES, jnp.float32), jnp.asarray(x, jnp.float32))[:, 0]
        return f[:, None] * f[None, :]

    drawn = np.asarray(jax.lax.map(outputs, jax.random.split(jax.random.key(3), 4000), batch_size=200), np.float64)
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (abs(drawn.mean(axis=0) - kernels.nngp_ntk(built, x)[0]) < 4.5 * error).all()


def test_the_library_draws_all_parameters_as_standard_normal_numbers() -> None:
    """What `of_width` takes for granted, of layers that have parameters. 4.5 standard errors of mean and variance."""
    for name in ("convolutions", "attention"):
        built = network(name)
        with tangents.library():
            drawn = built.layers(40)[0](jax.random.key(0), (1, *IMAGE))[1]
        shapes = jax.tree.map(lambda leaf: leaf.shape, drawn)
        assert shapes == jax.tree.map(lambda leaf: leaf.shape, built.parameters(40, FEATURES))
        for leaf in jax.tree.leaves(drawn):
            if leaf.size > 30:
                assert abs(leaf.mean()) < 4.5 / leaf.size**0.5
                assert abs(leaf.var() - 1) < 4.5 * (2 / leaf.size) ** 0.5


@pytest.mark.parametrize("name", ["pools", "residual"])
def test_wide_networks_train_as_their_law_says(name: str) -> None:
    """40 networks of width 64 after 20 steps, each against the linear model of infinite width that begins as it does.

    Their difference is due to finite width alone and a tenth or fifth of the outputs: its mean has a small standard
    error, and is within 4.5 of it at 4 points (Student's t, 39 degrees of freedom: false alarm 2.4e-4). What width 64
    moves means by is about one. The model after 5 steps instead of 20 is told from the networks.
    """
    built, members, steps = network(name, outputs=1), range(40), 20
    x, x_test, y = rows(8), rows(4, seed=1), np.random.default_rng(2).normal(size=(8, 1))
    nngp, ntk = kernels.nngp_ntk(built, np.concatenate([x, x_test]))
    rate = 0.3 * 2 * len(x) / kernels.lambda_max(ntk[:8, :8])
    ends = []
    for last in (0, steps):
        program = training.Program(built, 64, (0, last) if last else (0,))
        given = (program, x, y, np.concatenate([x, x_test]), np.zeros((12, 1)))
        trained = training.train_tile(*given, learning_rate=rate, seed=5, members=members)
        ends.append(trained.predictions[..., 0].astype(float))
    start, end = ends

    def response(steps: int) -> np.ndarray:
        """What the linear model adds to f(x_test), (4, 8), by y - f(x) before training."""
        left = np.linalg.matrix_power(np.eye(8) - rate * ntk[:8, :8] / 8, steps)
        return ntk[8:, :8] @ np.linalg.solve(ntk[:8, :8], np.eye(8) - left)

    def pulls(steps: int) -> np.ndarray:
        difference = end[:, 8:] - (start[:, 8:] + (y[:, 0] - start[:, :8]) @ response(steps).T)
        return np.asarray(difference.mean(axis=0) / (difference.std(axis=0, ddof=1) / np.sqrt(len(members))))

    mean, covariance = infinite_width.trained_law(built, x, y, x_test, time=steps, learning_rate=rate)
    moved = np.hstack([-response(steps), np.eye(4)])
    np.testing.assert_allclose(mean, response(steps) @ y, rtol=1e-8)
    np.testing.assert_allclose(covariance, moved @ nngp @ moved.T, rtol=1e-7, atol=1e-9)
    assert (abs(pulls(steps)) < 4.5).all()
    assert (abs(pulls(5)) > 4.5).any()


def test_a_member_is_the_same_network_in_both_precisions() -> None:
    built, x, y = network("pools", outputs=1), rows(6), np.zeros((6, 1))
    shown = []
    for precision in ("float32", "float64"):
        program = training.Program(built, 8, (0,), precision=precision, drawn="float32")
        shown.append(training.train_tile(program, x, y, x, y, learning_rate=0.1, seed=1, members=[3, 4]).predictions)
    np.testing.assert_allclose(shown[0], shown[1], rtol=1e-4, atol=1e-5)
    assert abs(shown[0][0] - shown[0][1]).max() > 0.01  # members differ


def test_products_with_kernels_are_those_of_the_matrix() -> None:
    built, x = network("pools"), rows(11)
    vectors = np.random.default_rng(4).normal(size=(11, 3))
    products = ComputedKernels(built, x, tile=4)
    nngp, ntk = kernels.nngp_ntk(built, x)
    found = products.products({"ntk": vectors, "nngp": vectors})
    np.testing.assert_allclose(found["ntk"], ntk @ vectors, rtol=1e-10)
    np.testing.assert_allclose(found["nngp"], nngp @ vectors, rtol=1e-10)
    np.testing.assert_allclose(products.diagonal("ntk"), np.diag(ntk), rtol=1e-12)
    assert products.operations == kernel_batches.pair_operations(built, FEATURES)


@pytest.mark.promise("A batch of kernels holds no more than its bound, or is of one pair.")
def test_the_batch_is_the_largest_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    built = network("pools", bias_variance=0.2)  # a network of this test alone, as batches are remembered
    large = kernel_batches.batch(built, FEATURES)
    assert large == 128 or kernel_batches.batch_bytes(built, FEATURES, 2 * large) > kernel_batches.BATCH_BYTES
    assert kernel_batches.batch_bytes(built, FEATURES, large) <= kernel_batches.BATCH_BYTES
    # A covariance of every two of 36 positions, of each pair of rows.
    assert kernel_batches.batch_bytes(built, FEATURES, large) > 2 * 8 * large**2 * 36**2
    built = network("pools", bias_variance=0.3)
    monkeypatch.setattr(kernel_batches, "BATCH_BYTES", 1000)
    assert kernel_batches.batch(built, FEATURES) == 1


def test_padded_convolutions_in_float64_read_no_memory_beside_their_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case that ended the process with jaxlib 0.10.2 on x86-64 with AVX-512 (see `tangents.compiled`)."""
    text = 'serial(Conv(width, (3, 3), padding="SAME"), Relu(), AvgPool((2, 2)), Flatten(), Dense(outputs))'
    built, x = network(text, image=(16, 16, 3)), np.random.default_rng(6).normal(size=(4, 768))
    found = kernels.nngp_ntk(built, x, x[::-1])
    monkeypatch.setattr(kernel_batches, "batch", lambda network, features: 1)
    for one, other in zip(found, kernels.nngp_ntk(built, x, x[::-1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_pools_cost_what_all_pairs_of_positions_cost() -> None:
    pools, none = (kernel_batches.pair_operations(network(name), FEATURES) for name in ("pools", "convolutions"))
    assert pools > 10 * none
    narrow, wide = (stax_cost.step_operations(network("pools"), width, FEATURES, 8) for width in (64, 128))
    assert 2 < wide / narrow < 4


@pytest.mark.promise("An architecture that neural-tangents cannot build is refused before a run is made of it.")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serial(Dense(width), Dropout(0.5), Dense(outputs))", ("line 1, column 22", "random")),
        ("serial(Dense(width), Sigmoid(), Dense(outputs))", ("line 1, column 22", "no layer of this name")),
        ("serial(Dense(width), Elementwise(), Dense(outputs))", ("column 22", "functions")),
        ("serial(Dense(), Relu(), Dense(outputs))", ("line 1, column 8", "out_dim")),
        ("serial(Dense(width, std=1), Relu(), Dense(outputs))", ("column 8", "std")),
        ('serial(Dense(width, parameterization="standard"), Relu(), Dense(outputs))', ("column 8", "NTK")),
        ("serial(Dense(width), 3, Dense(outputs))", ("column 1", "3 is no layer")),
        ("serial(Dense(Relu()), Dense(outputs))", ("column 8", "argument of serial")),
        ("serial(Dense(width), Relu(), Relu(), Dense(outputs))", ("column 30", "Relu")),
        ("serial(Dense(width), Relu())", ("(3,)", "2 outputs")),
        ("serial(Conv(width, (3, 3)), Relu(), Dense(outputs))", ("(4, 4, 2)", "Flatten")),
        ("serial(Dense(width), Relu(), Dense(outputs), Erf())", ("not Gaussian", "Dense(outputs)")),
        ("serial(FanOut(2), parallel(Dense(outputs), Dense(outputs)))", ("several branches", "2 outputs")),
        ("serial(Conv(width, (9, 9)), Relu(), Flatten(), Dense(outputs))", ("(6, 6, 2)",)),
        ("serial(Dense(width, W_std=1e150), Relu(), Dense(outputs, W_std=1e150))", ("not finite",)),
        ("serial(Dense(width), Exp(1, 99), Dense(outputs))", ("not finite",)),
        ("serial(Dense(5), Relu(), Dense(outputs))", ("no layer has the width",)),
        ("serial(Dense(width), Relu(), Dense(outputs, W_std=0.0, b_std=None))", ("zero",)),
    ],
)
def test_what_the_library_cannot_build_is_refused_with_its_place(text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ArchitectureError) as refused:
        network(text).require_sense(FEATURES, [3, 8])
    assert [one for one in said if one not in str(refused.value)] == []


def test_layers_for_images_need_images() -> None:
    with pytest.raises(ArchitectureError, match=r"line 2, column 16, Conv"):
        network("convolutions", image=None).require_sense(FEATURES, [8])
    network("gelu", image=None).require_sense(FEATURES, [8])

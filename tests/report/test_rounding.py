"""Training losses at the level of rounding, of real trainings: they are no oscillations, and oscillations are."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from analysis.ensemble import oscillating, rounding
from analysis.ensemble.results import EnsembleResults
from ntkhpc import kernels, studies, training
from ntkhpc.networks import MLP
from ntkhpc.output_scale import ONE, OutputScale, mean_field
from ntkhpc.rises import resolution_of
from ntkhpc.studies.dims import CELL

WIDTH, N, FEATURES, MEMBERS = 64, 8, 30, 6


@dataclass(frozen=True)
class Coarse:
    """A ReLU network whose products have factors of TF32: on every device, as a GPU has them."""

    width: int = 0

    def of_width(self, width: int) -> "Coarse":
        return Coarse(width)

    def init(self, key: jax.Array, features: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
        first, last = jax.random.split(key)
        return (
            jax.random.normal(first, (features, self.width), dtype),
            jax.random.normal(last, (self.width, 1), dtype),
        )

    def apply(self, weights: Any, x: jax.Array) -> jax.Array:
        first, last = map(_coarse, weights)
        hidden = jax.nn.relu(_coarse(x) @ first * np.float32((2 / x.shape[1]) ** 0.5))
        return _coarse(hidden) @ last * np.float32((2 / self.width) ** 0.5)


def _coarse(values: jax.Array) -> jax.Array:
    return jax.lax.reduce_precision(values, exponent_bits=8, mantissa_bits=10)


def trained(
    network: Any, steps: int, *, precision: str = "float32", products: str = "highest", scale: OutputScale = ONE
) -> training.Trained:
    """At half of the bound of a linear model."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(N, FEATURES))
    y = x @ rng.normal(size=(FEATURES, 1))
    y /= np.sqrt((y**2).mean())
    rate = N / kernels.lambda_max(kernels.nngp_ntk(MLP(1, "relu"), x)[1])
    program = training.Program(
        network, WIDTH, (0, steps), precision=precision, matmul_precision=products, watched=True, output_scale=scale
    )
    return training.train_tile(program, x, y, x[:2], y[:2], learning_rate=rate, seed=1, members=range(MEMBERS))


def store_of(found: training.Trained, steps: int) -> xarray.Dataset:
    def one(values: np.ndarray, *more: str) -> tuple[tuple[str, ...], np.ndarray]:
        return (*CELL, "member", *more), values[None, None, None]

    return xarray.Dataset(
        {
            "status": one(np.zeros(MEMBERS, int)),
            "last_rise": one(found.last_rise),
            "train_loss_trace": one(found.train_loss, "trace_point"),
            "n_steps": ("n_train", [steps]),
        },
        coords={"width": [WIDTH], "n_train": [N], "draw": [0], "member": range(MEMBERS)},
    )


def floor(training_section: str = "", network: str = "") -> np.ndarray:
    study = studies.loads(
        f'name = "t"\n[data]\nsource = "calorimeter"\npool = 40\n[network]\nwidths = [{WIDTH}]\n{network}\n'
        f"[training]\n{training_section}\n[ensemble]\nn_train = [{N}]\nmembers = 20\n"
    )
    store = xarray.Dataset(coords={"width": [WIDTH], "feature": range(FEATURES)})
    return rounding.floors(cast(EnsembleResults, SimpleNamespace(study=study, store=store)))


@pytest.mark.parametrize(
    ("precision", "network", "scale"),
    [
        ("float32", "", ONE),
        ("float64", "", ONE),
        ("float32", "gamma = 4.0", OutputScale(4.0)),
        ("float32", "centred = true\ngamma = 0.25", OutputScale(0.25, centred=True)),
    ],
)
def test_a_training_that_converged_is_at_the_floor_of_its_precision(
    precision: str, network: str, scale: OutputScale
) -> None:
    """Below it, and not so far below that an oscillation which matters would be hidden: within five decades."""
    found = trained(MLP(1, "relu"), 4000, precision=precision, scale=scale)
    left = found.train_loss[:, -1] / found.train_loss[:, 0]
    (lowest,) = floor(f'precision = "{precision}"', network)
    assert (left < lowest).all()
    assert left.max() > 1e-5 * lowest
    assert oscillating.oscillating(store_of(found, 4000)).empty


@pytest.mark.promise(
    "Rounding of coarse products makes no network oscillate in the report; networks that do are found with them."
)
def test_rises_by_rounding_of_coarse_products_are_no_oscillations() -> None:
    """All networks of a sound training would be called oscillating without the floor and the resolution of products."""
    steps, default = 1000, 'matmul_precision = "default"'
    early = trained(Coarse(), steps)  # watched as if products had full precision
    store = store_of(early, steps)
    assert oscillating.oscillating(store).oscillating.tolist() == [MEMBERS]
    assert oscillating.oscillating(store, floor(default)).empty
    now = trained(Coarse(), steps, products="default")
    np.testing.assert_array_equal(now.train_loss, early.train_loss)
    assert oscillating.oscillating(store_of(now, steps)).empty
    wild = trained(Coarse(), 150, products="default", scale=mean_field(3.0, WIDTH))  # above the bound of 1/gamma0
    assert (wild.train_loss[:, -1] < wild.train_loss[:, 0]).all()
    assert oscillating.oscillating(store_of(wild, 150), floor(default)).oscillating[0] >= MEMBERS - 1


def test_full_precision_of_products_keeps_the_resolution_of_the_numbers() -> None:
    """What is stored of studies as they are by default has its bits."""
    assert resolution_of("highest", jnp.dtype("float32")) == 16 * 2.0**-23
    assert resolution_of("default", jnp.dtype("float64")) == 16 * 2.0**-52
    assert resolution_of("high", jnp.dtype("float32")) == 4 * 2.0**-10

"""Synthetic results with leapt networks, twins and the kernels that networks begin with."""

from collections.abc import Callable
from functools import cache

import numpy as np
import xarray

from analysis.calibration import leapt
from analysis.calibration.leapt import Truth
from analysis.ensemble.results import EnsembleResults
from ntkhpc.studies.dims import CELL

LEAPT, TRAINED = 120, 20


@cache
def leapt_results() -> EnsembleResults:
    """Two widths, four sizes, 120 leapt networks of which 20 were trained too, with kernels of random networks."""
    world = leapt.world_of(TRAINED, test=30, pool=300)
    found = leapt.make(world, Truth.of(world, np.random.default_rng(1)), LEAPT, np.random.default_rng(2))
    shape, rng = found.store.leap_loss.shape, np.random.default_rng(3)
    x, order = world.split.x_train, rng.permutation(300)
    diagonal = np.stack([kernel_diagonals(x[order[:256]], int(w), rng) for w in found.store.width])
    kernels = np.stack([diagonal[..., :n].mean(axis=-1) for n in found.sizes], axis=1)[:, :, None]
    dims = (*CELL, "leap_member")
    more = {
        "leap_count": (dims, np.full(shape, 9, np.int32)),
        "leap_error": (dims, np.full(shape, 0.05, np.float32)),
        "twin_kernel": (dims, kernels),
        "x_train": (("pool", "feature"), x),
        "permutation": (("order", "pool"), order[None]),
    }
    return with_store(found, found.store.assign(more))


def kernel_diagonals(x: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """The diagonals (networks, n) of the NTK of random networks with one hidden layer of ReLU, by their gradients."""
    d = x.shape[1]
    first, last = rng.standard_normal((LEAPT, d, width)), rng.standard_normal((LEAPT, 1, width))
    z = np.sqrt(2 / d) * np.einsum("nd,mdw->mnw", x, first, optimize=True)
    by_last = np.sqrt(2 / width) * np.maximum(z, 0)
    by_z = np.sqrt(2 / width) * last * (z > 0)
    return (by_last**2).sum(axis=-1) + 2 / d * (x**2).sum(axis=-1) * (by_z**2).sum(axis=-1)


def with_store(found: EnsembleResults, store: xarray.Dataset) -> EnsembleResults:
    return EnsembleResults(found.run, store, "")


def changed(found: EnsembleResults, change: Callable[[dict[str, np.ndarray]], None]) -> EnsembleResults:
    """The same store after a change of copies of its arrays of networks."""
    names = [str(name) for name in found.store if {"member", "leap_member"} & set(found.store[name].dims)]
    arrays = {name: found.store[name].values.copy() for name in names}
    change(arrays)
    return with_store(
        found, found.store.assign({name: (found.store[name].dims, array) for name, array in arrays.items()})
    )

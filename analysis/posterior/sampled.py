"""What the chains of each cell say: means with Monte Carlo errors, convergence, and what the samples cost."""

import math

import numpy as np
import xarray

from ntkhpc import convergence
from ntkhpc.studies.dims import CELL

NEEDED = ("sample_loss", "sample_expected_loss", "sample_q_bar", "sample_potential")
COSTS = ("acceptance", "divergences", "step_size", "curvature", "gradients")
ARRAYS = (*NEEDED, *(f"chain_{name}" for name in COSTS))
"""The arrays that `cells` reads."""

MEASURED = ("loss", "q_bar", "mu_L", "sigma_L", "eps_L")
"""Quantities that have a `_stderr`."""


def cells(store: xarray.Dataset) -> xarray.Dataset | None:
    """Statistics of the chains over (width, n_train, draw); None where the store has no chains.

    loss: of sample_expected_loss, the mean over the read-out, which fluctuates least; q_bar; mu_L, sigma_L and eps_L
    of single sampled networks. `r_hat` is the worst of loss, q_bar and potential, `ess` the worse of loss and q_bar;
    `chains` counts the chains that are there; acceptance, divergences, step_size, curvature, and gradients per
    effective sample are over these.
    """
    if not all(name in store for name in ARRAYS):
        return None
    samples = {name: per_cell(store[name], "chain", "sample").values for name in NEEDED}
    extras = {name: per_cell(store[f"chain_{name}"], "chain").values.astype(float) for name in COSTS}
    any_samples = per_cell(store.sample_loss, "chain", "sample")
    sizes, rows = any_samples.shape[: len(CELL)], []
    for cell in np.ndindex(*sizes):
        there = np.logical_and.reduce([np.isfinite(values[cell]).all(axis=-1) for values in samples.values()])
        rows.append(
            _cell(
                {name: values[cell][there] for name, values in samples.items()},
                {name: values[cell][there] for name, values in extras.items()},
            )
        )
    return xarray.Dataset(
        {name: (CELL, np.array([row[name] for row in rows]).reshape(sizes)) for name in rows[0]},
        coords={dim: any_samples[dim].values for dim in CELL},
    )


def per_cell(values: xarray.DataArray, *dims: str) -> xarray.DataArray:
    """An array of the chains over (width, n_train, draw, *dims)."""
    return values.rename({"sampled_width": "width", "sampled_n_train": "n_train"}).transpose(*CELL, *dims)


def over_draws(found: xarray.Dataset) -> xarray.Dataset:
    """Means over the draws that have samples, their standard errors, and the standard deviation between draws.

    Errors are those of the chains alone: the spread over draws is beside them as `_spread`, as all draws of theory
    and samples are the same training sets.
    """
    count = np.isfinite(found.loss).sum("draw")
    result = {}
    for name in MEASURED:
        squares = found[f"{name}_stderr"] ** 2
        result[name] = found[name].mean("draw")
        result[f"{name}_stderr"] = (squares.mean("draw") / squares.count("draw")) ** 0.5
        result[f"{name}_spread"] = found[name].std("draw", ddof=1).where(count > 1)
    return xarray.Dataset(result | {"r_hat": found.r_hat.max("draw"), "ess": found.ess.min("draw"), "draws": count})


def _cell(samples: dict[str, np.ndarray], extras: dict[str, np.ndarray]) -> dict[str, float]:
    loss, expected, q_bar, potential = (samples[name] for name in NEEDED)
    count = len(loss)
    if not count:
        return {"chains": 0.0, **dict.fromkeys(_NAMES, math.nan)}
    mu, sigma = float(loss.mean()), float(loss.std(ddof=1))
    ess = min(convergence.bulk_ess(expected), convergence.bulk_ess(q_bar))
    return {
        "chains": float(count),
        "loss": float(expected.mean()),
        "loss_stderr": convergence.mcse(expected),
        "q_bar": float(q_bar.mean()),
        "q_bar_stderr": convergence.mcse(q_bar),
        "mu_L": mu,
        "mu_L_stderr": convergence.mcse(loss),
        "sigma_L": sigma,
        "sigma_L_stderr": convergence.sigma_mcse(loss),
        "eps_L": sigma / mu,
        "eps_L_stderr": convergence.eps_mcse(loss),
        "r_hat": float(np.max([convergence.r_hat(one) for one in (expected, q_bar, potential)])),
        "ess": ess,
        "loss_ess": convergence.bulk_ess(loss),
        "acceptance": float(extras["acceptance"].mean()),  # NaN for Langevin
        "divergences": float(extras["divergences"].sum()),
        "step_size": float(extras["step_size"].mean()),
        "curvature": float(extras["curvature"].max()),
        "gradients_per_ess": float(extras["gradients"].sum() / ess),
    }


_NAMES = (
    *(name + end for name in MEASURED for end in ("", "_stderr")),
    "r_hat", "ess", "loss_ess", "acceptance", "divergences", "step_size", "curvature",
    "gradients_per_ess",
)  # fmt: skip

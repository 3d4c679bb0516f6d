"""What theory says of each cell, in the names of the report, over (draw, n_train[, theory_width])."""

import numpy as np
import xarray

from analysis.estimators import signed_root
from analysis.posterior.sampled import per_cell


def posterior(store: xarray.Dataset) -> xarray.Dataset:
    """The posterior at the saddle point: mu_L, sigma_L, eps_L, eps_pop, bias, variance, q_bar, log_evidence, quantile.

    `loss` is mu_L under the name it has in arXiv:2209.04882, `mixture` the same with Qb integrated over, `s` (draw,
    n_train) that of the sign rule.
    """
    found = _moments(store, "theory")
    found["loss"] = found.mu_L
    found["mixture"] = store.mixture_bias + store.mixture_variance
    for name in ("q_bar", "log_evidence", "s"):
        found[name] = store[f"theory_{name}"]
    found["quantiles"] = store.theory_quantile
    return found


def adaptive(store: xarray.Dataset) -> xarray.Dataset | None:
    """Loss of a kernel that changes its shape, mean over populations of neurons, over (width, n_train, draw).

    None where the study does not ask for it.
    """
    if "adaptive_loss" not in store:
        return None
    losses = per_cell(store.adaptive_loss, "population")
    stderr = losses.std("population", ddof=1) / np.sqrt(losses.sizes["population"])
    return xarray.Dataset({"loss": losses.mean("population", skipna=False), "loss_stderr": stderr})


def gradient_descent(store: xarray.Dataset) -> xarray.Dataset:
    """The infinitely wide ensemble trained to the end: mu_L, sigma_L, eps_L, eps_pop, bias and variance."""
    return _moments(store, "ntk")


def scan(store: xarray.Dataset, name: str) -> xarray.Dataset | None:
    """Loss and q_bar at other values: `name` is "temperature" or "readout". None where the study scans none."""
    if f"{name}_bias" not in store:
        return None
    loss = store[f"{name}_bias"] + store[f"{name}_variance"]
    return xarray.Dataset({"loss": loss, "q_bar": store[f"{name}_q_bar"]})


def _moments(store: xarray.Dataset, name: str) -> xarray.Dataset:
    bias, variance = store[f"{name}_bias"], store[f"{name}_variance"]
    mu = bias + variance
    sigma = np.sqrt(store[f"{name}_sigma2"])
    population = store[f"{name}_population_variance"]
    return xarray.Dataset(
        {
            "mu_L": mu,
            "sigma_L": sigma,
            "eps_L": sigma / mu,
            "eps_pop": xarray.apply_ufunc(signed_root, population) / mu,
            "bias": bias,
            "variance": variance,
        }
    )

"""From per-point losses of every member to moments of the ensemble, with Dask: nothing larger than a chunk is held."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray

from analysis import estimators
from analysis.cell_losses import of_cells
from analysis.contrasts import ErrorSource, relative
from analysis.opened import opened
from analysis.predictions import prediction_variance
from ntkhpc.engine.run import Run, load
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import OK


def open_store(run: Any) -> xarray.Dataset:
    """The store of a run (an open run, a run directory or its `store.zarr`), lazily, as its receipts confirm it.

    An open store is returned as it is; a store without a run around it has no receipts, and is read as it is on disk.
    """
    if isinstance(run, xarray.Dataset):
        return run
    if isinstance(run, Run):
        return opened(run)
    path = Path(getattr(run, "path", run))
    for place in (path, path.parent):
        if (place / "manifest.json").is_file():
            return opened(load(place))
    return xarray.open_zarr(path, chunks={})


def moments(run: Any) -> xarray.Dataset:
    """Moments of the test loss over the initialisation ensemble, over (width, n_train, draw), with standard errors.

    mu_L, sigma_L, eps_L, eps_pop (the part of eps_L that an endless test set would leave), bias2 and variance (their
    sum is mu_L), skewness and members. `<name>_stderr` is the jackknife's for eps_pop, bias2 and variance, the cumulant
    formula's for the others, with the jackknife's beside it as `<name>_jackknife`. `<name>_leverage` (member) is what
    each member does to the value: errors at different n_train and draw covary, as they share their initialisations.
    `<name>_deviates` (member; for bias2 and variance: tile) are what each does to the logarithm of the value, scaled so
    that the sum of their squares is its variance: 0 for members that are not there, NaN where there is no logarithm.
    `size_sigma` (test_size) is the root mean square, over blocks of test_size test points, of the spread of L.
    `point_mean`, `point_variance` and `point_covariance` (test_point) are mean and variance of the loss of one test
    point, and its covariance with L, which is their mean.
    """
    store = open_store(run)
    store = store.assign(
        {name: store[name].transpose(*CELL, ...).compute() for name in ("status", "bias2", "variance")}
    )
    trained, shape = store.status == OK, store.status.shape[:-1]
    indices = [dict(zip(CELL, cell, strict=True)) for cell in np.ndindex(shape)]
    sizes = tuple(int(size) for size in store.test_size.values)
    # The mean over members of the loss of a test point is known to rounding before a loss is read.
    cells = of_cells(store.test_point_loss, trained, sizes, indices, store.bias2 + store.variance)

    def of(name: str) -> np.ndarray:
        return np.stack([getattr(cell, name) for cell in cells]).reshape(*shape, -1)

    mean_variance = of("point_variance").mean(axis=-1)
    result = _moments(of("total"), of("deviation"), mean_variance, store.sizes["test_point"])
    dataset = xarray.Dataset(result, coords={dim: store[dim] for dim in CELL})
    enough = (trained.values.sum(axis=-1) >= 2)[..., None]
    for name in ("point_mean", "point_variance", "point_covariance"):
        dataset[name] = ((*CELL, "test_point"), np.where(enough, of(name), np.nan))
    dataset["size_sigma"] = xarray.DataArray(
        np.sqrt(of("size_variance")), dims=(*CELL, "test_size"), coords={"test_size": store.test_size}
    ).transpose("test_size", ...)
    return dataset.merge(_bias_and_variance(store))


def _moments(
    sample: np.ndarray, spread: np.ndarray, point_variance: np.ndarray, points: int
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Variables from L (cells, members), each member's mean squared point deviation, and the mean point variance."""
    found = estimators.moments(sample)
    left_mu, left_s2 = estimators.leave_one_out(sample)
    m = np.isfinite(sample).sum(axis=-1, keepdims=True).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        left_points = ((m - 1) * point_variance[..., None] - m / (m - 1) * spread) / (m - 2)
        factor = points / (points - 1) if points > 1 else np.nan
        population = factor * (found.sigma**2 - point_variance / points)
        left_population = factor * (left_s2 - left_points / points)
        jackknife = {
            "mu_L": estimators.leverage(left_mu),
            "sigma_L": estimators.leverage(np.sqrt(left_s2)),
            "eps_L": estimators.leverage(np.sqrt(left_s2) / left_mu),
            "eps_pop": estimators.leverage(estimators.signed_root(left_population) / left_mu),
        }
        eps_pop = estimators.signed_root(population) / found.mu
        logarithms = {
            "mu_L": np.log(left_mu),
            "sigma_L": np.log(left_s2) / 2,
            "eps_L": np.log(left_s2) / 2 - np.log(left_mu),
            "eps_pop": np.log(left_population) / 2 - np.log(left_mu),
        }
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "members": (CELL, found.members),
        "skewness": (CELL, found.skewness),
    }
    values = {"mu_L": found.mu, "sigma_L": found.sigma, "eps_L": found.eps, "eps_pop": eps_pop}
    errors = {"mu_L": found.mu_stderr, "sigma_L": found.sigma_stderr, "eps_L": found.eps_stderr}
    for name, value in values.items():
        variables[name] = (CELL, value)
        variables[f"{name}_stderr"] = (CELL, errors.get(name, jackknife[name].stderr))
        variables[f"{name}_jackknife"] = (CELL, jackknife[name].stderr)
        variables[f"{name}_leverage"] = ((*CELL, "member"), jackknife[name].values)
        deviates = estimators.deviates(logarithms[name], np.isfinite(sample))
        variables[f"{name}_deviates"] = ((*CELL, "member"), deviates)
    return variables


def over_draws(moments: xarray.Dataset) -> xarray.Dataset:
    """Means over draws, with `<name>_stderr` by the jackknife and `<name>_deviates`, as in `moments`.

    A member begins with the same weights at every draw, so what it does is averaged before it is squared. For bias2 and
    variance the mean of the draws' errors is taken, which is what it is at most. `<name>_half` is half of the 68 %
    interval, by Student's t. These are errors for these draws of the training set.
    """
    found: dict[Any, Any] = {}
    for key, array in moments.data_vars.items():
        name, _, kind = str(key).rpartition("_")
        if kind == "leverage":
            leverage = array.mean("draw").transpose("width", "n_train", "member")  # a member may have diverged in one
            errors = estimators.Leverage(leverage.values)
            found[f"{name}_stderr"] = (("width", "n_train"), errors.stderr)
        elif kind not in ("stderr", "jackknife") or name in ("bias2", "variance"):
            found[key] = array.mean("draw", skipna=False)
    means = xarray.Dataset(found)
    for name in [str(key).removesuffix("_deviates") for key in means if str(key).endswith("_deviates")]:
        means[f"{name}_half"] = _half(means[name], means[f"{name}_stderr"], means[f"{name}_deviates"])
    return means


def _half(value: xarray.DataArray, stderr: xarray.DataArray, deviates: xarray.DataArray) -> xarray.DataArray:
    """Half of the 68 % interval over (width, n_train); without deviates of a logarithm it is the standard error."""
    found = stderr.transpose("width", "n_train").copy()
    values, rows = (one.transpose("width", "n_train", ...).values for one in (value, deviates))
    for cell in np.ndindex(found.shape):
        if np.isfinite(rows[cell]).all():
            found.values[cell] = relative(float(values[cell]), [ErrorSource("members", rows[cell][None])]).half()
    return found


def _bias_and_variance(store: xarray.Dataset) -> xarray.Dataset:
    """Mean over test points of bias^2 and variance, with the delete-one-tile jackknife of both."""
    points = prediction_variance(store)
    return xarray.Dataset(
        {
            "bias2": store.bias2.mean("test_point", skipna=False),
            "variance": store.variance.mean("test_point", skipna=False),
        }
    ).assign(points.drop_vars(["bias2", "variance"]))

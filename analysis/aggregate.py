"""From per-point losses of every member to moments of the ensemble, with Dask: nothing larger than a chunk is held."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray

from analysis import estimators
from analysis.cell_losses import of_cells
from analysis.contrasts import ErrorSource, relative
from analysis.opened import opened
from ntkhpc.engine.run import Run, load
from ntkhpc.studies import frozen
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.study import EnsembleStudy
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
    status = store.status.transpose(*CELL, "member").compute()
    trained, shape = status == OK, status.shape[:-1]
    indices = [dict(zip(CELL, cell, strict=True)) for cell in np.ndindex(shape)]
    sizes = tuple(int(size) for size in store.test_size.values)
    cells = of_cells(store.test_point_loss, trained, sizes, indices)

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
            "bias2": store.bias2.mean("test_point", skipna=False).compute(),
            "variance": store.variance.mean("test_point", skipna=False).compute(),
        }
    ).assign(points.drop_vars(["bias2", "variance"]))


def prediction_variance(
    store: xarray.Dataset, chosen: np.ndarray | None = None, scale: np.ndarray | float = 1.0
) -> xarray.Dataset:
    """bias2 and variance over cells, averaged over the `chosen` test points (all of them), and their standard errors.

    From the moments of the tiles; the errors are the jackknife's over tiles, `<name>_deviates` (tile) what each tile
    does to the logarithm of the value, as in `moments`. `scale` (outputs,) multiplies f and y.
    """
    chosen = np.ones(store.sizes["test_point"], bool) if chosen is None else chosen
    y = scale * store.y_test.values[chosen]
    tile = _tile(store)
    shape = tuple(store.sizes[dim] for dim in CELL)
    found = {name: np.full(shape, np.nan) for name in ("bias2", "variance", "bias2_stderr", "variance_stderr")}
    tiles = -(-store.sizes["member"] // tile)
    deviates = {name: np.full((*shape, tiles), np.nan) for name in ("bias2", "variance")}
    for cell in np.ndindex(shape):
        where = dict(zip(CELL, cell, strict=True))
        counts = _tile_counts(store.status.isel(where).values, tile)
        used = counts > 0
        if counts.sum() < 4 or used.sum() < 2:
            continue
        mean = scale * store.prediction_mean.isel(where).values[used][:, chosen]
        m2 = scale**2 * store.prediction_m2.isel(where).values[used][:, chosen]
        for name, (value, moved) in _from_tiles(counts[used], mean, m2, y).items():
            found[name][cell], found[f"{name}_stderr"][cell] = value, np.sqrt((moved**2).sum())
            deviates[name][cell] = 0.0
            deviates[name][(*cell, used)] = moved / abs(value)
    variables = {name: (CELL, value) for name, value in found.items()}
    relative = {f"{name}_deviates": ((*CELL, "tile"), value) for name, value in deviates.items()}
    return xarray.Dataset(variables | relative, coords={dim: store[dim] for dim in CELL})


def mean_prediction(store: xarray.Dataset, cell: dict[str, int]) -> np.ndarray:
    """(test_point, output): the mean of f over the trained members of a cell, given by indices of its dimensions."""
    one = store.isel(cell)
    tile = _tile(store)
    counts = _tile_counts(one.status.values, tile)
    return np.average(one.prediction_mean.values[counts > 0], axis=0, weights=counts[counts > 0])


def _tile(store: xarray.Dataset) -> int:
    """Members of a tile, by the study that the store holds; stores of format 1 do not name their format."""
    study = frozen.loads(store.attrs["study_toml"], format=store.attrs.get("format", 1))
    return study.of_kind(EnsembleStudy).ensemble.tile


def _tile_counts(status: np.ndarray, tile: int) -> np.ndarray:
    """Trained members of each tile of `tile` members; the last may be shorter."""
    return np.add.reduceat(status == OK, np.arange(0, len(status), tile), dtype=int)


def _from_tiles(
    counts: np.ndarray, mean: np.ndarray, m2: np.ndarray, y: np.ndarray
) -> dict[str, tuple[float, np.ndarray]]:
    """Value, and what each tile does to it (tiles,), of bias2 and variance from tiles (tiles, points, outputs)."""
    # About a common centre, so that sums of squares do not cancel.
    n = counts[:, None, None].astype(float)
    centre = (n * mean).sum(axis=0) / n.sum()
    first, second = n * (mean - centre), m2 + n * (mean - centre) ** 2

    def estimate(count: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        variance = (second - first**2 / count) / (count - 1)
        bias2 = (first / count + centre - y) ** 2 - variance / count
        return bias2.mean(axis=(-2, -1)) / 2, variance.mean(axis=(-2, -1)) / 2

    whole = estimate(n.sum(), first.sum(axis=0), second.sum(axis=0))
    left = estimate(n.sum() - n, first.sum(axis=0) - first, second.sum(axis=0) - second)
    factor = np.sqrt((len(counts) - 1) / len(counts))  # so that the squares add up to the jackknife's variance
    moved = [factor * (one.mean() - one) for one in left]
    moved[0] *= _less_excess(counts, first, float((moved[0] ** 2).sum()))
    return {name: (float(whole[i]), moved[i]) for i, name in enumerate(("bias2", "variance"))}


_MANY_TILES = 256
"""With more, what `_less_excess` takes off is below a hundredth."""


def _less_excess(counts: np.ndarray, first: np.ndarray, variance: float) -> float:
    """What the deviates of bias2 are multiplied by; `first` (tiles, points, outputs) are sums of f about any centre.

    The jackknife's `variance` is too large on average for what is quadratic in the mean, by m/(m - 2) times the
    variance of its quadratic part [Efron and Stein 1981],

        2 tr S^2 / (N (N - 1) (2 P)^2) ,

    with N members in m tiles, the covariance S of f over the P test points and outputs, and tr S^2 estimated without
    bias [Himeno and Yamada 2014]. Half of that excess is taken off, as low values come with low errors: 68 and 95 %
    intervals of bias2, of samples of the exact law of the calorimeter, 60 members in 6 tiles, cover 72 and 95.5 % with
    all of it, 68.5 and 94 % with half of it, 65 and 91 % without.
    """
    m, total = len(counts), float(counts.sum())
    if not (4 <= m <= _MANY_TILES and variance > 0):
        return 1.0
    rows = first.reshape(m, -1) - counts[:, None] * (first.reshape(m, -1).sum(axis=0) / total)
    gram = rows @ rows.T / np.sqrt(np.outer(counts, counts))
    squares, trace = (gram**2).sum() / (m - 1) ** 2, np.trace(gram) / (m - 1)
    fourth = (np.diag(gram) ** 2).sum() / (m - 1)
    trace_of_square = (m - 1) / (m * (m - 2) * (m - 3)) * ((m - 1) * (m - 2) * squares + trace**2 - m * fourth)
    quadratic = 2 * trace_of_square / (total * (total - 1)) / (2 * rows.shape[1]) ** 2
    excess = np.clip(quadratic * m / (m - 2), 0, variance / 2)
    return float(np.sqrt(1 - excess / 2 / variance))

"""What the store says about infinitely wide networks, as labelled datasets of the same quantities as the ensemble's."""

import numpy as np
import xarray

from analysis import test_points
from analysis.estimators import signed_root
from ntkhpc.studies.ensemble.curve import TIMES

LAW = (
    "law_mean", "law_variance", "law_cumulant", "law_population_variance", "law_size_variance", "law_quantile",
)  # fmt: skip
"""The arrays that `law` reads."""

REFERENCE = tuple(name.replace("law_", "reference_") for name in LAW)
"""What they are called where they are the law of another algorithm; see `as_reference`."""

BESIDE = tuple(name.replace("law_", "beside_") for name in LAW)
"""And where they stand beside networks of the mu-parametrisation, or beside centred ones, without a spread."""

CURVE = ("curve_mu", "curve_sigma2", "curve_population_variance", "curve_bias2", "curve_variance")
"""The arrays that `curve` needs."""

ITERATION = (
    "curve_mu_error", "curve_sigma2_error", "curve_eps_error", "curve_population_variance_error", "curve_eps_pop_error",
    "curve_bias2_error", "curve_variance_error", "curve_probes", "curve_iterations", "curve_residual",
)  # fmt: skip
"""The arrays that say how well an iterated curve is known."""


REFINEMENT = {
    "NTK": ("curve_sweeps", "curve_condition"),
    "NNGP kernel": ("curve_posterior_sweeps", "curve_posterior_condition"),
}
"""The arrays that say how the weights of a factor in float32 were refined, by the kernel that was factored."""


REDRAWS = ("redraw_mu", "redraw_sigma2", "redraw_population_variance", "redraw_bias2", "redraw_variance")
"""The arrays that `redraws` reads."""


LAW_POINTS = ("law_point_mean", "law_point_covariance", "law_variance")
"""The arrays that `point_moments` reads."""

CURVE_POINTS = ("curve_point_mean", "curve_point_covariance", "curve_point_variance")
"""The arrays that `curve_point_moments` reads."""

PointMoments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, covariance with L, and variance (n_train, test_point) of the loss of each test point, means over draws."""


def point_moments(store: xarray.Dataset) -> PointMoments:
    """Of the law of the ensemble's own cells."""
    mean, covariance, variance = (store[name].transpose("draw", "n_train", "test_point").values for name in LAW_POINTS)
    single = test_points.point_variance(mean, variance, store.sizes["output"])
    return mean.mean(axis=0), covariance.mean(axis=0), single.mean(axis=0)


def curve_point_moments(store: xarray.Dataset, time: str) -> PointMoments | None:
    """Of the exact curve of one time; None where the store has none, as those of older versions."""
    if not all(name in store for name in CURVE_POINTS):
        return None
    one = store[list(CURVE_POINTS)].isel(time=list(store.time.values).index(TIMES.index(time)))
    one = one.transpose("curve_draw", "curve_n_train", "test_point").mean("curve_draw").compute()
    mean, covariance, variance = (one[name].values for name in CURVE_POINTS)
    return mean, covariance, variance


def redraws(store: xarray.Dataset) -> xarray.Dataset:
    """The exact law of further draws of the training set, at the ensemble's sizes and steps, over (redraw, n_train).

    mu_L, sigma_L, eps_L, eps_pop, bias2, variance.
    """
    mine = store[list(REDRAWS)].compute()
    return _spreads(mine.redraw_mu, mine.redraw_sigma2, mine.redraw_population_variance).assign(
        bias2=mine.redraw_bias2, variance=mine.redraw_variance
    )


def law(store: xarray.Dataset) -> xarray.Dataset:
    """The exact law of the ensemble's own cells and steps, over (draw, n_train).

    mu_L, sigma_L, eps_L, eps_pop, bias2, variance, skewness; size_sigma (test_size); loss (quantile).
    """
    cumulants = store.law_cumulant.transpose("cumulant", ...).compute()
    mu, kappa2, kappa3 = (cumulants.isel(cumulant=r) for r in range(3))
    bias2 = ((store.law_mean - store.y_test) ** 2).mean(("test_point", "output"), skipna=False) / 2
    return xarray.Dataset(
        {
            "mu_L": mu,
            "sigma_L": np.sqrt(kappa2),
            "eps_L": np.sqrt(kappa2) / mu,
            "eps_pop": signed_root(store.law_population_variance.compute()) / mu,
            "bias2": bias2.compute(),
            "variance": store.law_variance.mean("test_point", skipna=False).compute() / 2,
            "skewness": (kappa3 / kappa2**1.5).where(kappa2 > 0),
            "size_sigma": np.sqrt(store.law_size_variance.compute()),
            "loss": store.law_quantile.compute(),
        }
    )


def curve(store: xarray.Dataset) -> xarray.Dataset:
    """The learning curve over (time, draw, n_train), `time` named as in the study: steps, fixed, infinite or posterior.

    mu_L, sigma_L, eps_L, eps_pop, bias2, variance; steps (time, n_train); of an exact one largest_share and size_sigma
    (test_size); of an iterated one `iteration_errors` by name and "_error", probes, iterations, largest_residual.
    """
    others = [name for name in (*ITERATION, "curve_size_variance", "curve_largest_share") if name in store]
    mine = store[[*CURVE, *others, "curve_steps"]].compute()
    mine = _named(mine)
    spreads = _spreads(mine.curve_mu, mine.curve_sigma2, mine.curve_population_variance)
    found = spreads.assign(bias2=mine.curve_bias2, variance=mine.curve_variance, steps=mine.curve_steps)
    if "curve_size_variance" in mine:
        found["size_sigma"] = np.sqrt(mine.curve_size_variance)
    if "curve_largest_share" in mine:
        found["largest_share"] = mine.curve_largest_share
    if is_iterated(store):
        errors = {f"{name}_error": total(parts) for name, parts in curve_errors(store).items()}
        counts = {"probes": mine.curve_probes, "iterations": mine.curve_iterations}
        found = found.assign({**errors, **counts, "largest_residual": mine.curve_residual})
    return found.transpose("time", "draw", "n_train", ...)


def as_reference(store: xarray.Dataset, names: tuple[str, ...] = REFERENCE) -> xarray.Dataset:
    """The store of a study whose networks have another limit, or none, than what its phases of infinite width computed.

    The laws of its own cells are renamed to `names`, REFERENCE or BESIDE; curves and further draws are left out.
    """
    found = {str(name) for name in store.data_vars}
    renamed = {old: new for old, new in zip(LAW, names, strict=True) if old in found}
    left = [name for name in found if name.startswith(("law_", "curve_", "redraw_")) and name not in renamed]
    return store.drop_vars(left).rename(renamed)


def reference(store: xarray.Dataset) -> xarray.Dataset:
    """What `law` is, of the arrays that `as_reference` renamed; over width too in the mu-parametrisation."""
    names = next(one for one in (REFERENCE, BESIDE) if all(name in store for name in one))
    return law(store.rename(dict(zip(names, LAW, strict=True))))


def is_iterated(store: xarray.Dataset) -> bool:
    """Whether the curve was iterated, so that its numbers have errors of their own."""
    return all(name in store for name in ITERATION)


def curve_errors(store: xarray.Dataset) -> dict[str, xarray.DataArray]:
    """Errors of an iterated curve by quantity, over (time, draw, n_train, error_part): by probes and by residuals."""
    mine = _named(store[[*CURVE, *ITERATION]].compute())
    return {
        "mu_L": mine.curve_mu_error,
        "sigma_L": mine.curve_sigma2_error / (2 * np.sqrt(mine.curve_sigma2)),
        "eps_L": mine.curve_eps_error,
        "eps_pop": mine.curve_eps_pop_error,
        "bias2": mine.curve_bias2_error,
        "variance": mine.curve_variance_error,
    }


def _named(store: xarray.Dataset) -> xarray.Dataset:
    """Arrays of the curve over (time, draw, n_train), their times by name."""
    mine = store.drop_vars(["draw", "n_train"], errors="ignore")
    mine = mine.rename({"curve_draw": "draw", "curve_n_train": "n_train"})
    return mine.assign_coords(time=[TIMES[int(code)] for code in mine.time.values])


def total(parts: xarray.DataArray) -> xarray.DataArray:
    """The errors by probes and by residuals together, in quadrature."""
    return xarray.apply_ufunc(np.sqrt, (parts**2).sum("error_part", skipna=False))


def _spreads(mu: xarray.DataArray, variance: xarray.DataArray, population: xarray.DataArray) -> xarray.Dataset:
    root = xarray.apply_ufunc(signed_root, population)
    found = {"mu_L": mu, "sigma_L": np.sqrt(variance), "eps_L": np.sqrt(variance) / mu, "eps_pop": root / mu}
    return xarray.Dataset(found)

"""What the store says about infinitely wide networks, as labelled datasets of the same quantities as the ensemble's."""

import numpy as np
import xarray

from analysis.estimators import signed_root
from ntkhpc.studies.ensemble.curve import TIMES

LAW = (
    "law_mean", "law_variance", "law_cumulant", "law_population_variance", "law_size_variance", "law_quantile",
)  # fmt: skip
"""The arrays that `law` reads."""

CURVE = (
    "curve_mu", "curve_sigma2", "curve_population_variance", "curve_bias2", "curve_variance", "curve_size_variance",
    "curve_largest_share",
)  # fmt: skip
"""The arrays that `curve` reads."""


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
            "skewness": kappa3 / kappa2**1.5,
            "size_sigma": np.sqrt(store.law_size_variance.compute()),
            "loss": store.law_quantile.compute(),
        }
    )


def curve(store: xarray.Dataset) -> xarray.Dataset:
    """The learning curve over (time, draw, n_train), `time` named as in the study: steps, fixed or infinite.

    mu_L, sigma_L, eps_L, eps_pop, bias2, variance, largest_share; size_sigma (test_size); steps (time, n_train).
    """
    names = {"curve_draw": "draw", "curve_n_train": "n_train"}
    mine = store[[name for name in store.data_vars if str(name).startswith("curve_")]].compute()
    mine = mine.drop_vars(["draw", "n_train"], errors="ignore").rename(names)
    mine = mine.assign_coords(time=[TIMES[int(code)] for code in store.time.values])
    mu = mine.curve_mu
    return xarray.Dataset(
        {
            "mu_L": mu,
            "sigma_L": np.sqrt(mine.curve_sigma2),
            "eps_L": np.sqrt(mine.curve_sigma2) / mu,
            "eps_pop": signed_root(mine.curve_population_variance) / mu,
            "bias2": mine.curve_bias2,
            "variance": mine.curve_variance,
            "largest_share": mine.curve_largest_share,
            "size_sigma": np.sqrt(mine.curve_size_variance),
            "steps": mine.curve_steps,
        }
    ).transpose("time", "draw", "n_train", ...)

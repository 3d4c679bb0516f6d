"""Results as files for other programs: fits.json, and CSV tables of moments, curves and exponents."""

from typing import Any

import numpy as np
import pandas as pd
import xarray

from analysis.fits import CurveFit
from analysis.results import FITTED, Results
from analysis.scaling import plain
from ntkhpc.studies.ensemble.train import CELL


def summary(results: Results) -> dict[str, Any]:
    """Everything fitted, JSON-able; what could not be had is null."""
    p_values = {
        name: {str(int(w)): plain(float(results.agreement[f"{name}_p_value"].sel(width=w))) for w in results.mean.width}
        for name in ("mu_L", "eps_L")
    }
    resolution = results.resolution.to_dict() if results.resolution else {}
    return {
        "study": results.run.plan.run_name,
        "missing": results.missing,
        "diverged": results.diverged,
        "ensembles": {f"{name} width {width}": fit.to_dict() for (name, width), fit in results.fits.items()},
        "infinite_width_same_cells": {name: fit.to_dict() for name, fit in results.law_fits.items()},
        "infinite_width_curve": {f"{name} {time}": fit.to_dict() for (name, time), fit in results.curve_fits.items()},
        "width": [{key: plain(value) for key, value in fit.to_dict().items()} for fit in results.width_fits.values()],
        "agreement_p_value": p_values,
        "resolution": {key: plain(value) for key, value in resolution.items()} or None,
    }


def moments(results: Results) -> pd.DataFrame:
    """One row a cell: the ensemble's moments with standard errors, and the exact law of the same cell beside them."""
    cells = results.moments.drop_dims(["member", "test_size"])
    exact = results.law[["mu_L", "sigma_L", "eps_L", "eps_pop", "bias2", "variance", "skewness"]]
    exact = exact.rename({name: f"law_{name}" for name in exact.data_vars})
    frame = _frame(xarray.merge([cells, exact, results.agreement[["ks_distance", "ks_p_value"]]]), CELL)
    return frame.astype({"members": int})


def curve(results: Results) -> pd.DataFrame:
    """One row per (time, draw, n_train) at infinite width."""
    return _frame(results.curve.drop_vars("size_sigma"), ("time", "draw", "n_train"))


def exponents(results: Results) -> pd.DataFrame:
    """One row a fitted exponent, with what it was fitted to and its errors."""
    rows: list[dict[str, Any]] = []

    def exact(name: str, network: str, fit: CurveFit) -> None:
        rows.append(
            {"quantity": name, "network": network, "n_min": fit.n[0], "n_max": fit.n[1], "offset": "none",
             "exponent": fit.exponent, "stderr": fit.exponent_stderr, "draws": fit.draws}
        )  # fmt: skip

    for name in FITTED:
        for (quantity, width), fit in results.fits.items():
            if quantity == name:
                for errors, comparison in (("any draw", fit.any_draw), ("this draw", fit.this_draw)):
                    for offset, one in (("none", comparison.none), ("free", comparison.free)):
                        if one is not None:
                            rows.append(
                                {"quantity": name, "network": f"width {width}", "n_min": comparison.n[0],
                                 "n_max": comparison.n[-1], "errors": errors, "offset": offset,
                                 "exponent": one.exponent, "stderr": one.exponent_stderr,
                                 "low_68": one.exponent_68[0], "high_68": one.exponent_68[1],
                                 "low_95": one.exponent_95[0], "high_95": one.exponent_95[1],
                                 "chi2": one.chi2, "dof": one.dof, "p_value": one.p_value, "aicc": one.aicc,
                                 "preferred": one is comparison.preferred, "flags": "; ".join(one.flags)}
                            )  # fmt: skip
        if law := results.law_fits.get(name):
            rows.append(
                {"quantity": name, "network": "infinite width, the ensemble's cells", "n_min": results.sizes[0],
                 "n_max": results.sizes[-1], "offset": "none", "exponent": law.exponent}
            )  # fmt: skip
        for (quantity, time), curve_fit in results.curve_fits.items():
            if quantity == name:
                exact(name, f"infinite width, time {time}", curve_fit)
    return pd.DataFrame(rows)


def _frame(dataset: xarray.Dataset, dims: tuple[str, ...]) -> pd.DataFrame:
    kept = [name for name in dataset.data_vars if set(dataset[name].dims) <= set(dims)]
    frame = dataset[kept].to_dataframe(dim_order=list(dims)).reset_index()
    return frame[[*dims, *[name for name in kept if np.issubdtype(frame[name].dtype, np.number)]]]

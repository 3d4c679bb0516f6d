"""Everything the report shows, computed once from a run: moments, laws, fits, agreement, and what is missing."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import xarray

from analysis import aggregate, agreement, completeness, draws, infinite, resolution, scaling, spread, width
from analysis.fits import CurveFit, EnsembleFit, fit_curve
from analysis.resolution import Resolution
from analysis.scaling import FitResult
from analysis.spread import Spread
from analysis.width import WidthFit
from ntkhpc.engine.run import Run
from ntkhpc.phase.array import Array
from ntkhpc.studies.ensemble.study import Study
from ntkhpc.studies.ensemble.train import DIVERGED, OK

K = TypeVar("K")
V = TypeVar("V")

MEMBERS_A_SIZE = 10
"""Members a size below which errors are taken as independent between sizes: their covariance would be mostly noise."""

NOISE = 2.0
"""Standard errors that a value must be above zero to be fitted."""

FITTED = ("mu_L", "sigma_L", "eps_L", "eps_pop")


@dataclass(frozen=True)
class Results:
    """`moments` per draw, `mean` over draws; `law` and `curve` at infinite width. `missing` says what is not there.

    `fits` by (quantity, width), without those that cannot be had, `law_fits` by quantity (the same sizes, at infinite
    width), `curve_fits` by (quantity, time), `width_fits` by (quantity, n_train).
    """

    run: Run
    store: xarray.Dataset
    moments: xarray.Dataset
    mean: xarray.Dataset
    law: xarray.Dataset
    curve: xarray.Dataset
    agreement: xarray.Dataset
    fits: dict[tuple[str, int], EnsembleFit]
    law_fits: dict[str, FitResult]
    curve_fits: dict[tuple[str, str], CurveFit]
    width_fits: dict[tuple[str, int], WidthFit]
    resolution: Resolution | Spread | None
    missing: str

    @property
    def study(self) -> Study:
        return self.run.study.of_kind(Study)

    @property
    def sizes(self) -> np.ndarray:
        return self.mean.n_train.values

    @cached_property
    def law_mean(self) -> xarray.Dataset:
        """The law averaged over the ensemble's draws."""
        return self.law.drop_dims(["quantile"]).mean("draw")

    def losses(self, width: int, n_train: int) -> np.ndarray:
        """L of the trained members at the first draw; n_train is an index."""
        cell = self.store[["test_loss", "status"]].sel(width=width).isel(n_train=n_train, draw=0)
        return cell.test_loss.values[cell.status.values == OK]

    @cached_property
    def diverged(self) -> int:
        return int((self.store.status == DIVERGED).sum())


def collect(run: Run, *, partial: bool = False) -> Results:
    """Analyse a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing = completeness.require(run, partial=partial)
    store = aggregate.open_store(run)
    if missing:
        store = completeness.with_receipts(run, store, _decisive(run))
    moments, law, curve = aggregate.moments(store), infinite.law(store), infinite.curve(store)
    mean = aggregate.over_draws(moments)
    law_mean = law.drop_dims(["quantile"]).mean("draw")
    errors = {
        (name, int(w)): _errors(mean.sel(width=w), name, curve, moments.sizes["draw"])
        for name in FITTED
        for w in mean.width.values
    }
    widest = int(mean.width[-1])
    return Results(
        run=run,
        store=store,
        moments=moments,
        mean=mean,
        law=law,
        curve=curve,
        agreement=agreement.agreement(store, moments, law),
        fits={key: _fit(one) for key, one in errors.items() if one is not None},
        law_fits=_there({name: _fit_law(law_mean[name], errors[name, widest]) for name in FITTED}),
        curve_fits=_there(
            {(name, str(t)): fit_curve(curve[name].sel(time=t)) for name in FITTED for t in curve.time.values}
        ),
        width_fits=_there(
            {
                (name, int(n)): _fit_width(mean.sel(n_train=n), law_mean.sel(n_train=n), name)
                for name in ("mu_L", "eps_L")
                for n in mean.n_train.values
            }
        ),
        resolution=_in_its_units(store, run.study.of_kind(Study)),
        missing=missing,
    )


def _decisive(run: Run) -> list[Array]:
    """Floats of every phase but the ensemble, whose `status` decides alone: a member without it is not computed."""
    others = [array for phase in ("law", "curve", "finalise") for array in run.layout.arrays(phase)]
    status = [array for array in run.layout.arrays("ensemble") if array.name == "status"]
    return status + [array for array in others if np.dtype(array.dtype).kind == "f"]


def _in_its_units(store: xarray.Dataset, wanted: Study) -> Resolution | Spread | None:
    if wanted.data.energy_target:
        return resolution.resolution(store)
    return spread.spread(store, wanted.data)


def _there(found: dict[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Errors:
    """Sizes at which a quantity is usable, with the covariances of its errors: of this draw, and of any draw."""

    good: np.ndarray
    n: np.ndarray
    value: np.ndarray
    this_draw: np.ndarray
    any_draw: np.ndarray
    spread: float


def _errors(cell: xarray.Dataset, name: str, curve: xarray.Dataset, draw_count: int) -> _Errors | None:
    """Of one width; None with fewer than 3 usable sizes."""
    value, stderr = cell[name].values, cell[f"{name}_stderr"].values
    good = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
    # Where the difference that eps_pop is may be zero, its root has no Gaussian error, and leaving a size out biases.
    if good.sum() < 3 or (value[good] < NOISE * stderr[good]).any():
        return None
    n, value, stderr = cell.n_train.values[good].astype(float), value[good], stderr[good]
    covariance = cell[f"{name}_covariance"].values[np.ix_(good, good)]
    members, k = cell.members.values[good].min(), good.sum()
    if members < MEMBERS_A_SIZE * k or not np.isfinite(covariance).all():
        covariance = np.diag(stderr**2)  # too few members to tell how sizes covary
    else:
        covariance = covariance * (members - 1) / (members - k - 2)  # the inverse of an estimate is too large
    time = "steps" if "steps" in curve.time.values else curve.time.values[0]
    spread = draws.relative_spread(curve[name].sel(time=time), n[0], n[-1])
    # From a smooth curve: errors proportional to the very values they belong to would pull the fit below them all.
    smooth = scaling.fit_power_law(n, value, value)(n)
    covariance = covariance * np.outer(smooth / value, smooth / value)
    total = covariance if np.isnan(spread) else covariance + draws.covariance(n, smooth, spread) / draw_count
    return _Errors(good, n, value, covariance, total, spread)


def _fit(errors: _Errors) -> EnsembleFit:
    this_draw, any_draw = (
        scaling.compare(errors.n, errors.value, np.sqrt(np.diag(covariance)), covariance=covariance)
        for covariance in (errors.this_draw, errors.any_draw)
    )
    return EnsembleFit(any_draw, this_draw, errors.spread)


def _fit_law(law: xarray.DataArray, errors: _Errors | None) -> FitResult | None:
    """The exact values at the ensemble's sizes, weighted as the widest ensemble's are, so that exponents compare."""
    if errors is None:
        return None
    value = law.values[errors.good]
    if not np.isfinite(value).all() or (value <= 0).any():
        return None
    covariance = errors.any_draw * np.outer(value / errors.value, value / errors.value)
    return scaling.fit_power_law(errors.n, value, np.sqrt(np.diag(covariance)), covariance=covariance)


def _fit_width(cell: xarray.Dataset, exact: xarray.Dataset, name: str) -> WidthFit | None:
    return width.fit(
        name,
        int(cell.n_train),
        cell.width.values,
        cell[name].values,
        cell[f"{name}_stderr"].values,
        float(exact[name]),
    )

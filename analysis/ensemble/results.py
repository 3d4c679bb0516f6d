"""What the report of an ensemble is made from: the store of a run, and what is computed from it, once, when asked."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd
import xarray

from analysis import aggregate, dominance, infinite, resolution, second_run, spread, width
from analysis.agreement import agreement
from analysis.ensemble import power_laws
from analysis.ensemble.power_laws import FITTED, Errors
from analysis.fits import CurveFit, EnsembleFit, fit_curve
from analysis.report import completeness
from analysis.resolution import Resolution
from analysis.scaling import FitResult
from analysis.spread import Spread
from analysis.width import WidthFit
from ntkhpc.engine.run import Run
from ntkhpc.phase.array import Array
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import DIVERGED, OK

K = TypeVar("K")
V = TypeVar("V")

SIGNIFICANT = 0.01
"""Probability below which a difference, or the failure of a power law, is called one."""


@dataclass(frozen=True)
class EnsembleResults:
    """`store` without values of missing shards; `missing` says which those are.

    What is derived needs the arrays it is made from: infinite.LAW for `law`, infinite.CURVE for `curve`; fits without
    them are empty.
    """

    run: Run
    store: xarray.Dataset
    missing: str

    @property
    def study(self) -> EnsembleStudy:
        return self.run.study.of_kind(EnsembleStudy)

    @property
    def has_law(self) -> bool:
        return all(name in self.store for name in infinite.LAW)

    @property
    def has_curve(self) -> bool:
        return all(name in self.store for name in infinite.CURVE)

    @cached_property
    def moments(self) -> xarray.Dataset:
        """Moments of each draw."""
        return aggregate.moments(self.store)

    @cached_property
    def mean(self) -> xarray.Dataset:
        """Moments averaged over draws."""
        return aggregate.over_draws(self.moments)

    @property
    def sizes(self) -> np.ndarray:
        return self.mean.n_train.values

    @cached_property
    def law(self) -> xarray.Dataset:
        """The exact law of each draw at infinite width."""
        return infinite.law(self.store)

    @cached_property
    def law_mean(self) -> xarray.Dataset:
        """The law averaged over the ensemble's draws."""
        return self.law.drop_dims(["quantile"]).mean("draw")

    @cached_property
    def curve(self) -> xarray.Dataset:
        """The exact learning curves at infinite width."""
        return infinite.curve(self.store)

    @cached_property
    def agreement(self) -> xarray.Dataset:
        """Of the ensembles with the law."""
        return agreement(self.store, self.moments, self.law)

    @cached_property
    def _errors(self) -> dict[tuple[str, int], Errors]:
        curve = self.curve if self.has_curve else None
        return _there(
            {
                (name, int(w)): power_laws.errors(self.mean.sel(width=w), name, curve, self.moments.sizes["draw"])
                for name in FITTED
                for w in self.mean.width.values
            }
        )

    @cached_property
    def fits(self) -> dict[tuple[str, int], EnsembleFit]:
        """By (quantity, width), without those that cannot be had."""
        return {key: power_laws.fit(one) for key, one in self._errors.items()}

    @cached_property
    def law_fits(self) -> dict[str, FitResult]:
        """By quantity: the exact values at the ensemble's sizes."""
        if not self.has_law:
            return {}
        widest = int(self.mean.width[-1])
        return _there(
            {name: power_laws.fit_law(self.law_mean[name], self._errors.get((name, widest))) for name in FITTED}
        )

    @cached_property
    def curve_fits(self) -> dict[tuple[str, str], CurveFit]:
        """By (quantity, time)."""
        times = self.curve.time.values if self.has_curve else []
        return _there({(name, str(t)): fit_curve(self.curve[name].sel(time=t)) for name in FITTED for t in times})

    @cached_property
    def width_fits(self) -> dict[tuple[str, int], WidthFit]:
        """By (quantity, n_train)."""
        return _there(
            {
                (name, int(n)): _fit_width(self.mean.sel(n_train=n), self.law_mean.sel(n_train=n), name)
                for name in ("mu_L", "eps_L")
                for n in self.sizes
            }
        )

    @cached_property
    def dominant(self) -> pd.DataFrame:
        """Members that carry much of sigma_L^2."""
        return dominance.dominant(self.store, self.law.skewness if self.has_law else None)

    @cached_property
    def second_runs(self) -> pd.DataFrame:
        """Members that were trained again; needs second_run.ARRAYS."""
        return second_run.members(self.store)

    @cached_property
    def unstable_cells(self) -> pd.DataFrame:
        """Cells with members on the edge of instability; needs second_run.ARRAYS."""
        return second_run.cells(self.store, self.second_runs)

    @cached_property
    def in_units(self) -> Resolution | Spread | None:
        """What the initialisation means in the units of the task; None for ensembles that are not there."""
        data = self.study.data
        if data.energy_target:
            return resolution.resolution(self.store)
        return spread.spread(self.store, data)

    def losses(self, width: int, n_train: int) -> np.ndarray:
        """L of the trained members at the first draw; n_train is an index."""
        cell = self.store[["test_loss", "status"]].sel(width=width).isel(n_train=n_train, draw=0)
        return cell.test_loss.values[cell.status.values == OK]

    @cached_property
    def diverged(self) -> int:
        return int((self.store.status == DIVERGED).sum())


def collect(run: Run, *, partial: bool = False) -> EnsembleResults:
    """Open a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing = completeness.require(run, partial=partial)
    store = aggregate.open_store(run)
    if missing:
        store = completeness.with_receipts(run, store, _decisive(run))
    return EnsembleResults(run, store, missing)


def frame(dataset: xarray.Dataset, dims: tuple[str, ...]) -> pd.DataFrame:
    """One row for each point of `dims`: what has no other dimension and is a number."""
    kept = [name for name in dataset.data_vars if set(dataset[name].dims) <= set(dims)]
    found = dataset[kept].to_dataframe(dim_order=list(dims)).reset_index()
    return found[[*dims, *[name for name in kept if np.issubdtype(found[name].dtype, np.number)]]]


def _decisive(run: Run) -> list[Array]:
    """Floats of every phase but the ensemble, whose `status` decides alone: a member without it is not computed. And
    why members were suspected, which counts those that were not trained again.
    """
    others = [array for phase in ("law", "curve", "finalise", "recheck") for array in run.layout.arrays(phase)]
    status = [array for array in run.layout.arrays("ensemble") if array.name == "status"]
    return status + [one for one in others if np.dtype(one.dtype).kind == "f" or one.name == "recheck_reason"]


def _there(found: dict[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in found.items() if value is not None}


def _fit_width(cell: xarray.Dataset, exact: xarray.Dataset, name: str) -> WidthFit | None:
    return width.fit(
        name,
        int(cell.n_train),
        cell.width.values,
        cell[name].values,
        cell[f"{name}_stderr"].values,
        float(exact[name]),
    )

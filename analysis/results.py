"""Everything the report shows, computed once from a run: moments, laws, fits, agreement, and what is missing."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray

from analysis import aggregate, agreement, draws, infinite, resolution, scaling, spread, width
from analysis.resolution import Resolution
from analysis.scaling import Comparison, FitResult
from analysis.spread import Spread
from analysis.width import WidthFit
from ntkhpc import plan, schema
from ntkhpc.ensemble_study import Study
from ntkhpc.errors import RunError
from ntkhpc.run import Run
from ntkhpc.sources import Showers

K = TypeVar("K")
V = TypeVar("V")

MEMBERS_A_SIZE = 10
"""Members a size below which errors are taken as independent between sizes: their covariance would be mostly noise."""

NOISE = 2.0
"""Standard errors that a value must be above zero to be fitted."""

FITTED = ("mu_L", "sigma_L", "eps_L", "eps_pop")


@dataclass(frozen=True)
class EnsembleFit:
    """Power laws through an ensemble of one width: two fits, because there are two questions.

    `any_draw` has the errors of the initialisations and of the draw of the training set together (`draw_spread` is the
    relative size of the latter, NaN if unknown): its exponent is a statement about the task. `this_draw` has those of
    the initialisations alone: for comparing widths and laws on the same data, where a power law may fit badly because
    one draw's curve has wiggles.
    """

    any_draw: Comparison
    this_draw: Comparison
    draw_spread: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "any_draw": self.any_draw.to_dict(),
            "this_draw": self.this_draw.to_dict(),
            "draw_spread": scaling.plain(self.draw_spread),
        }


@dataclass(frozen=True)
class CurveFit:
    """A power law through an exact curve: no statistical error, so the spread over draws is what is quoted.

    `exponent` is the mean over draws of fits with equal relative weights, `exponent_stderr` the standard error of that
    mean (NaN for one draw), `last_slope` the local slope between the two largest sizes, `residual` (n_train,) the mean
    curve over its own power law less 1.
    """

    n: tuple[float, float]
    draws: int
    exponent: float
    exponent_stderr: float
    last_slope: float
    residual: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {field.name: scaling.plain(getattr(self, field.name)) for field in fields(self)}


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
        return cell.test_loss.values[cell.status.values == schema.OK]

    @cached_property
    def diverged(self) -> int:
        return int((self.store.status == schema.DIVERGED).sum())


def collect(run: Run, *, partial: bool = False) -> Results:
    """Analyse a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing = _missing(run)
    if missing and not partial:
        raise RunError(
            f"the run is not complete: {missing}",
            where=run.path,
            cause="shards are missing, and figures without them could mislead",
            todo="make resume runs them; make report PARTIAL=1 shows what is there, and says so on every figure",
        )
    store = _with_receipts(run, aggregate.open_store(run)) if missing else aggregate.open_store(run)
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
            {(name, str(t)): _fit_curve(curve[name].sel(time=t)) for name in FITTED for t in curve.time.values}
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


def _in_its_units(store: xarray.Dataset, wanted: Study) -> Resolution | Spread | None:
    if isinstance(wanted.data, Showers):
        return resolution.resolution(store)
    return spread.spread(store, wanted.data)


def _there(found: dict[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in found.items() if value is not None}


def _missing(run: Run) -> str:
    """In words, which shards that the analysis needs have no receipt; empty if none."""
    lacking = {phase: len(run.missing(phase)) for phase in plan.closure("analysis")}
    return ", ".join(
        f"{count} of {len(run.plan.of_phase(phase))} {phase} shards missing"
        for phase, count in lacking.items()
        if count
    )


def _with_receipts(run: Run, store: xarray.Dataset) -> xarray.Dataset:
    """The store without the values of shards that have no receipt: half written, or set aside as damaged."""
    masked = {}
    for phase in ("ensemble", "law", "curve", "finalise"):
        arrays = [array for array in schema.arrays(run.study, phase) if np.dtype(array.dtype).kind == "f"]
        if phase == "ensemble":  # a member without a receipt counts as not computed
            arrays = [array for array in schema.arrays(run.study, phase) if array.name == "status"]
        for array in arrays:
            values = store[array.name]
            there = xarray.ones_like(values, bool).compute()
            for shard in run.missing(phase):
                there[{dim: slice(*span) for dim, span in shard.region.items() if dim in there.dims}] = False
            masked[array.name] = values.where(there, schema.MISSING if array.name == "status" else np.nan)
    return store.assign(masked)


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


def _fit_curve(curve: xarray.DataArray) -> CurveFit | None:
    """One law through an exact curve over (draw, n_train), draw by draw; None if a value is missing or not positive."""
    values, n = curve.transpose("draw", "n_train").values, curve.n_train.values
    if values.shape[1] < 3 or not np.isfinite(values).all() or (values <= 0).any():
        return None
    fits = [scaling.fit_power_law(n, row, row) for row in values]
    exponents = np.array([fit.exponent for fit in fits])
    average = values.mean(axis=0)
    count = len(values)
    return CurveFit(
        n=(float(n[0]), float(n[-1])),
        draws=count,
        exponent=float(exponents.mean()),
        exponent_stderr=float(exponents.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan"),
        last_slope=float(np.log(average[-1] / average[-2]) / np.log(n[-1] / n[-2])),
        residual=average / scaling.fit_power_law(n, average, average)(n) - 1,
    )


def _fit_width(cell: xarray.Dataset, exact: xarray.Dataset, name: str) -> WidthFit | None:
    return width.fit(
        name,
        int(cell.n_train),
        cell.width.values,
        cell[name].values,
        cell[f"{name}_stderr"].values,
        float(exact[name]),
    )


def folder(run: Run) -> Path:
    """Where figures, tables and the report of a run go."""
    return run.path / "analysis"

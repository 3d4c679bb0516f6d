"""What the report of an ensemble is made from: the store of a run, and what is computed from it, once, when asked."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import xarray

from analysis import aggregate, agreement, dominance, floor, infinite, leaps, second_run, width
from analysis.agreement import AgainstLaw
from analysis.contrasts import Curve, ErrorSource, Estimate, number, relative
from analysis.ensemble import curves, resolution, spread
from analysis.ensemble.curves import CONTAINED, DRAW, FITTED, MEMBERS, REQUIRED, Drawn
from analysis.ensemble.headline import Headline, described
from analysis.ensemble.leapt_results import LeaptResults, there
from analysis.ensemble.resolution import Resolution
from analysis.ensemble.spread import Spread
from analysis.floor import Levelling
from analysis.opened import opened
from analysis.report import completeness
from analysis.width import WidthLine
from ntkhpc.engine import conflicts
from ntkhpc.engine.run import Run
from ntkhpc.studies.ensemble import exact, redraws, standing
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import DIVERGED, OK


@dataclass(frozen=True)
class EnsembleResults:
    """`store` without values of missing shards; `missing` says which those are.

    What is derived needs the arrays it is made from: infinite.LAW for `law`, infinite.CURVE for `curve`; fits without
    them are empty. Of a variant in a run that compares several `variant` is its own study, and the store its part.
    """

    run: Run
    store: xarray.Dataset
    missing: str
    variant: EnsembleStudy | None = None

    @property
    def study(self) -> EnsembleStudy:
        return self.variant or self.run.study.of_kind(EnsembleStudy)

    @cached_property
    def conflicts(self) -> str:
        """Executions of one shard that differ, in a sentence; empty if there are none."""
        return conflicts.sentence(self.run)

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
    def reference(self) -> xarray.Dataset:
        """What stands beside networks that have another limit or none; needs infinite.REFERENCE or infinite.BESIDE."""
        return infinite.reference(self.store)

    @cached_property
    def law_mean(self) -> xarray.Dataset:
        """The law averaged over the ensemble's draws."""
        return self.law.drop_dims(["quantile"]).mean("draw", skipna=False)

    @cached_property
    def curve(self) -> xarray.Dataset:
        """The exact learning curves at infinite width."""
        return infinite.curve(self.store)

    @property
    def has_redraws(self) -> bool:
        return all(name in self.store for name in infinite.REDRAWS)

    @cached_property
    def redraws(self) -> xarray.Dataset:
        """The exact laws of further draws, at the sizes of the ensembles."""
        return infinite.redraws(self.store).rename(redraw="draw")

    @cached_property
    def agreement(self) -> xarray.Dataset:
        """Ratios of the ensembles to the law, cell by cell."""
        return agreement.ratios(self.store, self.moments, self.law)

    @cached_property
    def comparisons(self) -> dict[tuple[str, int], AgainstLaw]:
        """By (quantity, width): the ensembles with the law, all sizes together."""
        found = {}
        losses = self.store.test_loss.where(self.store.status == OK)
        for w in self.mean.width.values:
            sample = losses.sel(width=w).transpose("n_train", "draw", "member").values.astype(float)
            two_level = self.headline.of_networks(int(w), agreement.STATISTICS)
            for name, one in agreement.compare(sample, self.mean.sel(width=w), self.law, two_level).items():
                found[name, int(w)] = one
        return found

    @cached_property
    def _elsewhere(self) -> dict[str, tuple[ErrorSource, ...]]:
        """By quantity: what another draw of the training set and another test set would change at the sizes here."""
        found = {}
        for name in FITTED:
            draw = self._draws(name)
            points = curves.points(name, *self._point_moments) if self._point_moments else None
            found[name] = tuple(one for one in (draw, points) if one is not None)
        return found

    def _draw(self, name: str) -> ErrorSource | None:
        """What another draw of the training set does at the sizes here, of further draws or those of the curve."""
        found = curves.draws(self.redraws[name], self.redrawn) if self.has_redraws else None
        if found is None and self.has_curve and "steps" in self.curve.time.values:
            others = curves.interpolated(self.curve[name].sel(time="steps"), self.sizes)
            found = None if others is None else curves.draws(others, self.drawn)
        return found

    def _draws(self, name: str) -> ErrorSource | None:
        """The same, of the mean over the ensemble's draws."""
        found = self._draw(name)
        return found and curves.averaged(found, self.sizes, self.drawn, self.moments.sizes["draw"])

    @property
    def drawn(self) -> Drawn:
        """The draws of ensembles and curves, each a permutation of its own."""
        return Drawn(self.study.data.pool)

    @property
    def redrawn(self) -> Drawn:
        """The further draws; of stores with a permutation for each, as early ones have, they share samples."""
        cut = self.store.sizes.get("order", self.study.orders) == self.study.orders
        return Drawn(self.study.data.pool, redraws.apart(self.study) if cut else 1)

    @cached_property
    def _point_moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Mean, covariance with L and variance of the loss of each test point (n_train, test_point), exact if known."""
        if all(name in self.store for name in infinite.LAW_POINTS):
            return infinite.point_moments(self.store)
        widest = self.mean.isel(width=-1)
        return widest.point_mean.values, widest.point_covariance.values, widest.point_variance.values

    @cached_property
    def curves(self) -> dict[tuple[str, int], Curve]:
        """By (quantity, width), with every source of error that is known; without those that cannot be had."""
        return there(
            {
                (name, int(w)): curves.trained(self.mean.sel(width=w), name, self._elsewhere[name])
                for name in FITTED
                for w in self.mean.width.values
            }
        )

    def value(self, name: str, width: int, i: int) -> Estimate | None:
        """At the size of index i, averaged over draws, with the error of the members (of their tiles for bias2 and
        variance); None where it is not there, or has no such error."""
        cell = self.mean.sel(width=width).isel(n_train=i)
        value, deviates = float(cell[name]), cell[f"{name}_deviates"].values
        if not (np.isfinite(value) and np.isfinite(deviates).all() and deviates.any()):
            return None
        return relative(value, [ErrorSource(MEMBERS, deviates[None])])

    @cached_property
    def fits(self) -> dict[tuple[str, int], Levelling]:
        """By (quantity, width), with the errors of the members and of the draw of the training set.

        Of eps_pop also with those of the test points; where they are not known nothing is tested.
        """
        return {key: described(key[0], curve) for key, curve in self.curves.items()}

    @cached_property
    def headline(self) -> Headline:
        """What the first chapters show of the networks of each width."""
        has_leaps = all(name in self.store for name in leaps.ARRAYS)
        return Headline(
            sizes=self.sizes if has_leaps else np.zeros(0),
            widths=[int(w) for w in self.mean.width.values] if has_leaps else [],
            trained=self.value,
            trained_curves=self.curves,
            trained_fit=lambda key: self.fits[key],
            leapt=self.leapt if has_leaps else None,
        )

    @cached_property
    def leapt(self) -> LeaptResults:
        """Of networks that were leapt, and of linearised ones."""
        return LeaptResults(self.store, self.study, self.sizes, self._elsewhere)

    @property
    def knows_draws(self) -> bool:
        """Whether the errors of exponents hold what another draw of the training set would change."""
        known = [any(source.name == DRAW for source in curve.sources) for curve in self.curves.values()]
        return bool(known) and all(known)

    @cached_property
    def law_curves(self) -> dict[str, Curve]:
        """By quantity: the law of the ensembles' own samples; what another test set would change is its only error."""
        if not self.has_law:
            return {}
        found = {}
        for name in FITTED:
            points = tuple(one for one in self._elsewhere[name] if one.name != DRAW)
            table = self.law_mean[name].values
            if len(table) >= 3 and np.isfinite(table).all() and (table > 0).all():
                found[name] = Curve(self.sizes.astype(float), table, points)
        return found

    @cached_property
    def redraw_curves(self) -> dict[str, Curve]:
        """By quantity: the mean of the laws of further draws at the ensembles' sizes."""
        if not self.has_redraws:
            return {}
        return there({name: curves.exact(self.redraws[name], self.redrawn) for name in FITTED})

    @cached_property
    def exact_curves(self) -> dict[tuple[str, str], Curve]:
        """By (quantity, time): the mean over draws of the exact curve."""
        if not self.has_curve:
            return {}
        found = {}
        for time in self.curve.time.values:
            moments = infinite.curve_point_moments(self.store, str(time))
            for name in FITTED:
                points = curves.points(name, *moments) if moments else None
                iteration = self._iteration(name, str(time))
                if self.is_iterated and iteration is None:
                    continue  # nothing is said without that error
                others = tuple(one for one in (points, iteration) if one is not None)
                found[name, str(time)] = curves.exact(self.curve[name].sel(time=time), self.drawn, others)
        return there(found)

    @property
    def is_iterated(self) -> bool:
        """Whether the exact curves were iterated, and have errors of that."""
        return infinite.is_iterated(self.store)

    @cached_property
    def iteration_errors(self) -> dict[str, xarray.DataArray]:
        """Of iterated curves by quantity, (time, draw, n_train, error_part): by probes and by residuals."""
        return infinite.curve_errors(self.store) if self.is_iterated else {}

    def _iteration(self, name: str, time: str) -> ErrorSource | None:
        if not self.is_iterated:
            return None
        values, errors = self.curve[name].sel(time=time), self.iteration_errors[name].sel(time=time)
        return curves.iteration(values, errors, self.curve.probes.sel(time=time))

    @cached_property
    def curve_fits(self) -> dict[tuple[str, str], Levelling]:
        """By (quantity, time): the exact curves, with the errors of the draws and of the iteration, if they have one.

        Of eps_pop also with those of the test points. Without the error of the draws nothing is tested, as those of the
        others do not tell what another training set would do; nor is eps_pop without that of the test points, or with
        that of few draws, which does not tell how large it is beside the other.
        """
        found = {}
        for (name, time), curve in self.exact_curves.items():
            asked = curve.of(*CONTAINED[name])
            known, fit = {source.name for source in asked.sources}, floor.levelling(asked)
            few = len(REQUIRED[name]) > 1 and any(
                source.name == DRAW and source.dof < floor.KNOWN for source in asked.sources
            )
            found[name, time] = fit.untested() if few or (known and not known >= REQUIRED[name]) else fit
        return found

    @cached_property
    def width_lines(self) -> dict[tuple[str, int], WidthLine]:
        """By (quantity, n_train)."""
        found = {}
        for name in ("mu_L", "eps_L"):
            for i, n in enumerate(self.sizes):
                exact = float(self.law_mean[name].isel(n_train=i))
                ratios = [self._ratio(name, int(w), i, exact) for w in self.mean.width.values]
                found[name, int(n)] = width.fit(name, int(n), self.mean.width.values, ratios, exact)
        return there(found)

    def _ratio(self, name: str, width: int, i: int, exact: float) -> Estimate | None:
        """log(value/exact) at the size of index i, with the error of the networks; None where it is not there."""
        if (two_level := self.headline.quantity(name, width, i)) is not None and exact > 0:
            return number(two_level.value / exact, two_level.sources())
        cell = self.mean.sel(width=width).isel(n_train=i)
        value, deviates = float(cell[name]), cell[f"{name}_deviates"].values
        if not (value > 0 and np.isfinite(deviates).all() and exact > 0):
            return None
        return number(value / exact, [ErrorSource(MEMBERS, deviates[None])])

    @cached_property
    def dominant(self) -> pd.DataFrame:
        """Members that carry much of sigma_L^2, with chances by the skewness of the law, or of what stands beside."""
        return dominance.dominant(self.store, self.skewness)

    @property
    def skewness(self) -> xarray.DataArray | None:
        """That of the loss by the law, or by the reference of networks that have another law or none.

        Over (draw, n_train), in the mu-parametrisation over width too. None without either, and of centred networks:
        at infinite width all are one, or have the spread of their orders of mini-batches alone.
        """
        if self.has_law:
            return self.law.skewness
        there = any(all(name in self.store for name in names) for names in (infinite.REFERENCE, infinite.BESIDE))
        return self.reference.skewness if there and not self.study.network.centred else None

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
        if (draw := self._draw("variance")) is not None:
            draw = replace(draw, deviates=draw.deviates[-1:])
        if data.energy_target:
            return resolution.resolution(self.store, draw)
        return spread.spread(self.store, data, draw)

    def losses(self, width: int, n_train: int) -> np.ndarray:
        """L of the trained members at the first draw; n_train is an index."""
        cell = self.store[["test_loss", "status"]].sel(width=width).isel(n_train=n_train, draw=0)
        return cell.test_loss.values[cell.status.values == OK]

    @cached_property
    def diverged(self) -> int:
        return int((self.store.status == DIVERGED).sum())


def collect(run: Run, *, partial: bool = False) -> EnsembleResults:
    """Open a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing, store = completeness.require(run, partial=partial), opened(run)
    return EnsembleResults(run, beside(store, run.study.of_kind(EnsembleStudy)), missing)


def beside(store: xarray.Dataset, study: EnsembleStudy) -> xarray.Dataset:
    """The store, in which a law that is not the networks' own limit is a reference."""
    if standing.is_own(study):
        return store
    return infinite.as_reference(store, infinite.BESIDE if exact.has_law(study) else infinite.REFERENCE)


def frame(dataset: xarray.Dataset, dims: tuple[str, ...]) -> pd.DataFrame:
    """One row for each point of `dims`: what has no other dimension and is a number."""
    kept = [name for name in dataset.data_vars if set(dataset[name].dims) <= set(dims)]
    found = dataset[kept].to_dataframe(dim_order=list(dims)).reset_index()
    return found[[*dims, *[name for name in kept if np.issubdtype(found[name].dtype, np.number)]]]

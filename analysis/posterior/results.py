"""What the report of a posterior is made from: the store of a run, and what is computed from it, once, when asked."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import xarray

from analysis.fits import CurveFit
from analysis.opened import opened
from analysis.posterior import comparison, exponents, sampled, theory
from analysis.posterior.comparison import ChiSquare, ComparedCell
from analysis.posterior.coverage import coverage
from analysis.posterior.exponents import Difference, SampledFit
from analysis.report import completeness
from ntkhpc.engine import conflicts
from ntkhpc.engine.run import Run
from ntkhpc.phase.layout import CREATE
from ntkhpc.studies.posterior.study import PosteriorStudy

SCANS = ("temperature", "readout")
PHASES = ("theory", "adaptive", "chains")
"""Those that write what is reported, if the run has them."""


@dataclass(frozen=True)
class PosteriorResults:
    """`store` without values of missing shards; `missing` says which those are. What was not sampled is None."""

    run: Run
    store: xarray.Dataset
    missing: str

    @property
    def study(self) -> PosteriorStudy:
        return self.run.study.of_kind(PosteriorStudy)

    @cached_property
    def conflicts(self) -> str:
        """Executions of one shard that differ, in a sentence; empty if there are none."""
        return conflicts.sentence(self.run)

    @cached_property
    def theory(self) -> xarray.Dataset:
        """The posterior of each draw at the saddle point."""
        return theory.posterior(self.store)

    @cached_property
    def descent(self) -> xarray.Dataset:
        """The infinitely wide ensemble of each draw, trained to the end by gradient descent."""
        return theory.gradient_descent(self.store)

    @cached_property
    def scans(self) -> dict[str, xarray.Dataset]:
        """By the name of what is scanned, without those that are empty."""
        return {name: one for name in SCANS if (one := theory.scan(self.store, name)) is not None}

    @cached_property
    def chains(self) -> xarray.Dataset | None:
        """Statistics of the chains of each draw."""
        return sampled.cells(self.store)

    @cached_property
    def sampled(self) -> xarray.Dataset | None:
        """The mean of `chains` over draws."""
        return None if self.chains is None else sampled.over_draws(self.chains)

    @cached_property
    def coverage(self) -> xarray.Dataset | None:
        return coverage(self.store, self.theory.quantiles)

    @cached_property
    def cells(self) -> tuple[ComparedCell, ...]:
        """Every (n_train, width), in that order."""
        return comparison.compare(self.theory, self.chains, theory.adaptive(self.store))

    @cached_property
    def sampled_cells(self) -> tuple[ComparedCell, ...]:
        return tuple(cell for cell in self.cells if cell.is_sampled)

    @cached_property
    def adaptive_cells(self) -> tuple[ComparedCell, ...]:
        return tuple(cell for cell in self.cells if cell.is_adaptive)

    def of_size(self, n_train: int) -> list[ComparedCell]:
        """The cells of one training-set size, by width."""
        return [cell for cell in self.cells if cell.n_train == n_train]

    @cached_property
    def chi_square(self) -> ChiSquare | None:
        return comparison.chi_square(self.cells)

    @cached_property
    def exact_fits(self) -> dict[tuple[str, str], CurveFit]:
        """By (quantity, network)."""
        return exponents.exact(self.theory, self.descent)

    @cached_property
    def sampled_fits(self) -> dict[tuple[str, int], SampledFit]:
        """By (quantity, width)."""
        return exponents.sampled(self.sampled, self.theory, self.store.sizes["draw"])

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """By quantity."""
        return exponents.differences(self.theory, self.descent)


def collect(run: Run, *, partial: bool = False) -> PosteriorResults:
    """Open a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing = completeness.require(run, partial=partial)
    return PosteriorResults(run, _load(run), missing)


def frame(dataset: xarray.Dataset) -> pd.DataFrame:
    """One row a cell of all dimensions but `quantile`."""
    return dataset.drop_dims("quantile", errors="ignore").to_dataframe().reset_index()


def _load(run: Run) -> xarray.Dataset:
    """What PHASES wrote but for values at single test points. Older runs, and trimmed ones, lack arrays."""
    store = opened(run)
    arrays = [
        array.name
        for phase in PHASES
        for array in run.layout.arrays(phase)
        if array.name in store and "test_point" not in array.dims
    ]
    coordinates = {array.name for array in run.layout.arrays(CREATE)}
    return store[["y_test", *arrays, *sorted(coordinates & set(store.coords))]].load()

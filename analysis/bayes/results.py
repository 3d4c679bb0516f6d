"""Everything the report of a posterior shows, computed once from a run."""

from dataclasses import dataclass
from functools import cached_property

import xarray

from analysis import completeness
from analysis.bayes import comparison, exponents, sampled, theory
from analysis.bayes.comparison import Cell, ChiSquare
from analysis.bayes.coverage import coverage
from analysis.bayes.exponents import Difference, SampledFit
from analysis.fits import CurveFit
from ntkhpc.engine.run import Run
from ntkhpc.phase.layout import CREATE
from ntkhpc.studies.posterior.study import BayesStudy

SCANS = ("temperature", "readout")
PHASES = ("theory", "adaptive", "chains")
"""Those that write what is reported, if the run has them."""


@dataclass(frozen=True)
class Results:
    """`theory`, and `descent` by gradient at infinite width, of each draw; `chains` of each draw, `sampled` their mean.

    What was not sampled is None. `cells` are every (n_train, width) in that order; `scans` by the name of what is
    scanned, without those that are empty; `missing` says in words which shards are not there.
    """

    run: Run
    store: xarray.Dataset
    theory: xarray.Dataset
    descent: xarray.Dataset
    scans: dict[str, xarray.Dataset]
    chains: xarray.Dataset | None
    sampled: xarray.Dataset | None
    coverage: xarray.Dataset | None
    cells: tuple[Cell, ...]
    chi_square: ChiSquare | None
    exact_fits: dict[tuple[str, str], CurveFit]
    sampled_fits: dict[tuple[str, int], SampledFit]
    differences: dict[str, Difference]
    missing: str

    @property
    def study(self) -> BayesStudy:
        return self.run.study.of_kind(BayesStudy)

    @cached_property
    def sampled_cells(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.is_sampled)

    @cached_property
    def adaptive_cells(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.is_adaptive)

    def of_size(self, n_train: int) -> list[Cell]:
        """The cells of one training-set size, by width."""
        return [cell for cell in self.cells if cell.n_train == n_train]


def collect(run: Run, *, partial: bool = False) -> Results:
    """Analyse a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing = completeness.require(run, partial=partial)
    store = _load(run, masked=bool(missing))
    posterior, descent = theory.posterior(store), theory.gradient_descent(store)
    found = sampled.cells(store)
    means = None if found is None else sampled.over_draws(found)
    cells = comparison.compare(posterior, found, theory.adaptive(store))
    return Results(
        run=run,
        store=store,
        theory=posterior,
        descent=descent,
        scans={name: one for name in SCANS if (one := theory.scan(store, name)) is not None},
        chains=found,
        sampled=means,
        coverage=coverage(store, posterior.quantiles),
        cells=cells,
        chi_square=comparison.chi_square(cells),
        exact_fits=exponents.exact(posterior, descent),
        sampled_fits=exponents.sampled(means, posterior, store.sizes["draw"]),
        differences=exponents.differences(posterior, descent),
        missing=missing,
    )


def _load(run: Run, *, masked: bool) -> xarray.Dataset:
    """What PHASES wrote but for values at single test points; `masked`, without shards that are missing."""
    store = xarray.open_zarr(run.store, chunks=None)
    arrays = [
        array
        for phase in PHASES
        if run.plan.of_phase(phase)  # runs are reported that are older than a phase
        for array in run.layout.arrays(phase)
        if "test_point" not in array.dims
    ]
    coordinates = {array.name for array in run.layout.arrays(CREATE)}
    store = store[["y_test", *(array.name for array in arrays), *sorted(coordinates & set(store.coords))]].load()
    return completeness.with_receipts(run, store, arrays) if masked else store

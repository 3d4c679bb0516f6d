"""Samples against theories, cell by cell: finite width at the saddle point, infinite width, and an adaptive kernel."""

import math
from dataclasses import dataclass

import numpy as np
import xarray
from scipy import stats

DECIDED = 2.0
"""Standard errors that samples must be away from the middle between two theories to be closer to one of them."""


@dataclass(frozen=True)
class ComparedCell:
    """One training-set size and width. Losses are means over the draws that have both theory and samples.

    What was not sampled is NaN; then theory is the mean over all draws that are there. `spread` is the standard
    deviation of the sampled loss over draws, NaN for one. Deviations are relative to what theory says. `adaptive`, of a
    kernel that changes its shape, is NaN unless it is there for every one of these draws.
    """

    n_train: int
    width: int
    theory: float
    infinite: float
    mixture: float
    adaptive: float
    adaptive_stderr: float
    sampled: float
    stderr: float
    spread: float
    q_bar: float
    sampled_q_bar: float
    q_bar_stderr: float
    s: float
    r_hat: float
    ess: float
    draws: int

    @property
    def is_sampled(self) -> bool:
        return math.isfinite(self.sampled)

    @property
    def is_adaptive(self) -> bool:
        return math.isfinite(self.adaptive)

    @property
    def deviation(self) -> float:
        return self.sampled / self.theory - 1

    @property
    def infinite_deviation(self) -> float:
        return self.sampled / self.infinite - 1

    @property
    def adaptive_deviation(self) -> float:
        return self.sampled / self.adaptive - 1

    @property
    def pull(self) -> float:
        """(sampled - theory) / standard error of the samples; theory is exact."""
        return (self.sampled - self.theory) / self.stderr if self.stderr > 0 else math.nan

    @property
    def infinite_pull(self) -> float:
        return (self.sampled - self.infinite) / self.stderr if self.stderr > 0 else math.nan

    @property
    def adaptive_pull(self) -> float:
        """(sampled - adaptive) / their standard error; both are Monte Carlo."""
        error = math.hypot(self.stderr, self.adaptive_stderr)
        return (self.sampled - self.adaptive) / error if error > 0 else math.nan

    @property
    def closer(self) -> str:
        """What samples are closer to: saddle point ("finite") or "infinite" width; "" where errors leave it open."""
        middle, side = (self.theory + self.infinite) / 2, self.theory - self.infinite
        if not self.is_sampled or not abs(self.sampled - middle) >= DECIDED * self.stderr:
            return ""
        return "finite" if (self.sampled - middle) * side > 0 else "infinite"


@dataclass(frozen=True)
class ChiSquare:
    """Sum of squared pulls over `cells` sampled cells, and the probability of a larger one were theory exact.

    That of the adaptive kernel is over the `adaptive_cells` that have it; NaN if there are none.
    """

    cells: int
    finite: float
    infinite: float
    adaptive_cells: int
    adaptive: float

    @property
    def p_finite(self) -> float:
        return float(stats.chi2.sf(self.finite, self.cells))

    @property
    def p_infinite(self) -> float:
        return float(stats.chi2.sf(self.infinite, self.cells))

    @property
    def p_adaptive(self) -> float:
        return float(stats.chi2.sf(self.adaptive, self.adaptive_cells)) if self.adaptive_cells else math.nan


def compare(
    theory: xarray.Dataset, sampled: xarray.Dataset | None, adaptive: xarray.Dataset | None
) -> tuple[ComparedCell, ...]:
    """Every (n_train, width) of theory, in that order. `sampled` and `adaptive` are over (width, n_train, draw)."""
    return tuple(
        _cell(theory.sel(n_train=n), int(width), sampled, adaptive)
        for n in theory.n_train.values
        for width in theory.theory_width.values[:-1]
    )


def chi_square(cells: tuple[ComparedCell, ...]) -> ChiSquare | None:
    """Over the cells that were sampled; None if there is none."""
    pulls = np.array([(cell.pull, cell.infinite_pull) for cell in cells if math.isfinite(cell.pull)])
    if not len(pulls):
        return None
    finite, infinite = (pulls**2).sum(axis=0)
    adaptive = [cell.adaptive_pull**2 for cell in cells if math.isfinite(cell.adaptive_pull)]
    return ChiSquare(
        len(pulls), float(finite), float(infinite), len(adaptive), math.fsum(adaptive) if adaptive else math.nan
    )


def _cell(
    theory: xarray.Dataset, width: int, sampled: xarray.Dataset | None, adaptive: xarray.Dataset | None
) -> ComparedCell:
    n = int(theory.n_train)
    finite, infinite = theory.sel(theory_width=float(width)), theory.sel(theory_width=math.inf)
    there = np.isfinite(finite.loss.values) & np.isfinite(infinite.loss.values)
    chains = _at(sampled, width, n)
    if chains is not None:
        both = there & np.isfinite(chains.loss.values)
        chains, there = (chains.isel(draw=both), both) if both.any() else (None, there)

    def mean(values: xarray.DataArray) -> float:
        return float(values.values[there].mean()) if there.any() else math.nan

    loss, q_bar = _measured(chains, "loss"), _measured(chains, "q_bar")
    kernel = _at(adaptive, width, n) if there.any() else None
    adapted = _measured(kernel.isel(draw=there) if kernel is not None else None, "loss")
    return ComparedCell(
        n_train=n,
        width=width,
        theory=mean(finite.loss),
        infinite=mean(infinite.loss),
        mixture=mean(finite.mixture),
        adaptive=adapted[0],
        adaptive_stderr=adapted[1],
        sampled=loss[0],
        stderr=loss[1],
        spread=float(chains.loss.std(ddof=1)) if chains is not None and there.sum() > 1 else math.nan,
        q_bar=mean(finite.q_bar),
        sampled_q_bar=q_bar[0],
        q_bar_stderr=q_bar[1],
        s=mean(finite.s),
        r_hat=float(chains.r_hat.max()) if chains is not None else math.nan,
        ess=float(chains.ess.min()) if chains is not None else math.nan,
        draws=int(there.sum()),
    )


def _at(found: xarray.Dataset | None, width: int, n_train: int) -> xarray.Dataset | None:
    """One cell of what need not be there for each, over (draw)."""
    if found is None or width not in found.width or n_train not in found.n_train:
        return None
    return found.sel(width=width, n_train=n_train)


def _measured(cell: xarray.Dataset | None, name: str) -> tuple[float, float]:
    """Mean over draws and its Monte Carlo error; NaN if a draw lacks it, as means of other draws do not compare."""
    if cell is None:
        return math.nan, math.nan
    errors = cell[f"{name}_stderr"].values
    return float(cell[name].values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))

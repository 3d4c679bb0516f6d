"""Samples against the two theories, cell by cell: finite width at the saddle point, and infinite width."""

import math
from dataclasses import dataclass

import numpy as np
import xarray
from scipy import stats

DECIDED = 2.0
"""Standard errors that samples must be away from the middle between two theories to be closer to one of them."""


@dataclass(frozen=True)
class Cell:
    """One training-set size and width. Losses are means over the draws that have both theory and samples.

    What was not sampled is NaN; then theory is the mean over all draws that are there. `spread` is the standard
    deviation of the sampled loss over draws, NaN for one. Deviations are relative to what theory says.
    """

    n_train: int
    width: int
    theory: float
    infinite: float
    mixture: float
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
    def deviation(self) -> float:
        return self.sampled / self.theory - 1

    @property
    def infinite_deviation(self) -> float:
        return self.sampled / self.infinite - 1

    @property
    def pull(self) -> float:
        """(sampled - theory) / standard error of the samples; theory is exact."""
        return (self.sampled - self.theory) / self.stderr if self.stderr > 0 else math.nan

    @property
    def infinite_pull(self) -> float:
        return (self.sampled - self.infinite) / self.stderr if self.stderr > 0 else math.nan

    @property
    def closer(self) -> str:
        """Which theory the samples are closer to: "finite", "infinite", or "" where their error leaves it open."""
        middle, side = (self.theory + self.infinite) / 2, self.theory - self.infinite
        if not self.is_sampled or not abs(self.sampled - middle) >= DECIDED * self.stderr:
            return ""
        return "finite" if (self.sampled - middle) * side > 0 else "infinite"


@dataclass(frozen=True)
class ChiSquare:
    """Sum of squared pulls over `cells` sampled cells, and the probability of a larger one were theory exact."""

    cells: int
    finite: float
    infinite: float

    @property
    def p_finite(self) -> float:
        return float(stats.chi2.sf(self.finite, self.cells))

    @property
    def p_infinite(self) -> float:
        return float(stats.chi2.sf(self.infinite, self.cells))


def compare(theory: xarray.Dataset, sampled: xarray.Dataset | None) -> tuple[Cell, ...]:
    """Every (n_train, width) of theory, in that order. `sampled` is over (width, n_train, draw)."""
    return tuple(
        _cell(theory.sel(n_train=n), int(width), sampled)
        for n in theory.n_train.values
        for width in theory.theory_width.values[:-1]
    )


def chi_square(cells: tuple[Cell, ...]) -> ChiSquare | None:
    """Over the cells that were sampled; None if there is none."""
    pulls = np.array([(cell.pull, cell.infinite_pull) for cell in cells if math.isfinite(cell.pull)])
    if not len(pulls):
        return None
    finite, infinite = (pulls**2).sum(axis=0)
    return ChiSquare(len(pulls), float(finite), float(infinite))


def _cell(theory: xarray.Dataset, width: int, sampled: xarray.Dataset | None) -> Cell:
    n = int(theory.n_train)
    finite, infinite = theory.sel(theory_width=float(width)), theory.sel(theory_width=math.inf)
    there = np.isfinite(finite.loss.values) & np.isfinite(infinite.loss.values)
    chains = None
    if sampled is not None and width in sampled.width and n in sampled.n_train:
        chains = sampled.sel(width=width, n_train=n)
        both = there & np.isfinite(chains.loss.values)
        chains, there = (chains.isel(draw=both), both) if both.any() else (None, there)

    def mean(values: xarray.DataArray) -> float:
        return float(values.values[there].mean()) if there.any() else math.nan

    def measured(name: str) -> tuple[float, float]:
        """Mean over draws and its Monte Carlo error."""
        if chains is None:
            return math.nan, math.nan
        errors = chains[f"{name}_stderr"].values
        return float(chains[name].mean()), float(np.sqrt((errors**2).sum()) / len(errors))

    loss, q_bar = measured("loss"), measured("q_bar")
    return Cell(
        n_train=n,
        width=width,
        theory=mean(finite.loss),
        infinite=mean(infinite.loss),
        mixture=mean(finite.mixture),
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

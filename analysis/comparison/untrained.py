"""What of mu_L is the untrained function: the share of the variance, and what centring removes.

    mu_L = bias^2 + variance,   share = variance/mu_L ;   removed = 1 - mu_L(centred)/mu_L(not centred)

At infinite width the variance is what networks say before training and training does not remove. At finite width random
kernels are a part of it, which centring leaves: what centring removes is told by the pair alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import laws, paired, varied
from analysis.comparison.results import ComparisonResults, Variant
from analysis.contrasts import ErrorSource, Estimate, number
from analysis.ensemble.results import EnsembleResults
from analysis.scaling import plain
from ntkhpc.studies.ensemble import exact as exact_laws

TILES = "tiles"


@dataclass(frozen=True)
class Share:
    """Of one variant, width and size; `exact` is that of the law beside it, NaN where there is none."""

    variant: str
    width: int
    n_train: int
    share: Estimate | None
    exact: float


@dataclass(frozen=True)
class Removed:
    """Of one pair, width and size: by which part of mu_L centred networks are better."""

    uncentred: str
    centred: str
    width: int
    n_train: int
    removed: Estimate
    interval_95: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        low, high = map(plain, self.interval_95)
        return {"uncentred": self.uncentred, "centred": self.centred, "width": self.width, "n_train": self.n_train,
                "removed": plain(self.removed.value), "stderr": plain(self.removed.stderr), "low_95": low,
                "high_95": high}  # fmt: skip


def differs(results: ComparisonResults) -> bool:
    """Whether variants differ in the scale of their outputs or in centring."""
    return any(
        varied.scale(one, width) != varied.scale(results.reference, width)
        for one in results.others
        for width in results.widths
    )


def shares(results: ComparisonResults) -> list[Share]:
    """Of every variant, width and size; none where outputs are of one scale."""
    if not differs(results):
        return []
    found = []
    for one in results.variants:
        for width in results.widths:
            is_one = len(exact_laws.orders(one.results.study)) == 1  # the spread of orders of mini-batches is no f
            law = laws.beside(one.results, width) if is_one else None
            exact = (law.variance / law.mu_L).values if law is not None else np.full(len(results.sizes), np.nan)
            found += [
                Share(one.name, width, int(n), share(one.results, width, i), float(exact[i]))
                for i, n in enumerate(results.sizes)
            ]
    return found


def share(results: EnsembleResults, width: int, i: int) -> Estimate | None:
    """variance/(bias2 + variance) with its error by the jackknife over tiles; None where it has none.

    d share = share (1 - share) (d log variance - d log bias2).
    """
    cell = results.mean.sel(width=width).isel(n_train=i)
    bias2, variance = float(cell.bias2), float(cell.variance)
    moved = cell.variance_deviates.values - np.sign(bias2) * cell.bias2_deviates.values
    if not (np.isfinite(moved).all() and moved.any() and variance > 0 and bias2 + variance > 0):
        return None
    value = variance / (bias2 + variance)
    odds = number(1.0, [ErrorSource(TILES, moved[None])])  # log of the odds, less its value
    return Estimate(value, odds.scaled(value * (1 - value)).parts, odds.dof, odds.skewness)


def removed(results: ComparisonResults) -> list[Removed]:
    """Of every pair of variants that are alike but for the centring, paired by member."""
    found = []
    for one, other in varied.centred_pairs(results.variants):
        for width in results.widths:
            for i, n in enumerate(results.sizes):
                if (change := paired.log_ratio(other.results, one.results, "mu_L", width, i)) is not None:
                    found.append(_removed(one, other, width, int(n), change))
    return found


def _removed(one: Variant, other: Variant, width: int, n_train: int, change: Estimate) -> Removed:
    low, high = change.interval(0.95)
    part = change.of_ratio().scaled(-1)
    return Removed(one.name, other.name, width, n_train, part, (-float(np.expm1(high)), -float(np.expm1(low))))


def shares_frame(found: list[Share]) -> pd.DataFrame:
    """untrained.csv: one row a variant, width and size."""
    return pd.DataFrame(
        [
            {
                "variant": one.variant, "width": one.width, "n_train": one.n_train,
                "variance_share": one.share.value if one.share else np.nan,
                "stderr": one.share.stderr if one.share else np.nan, "exact_share": one.exact,
            }
            for one in found
        ]
    )  # fmt: skip

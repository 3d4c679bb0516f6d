"""What single members, or single test points, contribute to the variance of the test loss over initialisations."""

import numpy as np
import pandas as pd
import xarray

from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.recheck import SHARE, shares
from ntkhpc.studies.ensemble.train import OK

SAMPLES = 9999
"""Samples by which a chance is found, unless they hold more than _MOST numbers."""

_AT_ONCE, _MOST = 2_000_000, 100_000_000
_SYMMETRIC = 1e-3

COLUMNS = (*CELL, "member", "share", "loss_ratio", "eps_L", "eps_L_without", "skewness", "chance")


def dominant(store: xarray.Dataset, skewness: xarray.DataArray | None = None) -> pd.DataFrame:
    """One row for each member that carries more than a tenth of sigma_L^2 of its cell, the largest shares first.

    width, n_train, draw, member; share; loss_ratio, its L over mu_L; eps_L and eps_L_without it; skewness, that of the
    law; chance, the probability that some member of a sample of the law has as large a share. The law is a gamma
    distribution of the given `skewness` over (draw, n_train), and over width where each has its own. Without one, or
    where it is NaN, the law is normal and the column is NaN: losses are skewed to the right, which makes large shares
    more likely, so that the chance is then a lower bound.
    """
    losses = store.test_loss.where(store.status == OK).transpose(*CELL, "member").values
    over = np.nan_to_num(shares(losses)) > SHARE
    rows = []
    for cell in map(tuple, np.argwhere(over.any(axis=-1))):
        loss, share = losses[cell], shares(losses[cell])
        names = {dim: int(store[dim].values[at]) for dim, at in zip(CELL, cell, strict=True)}
        skew = float("nan") if skewness is None else _at(skewness, names)
        chances = largest_shares(int(np.isfinite(loss).sum()), skew if np.isfinite(skew) else 0.0)
        rows += [
            {
                **names,
                "member": int(store.member.values[member]),
                "share": share[member],
                "loss_ratio": loss[member] / np.nanmean(loss),
                "eps_L": eps_without(loss, np.zeros(len(loss), bool)),
                "eps_L_without": eps_without(loss, np.arange(len(loss)) == member),
                "skewness": skew,
                "chance": (1 + np.count_nonzero(chances >= share[member])) / (1 + len(chances)),
            }
            for member in np.flatnonzero(over[cell])
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("share", ascending=False, ignore_index=True)


def _at(skewness: xarray.DataArray, cell: dict[str, int]) -> float:
    return float(skewness.sel({dim: place for dim, place in cell.items() if dim in skewness.dims}))


def largest_shares(members: int, skewness: float = 0.0) -> np.ndarray:
    """The largest share of (x - mean)^2 in each of many samples of `members` numbers, normal or gamma distributed.

    A share depends neither on the mean nor on the width of the distribution. Of many members fewer samples are drawn.
    """
    rng, found = np.random.default_rng(0), []
    left = min(SAMPLES, max(999, _MOST // members))
    while left > 0:
        size = (min(left, max(1, _AT_ONCE // members)), members)
        if abs(skewness) < _SYMMETRIC:
            sample = rng.standard_normal(size)
        else:
            sample = rng.standard_gamma(4 / skewness**2, size)
        found.append(shares(sample).max(axis=-1))
        left -= size[0]
    return np.concatenate(found)


def point_shares(covariance: np.ndarray) -> np.ndarray:
    """Each test point's share of Var L, from the covariance (..., test_point) of its loss l_a with L over members.

    L is the mean of l_a over the test points, so Var L is the mean of Cov(l_a, L), and the shares sum to 1. A point
    whose loss falls where L rises has a negative one. The normalisation of the covariance does not matter.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / covariance.sum(axis=-1, keepdims=True)


def eps_without(loss: np.ndarray, left_out: np.ndarray) -> float:
    """eps_L of the members of one cell, loss (members,), without those that are `left_out` (members,) or NaN."""
    kept = loss[np.isfinite(loss) & ~left_out]
    return float(kept.std(ddof=1) / kept.mean()) if len(kept) > 1 else float("nan")

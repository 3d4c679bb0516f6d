"""Every curve that the report of an ensemble speaks of, with the sources of its errors.

Of trained networks: the members of the ensemble, the draw of the training set and the test points. Of the exact law:
draw and test points; where it was iterated, draw and iteration. What another draw would change is learned from the
exact laws of further draws, and taken to be the same relative change at finite width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray

from analysis import test_points, two_level
from analysis.contrasts import Curve, ErrorSource
from analysis.fits import NOISE
from analysis.two_level import LEAPT, Quantity

MEMBERS, DRAW, POINTS, ITERATION = "members", "draw", "test points", "iteration"

SOURCES = {
    DRAW: "the draw of the training set", POINTS: "the choice of the test points",
    ITERATION: "the iteration (random probes and residuals)",
}  # fmt: skip
"""The sources of exact curves, in the words of a sentence."""

FITTED = ("mu_L", "sigma_L", "eps_L", "eps_pop")

CONTAINED = {
    name: (MEMBERS, LEAPT, DRAW, ITERATION, *((POINTS,) if name == "eps_pop" else ())) for name in FITTED
}  # fmt: skip
"""Sources that the errors of exponents contain. mu_L, sigma_L and eps_L are those of these test points; eps_pop speaks
of an endless test set, of which these points are a sample."""

REQUIRED = {name: {DRAW, *CONTAINED[name]} - {MEMBERS, LEAPT, ITERATION} for name in FITTED}
"""Sources without which nothing is tested of an exact curve: it could not be told what another one would be."""

LARGEST_SHARE_OF_POOL = 0.9
"""Draws of more of the pool than this are nearly the same draw, and say nothing of another one."""


def trained(cell: xarray.Dataset, name: str, others: tuple[ErrorSource, ...]) -> Curve | None:
    """Of one width, from `aggregate.over_draws`; None with fewer than 3 usable sizes, or values that could be zero.

    Leaving out sizes whose value could be zero would bias what is left. `others` are sources over all sizes.
    """
    value, stderr, deviates = (cell[f"{name}{part}"].values for part in ("", "_stderr", "_deviates"))
    there = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
    if there.sum() < 3 or (value[there] < NOISE * stderr[there]).any() or not np.isfinite(deviates[there]).all():
        return None
    n = cell.n_train.values.astype(float)
    kept = (replace(one, deviates=one.deviates[there]) for one in others)
    sources = (ErrorSource(MEMBERS, deviates[there]), *kept)
    return Curve(n[there], value[there], sources)


def leapt(n: np.ndarray, found: Sequence[Quantity | None], others: tuple[ErrorSource, ...]) -> Curve | None:
    """Of one width and quantity, two-level estimates at sizes n (k,), None where leaps are refused or add nothing.

    Without those sizes; None with fewer than 3 others, or values that could be zero. `others` are as of `trained`.
    """
    there = [i for i, one in enumerate(found) if one is not None]
    kept = [one for one in found if one is not None]
    if len(kept) < 3 or not all(one.is_known for one in kept):
        return None
    deviates = np.stack([one.deviates for one in kept])
    if (np.sqrt((deviates**2).sum(axis=1)) > 1 / NOISE).any():
        return None
    own = two_level.sources(deviates, kept[0].paired)
    elsewhere = (replace(one, deviates=one.deviates[there]) for one in others)
    return Curve(n[there].astype(float), np.array([one.value for one in kept]), (*own, *elsewhere))


@dataclass(frozen=True)
class Drawn:
    """How draws are made: of a pool of how many samples, and how many draws at a time share none of them."""

    pool: int
    apart: int = 1

    def overlapping(self, draws: int) -> float:
        """The share of pairs of draws that may share samples: those of different times."""
        whole, rest = divmod(draws, self.apart)
        alone = whole * self.apart * (self.apart - 1) + rest * (rest - 1)
        return 1 - alone / (draws * (draws - 1)) if draws > 1 else 1.0


def exact(values: xarray.DataArray, drawn: Drawn, others: tuple[ErrorSource, ...] = ()) -> Curve | None:
    """The mean over draws of exact values (draw, n_train); None with fewer than 3 sizes, or a value not positive.

    With one draw its error is that of `others` alone.
    """
    table, n = values.transpose("draw", "n_train").values, values.n_train.values.astype(float)
    if len(n) < 3 or not np.isfinite(table).all() or (table <= 0).any():
        return None
    draw = draws(values, drawn)
    mine = () if draw is None else (replace(averaged(draw, n, drawn, len(table)), others=0.0),)
    return Curve(n, np.exp(np.log(table).mean(axis=0)), mine + others)


def draws(values: xarray.DataArray, drawn: Drawn) -> ErrorSource | None:
    """What a draw of fresh data does, from exact values (draw, n_train) of draws of one pool.

    Draws with a value that is not there are left out. None where it cannot be told: fewer than 2 draws, a value that is
    not positive, or draws that take nearly the whole pool.
    """
    table, n = values.transpose("draw", "n_train").values, values.n_train.values
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < 2 or (table <= 0).any() or n[-1] > LARGEST_SHARE_OF_POOL * drawn.pool:
        return None
    logarithms = np.log(table)
    deviates = (logarithms - logarithms.mean(axis=0)).T / np.sqrt(len(table) - 1)
    alike = drawn.overlapping(len(table)) * n / drawn.pool
    return ErrorSource(DRAW, deviates / np.sqrt(1 - alike)[:, None], len(table) - 1.0, others=len(table))


def averaged(draw: ErrorSource, n: np.ndarray, drawn: Drawn, count: int) -> ErrorSource:
    """What fresh data do to the mean over `count` draws of n samples (k,), from what they do to one.

    To first order a draw adds the mean of its samples' contributions, of variance S^2/n. Draws that share no sample are
    independent; two that are made of a pool of P at random have the covariance S^2/P, n/P of the variance of one. That
    part is taken to be as little alike at different sizes as draws are: exponents err on the side of caution.
    """
    variance = (1 + (count - 1) * drawn.overlapping(count) * n / drawn.pool) / count
    return replace(draw, deviates=draw.deviates * np.sqrt(variance)[:, None], others=draw.others / count)


def iteration(values: xarray.DataArray, errors: xarray.DataArray, probes: xarray.DataArray) -> ErrorSource | None:
    """What other probes would do to the mean over draws of iterated values (draw, n_train), and what residuals may.

    `errors` (draw, n_train, error_part) are by probes and by residuals. Probes of two draws are independent; residuals
    may move all draws one way. Degrees of freedom are those of the `probes` (draw, n_train) of one draw, and infinite
    where every test point was solved for. Sizes of a draw share their probes, which makes their errors alike: taken to
    be independent, they make exponents err on the side of caution. So do numbers with the error of the draws, whose
    spread holds the iteration's already.

    None where an error or a value is not there.
    """
    table = values.transpose("draw", "n_train").values[..., None]
    found = errors.transpose("draw", "n_train", "error_part").values
    if not np.isfinite(found).all() or not (np.isfinite(table).all() and (table > 0).all()):
        return None
    relative, draws = found / table, len(table)
    by_probes, by_residuals = np.sqrt((relative[..., 0] ** 2).sum(axis=0)) / draws, relative[..., 1].mean(axis=0)
    used = probes.values[probes.values > 0]
    dof = float(used.min() - 1) if used.size and by_probes.any() else np.inf
    one_way = np.hstack([np.diag(by_probes), np.diag(by_residuals)]) / np.sqrt(2)
    return ErrorSource(ITERATION, np.hstack([one_way, -one_way]), dof)  # both ways alike: without skewness


def points(name: str, mean: np.ndarray, covariance: np.ndarray, variance: np.ndarray) -> ErrorSource | None:
    """What another test set does, from moments of the loss at single test points (n_train, test_point).

    None with too few points, or where eps_pop could be zero.
    """
    influence = test_points.influences(mean, covariance, variance)[name].values
    count = influence.shape[-1]
    return ErrorSource(POINTS, influence / np.sqrt(count * (count - 1.0))) if np.isfinite(influence).all() else None


def interpolated(values: xarray.DataArray, sizes: np.ndarray) -> xarray.DataArray | None:
    """Exact values (draw, n_train) at other sizes, linear between the logarithms; None where they lie outside."""
    n = values.n_train.values.astype(float)
    table = values.transpose("draw", "n_train").values
    if sizes[0] < n[0] or sizes[-1] > n[-1] or not np.isfinite(table).all() or (table <= 0).any():
        return None
    rows = [np.exp(np.interp(np.log(sizes), np.log(n), np.log(row))) for row in table]
    return xarray.DataArray(rows, dims=("draw", "n_train"), coords={"n_train": sizes})

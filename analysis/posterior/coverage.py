"""How many sampled networks have a loss inside the credible intervals of theory?"""

import math

import numpy as np
import xarray

from analysis.posterior.sampled import per_cell
from ntkhpc import convergence
from ntkhpc.studies.dims import CELL

LEVELS = (0.5, 0.68, 0.9, 0.95)
LAWS = ("finite width", "infinite width")


def coverage(store: xarray.Dataset, quantiles: xarray.DataArray) -> xarray.Dataset | None:
    """Share of sampled networks inside central credible intervals, over (law, level, width, n_train, draw).

    `quantiles` (draw, n_train, theory_width, quantile) are those of theory. `stderr` counts effective samples.
    """
    if "sample_loss" not in store:
        return None
    losses = per_cell(store.sample_loss, "chain", "sample")
    shape = (len(LAWS), len(LEVELS), *losses.shape[:3])
    share, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    for cell in np.ndindex(*losses.shape[:3]):
        one = losses[cell]
        values = one.values[np.isfinite(one.values).all(axis=-1)]
        for i, width in enumerate((float(one.width), math.inf)):
            law = quantiles.sel(draw=one.draw, n_train=one.n_train, theory_width=width)
            for j, level in enumerate(LEVELS):
                ends = np.interp([(1 - level) / 2, (1 + level) / 2], law["quantile"].values, law.values)
                share[(i, j, *cell)], stderr[(i, j, *cell)] = inside(values, ends[0], ends[1])
    dims = ("law", "level", *CELL)
    coords = {"law": list(LAWS), "level": list(LEVELS), **{dim: losses[dim].values for dim in CELL}}
    return xarray.Dataset({"share": (dims, share), "stderr": (dims, stderr)}, coords=coords)


def inside(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Share of the values (chains, samples) in [low, high], and its standard error.

    With n effective samples of which k are inside, the error is that of (k+1)/(n+2): none or all inside is no
    certainty.
    """
    if not values.size or not np.isfinite([low, high]).all():
        return math.nan, math.nan
    hits = ((values >= low) & (values <= high)).astype(float)
    share = float(hits.mean())
    n = convergence.ess(hits)
    if not math.isfinite(n):  # the indicator never changes: it is as correlated as the losses themselves, at worst
        n = convergence.ess(values)
    p = (share * n + 1) / (n + 2)
    return share, math.sqrt(p * (1 - p) / (n + 2))

"""Phase `finalise`: bias^2 and variance of each cell from the moments of its tiles.

Tiles are merged in their order, whatever shards they came in: the result does not depend on the shard layout.
"""

import numpy as np

from ntkhpc.engine import store
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.studies import schema
from ntkhpc.studies.ensemble.study import Study


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    study = run.study.of_kind(Study)
    arrays = {array.name: np.empty(array.shape(study), array.dtype) for array in schema.arrays(study, "finalise")}
    status, mean, m2 = (store.open_array(run.store, name) for name in ("status", "prediction_mean", "prediction_m2"))
    y_test = store.load(run.store, "y_test")["y_test"]
    for cell in np.ndindex(arrays["members_used"].shape):
        counts = tile_counts(np.asarray(status[cell]), study.ensemble.tile)
        moments = merge(counts, np.asarray(mean[cell]), np.asarray(m2[cell]))
        arrays["members_used"][cell] = moments[0]
        arrays["bias2"][cell], arrays["variance"][cell] = bias_and_variance(*moments, y_test)
    return arrays, 0


def tile_counts(status: np.ndarray, tile: int) -> np.ndarray:
    """Trained members in each tile, from the status (members,) of a cell."""
    starts = range(0, len(status), tile)
    return np.array([np.count_nonzero(status[start : start + tile] == schema.OK) for start in starts])


def merge(counts: np.ndarray, means: np.ndarray, m2s: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and sum of squared deviations of the union [Chan, Golub, LeVeque 1979]; the first axis is tiles."""
    total, mean, m2 = 0, np.zeros(means.shape[1:]), np.zeros(means.shape[1:])
    for count, other_mean, other_m2 in zip(counts.tolist(), means, m2s, strict=True):
        if count:
            delta = other_mean - mean
            m2 = m2 + other_m2 + delta**2 * (total * count / (total + count))
            mean = mean + delta * (count / (total + count))
            total += count
    return total, mean, m2


def bias_and_variance(count: int, mean: np.ndarray, m2: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased bias^2 and variance at each test point, in the loss's normalisation; NaN with fewer than two members.

    mean, m2, y are (n_test, outputs). (mean - y)^2 overestimates bias^2 by variance / count, which is taken off: so
    bias^2 + variance is exactly the mean loss, and single values of bias^2 may be negative.
    """
    if count < 2:
        return np.full(len(y), np.nan), np.full(len(y), np.nan)
    variance = m2 / (count - 1)
    bias2 = (mean - y) ** 2 - variance / count
    return bias2.mean(axis=1) / 2, variance.mean(axis=1) / 2

"""Phase `finalise`: bias^2 and variance of each cell from the moments of its tiles.

Tiles are merged in their order, whatever shards they came in: the result does not depend on the shard layout.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import memory
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble import train
from ntkhpc.studies.ensemble.train import OK

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

ARRAYS = (
    Array("bias2", (*CELL, "test_point"), "f8", "1", "sum over outputs of (mean f - y)^2 / (2 outputs)"),
    Array("variance", (*CELL, "test_point"), "f8", "1", "sum over outputs of the unbiased variance of f / (2 outputs)"),
    Array("members_used", CELL, "i4", "1", "members that did not diverge"),
)

_MOMENTS = ("status", "prediction_mean", "prediction_m2")


def compute(work: "Work[EnsembleStudy]") -> Values:
    study = work.study
    shape = (len(study.network.widths), len(study.ensemble.n_train), study.ensemble.draws)
    bias2, variance = np.empty((*shape, study.data.test)), np.empty((*shape, study.data.test))
    used = np.empty(shape, np.int32)
    status, mean, m2 = map(work.inputs.open, _MOMENTS)
    y_test = work.inputs["y_test"]
    for cell in np.ndindex(shape):
        counts = tile_counts(np.asarray(status[cell]), study.ensemble.tile)
        moments = merge(counts, np.asarray(mean[cell]), np.asarray(m2[cell]))
        used[cell] = moments[0]
        bias2[cell], variance[cell] = bias_and_variance(*moments, y_test)
    return {"bias2": bias2, "variance": variance, "members_used": used}


def tile_counts(status: np.ndarray, tile: int) -> np.ndarray:
    """Trained members in each tile, from the status (members,) of a cell."""
    starts = range(0, len(status), tile)
    return np.array([np.count_nonzero(status[start : start + tile] == OK) for start in starts])


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


def seconds(study: "EnsembleStudy", block: Block) -> float:
    ensemble = study.ensemble
    cells = len(study.network.widths) * len(ensemble.n_train) * ensemble.draws
    shards = cells * math.ceil(study.trained_members / ensemble.shard_members)
    return 1.0 + shards * train.chunk_bytes(study, *_MOMENTS) / 200e6


def memory_bytes(study: "EnsembleStudy") -> int:
    """Of one cell the moments of its tiles; of all cells what is written, twice as it is read back and compared."""
    ensemble, points = study.ensemble, study.data.test
    cells = len(study.network.widths) * len(ensemble.n_train) * ensemble.draws
    tiles = math.ceil(study.trained_members / ensemble.tile)
    return memory.WORKER + memory.of_numbers(2 * tiles * points * study.outputs + 3 * cells * points)


PHASE = Phase(
    "finalise",
    reads=(*_MOMENTS, "y_test"),
    writes=ARRAYS,
    chunked=CELL,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    lower="ensemble.shard_members or data.test",
)

"""Phase `data`: the split and the draws of the training set, once for every shard to read."""

import numpy as np

from ntkhpc import seeds
from ntkhpc.errors import DataError
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import memory
from ntkhpc.studies.base import Study
from ntkhpc.studies.dims import SPLIT

OPENED = 12 * memory.MIB
"""Held besides by a worker that has made and written a split, however small."""

TIMES_POOL, TIMES_TEST = 4.4, 2.2
"""How many times rows of the pool, and of the test set, are there at the peak: measured 4.1 to 4.8, and 2.1."""


def compute(work: Work[Study]) -> Values:
    study = work.study
    split = study.data.load(study.known)
    if (columns := (split.x_train.shape[1], split.y_train.shape[1])) != (study.features, study.outputs):
        raise DataError(
            f"the data have {columns[0]} features and {columns[1]} outputs, "
            f"the plan was made for {study.features} and {study.outputs}"
        )
    return {**vars(split), "permutation": permutations(study)}


def permutations(study: Study) -> np.ndarray:
    """(order, pool): draw d is one seeded permutation, and n_train its first n entries, so that sizes are nested.

    Where the rows are taken in file order, the first draw is the pool as it is.
    """
    streams = [seeds.generator(study.data.seed, seeds.PERMUTATION, draw) for draw in range(study.orders)]
    orders = np.array([stream.permutation(study.data.pool) for stream in streams], np.int64)
    if study.data.keeps_file_order:
        orders[0] = np.arange(study.data.pool)
    return orders


def seconds(study: Study, block: Block) -> float:
    return 4.0 + study.data.making_seconds(study.known)


def loading_bytes(study: Study) -> int:
    """What the source takes before the split; or, later, the rows several times: chosen, scaled and written."""
    packages, making = study.data.packages_bytes(study.known), study.data.making_bytes(study.known)
    test = memory.of_numbers(study.data.test * (study.features + study.outputs))
    rows = TIMES_POOL * (memory.rows(study) - test) + TIMES_TEST * test
    return packages + OPENED + max(making, int(rows))


def memory_bytes(study: Study) -> int:
    return memory.WORKER + loading_bytes(study)


PHASE = Phase(
    "data",
    reads=(),
    writes=SPLIT,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    lower="data.pool or data.test",
)

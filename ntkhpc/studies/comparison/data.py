"""Phase `data` of a comparison: one split for all variants, and the learning rates of each."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.phase.block import Block
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import data
from ntkhpc.studies.comparison import lifted
from ntkhpc.studies.dims import SPLIT
from ntkhpc.studies.ensemble import data as of_ensemble

if TYPE_CHECKING:
    from ntkhpc.studies.comparison.study import ComparisonStudy

SHARED = frozenset(array.name for array in SPLIT)
"""Arrays that are the same for all variants."""


def compute(work: "Work[ComparisonStudy]") -> Values:
    values = data.compute(work)
    found = [of_ensemble.learning_rates(one, values["x_train"], values["permutation"]) for one in work.study.ensembles]
    lambda_max, learning_rate = (np.stack(each) for each in zip(*found, strict=True))
    return {**values, "lambda_max": lambda_max, "learning_rate": learning_rate}


def seconds(study: "ComparisonStudy", block: Block) -> float:
    rates = sum(of_ensemble.seconds(one, block) for one in study.ensembles)
    return rates - (len(study.ensembles) - 1) * data.seconds(study, block)


def memory_bytes(study: "ComparisonStudy") -> int:
    return max(map(of_ensemble.memory_bytes, study.ensembles))


PHASE = replace(
    of_ensemble.PHASE,
    writes=(*data.PHASE.writes, *map(lifted.array, of_ensemble.ARRAYS)),
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
)

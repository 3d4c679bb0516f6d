"""How fast this core, or this GPU, trains the networks of a study, against the projection."""

import time
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.studies import cost
from ntkhpc.studies.ensemble import train, training_cost

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

SECONDS = 1.0
"""Projected time of what is timed."""


def speed(study: "EnsembleStudy") -> float:
    """Projected over measured time of one tile of the largest width and n_train."""
    from ntkhpc import training

    width, n, features = study.network.widths[-1], study.ensemble.n_train[-1], study.features
    per_step = training_cost.step_flops(study, width, n) / cost.FLOPS_PER_SECOND
    per_step += training_cost.step_seconds(study, width)
    tile = study.ensemble.tile
    steps = max(1, int(SECONDS / (per_step * tile)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, features)), rng.normal(size=(n, study.outputs))
    program = train.program(study, width, (0, steps))
    taken = []
    for _ in range(3):  # the first one compiles
        started = time.perf_counter()
        training.train_tile(program, x, y, x[:8], y[:8], learning_rate=1e-9, seed=0, members=range(tile))
        taken.append(time.perf_counter() - started)
    return per_step * training_cost.slowness(study.training.precision) * steps * tile / min(taken[1:])

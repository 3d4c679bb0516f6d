"""How fast this core factorises in float64, against the projection."""

import time
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.studies import cost

if TYPE_CHECKING:
    from ntkhpc.studies.posterior.study import PosteriorStudy

SIZE = 800


def speed(study: "PosteriorStudy") -> float:
    """Projected over measured time of one eigendecomposition, what a posterior's theory costs most."""
    from ntkhpc import linalg

    matrix = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    symmetric = matrix @ matrix.T
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        linalg.eigh(symmetric)
        taken.append(time.perf_counter() - started)
    return 30 * SIZE**3 / cost.FLOPS_FLOAT64 / min(taken)

"""Sizes of leaps and of linearised twins on which their numbers depend as well as their cost.

Plans are made of them too, so there is no JAX here.
"""

import math

from ntkhpc.optimisers import Algorithm

VECTORS = 32
"""Of the Krylov space of a leap, at most."""

MOST_ROWS = 4096
"""Training points times outputs, N, up to which T is made as a matrix: 64 MiB in single precision."""


def twin_vectors(algorithm: Algorithm, steps: int, rows: int) -> int:
    """Of the Krylov space of a twin: (1 - x)^t is a polynomial in x of degree sqrt(2 t log(2/e)) but for e, here 1e-5,
    at any x in [0, 1]; momentum makes steps 1/(1 - beta) times as long. As many as N, `rows`, are exact."""
    return min(rows, math.ceil(5 * math.sqrt(steps / (1 - algorithm.momentum))) + 1)

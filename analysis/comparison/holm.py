"""Probabilities of several tests together [Holm 1979, Scandinavian Journal of Statistics 6, 65]."""

import math
from collections.abc import Sequence


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's probabilities, in the same order: at most `level` of families of true hypotheses have one below `level`.

    The smallest is multiplied by the number of tests, the next by one less, and so on, each no less than the one before
    and no more than 1. Tests that could not be made (NaN) stay NaN and do not count.
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    found, least = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(made):
        least = max(least, min(1.0, (len(made) - rank) * p))
        found[i] = least
    return found

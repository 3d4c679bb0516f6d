"""Two ensembles on the same data and seeds, compared member by member.

With A and B the values of two variants, log(A/B) at each size is a curve whose deviates are those of A less those of B:
what member i, or draw d, does to both. So its variance is the jackknife's of the two together, with a member left out
of both at once, and what members have in common drops out.
"""

import numpy as np

from analysis.contrasts import Curve, ErrorSource, Estimate, number
from analysis.ensemble.curves import CONTAINED, MEMBERS, POINTS
from analysis.ensemble.results import EnsembleResults


def ratio(one: Curve, other: Curve, *names: str) -> Curve | None:
    """value/other value at the sizes (k,) that both have, with the sources `names` that both know.

    None with fewer than 2 such sizes. A source counts as the same where it has as many members or draws in both.
    """
    shared, mine, theirs = np.intersect1d(one.n, other.n, return_indices=True)
    if len(shared) < 2:
        return None
    found = []
    for name in names:
        pair = [next((source for source in curve.sources if source.name == name), None) for curve in (one, other)]
        if pair[0] is None or pair[1] is None:
            continue
        if (less := _less(pair[0], pair[1], mine, theirs)) is not None:
            found.append(less)
    return Curve(shared, one.value[mine] / other.value[theirs], tuple(found))


def _less(one: ErrorSource, other: ErrorSource, mine: np.ndarray, theirs: np.ndarray) -> ErrorSource | None:
    """One source of both; None where they are not of the same members or draws."""
    if one.deviates.shape[1] != other.deviates.shape[1]:
        return None
    dof = one.dof if np.isnan(other.dof) else other.dof if np.isnan(one.dof) else min(one.dof, other.dof)
    return ErrorSource(one.name, one.deviates[mine] - other.deviates[theirs], dof, max(one.others, other.others))


def exponents(one: EnsembleResults, other: EnsembleResults, name: str, width: int) -> Estimate | None:
    """The exponent of `name` less that of the other ensemble, with the errors of the members, of the draw of the
    training set where both know it, and for eps_pop of the test points. None where one of the two has no exponent."""
    curves = [results.curves.get((name, width)) for results in (one, other)]
    if curves[0] is None or curves[1] is None or (found := ratio(curves[0], curves[1], *CONTAINED[name])) is None:
        return None
    needed = {MEMBERS, *({POINTS} & set(CONTAINED[name]))}
    return found.slope() if needed <= {source.name for source in found.sources} else None


def log_ratio(one: EnsembleResults, other: EnsembleResults, name: str, width: int, i: int) -> Estimate | None:
    """log(value/other value) at the size of index i, averaged over draws, with the error of the members.

    For these training sets. None where a value is not there or not positive.
    """
    cells = [results.mean.sel(width=width).isel(n_train=i) for results in (one, other)]
    values = [float(cell[name]) for cell in cells]
    deviates = [cell[f"{name}_deviates"].values for cell in cells]
    usable = all(np.isfinite(value) and value > 0 for value in values) and all(np.isfinite(d).all() for d in deviates)
    if not usable or deviates[0].shape != deviates[1].shape:
        return None
    return number(values[0] / values[1], [ErrorSource(MEMBERS, (deviates[0] - deviates[1])[None])])

"""Single test points that carry much of sigma_L^2."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.dominance import point_shares
from analysis.ensemble.results import EnsembleResults
from analysis.report.section import Section
from ntkhpc.studies.ensemble.recheck import SHARE


def heavy(results: EnsembleResults) -> Iterator[tuple[int, int, int, float]]:
    """(width, n_train, test point, its share of sigma_L^2) of every share above SHARE, the largest of a cell first."""
    for width in results.mean.width.values:
        covariance = results.mean.point_covariance.sel(width=width).transpose("n_train", "test_point").values
        for n, shares in zip(results.sizes, point_shares(covariance), strict=True):
            for point in np.argsort(-shares, kind="stable"):
                if not shares[point] > SHARE:  # NaN where the cell is not there
                    break
                yield int(width), int(n), int(point), float(shares[point])


def cautions(results: EnsembleResults) -> list[str]:
    """One sentence, of the largest share; few test points carry much of it by themselves, which the sentence says."""
    found = list(heavy(results))
    if not found:
        return []
    width, n, point, share = max(found, key=lambda one: one[3])
    points = len({one[2] for one in found})
    more = f"{points - 1} more point{' carries' if points == 2 else 's carry'} more than a tenth somewhere"
    others = f" ({more})" if points > 1 else ""
    count = results.store.sizes["test_point"]
    return [
        f"test point {point} carries {100 * share:.0f} % of sigma_L^2 of width {width:,} at N_D = {n:,}{others}: look "
        f"at it; were all {count:,} alike, each would carry {100 / count:.2g} %"
    ]


def fits(results: EnsembleResults) -> dict[str, Any]:
    names = ("width", "n_train", "test_point", "share")
    return {"dominant_test_points": [dict(zip(names, one, strict=True)) for one in heavy(results)]}


SECTION: Section[EnsembleResults] = Section(needs=("test_point_loss",), cautions=cautions, fits=fits)

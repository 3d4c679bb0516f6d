"""Errors for the choice of the test points: whether intervals from one test set cover what a much larger one shows."""

from dataclasses import replace

import numpy as np

from analysis.calibration.checks import Tally
from analysis.calibration.truth import LawMoments
from analysis.calibration.world import World
from analysis.contrasts import Curve
from analysis.ensemble import curves

NAMES = ("mu_L", "eps_pop")
"""What a test set tells of an endless one: eps_L depends on how many test points there are."""


def check_points(world: World, rows: np.ndarray, sets: np.ndarray) -> Tally:
    """Of one draw, each of the disjoint test sets (sets, points) against all of them together.

    Of `sets` samples of a finite population, one is nearer to their mean than to that of an endless population: its
    error is multiplied by sqrt(1 - 1/sets), so that its interval covers the former as the report's covers the latter.
    """
    laws, y = world.laws(rows), world.split.y_test
    truth = [LawMoments.of(law, y).values for law in laws]
    n, tally = np.array(world.sizes, float), Tally()
    nearer = np.sqrt(1 - 1 / len(sets))
    for chosen in sets:
        block = np.ix_(chosen, chosen)
        found = [LawMoments.of((mean[chosen], covariance[block]), y[chosen]) for mean, covariance in laws]
        moments = (np.array([getattr(one, f"point_{part}") for one in found])
                   for part in ("mean", "covariance", "variance"))  # fmt: skip
        single = tuple(moments)
        for name in NAMES:
            source = curves.points(name, *single)
            if source is None:
                continue
            source = replace(source, deviates=nearer * source.deviates)
            curve = Curve(n, np.array([one.values[name] for one in found]), (source,))
            exact = Curve(n, np.array([one[name] for one in truth]))
            tally.covers(f"test points: {name} at the largest N_D", curve.log_value(-1), float(np.log(exact.value[-1])))
            tally.covers(f"test points: exponent of {name}", curve.slope(), exact.slope().value)
            tally.covers(f"test points: upper exponent of {name}", curve.upper()[1], exact.upper()[1].value)
    return tally

"""Error budgets: how many networks and draws of the training set reach an error, and what they cost.

With a member's influence on the logarithm of an estimate of variance U for trained networks, U_leap for leapt ones, and
U_diff of the difference between a trained network and its own leap, the variance of the estimate is

    training: U/m ;  leaps: U_leap/M ;  both: (U - U_diff)/M + U_diff/m

from m trained and M leapt members. In "both" the m are among the M: the mean over M of the leaps and the mean over m of
the differences covary, which is in it (m = M is training). It costs as much as m + c M trained networks, c the cost of
a leap, least at m/M = sqrt(c V/(1 - V)), V = U_diff/U. What another draw of the training set changes comes on top.
Members begin with the same weights at every draw: of what a member does D draws leave what is common to them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Way = Literal["training", "leaps", "both"]

FEWEST = 20
"""Trained networks of a study: of fewer, the errors themselves are hardly known."""

BIAS = 0.01
"""Of leaps, about, where no pilot tells it."""

LEAST_OVER_BIAS = 3.0
"""Leaps alone are not offered for an error below so many times their bias, which trained networks alone tell."""

_STEPS = 120
"""Numbers of trained networks that are tried beside leaps."""


@dataclass(frozen=True)
class MemberVariance:
    """What one member adds to the variance of a logarithm: `own` at one draw, of which `between` is common to all."""

    own: float
    between: float

    def over(self, draws: int) -> float:
        """Of the mean over so many draws."""
        return self.between + (self.own - self.between) / draws

    def less(self, other: "MemberVariance") -> "MemberVariance":
        return MemberVariance(self.own - other.own, self.between - other.between)


@dataclass(frozen=True)
class Target:
    """One number whose error is asked for: a relative error, or an `absolute` one.

    `trained`, `leapt` and `difference` are U, U_leap and U_diff. `draws` (most,) is the variance by the draw of the
    training set of a mean over 1, 2, ... draws: 0 where the number is that of the draws that there are. `points` is
    that by the choice of the test points, which is not part of the error.
    """

    name: str
    trained: MemberVariance
    leapt: MemberVariance
    difference: MemberVariance
    draws: np.ndarray
    points: float = 0.0
    absolute: bool = False

    def variance(self, trained: int, leapt: int, draws: int) -> float:
        """Of a study of so many trained networks and leapt ones (0: none), and draws."""
        if not leapt:
            members = self.trained.over(draws) / trained
        elif not trained:
            members = self.leapt.over(draws) / leapt
        else:
            difference = self.difference.over(draws)
            members = (self.trained.over(draws) - difference) / leapt + difference / trained
        return members + float(self.draws[draws - 1])


@dataclass(frozen=True)
class Seconds:
    """What one network takes in all cells of one draw, trained and leapt, and what a draw takes besides."""

    trained: float
    leapt: float = 0.0
    draw: float = 0.0

    def of(self, trained: int, leapt: int, draws: int) -> float:
        """Of a study, but for what every study takes."""
        return draws * (self.trained * trained + self.leapt * leapt + self.draw)


@dataclass(frozen=True)
class Design:
    """The cheapest study of its way: networks, draws, their seconds, the error promised and what decides it.

    The error is relative, or `absolute`, as that of what decides it is.
    """

    way: Way
    trained: int
    leapt: int
    draws: int
    seconds: float
    error: float
    decided_by: str
    absolute: bool = False


def cheapest(
    targets: Sequence[Target],
    seconds: Seconds,
    error: float,
    way: Way,
    *,
    fewest_draws: int = 1,
    multiple: int = 1,
    bias: float = BIAS,
) -> Design:
    """The cheapest numbers with which every target has at most the error, in this way.

    Networks are multiples of `multiple` and FEWEST at least; `bias` is that of leaps, relative and without its sign.
    Raises ValueError, in a sentence, where none reach it.
    """
    if not targets or not error > 0:
        raise ValueError(f"there is nothing to reach: {len(targets)} targets, error {error:g}")
    if way == "leaps" and error < (least := LEAST_OVER_BIAS * bias):
        raise ValueError(
            f"leaps alone have a bias of about {100 * bias:.2g} % that only trained networks tell: "
            f"not below {100 * least:.2g} %"
        )
    most = min(len(target.draws) for target in targets)
    found: list[tuple[float, int, int, int]] = []
    for draws in range(fewest_draws, most + 1):
        if found and draws * seconds.draw > found[0][0]:
            break  # more draws cost more
        tried = _numbers(targets, error, way, draws, multiple)
        found = sorted(found[:1] + [(seconds.of(*numbers, draws), draws, *numbers) for numbers in tried])
    if not found:
        raise ValueError(_unreachable(targets, error, fewest_draws, most))
    cost, draws, trained, leapt = found[0]
    worst = max(targets, key=lambda target: target.variance(trained, leapt, draws))
    promised = math.sqrt(worst.variance(trained, leapt, draws))
    return Design(way, trained, leapt, draws, cost, promised, worst.name, worst.absolute)


def _numbers(targets: Sequence[Target], error: float, way: Way, draws: int, multiple: int) -> list[tuple[int, int]]:
    """(trained, leapt) that reach the error with so many draws: the fewest, or some of which one is the cheapest."""

    def fewest(parts: Sequence[tuple[float, float]], least: int) -> int | None:
        """So that no variance/number is more than what is left for it."""
        if any(left <= 0 for _, left in parts):
            return None
        needed = max(max(variance / left for variance, left in parts), least)
        return multiple * math.ceil(needed / multiple - 1e-9)

    left = [error**2 - float(target.draws[draws - 1]) for target in targets]
    plain = [target.trained.over(draws) for target in targets]
    alone = fewest(list(zip(plain, left, strict=True)), FEWEST)
    if alone is None:
        return []
    if way == "training":
        return [(alone, 0)]
    if way == "leaps":
        number = fewest([(target.leapt.over(draws), one) for target, one in zip(targets, left, strict=True)], FEWEST)
        return [] if number is None else [(0, number)]
    found = []
    for trained in sorted({multiple * math.ceil(one / multiple) for one in np.geomspace(FEWEST, alone, _STEPS)}):
        parts = []
        for target, variance, one in zip(targets, plain, left, strict=True):
            difference = target.difference.over(draws)
            parts.append((variance - difference, one - difference / trained))
        leapt = fewest(parts, trained)
        if leapt is not None:
            found.append((trained, leapt))
    return found


def _unreachable(targets: Sequence[Target], error: float, fewest: int, most: int) -> str:
    floors = [float(target.draws[fewest - 1 : most].min()) for target in targets]
    worst, floor = targets[int(np.argmax(floors))], math.sqrt(max(floors))
    if floor < error:  # training reaches it, and so do leaps but where they have no use
        worst = max(targets, key=lambda target: target.difference.over(fewest) / target.trained.over(fewest))
        return f"{worst.name}: leaps vary as much from training as networks do: they save nothing"
    return (
        f"{worst.name}: draws of the training set alone leave an error of {floor:.2g} with up to {most} draws, more "
        f"than {error:.2g}: a larger error, or a larger data.pool"
    )


def points_needed(targets: Sequence[Target], error: float, points: int) -> int:
    """Test points of a set so large that the choice of its points changes no target by more than the error, from what
    that of `points` points does; about, as eps_L itself depends on their number."""
    return max(math.ceil(points * target.points / error**2) for target in targets)

"""Does a curve become constant? A constant, a power law, or a power law that levels off at a floor.

    constant   value = a
    power      value = a n^b
    floor      value = a n^b + c

Given c, log(value - c) is a straight line in log(n): its curvature is zero at the true floor, and is a linear contrast
with an error (`analysis.contrasts`). The interval of the floor is every c, about the one that fits best, at which that
curvature is compatible with zero; that of the exponent every b for which such a c makes slope and curvature compatible
with (b, 0)
[Anderson and Rubin 1949; Hansen, Heaton and Yaron 1996]. Both cover what they say also where the sizes hardly tell a
floor from none; they are open then. Nothing is fitted with weights that depend on the values.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import optimize, special, stats

from analysis.contrasts import LEVEL, Curve, Estimate, curvature_weights, skewed, slope_weights
from analysis.scaling import plain

SIZES = 4
"""Fewer sizes cannot tell a floor from a power law."""

KNOWN = 3.0
"""Degrees of freedom below which an error does not tell a covariance of two contrasts."""

INDEPENDENT = 0.1
"""An exponent that is closer to zero than this, at 95 %, is called independent of the size."""

End = Literal["falls", "rises", "independent", "unknown"]

_BELOW = 30.0
"""Offsets are searched down to minus so many times the smallest value."""

_GRID = 240

_NEAR = 8.0
"""Standard errors of the offset about it that are looked at more closely."""

_TAIL = 0.025
"""Of a 95 % interval, on each side."""


@dataclass(frozen=True)
class Floor:
    """Of a power law with a free offset c.

    `offset` is where the curvature of log(value - c) vanishes, NaN where it does nowhere; `exponent` b is that of
    value - offset. Intervals are (low, high) with infinite ends where they are open. Shorter ones are not given: where
    offset and exponent are hardly told apart, they cover more than they say.
    """

    offset: float
    exponent: float
    offset_95: tuple[float, float]
    exponent_95: tuple[float, float]


@dataclass(frozen=True)
class Levelling:
    """Three descriptions of a curve and the tests between them.

    `smallest` is the smallest value, `slope` is the exponent of the power law, `curvature` the change of the local
    slope from the first to the last size, `upper_slope` the exponent from `upper_n` to the largest size, over the upper
    two octaves.
    `p_slope` tests the slope against zero and `p_power` the curvature, each by Student's t of that contrast; NaN where
    the curve is exact. A constant has neither. `aicc` is by name, of the two contrasts with the number of sizes, of
    floors c >= 0; the lowest is preferred. It is empty where the error of the two together is not known: from fewer
    than 4 draws.
    """

    n: tuple[float, float]
    smallest: float
    slope: Estimate
    curvature: Estimate
    upper_n: float
    upper_slope: Estimate
    floor: Floor | None
    p_slope: float
    p_power: float
    aicc: dict[str, float]

    @property
    def preferred(self) -> str:
        """Of the descriptions the one of lowest AICc, "none" where that is a power law and the curve is none."""
        best = min(self.aicc, key=lambda name: self.aicc[name])
        return "none" if best == "power" and self.is_curved else best

    @property
    def end(self) -> End:
        """What the curve does over the upper two octaves; "unknown" for an exact curve of one draw."""
        low, high = self.upper_slope.interval(0.95)
        if not self.upper_slope.parts:
            return "unknown"
        if low > -INDEPENDENT and high < INDEPENDENT:
            return "independent"
        if self.upper_slope.p_value() < LEVEL:
            return "falls" if self.upper_slope.value < 0 else "rises"
        return "unknown"

    @property
    def is_curved(self) -> bool:
        """Whether it is no pure power law."""
        return self.p_power < LEVEL

    @property
    def falls(self) -> bool:
        return self.p_slope < LEVEL and self.slope.value < 0

    @property
    def flattens(self) -> bool:
        return self.p_power < LEVEL and self.curvature.value > 0

    def to_dict(self) -> dict[str, Any]:
        floor = self.floor
        return {
            "n": list(self.n),
            "exponent": self.slope.to_dict(),
            "curvature": self.curvature.to_dict(),
            "upper_n": self.upper_n,
            "upper_exponent": self.upper_slope.to_dict(),
            "p_slope": plain(self.p_slope),
            "p_power": plain(self.p_power),
            "aicc": {name: plain(value) for name, value in self.aicc.items()},
            "with_floor": floor
            and {
                "floor": plain(floor.offset),
                "floor_95": plain(floor.offset_95),
                "exponent": plain(floor.exponent),
                "exponent_95": plain(floor.exponent_95),
            },
        }


def levelling(curve: Curve) -> Levelling:
    """Describe a curve of at least 3 sizes; no floor with fewer than SIZES."""
    slope, curvature = curve.slope(), curve.curvature()
    p_slope, p_power = slope.p_value(), curvature.p_value()
    upper_n, upper_slope = curve.upper()
    return Levelling(
        n=(float(curve.n[0]), float(curve.n[-1])),
        smallest=float(curve.value.min()),
        slope=slope,
        curvature=curvature,
        upper_n=upper_n,
        upper_slope=upper_slope,
        floor=find(curve) if len(curve.n) >= SIZES else None,
        p_slope=p_slope,
        p_power=p_power,
        aicc=_aicc(curve) if curve.sources and curvature.dof >= KNOWN and len(curve.n) >= SIZES + 1 else {},
    )


def line(curve: Curve, floor: Floor, n: np.ndarray) -> np.ndarray:
    """The power law with its offset at n."""
    return floor.offset + curve.less(floor.offset).line(n)


def find(curve: Curve) -> Floor:
    """The power law with a free offset, from 4 sizes on."""
    smallest = float(curve.value.min())
    steps = np.geomspace(1, 1e-3, _GRID)  # dense around zero and where the offset nears the smallest value
    grid = smallest * np.sort(np.concatenate([-_BELOW * steps, [0.0], 1 - steps[1:]]))
    scan = _Scan.of(curve, grid)
    offset = exponent = math.nan
    if (i := scan.crossing) is not None:
        offset = float(optimize.brentq(lambda c: _Scan.of(curve, np.array([c])).curvature[0], grid[i], grid[i + 1]))
        there = _Scan.of(curve, np.array([offset]))
        exponent = float(there.slope[0])
        if curve.sources:  # a second look, as fine as the error of the offset is small
            steepness = (scan.curvature[i + 1] - scan.curvature[i]) / (grid[i + 1] - grid[i])
            error = math.sqrt(there.covariance[0, 1, 1]) / abs(steepness)
            near = offset + error * np.linspace(-_NEAR, _NEAR, _GRID)
            near = near[(near > grid[0]) & (near < grid[-1])]
            scan = _Scan.of(curve, np.unique(np.concatenate([grid, near, [offset]])))
    if not curve.sources:
        return Floor(offset, exponent, (offset, offset), (exponent, exponent))
    return Floor(offset, exponent, scan.offsets(smallest), scan.exponents())


@dataclass(frozen=True)
class _Scan:
    """Slope and curvature of log(value - c) over offsets c (g,), with their covariance (g, 2, 2), and the curvature's
    degrees of freedom and skewness (due to what the values are made from, and to others)."""

    offset: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    covariance: np.ndarray
    dof: np.ndarray
    skewness: np.ndarray
    others: np.ndarray

    @classmethod
    def of(cls, curve: Curve, offsets: np.ndarray) -> "_Scan":
        weights = np.stack([slope_weights(curve.n), curvature_weights(curve.n)])
        left = curve.value - offsets[:, None]
        logarithms, x = np.log(left), np.log(curve.n) - np.log(curve.n).mean()
        slope, curvature = weights @ logarithms.T
        # Errors of log(value - c), to first order about the power law: about the values they would be small together.
        above = np.exp(logarithms.mean(axis=1)[:, None] + slope[:, None] * x)
        turned = weights[:, None] * (1 + offsets[:, None] / above)
        covariance, inverse, third = np.zeros((len(offsets), 2, 2)), np.zeros(len(offsets)), np.zeros((2, len(offsets)))
        for source in curve.sources:
            moved = turned @ source.deviates
            part = np.einsum("qgm,rgm->gqr", moved, moved)
            covariance += part
            inverse += part[:, 1, 1] ** 2 / source.freedom(moved[1])
            third += source.skewing(moved[1])
        variance = covariance[:, 1, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return cls(offsets, slope, curvature, covariance, variance**2 / inverse, *(third / variance**1.5))

    @cached_property
    def excess(self) -> np.ndarray:
        """Squared pull of the curvature less the square at which its 95 % interval ends (g,)."""
        pull, quantile = self.curvature / np.sqrt(self.covariance[:, 1, 1]), -special.stdtrit(self.dof, _TAIL)
        moved = skewed(self.skewness, self.others, _TAIL, quantile)
        return np.asarray(pull**2 - (quantile - np.sign(pull) * moved) ** 2)

    @property
    def crossing(self) -> int | None:
        """The offset below the one, nearest to zero, where the curvature vanishes."""
        found = np.flatnonzero(np.diff(np.sign(self.curvature)) != 0)
        return int(found[np.abs(self.offset[found]).argmin()]) if len(found) else None

    @cached_property
    def inside(self) -> tuple[int, int] | None:
        """First and last of the offsets that are compatible with no curvature, about the one that is it best.

        That is where the curvature vanishes nearest to zero, or is least. Compatible offsets apart from these, near the
        smallest value, where errors to first order mean least, are not meant.
        """
        pull = np.abs(self.curvature) / np.sqrt(self.covariance[:, 1, 1])
        compatible = self.excess <= 0
        middle = int(pull.argmin()) if (i := self.crossing) is None else i + int(pull[i + 1] < pull[i])
        if not compatible[middle]:
            return None
        outside = np.flatnonzero(~compatible)
        below, above = outside[outside < middle], outside[outside > middle]
        return int(below[-1] + 1) if len(below) else 0, int(above[0] - 1) if len(above) else len(compatible) - 1

    def offsets(self, smallest: float) -> tuple[float, float]:
        """Ends of the 95 % interval of the offset; open below where the search ends inside."""
        if (found := self.inside) is None:
            return math.nan, math.nan
        excess, (first, last) = self.excess, found
        low = -math.inf if first == 0 else _zero(self.offset, excess, first - 1)
        high = smallest if last == len(excess) - 1 else _zero(self.offset, excess, last)
        return low, high

    def exponents(self) -> tuple[float, float]:
        """Ends of the b for which slope - b and curvature are compatible with zero at some offset.

        At one offset these are an interval about the slope as the curvature's deviation would have it.
        """
        if (found := self.inside) is None:
            return math.nan, math.nan
        (first, last), room = found, -self.excess
        span = slice(first, last + 1)
        ss, sc, cc = (self.covariance[span, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
        middle = self.slope[span] - sc / cc * self.curvature[span]
        half = np.sqrt(np.maximum(room[span], 0) * np.maximum(ss - sc**2 / cc, 0))
        low, high = float((middle - half).min()), float((middle + half).max())
        falls = self.slope[len(room) // 2] < 0  # ever more steeply as c nears the smallest value
        if last == len(room) - 1:
            low, high = (-math.inf, high) if falls else (low, math.inf)
        if first == 0:
            low, high = (low, max(high, 0.0)) if falls else (min(low, 0.0), high)  # a logarithm, in the limit
        return low, high


def _zero(grid: np.ndarray, excess: np.ndarray, i: int) -> float:
    """Between grid points i and i + 1, linearly."""
    a, b = excess[i], excess[i + 1]
    return float(grid[i] + (grid[i + 1] - grid[i]) * a / (a - b))


def _aicc(curve: Curve) -> dict[str, float]:
    """chi^2 + 2 p + 2 p (p + 1)/(k - p - 1), chi^2 of slope and curvature as far as a description leaves them."""
    smallest = float(curve.value.min())
    scan = _Scan.of(curve, smallest * (1 - np.geomspace(1, 1e-3, _GRID)))
    shape = np.array([scan.slope[0], scan.curvature[0]])
    pulls = scan.curvature**2 / scan.covariance[:, 1, 1]
    best = int(pulls.argmin())
    chi2 = {
        "constant": _known(float(shape @ np.linalg.solve(scan.covariance[0], shape)), 2, float(scan.dof[0])),
        "power": _known(float(pulls[0]), 1, float(scan.dof[0])),
        "floor": _known(float(pulls[best]), 1, float(scan.dof[best])),
    }
    k = len(curve.n)
    return {
        name: value + 2 * p + (2 * p * (p + 1) / (k - p - 1) if k - p > 1 else math.inf)
        for p, (name, value) in enumerate(chi2.items(), 1)
    }


def _known(square: float, dims: int, dof: float) -> float:
    """The chi^2 that is as improbable as Hotelling's T^2 = `square` of an error with `dof` degrees of freedom."""
    left = max(dof - dims + 1, 1.0)
    tail = float(stats.f.sf(square * left / (max(dof, 1.0) * dims), dims, left))
    return float(stats.chi2.isf(max(tail, 1e-300), dims))

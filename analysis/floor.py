"""Does a curve become constant? A constant, a power law, or a power law that levels off at a floor.

    constant   value = a
    power      value = a n^b
    floor      value = a n^b + c

Given c, what the power law of least squares (`analysis.offset_fit`) leaves of log(value) has no curvature at the true
floor; the curvature is a linear contrast with an error (`analysis.contrasts`), at c = 0 that of the curve itself. The
interval of the floor is every c, about the one that fits best, at which it is compatible with zero; that of the
exponent every b for which such a c makes exponent and curvature compatible with (b, 0) [Anderson and Rubin 1949;
Hansen, Heaton and Yaron 1996]. Floors are covered as said also where the sizes hardly tell one from none; intervals are
open then. What those of exponents cover is said with `Floor`. Every size has the same weight in a fit.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import optimize, special, stats

from analysis import offset_fit
from analysis.contrasts import LEVEL, Curve, Estimate, curvature_weights, skewed
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

_NEAREST = 1e-3
"""Of the largest value, or of the smallest: so near to it offsets are looked at."""

_FLAT = 1e-200
"""A change of the curvature with the offset that is none."""

_GRID = 90

_NEAR = 8.0
"""Standard errors of the offset about it that are looked at more closely."""

_TAIL = 0.025
"""Of a 95 % interval, on each side."""


@dataclass(frozen=True)
class Floor:
    """Of a power law with a free offset c.

    `offset` is where the curvature vanishes, NaN where it does nowhere; `exponent` b is that of the power law above it.
    Intervals are (low, high) with infinite ends where they are open. By `make calibrate` (400 studies of 60 networks)
    those of exponents with both ends cover 93.7 to 96.0 %; of those with one end that end is wrong in 0.4 to 1.9 %, of
    2.5 %.
    """

    offset: float
    exponent: float
    offset_95: tuple[float, float]
    exponent_95: tuple[float, float]


@dataclass(frozen=True)
class Levelling:
    """Three descriptions of a curve and the tests between them.

    `slope` is the exponent of the power law, `curvature` the change of the local slope from the first to the last
    size, `upper_slope` the exponent from `upper_n` to the largest size, over the upper two octaves.
    `p_slope` tests the slope against zero and `p_power` the curvature, each by Student's t of that contrast; NaN where
    the curve is exact or `untested`. A constant has neither. `aicc` is by name, of the two contrasts with the number of
    sizes, of floors c >= 0; the lowest is preferred. It is empty where the error of the two together is not known: from
    fewer than 4 draws.
    """

    n: tuple[float, float]
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
        if not self.upper_slope.parts or math.isnan(self.p_slope):
            return "unknown"
        if low > -INDEPENDENT and high < INDEPENDENT:
            return "independent"
        if self.upper_slope.p_value() < LEVEL:
            return "falls" if self.upper_slope.value < 0 else "rises"
        return "unknown"

    def untested(self) -> "Levelling":
        """The same numbers with their errors, and no test: where the errors lack a source that matters."""
        return replace(self, floor=None, p_slope=math.nan, p_power=math.nan, aicc={})

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


def levelling(curve: Curve, *, floors: bool = True) -> Levelling:
    """Describe a curve of at least 3 sizes; no floor with fewer than SIZES, or where the tests alone are asked for."""
    slope, curvature = curve.slope(), curve.curvature()
    p_slope, p_power = slope.p_value(), curvature.p_value()
    upper_n, upper_slope = curve.upper()
    return Levelling(
        n=(float(curve.n[0]), float(curve.n[-1])),
        slope=slope,
        curvature=curvature,
        upper_n=upper_n,
        upper_slope=upper_slope,
        floor=find(curve) if floors and len(curve.n) >= SIZES else None,
        p_slope=p_slope,
        p_power=p_power,
        aicc=_aicc(curve) if floors and curve.sources and curvature.dof >= KNOWN and len(curve.n) >= SIZES + 1 else {},
    )


def line(curve: Curve, floor: Floor, n: np.ndarray) -> np.ndarray:
    """The power law with its offset at n."""
    found = offset_fit.fit(curve.n, curve.value, np.array([floor.offset]))
    return np.asarray(
        floor.offset + np.exp(found.log_amplitude + found.exponent * (np.log(n) - np.log(curve.n).mean()))
    )


def find(curve: Curve) -> Floor:
    """The power law with a free offset, from 4 sizes on."""
    smallest, top = float(curve.value.min()), _top(curve)
    steps = np.geomspace(1, _NEAREST, _GRID)  # dense around zero and where the offset nears the smallest value
    grid = [-_BELOW * smallest * steps, np.zeros(1), smallest * (1 - steps), np.linspace(smallest, top, _GRID // 3)]
    scan = _Scan.of(curve, np.unique(np.minimum(np.concatenate(grid), top)))
    offset = exponent = math.nan
    if (i := scan.crossing) is not None:
        offset = _root(curve, *scan.offset[i : i + 2])
        there = _Scan.of(curve, np.array([offset]))
        exponent = float(there.slope[0])
        steepness = np.ptp(scan.curvature[i : i + 2]) / np.ptp(scan.offset[i : i + 2])
        error = math.sqrt(there.bent.variance[0]) / max(steepness, _FLAT)
        near = offset + error * np.linspace(-_NEAR, _NEAR, _GRID)  # a second look, as fine as the error is small
        near = near[(near > scan.offset[0]) & (near < scan.offset[-1])]
        scan = _Scan.of(curve, np.unique(np.concatenate([scan.offset, near, [offset]])))
    if not curve.sources:
        return Floor(offset, exponent, (offset, offset), (exponent, exponent))
    return Floor(offset, exponent, scan.offsets(), scan.exponents())


def _root(curve: Curve, low: float, high: float) -> float:
    """The offset between two others where the curvature vanishes; one of them, where rounding alone has a sign."""

    def curvature(offset: float) -> float:
        return float(_Scan.of(curve, np.array([offset])).curvature[0])

    if curvature(low) * curvature(high) >= 0:
        return min(low, high, key=lambda offset: abs(curvature(offset)))
    return float(optimize.brentq(curvature, low, high))


def _top(curve: Curve) -> float:
    """The largest offset that is looked at: the mean of the logarithms, less than the largest value."""
    return float(min(np.exp(np.log(curve.value).mean()), (1 - _NEAREST) * curve.value.max()))


@dataclass(frozen=True)
class _Contrast:
    """Of a contrast at each of the offsets (g,): variance, degrees of freedom and skewness (due to what the values are
    made from, and to others)."""

    variance: np.ndarray
    dof: np.ndarray
    skewness: np.ndarray
    others: np.ndarray

    @classmethod
    def of(cls, curve: Curve, weights: np.ndarray) -> "_Contrast":
        """Of weights (g, k) of the logarithms."""
        variance, inverse, third = np.zeros(len(weights)), np.zeros(len(weights)), np.zeros((2, len(weights)))
        for source in curve.sources:
            moved = weights @ source.deviates
            part = (moved**2).sum(axis=1)
            variance += part
            inverse += part**2 / source.freedom(moved)
            third += source.skewing(moved)
        with np.errstate(divide="ignore", invalid="ignore"):
            return cls(variance, variance**2 / inverse, *(third / variance**1.5))

    def limit(self, sign: np.ndarray | float) -> np.ndarray:
        """The pull of that sign (g,) at which its 95 % interval ends, in standard errors."""
        quantile = -special.stdtrit(self.dof, _TAIL)
        return np.asarray(quantile - np.sign(sign) * skewed(self.skewness, self.others, _TAIL, quantile))


@dataclass(frozen=True)
class _Scan:
    """Exponent and curvature over offsets c (g,), with their covariance (g, 2, 2).

    `bent` is the error of the curvature, `along` that of the contrast of both that does not change with the offset, to
    first order, in which the exponent counts positive. The scan ends below an offset above which the power law is a
    size apart from a constant.
    """

    offset: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    covariance: np.ndarray
    bent: _Contrast
    along: _Contrast

    @classmethod
    def of(cls, curve: Curve, offsets: np.ndarray) -> "_Scan":
        laws = offset_fit.fit(curve.n, curve.value, offsets)
        weights = curvature_weights(curve.n)
        turned = np.stack([laws.exponent_weights(), laws.project(weights)])
        covariance = np.einsum("qgk,kl,rgl->gqr", turned, curve.covariance(), turned)
        slope, curvature = np.einsum("qgk,gk->qg", turned, laws.by_offset(curve.value))[..., None]
        blind = np.sign(curvature) * (curvature * turned[0] - slope * turned[1])
        steep = np.flatnonzero((np.abs(laws.exponent) >= offset_fit.STEEPEST) & (offsets > 0))
        count = int(steep[0]) if len(steep) else len(offsets)
        bent, along = (_Contrast.of(curve, one[:count]) for one in (turned[1], blind))
        curved = (laws.left @ weights)[:count]
        return cls(offsets[:count], laws.exponent[:count], curved, covariance[:count], bent, along)

    @property
    def pull(self) -> np.ndarray:
        """The curvature in standard errors (g,)."""
        return np.asarray(self.curvature / np.sqrt(self.bent.variance))

    @property
    def crossing(self) -> int | None:
        """The offset below the one, nearest to zero, where the curvature vanishes."""
        found = np.flatnonzero(np.diff(np.sign(self.curvature)) != 0)
        return int(found[np.abs(self.offset[found]).argmin()]) if len(found) else None

    def around(self, excess: np.ndarray) -> tuple[int, int] | None:
        """First and last of the offsets of no `excess` (g,) about the one at which the curvature vanishes.

        That is the one nearest to zero, or where the curvature is least.
        """
        pull = np.abs(self.pull)
        middle = int(pull.argmin()) if (i := self.crossing) is None else i + int(pull[i + 1] < pull[i])
        if not excess[middle] <= 0:
            return None
        outside = np.flatnonzero(~(excess <= 0))
        below, above = outside[outside < middle], outside[outside > middle]
        return int(below[-1] + 1) if len(below) else 0, int(above[0] - 1) if len(above) else len(excess) - 1

    def offsets(self) -> tuple[float, float]:
        """Ends of the 95 % interval of the offset; open where the search ends inside.

        It holds the offsets at which the curvature is compatible with zero.
        """
        excess = self.pull**2 - self.bent.limit(self.pull) ** 2
        if (found := self.around(excess)) is None:
            return math.nan, math.nan
        first, last = found
        low = -math.inf if first == 0 else _zero(self.offset, excess, first - 1)
        high = math.inf if last == len(excess) - 1 else _zero(self.offset, excess, last)
        return low, high

    def exponents(self) -> tuple[float, float]:
        """Ends of the 95 % interval of the exponent b.

        It holds every b for which slope - b and curvature are compatible with zero at some offset. How far both may be
        from zero is known from the contrast that tells exponents whatever the offset.
        """
        low, high = -self._reach(-1.0), self._reach(1.0)
        return (math.nan, math.nan) if math.isnan(low) or math.isnan(high) else (low, high)

    def _reach(self, sign: float) -> float:
        """The largest b of the interval (sign 1), or of -b (sign -1); NaN where no offset is compatible.

        At one offset exponents are an interval about the slope as the curvature's deviation would have it.
        """
        limit = self.along.limit(-sign) ** 2
        if (found := self.around(self.pull**2 - limit)) is None:
            return math.nan
        first, last = found
        falls = sign * self.slope[len(self.slope) // 2] < 0  # ever more steeply as c rises
        if last == len(self.slope) - 1 and not falls:
            return math.inf
        ss, sc, cc = (self.covariance[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
        middle = sign * (self.slope - sc / cc * self.curvature)
        ends = middle + np.sqrt(np.maximum(limit - self.pull**2, 0) * np.maximum(ss - sc**2 / cc, 0))
        end = float(ends[first : last + 1].max())
        return max(end, 0.0) if first == 0 and falls else end  # b = 0 is a logarithm, where the offset is without end


def _zero(grid: np.ndarray, excess: np.ndarray, i: int) -> float:
    """Between grid points i and i + 1, linearly."""
    a, b = excess[i], excess[i + 1]
    return float(grid[i] + (grid[i + 1] - grid[i]) * a / (a - b))


def _aicc(curve: Curve) -> dict[str, float]:
    """chi^2 + 2 p + 2 p (p + 1)/(k - p - 1), chi^2 of slope and curvature as far as a description leaves them."""
    scan = _Scan.of(curve, np.linspace(0, _top(curve), _GRID))
    shape = np.array([scan.slope[0], scan.curvature[0]])
    pulls = scan.pull**2
    best = int(pulls.argmin())
    chi2 = {
        "constant": _known(float(shape @ np.linalg.solve(scan.covariance[0], shape)), 2, float(scan.bent.dof[0])),
        "power": _known(float(pulls[0]), 1, float(scan.bent.dof[0])),
        "floor": _known(float(pulls[best]), 1, float(scan.bent.dof[best])),
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

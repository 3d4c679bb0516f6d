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
from scipy import optimize, stats

from analysis import offset_fit
from analysis.contrasts import LEVEL, Curve, Estimate
from analysis.offset_scan import OffsetScan
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
    scan = OffsetScan.of(curve, np.unique(np.minimum(np.concatenate(grid), top)))
    offset = exponent = math.nan
    if (i := scan.crossing) is not None:
        offset = _root(curve, *scan.offset[i : i + 2])
        there = OffsetScan.at(curve, offset)
        exponent = float(there.slope[0])
        steepness = np.ptp(scan.curvature[i : i + 2]) / np.ptp(scan.offset[i : i + 2])
        error = math.sqrt(there.bent.variance[0]) / max(steepness, _FLAT)
        near = offset + error * np.linspace(-_NEAR, _NEAR, _GRID)  # a second look, as fine as the error is small
        near = near[(near > scan.offset[0]) & (near < scan.offset[-1])]
        scan = OffsetScan.of(curve, np.unique(np.concatenate([scan.offset, near, [offset]])))
    if not curve.sources:
        return Floor(offset, exponent, (offset, offset), (exponent, exponent))
    return Floor(offset, exponent, scan.offsets(), scan.exponents())


def _root(curve: Curve, low: float, high: float) -> float:
    """The offset between two others where the curvature vanishes; one of them, where rounding alone has a sign."""

    def curvature(offset: float) -> float:
        return float(OffsetScan.at(curve, offset).curvature[0])

    if curvature(low) * curvature(high) >= 0:
        return min(low, high, key=lambda offset: abs(curvature(offset)))
    return float(optimize.brentq(curvature, low, high))


def _top(curve: Curve) -> float:
    """The largest offset that is looked at: the mean of the logarithms, less than the largest value."""
    return float(min(np.exp(np.log(curve.value).mean()), (1 - _NEAREST) * curve.value.max()))


def _aicc(curve: Curve) -> dict[str, float]:
    """chi^2 + 2 p + 2 p (p + 1)/(k - p - 1), chi^2 of slope and curvature as far as a description leaves them."""
    scan = OffsetScan.of(curve, np.linspace(0, _top(curve), _GRID))
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

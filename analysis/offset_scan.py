"""What the curvature of a curve says at each offset of a power law: exponents, curvatures, and intervals of both.

Given an offset c, exponent and curvature are two contrasts of the logarithms, with errors (`analysis.contrasts`). An
interval of offsets is where the curvature is compatible with zero, about the offset that fits best; one of exponents
holds every b for which such an offset makes exponent and curvature compatible with (b, 0). `analysis.floor` looks for
the offset itself.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis import offset_fit
from analysis.contrasts import Curve, curvature_weights, skewed

_TAIL = 0.025
"""Of a 95 % interval, on each side."""


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
class OffsetScan:
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
    def of(cls, curve: Curve, offsets: np.ndarray) -> "OffsetScan":
        return cls._over(curve, offsets, ends=True)

    @classmethod
    def at(cls, curve: Curve, offset: float) -> "OffsetScan":
        """Of this offset alone, however steep the power law above it is."""
        return cls._over(curve, np.array([offset]), ends=False)

    @classmethod
    def _over(cls, curve: Curve, offsets: np.ndarray, ends: bool) -> "OffsetScan":
        laws = offset_fit.fit(curve.n, curve.value, offsets)
        weights = curvature_weights(curve.n)
        turned = np.stack([laws.exponent_weights(), laws.project(weights)])
        covariance = np.einsum("qgk,kl,rgl->gqr", turned, curve.covariance(), turned)
        slope, curvature = np.einsum("qgk,gk->qg", turned, laws.by_offset(curve.value))[..., None]
        blind = np.sign(curvature) * (curvature * turned[0] - slope * turned[1])
        steep = np.flatnonzero((np.abs(laws.exponent) >= offset_fit.STEEPEST) & (offsets > 0))
        count = int(steep[0]) if ends and len(steep) else len(offsets)
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

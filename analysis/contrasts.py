"""Slopes and curvatures of a curve on logarithmic axes, with errors that say what they contain.

A curve is a value at each of k training-set sizes. What is asked of it is a linear contrast of its logarithms,

    estimate = sum_i w_i log(value_i) ,   sum_i w_i = 0 ,

with weights that depend on the sizes alone: an exponent is the slope of the line of least squares through log(value)
against log(n), every size with the same weight. So exponents of any two curves over the same sizes can be compared,
whether the curves are measured or exact. The error of a contrast needs no model of the curve:

    variance = sum over sources of |w^T deviates|^2

where a source of error (the members of the ensemble, the draw of the training set, the test points) is known by
deviates, a column for each independent member, draw or point: what it does to the logarithms. Intervals are Student's,
their degrees of freedom by Welch and Satterthwaite from those of the sources, and longer on one side where deviates are
skewed: of a skewed sample mean and error are low together. An error that is learned from others than the value has, as
that of its only draw, does not move with the value, which itself lies to the side of the skewness.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from analysis.scaling import plain

SKEWED = 1 / 6
"""Factor of the skewness in the Edgeworth expansion of a studentised mean [Hall 1992]. 95 % intervals of the spread of
log-normal losses of relative spread 0.47 cover 92.1, 94.4, 95.1, 95.3 % at 20, 60, 200, 1,000 members with it, and
89.5, 92.4, 93.9, 94.7 % without."""

_TINIEST = 1e-12

_MOST = 0.8
"""Of a quantile that skewness may move."""

LEVEL = 0.01
"""Probability below which a difference, or a bend of a power law, is called one."""

SIGMA = 2 * float(special.ndtr(1)) - 1
"""The probability of one standard deviation, 0.683: the level of what is written behind a plus-minus sign."""


@dataclass(frozen=True)
class ErrorSource:
    """A source of error: `deviates` (k, m), from m independent members, draws or points; their outer product is the
    covariance of the logarithms (k, k). `dof` are its degrees of freedom where the deviates do not tell them.

    `others` is not 0 where the deviates are those of others than the value is made from: how many of them there are for
    each that the value is made from. `differences` says that the deviates are of differences of pairs.
    """

    name: str
    deviates: np.ndarray
    dof: float = math.nan
    others: float = 0.0
    differences: bool = False

    def skewing(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Third cumulants (...) of the sum of `moved` (..., m): of a sample mean, and of what others learned.

        Losses are skewed, differences of pairs need not be: one far network gives their sample a skewness of its own
        sign, which would move the interval after it, away from the truth. The third cumulant S = sum moved^3 is known
        to about V = sum moved^6, its variance; of differences S^3/(S^2 + V) is taken: a half of what one far pair
        shows, less where pairs balance, and the whole where many tell it. `analysis.two_level` has what intervals cover
        with it.
        """
        cubes = np.asarray((moved * moved * moved).sum(axis=-1))  # a power takes 40 times as long
        if self.differences:
            signal, noise = cubes**2, ((moved * moved * moved) ** 2).sum(axis=-1)
            cubes = cubes * np.divide(signal, signal + noise, out=np.zeros_like(cubes), where=signal + noise > 0)
        return (0 * cubes, math.sqrt(self.others) * cubes) if self.others else (cubes, 0 * cubes)

    def freedom(self, moved: np.ndarray) -> np.ndarray:
        """Degrees of freedom (...) of the sum of squares of `moved` (..., m), the deviates of contrasts.

        2 m/(kurtosis - 1), m - 1 at most: a variance is known less well from heavy-tailed deviates than from Gaussian
        ones. A sample shows less kurtosis than there is; 1 + kurtosis/m times as much is taken. 95 % intervals of the
        spread of losses that are sums of squares, of relative spread 0.4 to 1.1, cover 93.0 to 94.0 % at 60 members
        without that and 94.3 to 95.1 % with it, 89.6 to 91.2 and 91.4 to 92.5 % at 20.
        """
        if not math.isnan(self.dof):
            return np.full(moved.shape[:-1], self.dof)
        m = int((self.deviates != 0).any(axis=0).sum())  # members that diverged have none
        squares = moved**2
        with np.errstate(divide="ignore", invalid="ignore"):
            kurtosis = m * (squares**2).sum(axis=-1) / squares.sum(axis=-1) ** 2
            kurtosis *= 1 + kurtosis / m
            return np.asarray(np.clip(2 * m / np.maximum(kurtosis - 1, 0), 1, max(m - 1, 1)))


@dataclass(frozen=True)
class Estimate:
    """A number with the standard errors `parts` of each source, the degrees of freedom and the skewness of their sum.

    `skewness` is due to what the value is made from, `others` to sources that are learned from others. Without a source
    it is exact: stderr is 0.
    """

    value: float
    parts: dict[str, float]
    dof: float = math.inf
    skewness: float = 0.0
    others: float = 0.0

    @property
    def stderr(self) -> float:
        return math.sqrt(sum(part**2 for part in self.parts.values()))

    def half(self, level: float = SIGMA) -> float:
        """Half the width of the interval that covers the truth with the probability `level`."""
        return _upper((1 - level) / 2, self.dof) * self.stderr if self.stderr else 0.0

    def interval(self, level: float = SIGMA) -> tuple[float, float]:
        if not self.stderr:
            return self.value, self.value
        tail = (1 - level) / 2
        quantile = _upper(tail, self.dof)
        moved = float(skewed(self.skewness, self.others, tail, quantile))
        return self.value - self.stderr * (quantile - moved), self.value + self.stderr * (quantile + moved)

    def p_value(self, of: float = 0.0) -> float:
        """Of a test against `of`: 1 less the level of the interval that ends there; NaN for an exact number."""
        if not self.stderr:
            return math.nan
        pull = (self.value - of) / self.stderr

        def excess(tail: float) -> float:
            quantile = _upper(tail, self.dof)
            moved = float(skewed(self.skewness, self.others, tail, quantile))
            return quantile - math.copysign(1.0, pull) * moved - abs(pull)

        # In the logarithm of the tail, as tiny ones are asked for too; nobody believes the digits of tinier ones.
        if excess(_TINIEST) <= 0:
            return 2 * _TINIEST
        if excess(0.499) >= 0:
            return 1.0
        tail = optimize.brentq(lambda x: excess(math.exp(x)), math.log(_TINIEST), math.log(0.499))
        return 2 * math.exp(tail)

    def seen(self, level: float = 0.01, power: float = 0.95) -> float:
        """The difference from a truth that a test at `level` finds with the probability `power`."""
        return (_upper(level / 2, self.dof) + _upper(1 - power, self.dof)) * self.stderr

    def scaled(self, factor: float) -> "Estimate":
        parts = {name: abs(factor) * part for name, part in self.parts.items()}
        sign = math.copysign(1.0, factor)
        return Estimate(self.value * factor, parts, self.dof, sign * self.skewness, sign * self.others)

    def of_log(self) -> "Estimate":
        """Of a logarithm, the number itself, with errors to first order."""
        return replace(self, value=1.0).scaled(math.exp(self.value))

    def less(self, number: float) -> "Estimate":
        return replace(self, value=self.value - number)

    def of_ratio(self) -> "Estimate":
        """Of the logarithm of a ratio, the relative difference ratio - 1, with errors to first order."""
        return self.of_log().less(1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: value, stderr, its parts, dof (None if infinite), 68 and 95 % intervals; None without parts."""
        return {
            "value": plain(self.value),
            "stderr": plain(self.stderr) if self.parts else None,
            "parts": {name: plain(part) for name, part in self.parts.items()},
            "dof": plain(self.dof),
            "interval_68": plain(self.interval(SIGMA)) if self.parts else None,
            "interval_95": plain(self.interval(0.95)) if self.parts else None,
        }


class Term(NamedTuple):
    """What one independent source adds to an estimate: variance, third cumulants (as `skewing` has them)."""

    source: str
    variance: float
    dof: float
    third: float = 0.0
    others: float = 0.0


def combine(value: float, found: Iterable[Term]) -> Estimate:
    """One estimate with all errors [Welch 1947, Satterthwaite 1946]. Sources of one name are one part."""
    kept = [one for one in found if one.variance != 0]
    if not all(math.isfinite(one.variance) for one in kept):
        raise ValueError("a source of error has deviates that are not finite")
    total = sum(one.variance for one in kept)
    if not total:
        return Estimate(value, {})
    inverse = sum((one.variance / total) ** 2 / one.dof for one in kept)
    parts: dict[str, float] = {}
    for one in kept:
        parts[one.source] = math.hypot(parts.get(one.source, 0.0), math.sqrt(one.variance))
    dof = 1 / inverse if inverse else math.inf
    third, others = sum(one.third for one in kept), sum(one.others for one in kept)
    return Estimate(value, parts, dof, third / total**1.5, others / total**1.5)


@dataclass(frozen=True)
class Curve:
    """Positive values (k,) at sizes n (k,), in increasing order, and the sources of their errors."""

    n: np.ndarray
    value: np.ndarray
    sources: tuple[ErrorSource, ...] = ()

    def __post_init__(self) -> None:
        if self.n.shape != self.value.shape or self.n.ndim != 1:
            raise ValueError(f"n {self.n.shape} and value {self.value.shape} must be of one length")
        if not (np.isfinite(self.value).all() and (self.value > 0).all() and (np.diff(self.n) > 0).all()):
            raise ValueError("values must be finite and positive, at increasing sizes")

    def contrast(self, weights: np.ndarray) -> Estimate:
        """sum_i weights_i log(value_i) for weights (k,)."""
        parts = []
        for one in self.sources:
            moved = weights @ one.deviates
            third, others = map(float, one.skewing(moved))
            parts.append(Term(one.name, float(moved @ moved), float(one.freedom(moved)), third, others))
        return combine(float(weights @ np.log(self.value)), parts)

    def log_value(self, i: int) -> Estimate:
        return self.contrast(np.eye(len(self.n))[i])

    def slope(self) -> Estimate:
        """The exponent: d log(value)/d log(n) of the line of least squares. Needs 2 sizes."""
        return self.contrast(slope_weights(self.n))

    def curvature(self) -> Estimate:
        """By how much the local slope changes between the ends: of the parabola of least squares. Needs 3 sizes."""
        return self.contrast(curvature_weights(self.n))

    def local_slope(self, i: int) -> Estimate:
        """Between the sizes i and i + 1."""
        weights = np.zeros(len(self.n))
        weights[[i, i + 1]] = np.array([-1, 1]) / math.log(self.n[i + 1] / self.n[i])
        return self.contrast(weights)

    def upper(self, octaves: float = 2.0) -> tuple[float, Estimate]:
        """The smallest size of the upper octaves, 3 sizes at least, and the exponent from there to the largest."""
        first = min(int(np.flatnonzero(self.n >= self.n[-1] / 2**octaves * (1 - 1e-9))[0]), len(self.n) - 3)
        weights = np.zeros(len(self.n))
        weights[first:] = slope_weights(self.n[first:])
        return float(self.n[first]), self.contrast(weights)

    def line(self, n: np.ndarray) -> np.ndarray:
        """The power law of least squares at n."""
        logarithms, x = np.log(self.value), np.log(self.n)
        return np.asarray(np.exp(logarithms.mean() + self.slope().value * (np.log(n) - x.mean())))

    def of(self, *names: str) -> "Curve":
        """With the errors of these sources only."""
        return Curve(self.n, self.value, tuple(one for one in self.sources if one.name in names))

    def over(self, exact: np.ndarray) -> "Curve":
        """The ratio to exact values (k,)."""
        return Curve(self.n, self.value / exact, self.sources)

    def less(self, offset: float) -> "Curve":
        """value - offset; errors to first order."""
        left = self.value - offset
        factor = (self.value / left)[:, None]
        return Curve(self.n, left, tuple(replace(one, deviates=factor * one.deviates) for one in self.sources))

    def covariance(self) -> np.ndarray:
        """(k, k), of the logarithms."""
        return sum((o.deviates @ o.deviates.T for o in self.sources), np.zeros((len(self.n), len(self.n))))


def _upper(tail: float, dof: float) -> float:
    """The number that Student's t exceeds with the probability `tail`; of a tiny tail too."""
    return -float(special.stdtrit(dof, tail) if math.isfinite(dof) else special.ndtri(tail))


def skewed(
    skewness: np.ndarray | float, others: np.ndarray | float, tail: float, quantile: np.ndarray | float
) -> np.ndarray:
    """By how many standard errors skewness moves both ends of an interval of the half width `quantile`.

    Of a studentised mean [Hall 1992]; and the other way of what is learned from `others`, whose quantile is moved by
    (z^2 - 1)/6 of the skewness [Cornish and Fisher 1938]. Half of the latter is taken: 32 others tell the skewness to
    0.4, and with half of it a test at 1 % alarms at 1.1 to 1.4 % for skewnesses of 0 to 1, with all or none at up to
    2.2 %.
    """
    square = special.ndtri(tail) ** 2
    moved = SKEWED * (skewness * (2 * square + 1) - others * (square - 1) / 2)
    return np.clip(moved, -_MOST * np.asarray(quantile), _MOST * np.asarray(quantile))


def number(value: float, sources: Sequence[ErrorSource]) -> Estimate:
    """log(value) of one positive number, with sources whose deviates are (1, m)."""
    return Curve(np.ones(1), np.array([value]), tuple(sources)).log_value(0)


def relative(value: float, sources: Sequence[ErrorSource]) -> Estimate:
    """A number of either sign, with sources whose deviates (1, m) are relative to its size."""
    return replace(number(1.0, sources).scaled(abs(value)), value=value)


def slope_weights(n: np.ndarray) -> np.ndarray:
    x = np.log(n) - np.log(n).mean()
    return np.asarray(x / (x @ x))


def curvature_weights(n: np.ndarray) -> np.ndarray:
    """Of a parabola a + b x + c x^2 in x = log(n): 2 c times the range of x is the change of its slope."""
    x = np.log(n) - np.log(n).mean()
    return np.asarray(2 * np.ptp(x) * np.linalg.pinv(np.stack([np.ones_like(x), x, x**2], axis=1))[2])


def mean_weights(n: np.ndarray) -> np.ndarray:
    return np.full(len(n), 1 / len(n))

"""Two-level estimates: many networks that were leapt, corrected by the few of them that were trained as well.

M networks are leapt (`ntkhpc.leaps`), with losses P, and m of them trained too, with losses L. For a moment T, which is
the mean, the unbiased variance or the variance that an endless test set would leave,

    T = T_M(P) + T_m(L) - T_m(P) ,

which is right however biased leaps are, and known as well as T_M(P) where L - P varies little [Giles 2015, doi
10.1017/S096249291500001X; control variates: Owen, Monte Carlo theory, ch. 8]. mu_L, sigma_L, eps_L and eps_pop are
made of these three moments.

The m networks are among the M, so that the two parts of a mean covary. With w = m/M, and mean_b over the M - m that
were leapt alone, it is the sum of two independent means,

    mu_L = mean_m[ L - (1 - w) P ] + (1 - w) mean_b P ,
    Var mu_L = Var[ L - (1 - w) P ]/m + (1 - w)^2 Var[P]/(M - m)
             = Var[P]/M + Var[L - P]/m + 2 Cov[P, L - P]/M .

Errors of all quantities are those of two independent samples, each by the jackknife: the networks that were trained
too, and those that were leapt alone. Intervals are those of `analysis.contrasts`: Student's, with degrees of freedom
from the kurtosis of the deviates and after Welch and Satterthwaite.

Differences of pairs may be skewed or not. The skewness that m = 20 of them show is mostly that of one far pair, has the
sign of the error that this pair makes, and would move the interval away from the truth. So of differences a skewness
counts as far as it stands out of chance (`contrasts.ErrorSource.skewing`).

Of 400 synthetic studies of 20 trained among 1,000 leapt networks, with leaps biased by 1.5 % and Var(L)/Var(L - P) of
25 and 300 (`make calibrate`), 68 % intervals of the four quantities and their exponents covered 64.8 to 70.2 %, 95 %
ones 94.2 to 98.0 %, and means over sizes of ratios to the exact law 65.0 to 73.3 and 93.2 to 96.7 %; those of mu_L by
leaps as they are 8 to 11 and 33 to 37 %. Ratios to linearised networks, whose error the 20 pairs make, covered 67.5
and 96 % for mu_L, 62 and 95 to 97 % for eps_L; 1,600 others 67.9 to 68.1 and 96.1 to 96.7 % for eps_L, where with the
whole of the skewness it was 65.2 to 66.0 and 95.1 to 95.5 %. With 10, 40 and 100 pairs they cover 66.8 to 68.8 and
94.5 to 97.7 % (2,000 studies each). Of leaps that are off by noise, or by what is exponential or log-normal, ratios
of eps_L cover 67 to 71 and 95 to 98 % with 10 to 60 pairs, those of mu_L 63 to 69 and 92 to 95 % with 20 or 60; of 10
skewed pairs 95 % intervals cover 90 to 92 %.

The coefficient of P is one. That of least squares, Cov(L, P)/Var(P), differs from one by the bias of leaps, about 2 %:
it would take (0.02)^2 Var(P)/m off the variance of the mean, about a hundredth, where its own error at m = 20 adds
Var(L - P)/m/(m - 3), and a bias. Nor are leaps taken as they are where their bias seems small: all that is known of
that is the correction with its error, and an interval that covers the bias has both of them in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import estimators
from analysis.contrasts import ErrorSource, Estimate, number, relative

NAMES = ("mu_L", "sigma_L", "eps_L", "eps_pop")

TRAINED, LEAPT = "members", "leaps"
"""The two sources of error: networks that were trained, and such that were leapt alone."""

FEWEST = 4
"""Networks that must have been trained and leapt; with fewer nothing is said of leaps."""

LARGEST = 0.1
"""Root mean square of P/L - 1 above which leaps are refused."""

_LEAST_ALONE = 3
"""Fewer networks that were leapt alone have no jackknife, and are left out."""


@dataclass(frozen=True)
class Sample:
    """Losses (M,) of networks, NaN for those that are in no number.

    For eps_pop also, over `points` test points, the mean square of l - (its mean over networks) of each network,
    `deviation` (M,), and the mean variance (ddof = 1) of the loss of one point; `points` = 0 where there are none.
    """

    loss: np.ndarray
    deviation: np.ndarray
    point_variance: float = math.nan
    points: int = 0

    @classmethod
    def of(cls, loss: np.ndarray) -> "Sample":
        """Without point losses."""
        return cls(loss, np.full(np.shape(loss), np.nan))

    @classmethod
    def of_points(cls, losses: np.ndarray) -> "Sample":
        """From losses (M, points), NaN rows for networks that are in no number."""
        there = np.isfinite(losses).all(axis=1)
        used = losses[there]
        deviation = np.full(len(losses), np.nan)
        deviation[there] = ((used - used.mean(axis=0)) ** 2).mean(axis=1)
        loss = np.where(there, losses.mean(axis=1), np.nan)
        return cls(loss, deviation, float(used.var(axis=0, ddof=1).mean()), losses.shape[1])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean, variance and population variance of L (3,), and (3, M) without each network that is in the sample."""
        there = np.isfinite(self.loss)
        m = int(there.sum())
        left_mean, left_variance = estimators.leave_one_out(self.loss)
        spread = np.where(there, self.deviation, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = self.points / (self.points - 1) if self.points > 1 else np.nan
            left_points = ((m - 1) * self.point_variance - m / (m - 1) * spread) / (m - 2)
            left_population = factor * (left_variance - left_points / self.points) if self.points else spread
        used = self.loss[there]
        variance = float(used.var(ddof=1))
        population = factor * (variance - self.point_variance / self.points) if self.points else np.nan
        whole = np.array([used.mean(), variance, population])
        left = np.stack([left_mean, left_variance, left_population])
        return whole, np.where(there, left, whole[:, None])


@dataclass(frozen=True)
class Quantity:
    """A value and the deviates (M,) of its logarithm: what each network does to it, 0 of those that do nothing.

    `paired` (M,) says which networks were trained and leapt; the others are an independent sample. The sum of squares
    of all deviates is the variance of the logarithm, products with those of another quantity of the same networks are
    their covariance. NaN deviates where the value has no logarithm or no error.
    """

    value: float
    deviates: np.ndarray
    paired: np.ndarray

    @property
    def is_known(self) -> bool:
        return bool(self.value > 0 and np.isfinite(self.deviates).all() and self.deviates.any())

    def sources(self) -> tuple[ErrorSource, ...]:
        """With deviates (1, M); no source where nothing moves."""
        return sources(self.deviates[None], self.paired)

    def estimate(self) -> Estimate | None:
        """The value with its error; None where it is not known."""
        return relative(self.value, self.sources()) if self.is_known else None

    def log_ratio(self, other: "Quantity") -> Estimate | None:
        """log(this/other), both of the same networks; None where one is not known."""
        if not (self.is_known and other.is_known):
            return None
        return number(self.value / other.value, sources((self.deviates - other.deviates)[None], self.paired, True))


def sources(deviates: np.ndarray, paired: np.ndarray, ratio: bool = False) -> tuple[ErrorSource, ...]:
    """Of deviates (k, M): a source for the networks that were trained too, and one for those leapt alone.

    Those of the trained ones are of differences from leaps where there are any leapt alone, and of a `ratio` of
    quantities of the same networks anyway.
    """
    trained, alone = np.where(paired, deviates, 0.0), np.where(paired, 0.0, deviates)
    found = (ErrorSource(TRAINED, trained, differences=ratio or bool(alone.any())), ErrorSource(LEAPT, alone))
    return tuple(one for one in found if one.deviates.any())


def over_draws(found: Sequence[Quantity]) -> Quantity:
    """The mean over draws of the training set: a network begins alike at each, and what it does is averaged."""
    deviates = np.mean([one.deviates for one in found], axis=0)
    return Quantity(float(np.mean([one.value for one in found])), deviates, found[0].paired)


@dataclass(frozen=True)
class Levels:
    """Losses of M networks: `leapt` of all, and of those that were trained and leapt `trained` and `paired`.

    All three are (M,) with NaN for networks that are not in them.
    """

    trained: Sample
    paired: Sample
    leapt: Sample

    @classmethod
    def of(cls, trained: np.ndarray, leapt: np.ndarray) -> "Levels":
        """From losses trained (m,) and leapt (M,), or (m, points) and (M, points), of which the first are the same
        networks; NaN for those that diverged. A network of which one of two losses is NaN is in no number.

        Raises ValueError for more trained than leapt networks, or shapes that differ.
        """
        trained, leapt = (np.asarray(one, float) for one in (trained, leapt))
        if trained.ndim != leapt.ndim or trained.shape[1:] != leapt.shape[1:] or trained.ndim not in (1, 2):
            raise ValueError(f"trained {trained.shape} and leapt {leapt.shape} must be (m,) and (M,), or (m, points)")
        if len(trained) > len(leapt):
            raise ValueError(f"{len(trained)} networks were trained and {len(leapt)} leapt: give those that were both")
        whole = np.full(leapt.shape, np.nan)
        whole[: len(trained)] = trained
        first = np.arange(len(leapt)) < len(trained)
        well, leapt_well = (
            np.isfinite(one) if one.ndim == 1 else np.isfinite(one).all(axis=1) for one in (whole, leapt)
        )
        both, used = well & leapt_well, leapt_well & (well | ~first)
        make = Sample.of if leapt.ndim == 1 else Sample.of_points

        def only(losses: np.ndarray, there: np.ndarray) -> Sample:
            return make(np.where(there.reshape(-1, *[1] * (losses.ndim - 1)), losses, np.nan))

        return cls(only(whole, both), only(leapt, both), only(leapt, used))

    @property
    def both(self) -> np.ndarray:
        """Which networks (M,) were trained and leapt."""
        return np.isfinite(self.trained.loss)

    @property
    def alone(self) -> np.ndarray:
        """Which networks (M,) were leapt alone."""
        return np.isfinite(self.leapt.loss) & ~self.both

    def without_alone(self) -> "Levels":
        """Of the networks that were trained alone: leaps cancel, and the estimates are those of the trained ones."""
        return replace(self, leapt=self.paired)

    def quantities(self) -> dict[str, Quantity]:
        """Two-level estimates by NAMES; NaN with fewer than FEWEST networks of both."""
        if 0 < self.alone.sum() < _LEAST_ALONE:
            return self.without_alone().quantities()
        if self.both.sum() < FEWEST:
            nothing = np.full(self.both.shape, np.nan)
            return {name: Quantity(math.nan, nothing, self.both) for name in NAMES}
        (every, left_every), (own, left_own), (same, left_same) = (
            one.moments() for one in (self.leapt, self.trained, self.paired)
        )
        return self._made(every + own - same, left_every + left_own - left_same)

    def leapt_alone(self) -> dict[str, Quantity]:
        """By NAMES, of all that were leapt as if they had been trained: biased, and their errors do not say so."""
        if np.isfinite(self.leapt.loss).sum() < FEWEST:
            return self.quantities()
        return self._made(*self.leapt.moments())

    def _made(self, whole: np.ndarray, left: np.ndarray) -> dict[str, Quantity]:
        values, logarithms = _values(whole), _logarithms(left)
        groups = [one for one in (self.both, self.alone) if one.any()]
        return {
            name: Quantity(
                values[name],
                np.sum([estimators.deviates(logarithms[name], one) for one in groups], axis=0),
                self.both,
            )
            for name in NAMES
        }

    def accuracy(self) -> "Accuracy":
        return Accuracy.of(self.trained.loss[self.both], self.paired.loss[self.both])


def _values(moments: np.ndarray) -> dict[str, float]:
    mean, variance, population = map(float, moments)
    sigma = math.sqrt(variance) if variance >= 0 else math.nan
    eps_pop = float(estimators.signed_root(np.array(population))) / mean
    return {"mu_L": mean, "sigma_L": sigma, "eps_L": sigma / mean, "eps_pop": eps_pop}


def _logarithms(moments: np.ndarray) -> dict[str, np.ndarray]:
    """NaN where a moment is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, variance, population = np.log(np.where(moments > 0, moments, np.nan))
    return {"mu_L": mean, "sigma_L": variance / 2, "eps_L": variance / 2 - mean, "eps_pop": population / 2 - mean}


@dataclass(frozen=True)
class Accuracy:
    """Leaps against training, of `networks` that were both.

    `bias` is the mean of P/L - 1, `rms` its root mean square; `reduction` is Var(L)/Var(L - P): by how much the
    correction of the mean varies less than the mean of as many trained networks. NaN with fewer than FEWEST networks.
    """

    networks: int
    bias: Estimate
    rms: float
    correlation: float
    reduction: float

    @classmethod
    def of(cls, trained: np.ndarray, leapt: np.ndarray) -> "Accuracy":
        """From finite losses (m,) of the same networks."""
        m = len(trained)
        if m < FEWEST:
            return cls(m, Estimate(math.nan, {}), math.nan, math.nan, math.nan)
        off, less = leapt / trained - 1, trained - leapt
        moved = (off - off.mean()) / math.sqrt(m * (m - 1))
        bias = replace(number(1.0, [ErrorSource(TRAINED, moved[None])]), value=float(off.mean()))
        with np.errstate(invalid="ignore", divide="ignore"):
            return cls(
                m,
                bias,
                float(np.sqrt((off**2).mean())),
                float(np.corrcoef(trained, leapt)[0, 1]),
                float(trained.var(ddof=1) / less.var(ddof=1)),
            )

    @property
    def refusal(self) -> str:
        """Why no number of the leaps is given; empty where they are accurate enough."""
        if self.networks < FEWEST:
            return f"only {self.networks} of the leapt networks were trained too: {FEWEST} are needed to judge leaps"
        if not self.rms <= LARGEST:
            return f"the losses of leaps are off by {100 * self.rms:.0f} % rms, more than {100 * LARGEST:.0f} %"
        return ""

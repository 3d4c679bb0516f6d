"""Statistics of the test loss from products of its covariance Sigma with random signs, and their standard errors.

Probes z (m,) of independent signs give g = Sigma z and h = z * g, entry by entry, of which

    E z.g = tr Sigma ;  E |g|^2 = tr Sigma^2 ;  E h_a = Sigma_aa ;  E h.h' = sum_a Sigma_aa^2  for two different probes

without bias. What sigma_pop^2 needs, sum_a Sigma_aa^2, is the mean of h_i.h_j over all pairs of different probes, a
U-statistic. With it tr Sigma^2 - sum_a Sigma_aa^2 is the sum over test points of the sample variance of h_a.
Standard errors are those of the jackknife over probes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkhpc import seeds

NAMES = ("mu_L", "sigma2_L", "eps_L", "population_variance", "eps_pop", "bias2", "variance")

FEWEST = 8
"""Fewer probes do not tell their own error."""

CHECKS = 8
"""Further probes, which measure the error of the mean."""

RANK = 200
"""Of the preconditioner, if nothing else is said."""

_SHARED = 0.4
"""Products fall with this power of the number of vectors: 37 for 41, 13 for 501 (8,000 points, 25 features, ReLU)."""

_MOST_POINTS = 1024


@dataclass(frozen=True)
class Estimated:
    """A number, its standard error by the choice of probes (0: none have a part in it), and by how much residuals may
    change it."""

    value: float
    probe_error: float
    residual_error: float

    @property
    def error(self) -> float:
        """Both together, in quadrature."""
        return float(np.hypot(self.probe_error, self.residual_error))


@dataclass(frozen=True)
class Sums:
    """What the statistics of L are made of, or bounds of their errors; numbers, or arrays of equal shapes.

    trace: tr Sigma; trace2: tr Sigma^2; diagonal2: sum_a Sigma_aa^2; weighted: sum_a |d_a|^2 Sigma_aa; bias: sum |d|^2;
    form: sum_k d_k^T Sigma d_k.
    """

    trace: Any
    trace2: Any
    diagonal2: Any
    weighted: Any
    bias: Any
    form: Any


def pair_operations(features: int, depth: int) -> float:
    """Floating operations for an entry of both kernels: two a feature, and the activation's expectations, which take
    as long as 480 a layer."""
    return 2.0 * features + 480 * depth


def products(columns: int) -> float:
    """How many products a search is expected to take for so many right-hand sides, at 8,000 training points."""
    return 37 * (41 / columns) ** _SHARED


def exact_costs_less(operations: float, points: int, outputs: int, probes: int) -> bool:
    """Whether solving for every test point is expected to cost less than the two rounds with probes.

    `operations` make a pair of entries, which then take 4 operations a vector. A search that vectors share needs fewer
    products the more they are. Beyond a thousand test points it is never so, for the sake of memory.
    """

    def cost(columns: int) -> float:
        return (operations + 4 * columns) * products(columns)

    if points <= probes:
        return True
    return points <= _MOST_POINTS and cost(points + outputs) <= 2 * cost(probes + outputs + CHECKS)


def signs(points: int, count: int, seed: int, number: int = 0) -> np.ndarray:
    """Random signs (points, count); the first ones are the same for every count."""
    drawn = seeds.generator(seed, seeds.PROBES, number).integers(0, 2, size=(count, points), dtype=np.int8)
    return np.ascontiguousarray(2.0 * drawn.T - 1)


def exact_sums(covariance: np.ndarray, d: np.ndarray) -> Sums:
    """From Sigma (m, m) itself and d = mean - y (m, outputs)."""
    diagonal, d2 = np.diag(covariance), (d**2).sum(axis=1)
    return Sums(
        trace=diagonal.sum(),
        trace2=np.vdot(covariance, covariance),
        diagonal2=diagonal @ diagonal,
        weighted=d2 @ diagonal,
        bias=d2.sum(),
        form=np.vdot(d, covariance @ d),
    )


def probed_sums(probes: np.ndarray, turned: np.ndarray, d: np.ndarray, form: float) -> tuple[Sums, Sums]:
    """From probes (m, p) and Sigma times them (m, p), d (m, outputs) and sum_k d_k^T Sigma d_k; of all probes, and
    arrays (p,) of all probes but one."""
    points, p = probes * turned, probes.shape[1]
    gram = points.T @ points
    trace, trace2, d2 = points.sum(axis=0), np.diag(gram), (d**2).sum(axis=1)
    weighted, pairs = d2 @ points, gram.sum(axis=1) - trace2
    bias = d2.sum()
    whole = Sums(trace.mean(), trace2.mean(), pairs.sum() / (p * (p - 1)), weighted.mean(), bias, form)
    without = Sums(
        (trace.sum() - trace) / (p - 1),
        (trace2.sum() - trace2) / (p - 1),
        (pairs.sum() - 2 * pairs) / ((p - 1) * (p - 2)),
        (weighted.sum() - weighted) / (p - 1),
        np.full(p, bias),
        np.full(p, form),
    )
    return whole, without


def statistics_of(sums: Sums, points: int, outputs: int) -> dict[str, Any]:
    """Moments of L on so many test points by the formulas of `loss_law`; sigma_pop is NaN for one point."""
    s = 1 / (2 * points * outputs)
    mu = s * (outputs * sums.trace + sums.bias)
    sigma2 = 2 * s**2 * (outputs * sums.trace2 + 2 * sums.form)
    single = (outputs * sums.diagonal2 + 2 * sums.weighted) / (2 * outputs**2 * points**2)
    population = (sigma2 - single) * (points / (points - 1) if points > 1 else np.nan)
    values = (mu, sigma2, np.sqrt(sigma2) / mu, population, _signed_root(population) / mu,
              s * sums.bias, s * outputs * sums.trace)  # fmt: skip
    return dict(zip(NAMES, values, strict=True))


def jackknife(whole: Sums, without: Sums, points: int, outputs: int) -> dict[str, float]:
    """Standard errors of the statistics, from those of all probes but one; 0 where probes have no part in a number.

    That of eps_pop is from sigma_pop^2 plus and minus its error, the larger: the root is steep where it may be zero.
    """
    values, left_out = statistics_of(whole, points, outputs), statistics_of(without, points, outputs)
    errors = {}
    for name, column in left_out.items():
        p = len(column)
        errors[name] = math.sqrt((p - 1) / p * float(((column - column.mean()) ** 2).sum()))
    errors["bias2"] = 0.0
    along = abs(values["eps_pop"]) * errors["mu_L"] / values["mu_L"]
    errors["eps_pop"] = math.hypot(_moved(values, errors["population_variance"]), along)
    return errors


def propagated(sums: Sums, bounds: Sums, points: int, outputs: int) -> dict[str, float]:
    """By how much the statistics may be wrong where the sums may be wrong by `bounds`: all of them to one side."""
    values, linear = statistics_of(sums, points, outputs), statistics_of(bounds, points, outputs)
    mu, sigma2 = linear["mu_L"], linear["sigma2_L"]
    single = (outputs * bounds.diagonal2 + 2 * bounds.weighted) / (2 * outputs**2 * points**2)
    of_population = (sigma2 + single) * (points / (points - 1) if points > 1 else np.nan)
    errors = (
        mu,
        sigma2,
        values["eps_L"] * (sigma2 / (2 * values["sigma2_L"]) + mu / values["mu_L"]),
        of_population,
        _moved(values, of_population) + abs(values["eps_pop"]) * mu / values["mu_L"],
        linear["bias2"],
        linear["variance"],
    )
    return {name: float(error) for name, error in zip(NAMES, errors, strict=True)}


def _moved(values: dict[str, Any], by: float) -> float:
    """How far eps_pop goes where sigma_pop^2 goes up or down by so much."""
    population = values["population_variance"]
    ends = (_signed_root(population + sign * by) for sign in (-1, 1))
    return float(max(abs(end - _signed_root(population)) for end in ends) / values["mu_L"])


def _signed_root(value: Any) -> Any:
    return np.copysign(np.sqrt(np.abs(value)), value)

"""What another set of test points would change in an exact curve, from what each point adds to it.

With m_a = E l_a, c_a = Cov(l_a, L) and v_a = Var l_a of T independent test points, over initialisations,

    mu_L = mean m_a ;  sigma_pop^2 = mean r_a, r_a = (T c_a - v_a)/(T - 1) = mean over b != a of Cov(l_a, l_b)
    sigma_L^2 = [(T - 1) sigma_pop^2 + mean v_a]/T

so that mu_L is a mean, sigma_pop^2 a U-statistic of order 2, of which another set moves 2 mean(r_a - sigma_pop^2) to
leading order [Hoeffding, Ann. Math. Statist. 19 (1948) 293], and sigma_L^2 for a set of T points both. The derivative of
a value with respect to the weight of point a, T times, is the influence of the infinitesimal jackknife [Efron and Stein,
Ann. Statist. 9 (1981) 586]: covariances over test sets are sums over points of its products, over T (T - 1). As every
size of a curve is tested on the same points, its values move together, and slopes far less than values.
"""

import numpy as np

from analysis.estimators import Leverage

FEWEST = 3
"""Test points without which the influence of one of them on sigma_pop^2 cannot be told."""


def influences(point_mean: np.ndarray, point_covariance: np.ndarray, point_variance: np.ndarray) -> dict[str, Leverage]:
    """Of each test point on log mu_L, log sigma_L, log eps_L and log |eps_pop|, by the names of the four.

    The arrays are (..., k, T), over the k sizes of a curve and T test points, as `curve_point_mean`,
    `curve_point_covariance` and `curve_point_variance` of a store are. Each Leverage has values (..., k, T), stderr
    (..., k) and covariance (..., k, k): the error due to the test points of any contrast w of logarithms, a slope for
    one, is sqrt(w C w). NaN for fewer than 3 points.

    Where sigma_pop^2 is not many times its own error, log |eps_pop| is no Gaussian variable and the error says no more
    than that it is large.
    """
    points = point_mean.shape[-1]
    mu = point_mean.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        row = (points * point_covariance - point_variance) / np.float64(points - 1)
        population, single = row.mean(axis=-1, keepdims=True), point_variance.mean(axis=-1, keepdims=True)
        of_population = 2 * (row - population) if points >= FEWEST else np.full_like(row, np.nan)
        of_variance = ((points - 1) * of_population + point_variance - single) / points
        log_mu = point_mean / mu - 1
        log_sigma = of_variance / (2 * point_covariance.mean(axis=-1, keepdims=True))
        log_population = of_population / (2 * population)
    return {
        "mu_L": Leverage(log_mu),
        "sigma_L": Leverage(log_sigma),
        "eps_L": Leverage(log_sigma - log_mu),
        "eps_pop": Leverage(log_population - log_mu),
    }


def point_variance(point_mean: np.ndarray, output_variance: np.ndarray, outputs: int) -> np.ndarray:
    """Var l_a (..., T) from E l_a and the variance s_a of every output (..., T): s_a (4 E l_a - s_a)/(2 outputs).

    For the laws of a store: `law_point_mean` and `law_variance`.
    """
    return output_variance * (4 * point_mean - output_variance) / (2 * outputs)

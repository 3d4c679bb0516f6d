"""What another set of test points would change in an exact curve, from what each point adds to it.

With m_a = E l_a, c_a = Cov(l_a, L) and v_a = Var l_a of T independent test points, over initialisations,

    mu_L = mean m_a ;  sigma_pop^2 = mean r_a ,  r_a = (T c_a - v_a)/(T - 1) = mean over b != a of Cov(l_a, l_b)
    sigma_L^2 = [(T - 1) sigma_pop^2 + mean v_a]/T

so mu_L is a mean, sigma_pop^2 a U-statistic of order 2, of which another set moves 2 mean(r_a - sigma_pop^2) to leading
order [Hoeffding 1948, doi 10.1214/aoms/1177730196], and sigma_L^2 for a set of T points follows from both. Leaving out
one point is in closed form, sigma_pop^2 -> (T sigma_pop^2 - 2 r_a)/(T - 2), and the jackknife does the rest [Arvesen
1969, doi 10.1214/aoms/1177697287]. All sizes of a curve are tested on the same points: their values move together, and
slopes by far less than values.

Intervals are those of `analysis.contrasts`. Where few points carry the loss, and so few degrees of freedom are left,
they cover less than they say.
"""

import numpy as np

from analysis.estimators import Leverage, leverage


def influences(point_mean: np.ndarray, point_covariance: np.ndarray, point_variance: np.ndarray) -> dict[str, Leverage]:
    """Of each test point on log mu_L, log sigma_L, log eps_L and log |eps_pop|, by the names of the four.

    The arrays are (..., k, T), over the k sizes of a curve and T test points, as `curve_point_mean`,
    `curve_point_covariance` and `curve_point_variance` of a store are. Each Leverage has values (..., k, T), stderr
    (..., k) and covariance C (..., k, k): the error due to the test points of a contrast w of logarithms, a slope for
    one, is sqrt(w C w). NaN for fewer than 3 points, mu_L for fewer than 2.

    Where sigma_pop^2 is not many times its own error, that of log |eps_pop| says no more than that it is large.
    """
    m, points = point_mean, point_mean.shape[-1]

    def mean(values: np.ndarray) -> np.ndarray:
        return values.mean(axis=-1, keepdims=True)

    def without(values: np.ndarray) -> np.ndarray:
        """Mean without each point."""
        return (points * mean(values) - values) / np.float64(points - 1)

    with np.errstate(divide="ignore", invalid="ignore"):
        row = (points * point_covariance - point_variance) / np.float64(points - 1)
        population = (points * mean(row) - 2 * row) / np.float64(points - 2)
        variance = ((points - 1) * population + without(point_variance)) / points
        log_mu, log_sigma, log_population = np.log(without(m)), np.log(variance) / 2, np.log(np.abs(population)) / 2
    logarithms = {"mu_L": log_mu, "sigma_L": log_sigma, "eps_L": log_sigma - log_mu, "eps_pop": log_population - log_mu}
    return {name: leverage(values) for name, values in logarithms.items()}


def point_variance(point_mean: np.ndarray, output_variance: np.ndarray, outputs: int) -> np.ndarray:
    """Var l_a (..., T) from E l_a and the variance s_a of every output (..., T): s_a (4 E l_a - s_a)/(2 outputs).

    For the laws of a store: `law_point_mean` and `law_variance`.
    """
    return output_variance * (4 * point_mean - output_variance) / (2 * outputs)

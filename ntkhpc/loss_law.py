"""The law of the test loss of networks whose outputs are Gaussian over initialisations.

    L = s sum over test points a and outputs k of (f_ak - y_ak)^2 ,  s = 1/(2 N_T K)
    f_.k ~ N(m_k, Sigma), outputs independent;  d_k = m_k - y_k
    kappa_r = s^r 2^(r-1) (r-1)! sum_k [ tr Sigma^r + r d_k^T Sigma^(r-1) d_k ]

mu_L = kappa_1, sigma_L^2 = kappa_2, eps_L = sigma_L/mu_L.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntkhpc import linalg

_MOST_FREQUENCIES = 2**16

COLUMNS = ("mu_L", "sigma_L", "eps_L", "eps_pop", "bias2", "variance")


@dataclass(frozen=True)
class Statistics:
    """Moments of the test loss; `population_variance` is sigma_pop^2 and may come out negative (it is not clipped).

    `size_variance` is, per test-set size, the variance of L on a block of that many test points, averaged over the
    disjoint blocks; `largest_share` is the largest single point's share of mu_L. `point_mean`, `point_variance` and
    `point_covariance` (m,) are E l_a, Var l_a and Cov(l_a, L) of each test point: the mean of the first is mu_L, of the
    last sigma_L^2.
    """

    mu_L: float
    sigma2_L: float
    population_variance: float
    bias2: float
    variance: float
    size_variance: tuple[float, ...]
    largest_share: float
    point_mean: np.ndarray
    point_variance: np.ndarray
    point_covariance: np.ndarray

    @property
    def sigma_L(self) -> float:
        return math.sqrt(self.sigma2_L)

    @property
    def eps_L(self) -> float:
        return self.sigma_L / self.mu_L

    @property
    def eps_pop(self) -> float:
        """sigma_pop/mu_L, with the sign of sigma_pop^2."""
        return math.copysign(math.sqrt(abs(self.population_variance)), self.population_variance) / self.mu_L


def statistics(
    mean: np.ndarray, covariance: np.ndarray, y_test: np.ndarray, test_sizes: Sequence[int] = ()
) -> Statistics:
    """Moments of L from mean (m, outputs), covariance (m, m) and targets (m, outputs)."""
    _require_fit(mean, covariance, y_test)
    d = mean - y_test
    turned = covariance @ d
    mu, sigma2 = (float(one) for one in _cumulants(d, covariance, 2, turned))
    point_mean, point_variance = point_moments(mean, covariance, y_test)
    return Statistics(
        mu_L=mu,
        sigma2_L=sigma2,
        population_variance=population_variance(sigma2, point_variance),
        bias2=float((d**2).mean() / 2),
        variance=float(np.trace(covariance) / (2 * len(d))),
        size_variance=tuple(sigma2 if size == len(d) else _block_variance(d, covariance, size) for size in test_sizes),
        largest_share=float(point_mean.max() / point_mean.sum()),
        point_mean=point_mean,
        point_variance=point_variance,
        point_covariance=_point_covariance(d, covariance, turned),
    )


def loss_moments(mean: np.ndarray, covariance: np.ndarray, y_test: np.ndarray, max_order: int = 4) -> np.ndarray:
    """Cumulants kappa_1 .. kappa_max_order (at most 4) of the test loss, (max_order,).

    mean, y_test (m, outputs); covariance (m, m), of every output. Raises ValueError for other shapes or orders.
    """
    _require_fit(mean, covariance, y_test)
    if not 1 <= max_order <= 4:
        raise ValueError(f"max_order = {max_order} must be 1 to 4")
    d = mean - y_test
    return _cumulants(d, covariance, max_order, covariance @ d if max_order > 1 else None)


def _require_fit(mean: np.ndarray, covariance: np.ndarray, y_test: np.ndarray) -> None:
    if mean.shape != y_test.shape or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"mean {mean.shape}, y_test {y_test.shape} and covariance {covariance.shape} do not fit")


def _cumulants(d: np.ndarray, covariance: np.ndarray, max_order: int, turned: np.ndarray | None) -> np.ndarray:
    """kappa_1 .. kappa_max_order from d (m, outputs), Sigma (m, m), and Sigma d = `turned` from the second on."""
    outputs, scale = d.shape[1], 1 / (2 * d.size)
    traces, forms = [np.trace(covariance)], [np.vdot(d, d)]
    if turned is not None:
        flat = covariance.ravel()  # a block of a matrix is copied, which vdot would do twice
        traces.append(np.vdot(flat, flat))
        forms.append(np.vdot(d, turned))
    if turned is not None and max_order >= 3:
        squared = covariance @ covariance
        traces += [np.vdot(squared, covariance), np.vdot(squared, squared)]
        forms += [np.vdot(turned, turned), np.vdot(turned, covariance @ turned)]
    return np.array(
        [
            scale**r * 2 ** (r - 1) * math.factorial(r - 1) * (outputs * traces[r - 1] + r * forms[r - 1])
            for r in range(1, max_order + 1)
        ]
    )


def point_moments(mean: np.ndarray, covariance: np.ndarray, y_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (m,) over initialisations of the loss l_a of each single test point; L is their mean."""
    outputs, variance = mean.shape[1], np.diag(covariance)
    d2 = ((mean - y_test) ** 2).sum(axis=1)
    return (d2 + outputs * variance) / (2 * outputs), variance * (outputs * variance + 2 * d2) / (2 * outputs**2)


def point_covariance(mean: np.ndarray, covariance: np.ndarray, y_test: np.ndarray) -> np.ndarray:
    """Cov(l_a, L) (m,) over initialisations of each test point's loss with the mean of all m; their mean is sigma_L^2.

    Cov(l_a, l_b) = [K Sigma_ab^2 + 2 Sigma_ab d_a . d_b]/(2 K^2), averaged over b without an (m, m) matrix of its own.
    """
    d = mean - y_test
    return _point_covariance(d, covariance, covariance @ d)


def _point_covariance(d: np.ndarray, covariance: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """From d (m, outputs), Sigma (m, m) and Sigma d = `turned`."""
    points, outputs = d.shape
    squares = np.einsum("ab,ab->a", covariance, covariance)
    crossed = np.einsum("ak,ak->a", d, turned)
    return (outputs * squares + 2 * crossed) / (2 * outputs**2 * points)


def population_variance(loss_variance: float, point_variance: np.ndarray) -> float:
    """sigma_pop^2 = m/(m-1) [Var L - sum_a Var(l_a)/m^2]: what of Var L an endless test set would leave.

    point_variance is (m,); NaN for m = 1.
    """
    m = len(point_variance)
    return m / (m - 1) * (loss_variance - float(point_variance.sum()) / m**2) if m > 1 else math.nan


def _block_variance(d: np.ndarray, covariance: np.ndarray, size: int) -> float:
    """Var L on `size` test points, the mean over the disjoint blocks of that size."""
    blocks = [slice(start, start + size) for start in range(0, len(d) - size + 1, size)]
    return float(np.mean([_cumulants(d[b], covariance[b, b], 2, covariance[b, b] @ d[b])[1] for b in blocks]))


def quantiles(mean: np.ndarray, covariance: np.ndarray, y_test: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The loss below which L lies with each probability; arguments as in `loss_moments`.

    In the eigenbasis of Sigma, L is a sum of independent scaled noncentral chi-squared variables, whose characteristic
    function is known; its Fourier series over a period that holds all but a negligible tail gives the distribution.
    Right to 1e-6 in probability for many test points, to half a per cent for one, whose density is infinite at 0. Where
    Sigma is 0 all are mu_L.
    """
    if not covariance.any():
        return np.full(len(probabilities), loss_moments(mean, covariance, y_test, max_order=1)[0])
    outputs, scale = mean.shape[1], 1 / (2 * mean.size)
    values, vectors = linalg.eigh(covariance)
    shifts = ((vectors.T @ (mean - y_test)) ** 2).sum(axis=1)
    mu, sigma2 = loss_moments(mean, covariance, y_test, max_order=2)
    sigma = math.sqrt(sigma2)
    # Components too narrow to be seen move L by their mean only.
    weights = np.maximum(values, 0) * scale
    widths = 2 * outputs * weights**2 + 4 * weights * scale * shifts
    order = np.argsort(widths)
    kept = order[np.cumsum(widths[order]) > 1e-9 * sigma2]
    weights, centred = weights[kept], scale * shifts[kept]
    start, period, base = max(0.0, mu - 12 * sigma), 44 * sigma, 1024
    while True:
        phi = _characteristic(2 * np.pi / period * np.arange(1, base + 1), weights, centred, outputs)
        if abs(phi[-1]) < 1e-9 or base >= _MOST_FREQUENCIES:
            break
        base *= 4
    frequency = 2 * np.pi / period * np.arange(1, base + 1)
    grid = start + period * np.arange(8 * base) / (8 * base)
    series = np.zeros(len(grid), complex)
    series[1 : base + 1] = phi * np.exp(-1j * frequency * (start - mu)) / (-1j * frequency)
    wave = np.fft.fft(series).real
    cdf = np.maximum.accumulate(np.clip((grid - start + 2 * (wave - wave[0])) / period, 0, 1))
    return np.interp(probabilities, cdf, grid)


def _characteristic(frequency: np.ndarray, weights: np.ndarray, centred: np.ndarray, outputs: int) -> np.ndarray:
    """E exp(i frequency (L - mu)) for L - mu = sum_j w_j (chi2_K - K) + noncentral part with mean `centred`_j."""
    log_phi = np.zeros(len(frequency), complex)
    for weight, shift in zip(weights, centred, strict=True):
        z = 2j * frequency * weight
        log_phi += -0.5 * outputs * (np.log1p(-z) + z) + 1j * frequency * shift * (z / (1 - z))
    return np.exp(log_phi)

"""Beyond the saddle point: the posterior of the order parameter itself, and the mixture of Gaussians it makes.

    f | Qb ~ GP(0, Qb K) ,  Qb ~ Gamma(N1/2, rate N1/2)
    p(u | y) ~ exp(-Phi(u)/2) ,  u = log Qb ,  Phi = N1 (Qb - 1 - log Qb) + log det A + y^T A^-1 y

[arXiv:2209.04882, before its saddle point. The Student t of that paper is in the variables conjugate to f: the prior
has the characteristic function (1 + s^T K s/N1)^(-N1/2), so that f itself is variance-gamma, with lighter tails.] Exact
at any width for linear networks. The integrals over u are sums over an even grid, which converge faster than any power
of its spacing for integrands that are smooth and vanish at both ends, as these do.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.special

from ntkhpc.bayesian import saddle
from ntkhpc.bayesian.posterior import Posterior, errors
from ntkhpc.bayesian.spectrum import Spectrum

_DEEP = 50.0
"""The grid ends where the log density is this much below its maximum: e^-50 is far below rounding."""

_MOST_NODES = 2**17


@dataclass(frozen=True, kw_only=True)
class MixturePosterior(Posterior):
    """Order parameter nodes (G,) with posterior weights (G,), which sum to 1; its posterior mean q_bar.

    The posterior at each test point is the mixture of Gaussians over the nodes; mean and point_variance are its own.
    quadrature_error: the change of log_evidence (absolute) or of test_loss (relative), whichever is larger, from the
    grid of twice the spacing; the error of the given values is far below it.
    """

    q_bar: float
    nodes: np.ndarray
    weights: np.ndarray
    quadrature_error: float


@dataclass(frozen=True)
class _Grid:
    """Even nodes in log Qb, the log density at each less its largest, and the largest."""

    log_q: np.ndarray
    log_density: np.ndarray
    log_top: float = 0.0

    @property
    def step(self) -> float:
        return float(self.log_q[1] - self.log_q[0]) if len(self.log_q) > 1 else 1.0

    @property
    def log_integral(self) -> float:
        return self._log_sum + math.log(self.step)

    @property
    def log_evidence(self) -> float:
        """The integral with the largest density, but without the (2 pi)^(-P/2) of the targets."""
        return self.log_integral + self.log_top

    @property
    def weights(self) -> np.ndarray:
        return np.exp(self.log_density - self._log_sum)

    @property
    def _log_sum(self) -> float:
        return float(scipy.special.logsumexp(self.log_density))

    def coarse(self) -> "_Grid":
        return _Grid(self.log_q[::2], self.log_density[::2], self.log_top)

    def kept(self) -> "_Grid":
        """The grid without nodes at either end that no sum can see. Nodes between two maxima stay: it is even."""
        seen = np.flatnonzero(self.log_density > self.log_density.max() - _DEEP)
        inside = slice(seen[0], seen[-1] + 1)
        return _Grid(self.log_q[inside], self.log_density[inside], self.log_top)


def solve(
    spectrum: Spectrum, y_test: np.ndarray, width: float, temperature: float, tolerance: float
) -> MixturePosterior:
    """The mixture at y_test (M, 1), on a grid refined until `quadrature_error` is below the tolerance.

    Raises RuntimeError if it does not get there.
    """
    gaussian = _moments(spectrum, temperature, np.ones(1), np.ones(1))
    common = {"temperature": temperature, "s": spectrum.sign(temperature)}
    infinite_width_loss = sum(errors(*gaussian, y_test))
    if width == math.inf:
        grid = _Grid(np.zeros(1), np.zeros(1), -0.5 * float(spectrum.data_action(np.zeros(1), temperature)[0]))
        nodes, weights, mean, variance, change = np.ones(1), np.ones(1), *gaussian, 0.0
    else:
        grid, change = _grid(spectrum, width, temperature, tolerance)
        nodes, weights = np.exp(grid.log_q), grid.weights
        mean, variance = _moments(spectrum, temperature, nodes, weights)
        rough = _moments(spectrum, temperature, nodes[::2], grid.coarse().weights)
        loss = sum(errors(mean, variance, y_test))
        change = max(change, abs(sum(errors(*rough, y_test)) / loss - 1) if loss else 0.0)
        if change > tolerance:
            raise RuntimeError(f"the quadrature over log Qb is off by {change:.1g}, more than {tolerance:g}")
    bias, spread = errors(mean, variance, y_test)
    return MixturePosterior(
        **common,
        mean=mean[:, 0],
        point_variance=variance[:, 0],
        bias=bias,
        variance=spread,
        log_evidence=grid.log_evidence - 0.5 * len(spectrum.values) * math.log(2 * math.pi),
        infinite_width_loss=infinite_width_loss,
        q_bar=float(nodes @ weights),
        nodes=nodes,
        weights=weights,
        quadrature_error=change,
    )


def _grid(spectrum: Spectrum, width: float, temperature: float, tolerance: float) -> tuple[_Grid, float]:
    """The grid of fewest nodes whose integral and mean of Qb agree with those of every second node.

    Densities are relative to that of the saddle point: the action itself may be too large to show a change of 1.
    """
    minima = saddle.minima(spectrum, [width], temperature)
    peaks = [math.log(found.q_bar[0]) for found in minima]
    top, n = peaks[0], width / 2

    def log_density(log_q: np.ndarray) -> np.ndarray:
        prior = n * (math.exp(top) * np.expm1(log_q - top) - (log_q - top))
        return -prior - 0.5 * spectrum.data_change(log_q, top, temperature)

    ends: list[float] = []
    for start, sign in ((min(peaks), -1), (max(peaks), 1)):
        reach = math.sqrt(2 / width)  # the prior's own width; growing, as towards Qb = 0 the density may fall slowly
        while log_density(np.array([start + sign * reach]))[0] > -_DEEP:
            reach *= 1.5
        ends.append(start + sign * reach)
    log_top = n * math.log(n) - n - float(scipy.special.gammaln(n)) - 0.5 * minima[0].action
    nodes = 65
    while nodes < _MOST_NODES:
        log_q = np.linspace(ends[0], ends[1], nodes)
        grid = _Grid(log_q, log_density(log_q), log_top)
        coarse = grid.coarse()
        # The variances grow with Qb, whose mean leans on the upper end of the grid.
        mean, rough = (float(np.exp(one.log_q - top) @ one.weights) for one in (grid, coarse))
        change = max(abs(grid.log_integral - coarse.log_integral), abs(rough / mean - 1))
        if change < tolerance / 10:
            return grid.kept(), change
        nodes = 2 * nodes - 1
    raise RuntimeError(f"the quadrature over log Qb does not converge with {nodes} nodes")


def _moments(
    spectrum: Spectrum, temperature: float, nodes: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (M, 1) of the mixture over order parameters (G,) with weights (G,)."""
    means, variances = spectrum.predict(nodes, temperature)
    mean = means @ weights
    return mean, (variances @ weights)[:, None] + (means - mean[:, :, None]) ** 2 @ weights

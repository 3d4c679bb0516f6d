"""One hidden layer of a non-odd activation, with an order parameter of its own for the mean of the hidden units.

    A = T I + Qb (K - M) + r M ,  M = m m^T ,  m = <phi>/sqrt(lam_1) ,  r = 1/(1 + Q)
    S(r, Qb) = Qb - Qb/r - log r + [ log det A + y^T A^-1 y ]/N1 , stationary in both

[arXiv:2209.04882, its supplement.] Q is conjugate to Qb and integrated along the imaginary axis, so the saddle is a
maximum in r and a minimum in Qb. As M has rank one, everything follows from the eigenbasis of K - M, with
B = T + Qb (K - M), g = m^T B^-1 m, b = m^T B^-1 y:  log det A = log det B + log(1 + r g),
y^T A^-1 y = y^T B^-1 y - r b^2/(1 + r g).
"""

import math
from dataclasses import dataclass

import numpy as np

from ntkhpc.bayesian.saddle import upward_roots
from ntkhpc.bayesian.spectrum import Spectrum

_STEP = 0.1


@dataclass(frozen=True)
class Centred:
    """The spectrum of K - M, with one output, and m in its eigenbasis (P,) and at the test points (M,)."""

    spectrum: Spectrum
    mean_train: np.ndarray
    mean_test: np.ndarray


@dataclass(frozen=True)
class TwoSaddle:
    """Qb, Q = 1/r - 1, and N1 S there (0 at Qb = r = 1 without data)."""

    q_bar: float
    q: float
    action: float


def solve(centred: Centred, width: float, temperature: float) -> TwoSaddle:
    """The saddle of least action. Raises ValueError for targets that are all zero at temperature 0, width <= P."""
    spectrum = centred.spectrum
    points, power = len(spectrum.values), float(spectrum.power.sum())
    if width == math.inf:
        return _saddle(centred, width, temperature, 1.0)
    if temperature == 0 and not power and points >= width:
        raise ValueError(f"all targets are zero and width {width:g} <= {points} points: no posterior at temperature 0")

    def equation(log_q: np.ndarray) -> np.ndarray:
        return np.array([_slope(centred, width, temperature, math.exp(u)) for u in log_q])

    # No sharp bounds here, as r enters: those of one order parameter, widened until they hold a root.
    excess = math.sqrt(spectrum.inverse_form() / width)
    if temperature > 0:
        excess = min(excess, power / (4 * temperature * width))
    lowest, highest = -1.0, math.log1p(excess) + 0.5
    while equation(np.array([lowest]))[0] > 0:
        lowest -= 2
    while equation(np.array([highest]))[0] < 0:
        highest += 2
    roots = upward_roots(equation, lowest, highest, _STEP)
    return min((_saddle(centred, width, temperature, math.exp(u)) for u in roots), key=lambda saddle: saddle.action)


def predict(centred: Centred, saddle: TwoSaddle, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (M, 1) and variance (M,) at the test points."""
    spectrum, m, r = centred.spectrum, centred.mean_train, 1 / (1 + saddle.q)
    b = temperature + saddle.q_bar * spectrum.values
    kappa = saddle.q_bar * spectrum.cross + r * np.outer(m, centred.mean_test)
    turned, y = kappa / b[:, None], spectrum.targets
    along = m @ turned
    shrink = r / (1 + r * float(m @ (m / b)))
    mean = turned.T @ y - shrink * np.outer(along, m @ (y / b[:, None]))
    prior = saddle.q_bar * spectrum.test + r * centred.mean_test**2
    variance = prior - np.einsum("ij,ij->j", kappa, turned) + shrink * along**2
    return mean, np.maximum(variance, 0)


def _slope(centred: Centred, width: float, temperature: float, q_bar: float) -> float:
    """dS/dQb at the maximum over r: 1 - 1/r + Tr A^-1 (K - M)/N1 - y^T A^-1 (K - M) A^-1 y/N1."""
    k, m, y = centred.spectrum.values, centred.mean_train, centred.spectrum.targets[:, 0]
    r = _maximum(centred, width, temperature, q_bar)
    b = temperature + q_bar * k
    mb = m / b
    shrink = r / (1 + r * float(m @ mb))
    answer = (y - shrink * float(mb @ y) * m) / b
    return 1 - 1 / r + float((k / b).sum() - shrink * (k * mb**2).sum() - (k * answer**2).sum()) / width


def _maximum(centred: Centred, width: float, temperature: float, q_bar: float) -> float:
    """The r of largest S at fixed Qb, of the at most three roots of a cubic.

    With rho = r/Qb, gamma = Qb g, beta = Qb b^2:
    (1 + gamma rho)^2 (1 - rho) + [ gamma rho^2 (1 + gamma rho) - beta rho^2 ]/N1 = 0.
    """
    b = temperature + q_bar * centred.spectrum.values
    mb = centred.mean_train / b
    gamma = q_bar * float(centred.mean_train @ mb)
    beta = q_bar * float(mb @ centred.spectrum.targets[:, 0]) ** 2
    size = max(1.0, gamma) ** 2  # keeps the coefficients near 1
    cubic = np.array(
        [
            gamma**2 * (1 / width - 1),
            gamma**2 - 2 * gamma + (gamma - beta) / width,
            2 * gamma - 1,
            1.0,
        ]
    )
    roots = np.roots(cubic / size)
    # Below 2 hidden units the cubic may have no positive root: S is then unbounded in r.
    rho = roots[(abs(roots.imag) < 1e-7 * abs(roots)) & (roots.real > 0)].real
    if not len(rho):
        raise ValueError(f"width = {width:g} is too narrow for two order parameters: the action has no saddle")
    for _ in range(2):  # roots of a polynomial come to 1e-15 of the largest coefficient only
        rho = rho - np.polyval(cubic, rho) / np.polyval(np.polyder(cubic), rho)
    rest = 1 + gamma * rho
    value = -1 / rho - np.log(rho) + (np.log(rest) - rho * beta / rest) / width
    return q_bar * float(rho[value.argmax()])


def _saddle(centred: Centred, width: float, temperature: float, q_bar: float) -> TwoSaddle:
    r = _maximum(centred, width, temperature, q_bar) if width < math.inf else 1.0
    m, y = centred.mean_train, centred.spectrum.targets[:, 0]
    b = temperature + q_bar * centred.spectrum.values
    rest = 1 + r * float(m @ (m / b))
    data = centred.spectrum.data_action(np.array([math.log(q_bar)]), temperature)[0]
    data += math.log(rest) - r * float(m @ (y / b)) ** 2 / rest
    order = width * (q_bar - q_bar / r - math.log(r)) if width < math.inf else 0.0
    return TwoSaddle(q_bar, 1 / r - 1, float(order + data))

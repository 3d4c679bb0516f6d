"""Gaussian integrals over the orthant where every variable is positive, for up to four variables.

Probabilities of up to three are arcsines. Of four, Plackett's identity [Plackett 1954] gives the mean product of signs
as three one-dimensional integrals: with the correlations of the first variable multiplied by t,

    d/dt E[sgn z1 sgn z2 sgn z3 sgn z4] = sum_j (2/pi)^2 r_1j/sqrt(1 - t^2 r_1j^2) asin(r_kl given z1 = zj = 0),

which is 0 at t = 0. Moments follow by partial integration: each derivative of a step is a density at zero.
"""

import functools
import math
from collections.abc import Callable
from itertools import combinations

import numpy as np

_NODES = 64
_LEGENDRE = np.polynomial.legendre.leggauss(_NODES)
_V, _WEIGHTS = (_LEGENDRE[0] + 1) / 2, _LEGENDRE[1] / 2
"""Nodes and weights of the integrals over [0, 1]."""


def arcsine(k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> np.ndarray:
    """asin of the correlation of two variables, accurate near 1 too; arrays broadcast."""
    return np.asarray(np.arctan2(k12, np.sqrt(np.maximum(k11 * k22 - k12 * k12, 0))))


def given_zero(k: np.ndarray, b: int) -> np.ndarray:
    """Covariances (q, m - 1, m - 1) of the other variables where variable b is zero, from k (q, m, m)."""
    rest = [i for i in range(k.shape[-1]) if i != b]
    column = k[:, rest, b]
    variance = np.maximum(k[:, b, b], np.finfo(float).tiny)
    return np.asarray(k[:, rest][:, :, rest] - column[:, :, None] * (column / variance[:, None])[:, None, :])


def four_signs(k: np.ndarray) -> np.ndarray:
    """E[sgn z1 sgn z2 sgn z3 sgn z4] (q,) of Gaussian variables of covariances k (q, 4, 4), no two of them parallel.

    Accurate to 1e-12; 1e-8 where four variables span less than four dimensions.
    """
    scale = 1 / np.sqrt(np.einsum("qii->qi", k))
    r = k * scale[:, :, None] * scale[:, None, :]
    # The path begins where the first variable is independent of the others: these should be so of one another.
    minors = np.stack([_determinant(r, [j for j in range(4) if j != i]) for i in range(4)])
    first = minors.argmax(axis=0)
    order = np.stack([np.delete(np.arange(4), i) for i in range(4)])[first]
    order = np.concatenate([first[:, None], order], axis=1)
    r = r[np.arange(len(r))[:, None, None], order[:, :, None], order[:, None, :]]
    start = np.maximum(minors.max(axis=0), 0)
    end = np.clip(np.linalg.det(r), 0, start)
    return np.asarray(sum(_path(r, j, start[:, None], end[:, None]) for j in (1, 2, 3)) * (2 / math.pi) ** 2)


def _path(r: np.ndarray, j: int, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """One of the three integrals, in s = asin(t r_1j) = s_1 (1 - v^2): roots of 1 - t at its end are smooth in v.

    `start` and `end` (q, 1) are the determinants of the correlations at t = 0 and 1, linear in t^2 between them.
    """
    k, m = (i for i in (1, 2, 3) if i != j)
    r1j, r1k, r1m, rjk, rjm, rkm = (r[:, a, b][:, None] for a, b in ((0, j), (0, k), (0, m), (j, k), (j, m), (k, m)))
    last = np.arcsin(np.clip(r1j, -1, 1))
    s, left = last * (1 - _V**2), last * _V**2
    safe = np.where(np.abs(r1j) > 1e-150, r1j, 1.0)
    below = np.sin(left) * np.sin(last + s) / safe**2  # 1 - t^2, without a subtraction
    square = 1 - below

    def conditional(rab: np.ndarray, r1a: np.ndarray, rja: np.ndarray, r1b: np.ndarray, rjb: np.ndarray) -> np.ndarray:
        """Covariance of a and b where z1 = zj = 0, times 1 - t^2 r_1j^2."""
        return rab - rja * rjb - square * (rab * r1j**2 + r1a * r1b - r1j * (r1a * rjb + rja * r1b))

    root = np.cos(s) * np.sqrt(start * below + end * square)
    angle = np.arctan2(conditional(rkm, r1k, rjk, r1m, rjm), root)
    return np.asarray((angle * (2 * _V * _WEIGHTS)).sum(axis=1) * last[:, 0])


def _determinant(r: np.ndarray, rows: list[int]) -> np.ndarray:
    a, b, c = (r[:, i, j] for i, j in combinations(rows, 2))
    return np.asarray(1 + 2 * a * b * c - a * a - b * b - c * c)


def orthant_probability(k: np.ndarray) -> np.ndarray:
    """P(every z > 0) (q,) for covariances k (q, m, m), m from 0 to 4."""
    m = k.shape[-1]
    angles = sum(arcsine(k[:, i, j], k[:, i, i], k[:, j, j]) for i, j in combinations(range(m), 2))
    if m == 4:
        return np.asarray((1 + 2 / math.pi * angles + four_signs(k)) / 16)
    return np.asarray((1 + 2 / math.pi * angles) / 2**m + np.zeros(len(k)))


def orthant_moments(k: np.ndarray) -> Callable[[tuple[int, ...]], np.ndarray]:
    """The function powers -> E[prod_i z_i^powers_i; every z > 0] (q,), for covariances k (q, m, m), m from 1 to 4.

    No two variables are parallel. By partial integration over one of the variables i whose power is not zero,
    E[z_i g] = sum_b k_ib E[d g/dz_b]: the step of a variable b without a power gives its density at zero.
    """
    m = k.shape[-1]

    @functools.cache
    def where_zero(b: int) -> Callable[[tuple[int, ...]], np.ndarray]:
        return orthant_moments(given_zero(k, b))

    @functools.cache
    def moment(powers: tuple[int, ...]) -> np.ndarray:
        i = next((i for i, power in enumerate(powers) if power), None)
        if i is None:
            return orthant_probability(k)
        left = tuple(power - (j == i) for j, power in enumerate(powers))
        total = np.zeros(len(k))
        for b in range(m):
            if left[b]:
                lower = tuple(power - (j == b) for j, power in enumerate(left))
                total += left[b] * k[:, i, b] * moment(lower)
            elif m == 1:
                total += np.sqrt(np.maximum(k[:, 0, 0], 0) / (2 * math.pi))
            else:
                others = left[:b] + left[b + 1 :]
                total += _slope(k, i, b) / math.sqrt(2 * math.pi) * where_zero(b)(others)
        return total

    return moment


def _slope(k: np.ndarray, i: int, b: int) -> np.ndarray:
    """k_ib/sqrt(k_bb), which is no larger than sqrt(k_ii) but for rounding of a variance that vanishes."""
    most = np.sqrt(np.maximum(k[:, i, i], 0))
    positive = k[:, b, b] > 0
    return np.where(positive, np.clip(k[:, i, b] / np.sqrt(np.where(positive, k[:, b, b], 1)), -most, most), 0)

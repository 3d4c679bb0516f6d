"""Gaussian expectations of a nonlinearity s and its derivative s' at two and at four inputs, in closed form or nearly.

ReLU at four inputs is a moment over an orthant. erf(z) = E sgn(z + w) and erf'(z) = E 2 delta(z + w), w of variance 1/2
and one for each factor, so that erf is a mean product of signs at the covariances K + 1/2, however often an input
occurs. Only a product of four signs needs an integral (`orthants`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ntkhpc.networks import Activation
from ntkhpc.orthants import arcsine, four_signs, given_zero, orthant_moments

PARALLEL = 1e-9
"""sin^2 of the angle between two inputs below which ReLU takes them as parallel."""

_SINGULAR, _LIFT = 1e-9, 1e-8
"""Least eigenvalue of correlations below which the diagonal is lifted, and by how much: the inputs span less than their
number of dimensions, and what is left over when some are held at zero would be rounding."""

_AT_ONCE = 2048


class Slope(NamedTuple):
    """Derivatives (P, P) of an expectation over z1, z2 by K11, by K22, and by K12 = K21 together."""

    first: np.ndarray
    second: np.ndarray
    cross: np.ndarray

    def plus(self, factor: np.ndarray, other: "Slope") -> "Slope":
        return Slope(*(one + factor * two for one, two in zip(self, other, strict=True)))

    def along(self, change: np.ndarray) -> np.ndarray:
        """Change (P, P, ...) of the expectation of each pair with the covariances' `change` (P, P, ...)."""
        first, second, cross = (one.reshape(one.shape + (1,) * (change.ndim - 2)) for one in self)
        own = change[np.arange(len(change)), np.arange(len(change))]
        return np.asarray(first * own[:, None] + second * own[None] + cross * change)

    def diagonal(self) -> np.ndarray:
        """Derivatives (P,) of the expectation over one input by its variance."""
        return np.asarray(sum(np.diagonal(one) for one in self))


class TwoPoints(NamedTuple):
    """<s1 s2> and <s'1 s'2> (P, P) with their slopes."""

    values: np.ndarray
    derivatives: np.ndarray
    values_slope: Slope
    derivatives_slope: Slope


class FourPoints(NamedTuple):
    """<s1 s2 s3 s4>, <s1 s2 s'3 s'4>, <s'1 s'2 s3 s4> and <s'1 s'2 s'3 s'4>, each (q,)."""

    ssss: np.ndarray
    ssdd: np.ndarray
    ddss: np.ndarray
    dddd: np.ndarray


def two_points(activation: Activation, k: np.ndarray) -> TwoPoints:
    """Expectations at every pair of P inputs of covariances k (P, P)."""
    return _FUNCTIONS[activation][0](k)


def four_points(activation: Activation, k: np.ndarray, inputs: np.ndarray) -> FourPoints:
    """Expectations at quadruples of inputs (q, 4), numbers of rows of the covariances k (P, P).

    erf is accurate to 1e-12, ReLU to 1e-7 times the product of the standard deviations; inputs within 3e-5 of parallel
    are taken as parallel, which is as much of an error. The derivative of ReLU at an input of variance zero is 0.
    """
    if not len(inputs):
        return FourPoints(*np.zeros((4, 0)))
    parts = [inputs[first : first + _AT_ONCE] for first in range(0, len(inputs), _AT_ONCE)]
    found = [_FUNCTIONS[activation][1](k, part) for part in parts]
    return FourPoints(*(np.concatenate(one) for one in zip(*found, strict=True)))


def _relu_two(k: np.ndarray) -> TwoPoints:
    variance = np.diag(k)
    product = np.outer(variance, variance)
    square = np.maximum(product - k * k, 0)
    parallel = square <= PARALLEL * product
    root = np.where(parallel, 0, np.sqrt(square))
    outside = np.pi / 2 + np.where(product > 0, np.arctan2(k, root), -np.pi / 2)  # pi - angle; no step at norm zero
    values, derivatives = (root + outside * k) / (2 * np.pi), outside / (2 * np.pi)
    inverse = 1 / np.where(variance > 0, variance, 1)
    own = root / (4 * np.pi) * inverse[:, None]
    # The angle of parallel inputs stays: their finite kernels are parallel, too.
    turn = np.where(parallel, 0, 1 / (2 * np.pi * np.where(parallel, 1, root)))
    turned = -turn * k / 2 * inverse[:, None]
    return TwoPoints(values, derivatives, Slope(own, own.T, derivatives), Slope(turned, turned.T, turn))


def _erf_two(k: np.ndarray) -> TwoPoints:
    variance = np.diag(k) + 0.5
    determinant = np.outer(variance, variance) - k * k
    values = 2 / np.pi * np.arctan2(k, np.sqrt(determinant))
    derivatives = 2 / np.pi / np.sqrt(determinant)
    own = -derivatives * k / (2 * variance[:, None])
    turned = -derivatives / determinant * variance[None, :] / 2
    return TwoPoints(
        values, derivatives, Slope(own, own.T, derivatives), Slope(turned, turned.T, derivatives * k / determinant)
    )


def _relu_four(k: np.ndarray, inputs: np.ndarray) -> FourPoints:
    scale = np.sqrt(np.diag(k))
    safe = np.where(scale > 0, scale, 1)
    r = np.clip(k / np.outer(safe, safe), -1, 1)
    np.fill_diagonal(r, 1)
    direction = (r >= math.sqrt(1 - PARALLEL)).argmax(axis=1)  # the first input that is parallel to each
    opposite = r <= -math.sqrt(1 - PARALLEL)
    found = np.zeros((4, len(inputs)))
    there = (scale[inputs] > 0).all(axis=1) & ~opposite[inputs[:, :, None], inputs[:, None, :]].any(axis=(1, 2))
    lines = direction[inputs]
    # Of four slots, the first one in which the direction of each occurs: fifteen patterns.
    pattern = (lines[:, :, None] == lines[:, None, :]).argmax(axis=2)
    code = pattern @ 4 ** np.arange(4)
    for one in np.unique(code[there]):
        (rows,) = np.nonzero(there & (code == one))
        firsts = pattern[rows[0]]
        slots = np.unique(firsts)
        chosen = lines[rows][:, slots]
        moments = orthant_moments(_lifted(r[chosen[:, :, None], chosen[:, None, :]]))
        for number, mask in enumerate(_MASKS):
            powers = tuple(sum(on for on, first in zip(mask, firsts, strict=True) if first == slot) for slot in slots)
            found[number, rows] = moments(powers) * np.prod(scale[inputs[rows]] ** mask, axis=1)
    return FourPoints(*found)


_MASKS = ((1, 1, 1, 1), (1, 1, 0, 0), (0, 0, 1, 1), (0, 0, 0, 0))
"""At which slots s stands, of the fields of FourPoints; s' elsewhere."""


def _lifted(r: np.ndarray) -> np.ndarray:
    if r.shape[-1] < 3:
        return r
    singular = np.linalg.eigvalsh(r)[:, 0] < _SINGULAR
    return np.asarray(r + _LIFT * singular[:, None, None] * np.eye(r.shape[-1]))


def _erf_four(k: np.ndarray, inputs: np.ndarray) -> FourPoints:
    c = k[inputs[:, :, None], inputs[:, None, :]] + np.eye(4) / 2
    density = 1 / (4 * math.pi**2 * np.sqrt(np.linalg.det(c)))  # of all four at zero
    ssdd, ddss = (_signs_at(c, *slots) for slots in ((0, 1, 2, 3), (2, 3, 0, 1)))
    return FourPoints(four_signs(c), ssdd, ddss, 16 * density)


def _signs_at(c: np.ndarray, a: int, b: int, e: int, f: int) -> np.ndarray:
    """E[sgn_a sgn_b 2 delta_e 2 delta_f]: the density of two variables at zero, and an arcsine of the others there."""
    density = 1 / (2 * math.pi * np.sqrt(c[:, e, e] * c[:, f, f] - c[:, e, f] ** 2))
    rest = given_zero(given_zero(c[:, [a, b, e, f]][:, :, [a, b, e, f]], 3), 2)
    return np.asarray(4 * density * 2 / math.pi * arcsine(rest[:, 0, 1], rest[:, 0, 0], rest[:, 1, 1]))


_Two = Callable[[np.ndarray], TwoPoints]
_Four = Callable[[np.ndarray, np.ndarray], FourPoints]
_FUNCTIONS: dict[str, tuple[_Two, _Four]] = {"relu": (_relu_two, _relu_four), "erf": (_erf_two, _erf_four)}

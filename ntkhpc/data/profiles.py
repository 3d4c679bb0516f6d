"""How a shower spreads on average and from one to the next: formulas of Grindhammer and Peters [hep-ex/0001020].

t is depth in radiation lengths, ln y = ln(E/Ec), E is in GeV, radii here are in Moliere radii. tau is depth over the
depth of the maximum, which for a fluctuating shower reads tau = t/<t> * a_0/(a_0 - 1), with a_0 = exp<ln a>: <t> = a/b
is that of the shower itself, and the factor that of the average one. With t/<t> alone tau would be a quarter too small.
"""

from dataclasses import dataclass

import numpy as np

from ntkhpc.data.geometry import Geometry

CONVERSION = 9 / 7
"""Mean depth in X0 at which a photon converts."""


@dataclass(frozen=True)
class Fluctuations:
    """Widths of ln T and ln a as 1/(first + second ln y), and their correlation as first + second ln y."""

    depth: tuple[float, float]
    shape: tuple[float, float]
    correlation: tuple[float, float]


HOMOGENEOUS = Fluctuations(depth=(-1.4, 1.26), shape=(-0.58, 0.86), correlation=(0.705, -0.023))
SAMPLING = Fluctuations(depth=(-2.5, 1.25), shape=(-0.82, 0.79), correlation=(0.784, -0.023))


@dataclass(frozen=True)
class Longitudinal:
    """dE/dt = E b (b t)^(a-1) exp(-b t) / Gamma(a) of n showers; every field is (n,).

    shape: a; peak: T = (a - 1)/b, in X0; mean_shape: a_0 = exp<ln a> of all showers of that energy.
    """

    shape: np.ndarray
    peak: np.ndarray
    mean_shape: np.ndarray

    def contained(self, depth: np.ndarray) -> np.ndarray:
        """Share of the energy before each depth (n or 1, steps) in X0 from the start of the shower."""
        from scipy.special import gammainc  # slow to import

        b = (self.shape - 1) / self.peak
        return gammainc(self.shape[:, None], b[:, None] * depth)

    def tau(self, depth: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
        """Depth (n or 1, steps) in X0 over that of the maximum, (n, steps); see the head of this file.

        centre: <t> of each shower in X0, (n,), where it is not that of the profile.
        """
        if centre is None:
            centre = self.shape * self.peak / (self.shape - 1)
        return depth * (self.mean_shape / (self.mean_shape - 1) / centre)[:, None]


@dataclass(frozen=True)
class Radial:
    """Density of energy p 2 r Rc^2/(r^2 + Rc^2)^2 + (1 - p) 2 r Rt^2/(r^2 + Rt^2)^2; every field is (n, steps).

    weight: p; core: Rc; tail: Rt, in Moliere radii.
    """

    weight: np.ndarray
    core: np.ndarray
    tail: np.ndarray


def longitudinal(
    geometry: Geometry,
    energy: np.ndarray,
    z1: np.ndarray,
    z2: np.ndarray,
    *,
    depth_width: float = 1.0,
    shape_width: float = 1.0,
) -> Longitudinal:
    """Profiles of electrons of `energy` (n,) in GeV; shape and depth are drawn together from normals z1, z2 (n,).

    depth_width, shape_width: what the published widths of ln T and of ln a are multiplied by. Raises ValueError where
    the published means are not positive: in plates too thick for the energy.
    """
    y = np.log(energy / geometry.critical_energy)
    frequency, weak = geometry.sampling_frequency, 1 - geometry.e_over_mip
    widths = SAMPLING if geometry.passive else HOMOGENEOUS
    homogeneous_t = y - 0.812
    homogeneous_a = 0.81 + (0.458 + 2.26 / geometry.z) * y
    # Without a passive material 1/F_S and 1 - e^ vanish, and these are the homogeneous means.
    sampled_t, sampled_a = homogeneous_t - 0.55 / frequency - 0.69 * weak, homogeneous_a - 0.476 / frequency
    if not ((sampled_t > 0) & (sampled_a > 0)).all():
        raise ValueError(
            f"a layer of {1 / frequency:.3g} radiation lengths is too thick for the parametrisation at "
            f"{energy.min():.3g} GeV: thinner plates or more energy"
        )
    mean_t, mean_a = np.log(sampled_t), np.log(sampled_a)
    sigma_t = depth_width * _capped(widths.depth[0] + widths.depth[1] * y)
    sigma_a = shape_width * _capped(widths.shape[0] + widths.shape[1] * y)
    rho = widths.correlation[0] + widths.correlation[1] * y
    c1, c2 = np.sqrt((1 + rho) / 2), np.sqrt((1 - rho) / 2)
    peak = np.exp(mean_t + sigma_t * (c1 * z1 + c2 * z2))
    shape = np.maximum(1.1, np.exp(mean_a + sigma_a * (c1 * z1 - c2 * z2)))
    return Longitudinal(shape, peak, np.exp(mean_a))


def _capped(inverse: np.ndarray) -> np.ndarray:
    """1/inverse, at most 0.5: the published widths have a pole at low energy."""
    return np.where(inverse > 2, 1 / np.maximum(inverse, 2), 0.5)


def spots(geometry: Geometry, energy: np.ndarray) -> np.ndarray:
    """Number of equal energy spots (n,) of showers of `energy` (n,) in GeV, at least 1.

    Their finite number makes the layers of a shower fluctuate beyond its shape.
    """
    if geometry.passive:
        number = 10.3 / geometry.stochastic_term * energy**0.959
    else:
        number = 93 * np.log(geometry.z) * energy**0.876
    return np.maximum(1, np.round(number)).astype(np.int64)


def radial(geometry: Geometry, energy: np.ndarray, tau: np.ndarray) -> Radial:
    """Radial profiles at tau (n, steps) of showers of `energy` (n,) in GeV."""
    z, log_energy = geometry.z, np.log(energy)[:, None]
    core = 0.0251 + 0.00319 * log_energy + (0.1162 - 0.000381 * z) * tau
    k4 = 0.3585 + 0.0421 * log_energy
    tail = (0.659 - 0.00309 * z) * (np.exp(-2.59 * (tau - 0.645)) + np.exp(k4 * (tau - 0.645)))
    age = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_energy)
    weight = (2.632 - 0.00094 * z) * np.exp(age - np.exp(age))
    if geometry.passive:
        frequency, weak = geometry.sampling_frequency, 1 - geometry.e_over_mip
        young = np.exp(-tau) / frequency
        core = core - 0.0203 * weak + 0.0397 * young
        tail = tail - 0.14 * weak - 0.495 * young
        weight = weight + weak * (0.348 - 0.642 / frequency * np.exp(-((tau - 1) ** 2)))
    # Outside the range the formulas were fitted in they may leave the meaningful one.
    return Radial(np.clip(weight, 0, 1), np.maximum(core, 0.005), np.maximum(tail, 0.02))

"""Electron showers in a sampling calorimeter: a parametrisation, not a simulation of particles.

Longitudinal profiles after Grindhammer and Peters [hep-ex/0001020], with their correlated fluctuations of shape and
depth, the fluctuation of a finite number of energy spots, sampling fluctuations, and a constant term.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import gammainc

from ntkhpc import seeds


@dataclass(frozen=True)
class Material:
    """Z, A (g/mol), radiation length in mm, density in g/cm3 (PDG, Atomic and nuclear properties)."""

    z: float
    a: float
    x0_mm: float
    density: float

    @property
    def x0_mass(self) -> float:
        """Radiation length in g/cm2."""
        return self.x0_mm / 10 * self.density


TUNGSTEN = Material(74, 183.84, 3.504, 19.30)
SILICON = Material(14, 28.085, 93.70, 2.329)


@dataclass(frozen=True)
class SamplingCalorimeter:
    """Layers of a passive plate and an active sensor; thicknesses in mm, one per layer."""

    passive: Material
    active: Material
    passive_mm: tuple[float, ...]
    active_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.passive_mm) != len(self.active_mm) or min(*self.passive_mm, *self.active_mm) <= 0:
            raise ValueError("passive_mm and active_mm need one positive thickness per layer each")

    @property
    def layers(self) -> int:
        return len(self.passive_mm)

    @cached_property
    def _mass_fractions(self) -> tuple[float, float]:
        passive = sum(self.passive_mm) * self.passive.density
        active = sum(self.active_mm) * self.active.density
        return passive / (passive + active), active / (passive + active)

    def _mixed(self, name: str) -> float:
        w_passive, w_active = self._mass_fractions
        return w_passive * getattr(self.passive, name) + w_active * getattr(self.active, name)

    @cached_property
    def x0_mass(self) -> float:
        """Effective radiation length in g/cm2: 1/X0 = sum of w_i / X0_i by mass."""
        w_passive, w_active = self._mass_fractions
        return 1 / (w_passive / self.passive.x0_mass + w_active / self.active.x0_mass)

    @cached_property
    def critical_energy(self) -> float:
        """Ec in GeV = 2.66 (X0 Z/A)^1.1 MeV."""
        return 2.66e-3 * (self.x0_mass * self._mixed("z") / self._mixed("a")) ** 1.1

    @cached_property
    def sampling_frequency(self) -> float:
        """F_S = X0eff / (mean thickness of a layer), lengths in mm."""
        thickness = sum(self.passive_mm) + sum(self.active_mm)
        mass = sum(self.passive_mm) * self.passive.density + sum(self.active_mm) * self.active.density
        x0_mm = 10 * self.x0_mass * thickness / mass
        return x0_mm * self.layers / thickness

    @property
    def e_over_mip(self) -> float:
        """Signal of electrons over that of minimum-ionising particles, 1/(1 + 0.007 (Z_passive - Z_active))."""
        return 1 / (1 + 0.007 * (self.passive.z - self.active.z))

    @cached_property
    def depths(self) -> np.ndarray:
        """Boundaries of the layers in radiation lengths, (layers + 1,)."""
        per_layer = np.array(self.passive_mm) / self.passive.x0_mm + np.array(self.active_mm) / self.active.x0_mm
        return np.concatenate([[0.0], np.cumsum(per_layer)])


def lcd_ecal() -> SamplingCalorimeter:
    """A 25-layer silicon-tungsten calorimeter of 22.6 X0: 17 plates of 2.4 mm, then 8 of 4.8 mm."""
    return SamplingCalorimeter(TUNGSTEN, SILICON, (2.4,) * 17 + (4.8,) * 8, (0.5,) * 25)


def layer_energies(
    geometry: SamplingCalorimeter,
    energy: np.ndarray,
    seed: int,
    *,
    stochastic_term: float = 0.17,
    constant_term: float = 0.01,
    first: int = 0,
) -> np.ndarray:
    """Reconstructed energies (n, layers) in GeV of electrons with incident energies `energy` (n,) in GeV.

    What leaks out behind the last layer is missing from the sum. Shower i is a function of (seed, first + i, energy[i])
    alone, so showers may be made in batches of any size and order.
    stochastic_term: sigma/E = stochastic_term / sqrt(E/GeV); constant_term: of sigma/E, common to all layers.
    """
    energy = np.asarray(energy, np.float64)
    if energy.ndim != 1 or not (energy >= 1).all():
        raise ValueError("energy must be one-dimensional and at least 1 GeV: below, the parametrisation has no meaning")
    streams = [seeds.generator(seed, seeds.SHOWERS, first + i) for i in range(len(energy))]
    normals = np.array([stream.standard_normal(3) for stream in streams]).reshape(-1, 3)
    shape, peak = _shape_and_peak(geometry, energy, normals[:, 0], normals[:, 1])
    # Gamma profile dE/dt = E b (b t)^(a-1) exp(-b t) / Gamma(a), with its maximum T at (a - 1) / b.
    b = (shape - 1) / peak
    contained = gammainc(shape[:, None], b[:, None] * geometry.depths)
    fractions = np.diff(contained, axis=1)
    spots = np.maximum(1, np.round(10.3 / stochastic_term * energy**0.959)).astype(np.int64)
    scale = stochastic_term**2
    layers = np.empty_like(fractions)
    for i, stream in enumerate(streams):
        leaked = max(0.0, 1 - fractions[i].sum())
        count = stream.multinomial(spots[i], np.append(fractions[i], leaked))[:-1]
        deposited = energy[i] * count / spots[i]
        # Sampling fluctuation: mean dE and variance c^2 dE in each layer.
        layers[i] = scale * stream.standard_gamma(deposited / scale)
    return layers * (1 + constant_term * normals[:, 2:])


def _shape_and_peak(
    geometry: SamplingCalorimeter, energy: np.ndarray, z1: np.ndarray, z2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shape a and depth of maximum T (in X0) of each shower, drawn with their correlation from normals z1, z2."""
    y = np.log(energy / geometry.critical_energy)
    frequency, weak = geometry.sampling_frequency, 1 - geometry.e_over_mip
    z = geometry._mixed("z")
    homogeneous_t = y - 0.812
    homogeneous_a = 0.81 + (0.458 + 2.26 / z) * y
    mean_t = np.log(homogeneous_t - 0.55 / frequency - 0.69 * weak)
    mean_a = np.log(homogeneous_a - 0.476 / frequency)
    sigma_t = _capped(-2.5 + 1.25 * y)
    sigma_a = _capped(-0.82 + 0.79 * y)
    rho = 0.784 - 0.023 * y
    c1, c2 = np.sqrt((1 + rho) / 2), np.sqrt((1 - rho) / 2)
    peak = np.exp(mean_t + sigma_t * (c1 * z1 + c2 * z2))
    shape = np.maximum(1.1, np.exp(mean_a + sigma_a * (c1 * z1 - c2 * z2)))
    return shape, peak


def _capped(inverse: np.ndarray) -> np.ndarray:
    """1/inverse, at most 0.5: the published widths have a pole at low energy."""
    return np.where(inverse > 2, 1 / np.maximum(inverse, 2), 0.5)

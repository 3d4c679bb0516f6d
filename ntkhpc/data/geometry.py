"""Calorimeters: layers in depth, and square cells around the axis of the particle."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ntkhpc.data.materials import SILICON, SODIUM_IODIDE, TUNGSTEN, Material

SCALE_ENERGY = 21e-3
"""Es in GeV of multiple scattering: the Moliere radius is X0 Es / Ec."""

LONGEST_STEP = 1.0
"""In radiation lengths. Shorter ones move no cell by more than 5 % of what spots make it fluctuate, most by 0.3 %."""

DEEPEST = 1000.0
"""In radiation lengths: 26 m of sodium iodide. Beyond, the radial profiles of a shower overflow."""

FINEST = 1e-6
"""Of stochastic terms that are not zero: gamma distributions and numbers of spots of smaller ones overflow."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Layers of an active material, behind a plate of a passive one each if there is a passive one.

    The particle enters perpendicularly at the centre of a window of cells x cells cells. What it deposits beside the
    window or behind the last layer is lost. Raises ValueError for numbers no calorimeter can have.
    active_mm, passive_mm: thickness per layer; cell_mm: side of a cell.
    stochastic_term, constant_term: of sigma/E = stochastic_term / sqrt(E/GeV) and constant_term, the latter common to
    all cells; noise: standard deviation in GeV of the sum of all cells, independent and equal in each.
    h_over_e: response to the hadronic part of a shower over that to the electromagnetic part.
    """

    active: Material
    active_mm: tuple[float, ...]
    passive: Material | None = None
    passive_mm: tuple[float, ...] = ()
    cells: int
    cell_mm: float
    stochastic_term: float
    constant_term: float
    noise: float
    h_over_e: float

    def __post_init__(self) -> None:
        thicknesses = self.passive_mm + self.active_mm
        per_layer = 2 if self.passive else 1
        if len(thicknesses) != per_layer * max(self.layers, 1) or not all(0 < mm < np.inf for mm in thicknesses):
            raise ValueError(
                "passive_mm and active_mm need one positive thickness per layer each (none where nothing is passive), "
                f"got {len(self.passive_mm)} and {len(self.active_mm)}, the least {min(thicknesses, default=None)}"
            )
        if isinstance(self.cells, bool) or not isinstance(self.cells, int) or self.cells < 1:
            raise ValueError(f"cells = {self.cells!r} must be a whole number of at least 1, even or odd")
        if not 0 < self.cell_mm < np.inf:
            raise ValueError(f"cell_mm = {self.cell_mm} must be positive")
        if not all(0 <= term < np.inf for term in (self.stochastic_term, self.constant_term, self.noise)):
            raise ValueError("stochastic_term, constant_term and noise must be finite and not negative")
        if 0 < self.stochastic_term < FINEST:
            raise ValueError(f"stochastic_term = {self.stochastic_term:g} cannot be drawn: at least {FINEST:g}")
        depth = sum(sum(mm) / material.x0_mm for material, mm in self.parts)
        if depth > DEEPEST:
            raise ValueError(f"it is {depth:.3g} radiation lengths deep, and {DEEPEST:,.0f} at most can be computed")
        if self.passive and not self.stochastic_term:
            raise ValueError("stochastic_term = 0: a sampling calorimeter fluctuates, in 10.3/c spots")
        if not 0 < self.h_over_e <= 1.5:
            raise ValueError(f"h_over_e = {self.h_over_e} must be above 0 and at most 1.5")

    @property
    def layers(self) -> int:
        return len(self.active_mm)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layer, x, y) of a shower's cells."""
        return self.layers, self.cells, self.cells

    @cached_property
    def parts(self) -> tuple[tuple[Material, tuple[float, ...]], ...]:
        """Each material with its thicknesses in mm, in the order a particle meets them."""
        active = (self.active, self.active_mm)
        return ((self.passive, self.passive_mm), active) if self.passive else (active,)

    @cached_property
    def _mass_fractions(self) -> tuple[float, ...]:
        masses = [sum(thickness) * material.density for material, thickness in self.parts]
        return tuple(mass / sum(masses) for mass in masses)

    def _mixed(self, values: Sequence[float]) -> float:
        return sum(w * value for w, value in zip(self._mass_fractions, values, strict=True))

    @cached_property
    def z(self) -> float:
        """Charge number, averaged by mass."""
        return self._mixed([material.z for material, _ in self.parts])

    @cached_property
    def x0_mass(self) -> float:
        """Effective radiation length in g/cm2: 1/X0 = sum of w_i / X0_i by mass."""
        shares = zip(self._mass_fractions, self.parts, strict=True)
        return 1 / sum(w / material.x0_mass for w, (material, _) in shares)

    @cached_property
    def critical_energy(self) -> float:
        """Ec in GeV of the mixture."""
        a = self._mixed([material.a for material, _ in self.parts])
        return 2.66e-3 * (self.x0_mass * self.z / a) ** 1.1

    @cached_property
    def _density(self) -> float:
        thickness = sum(sum(thickness) for _, thickness in self.parts)
        return sum(sum(thickness) * material.density for material, thickness in self.parts) / thickness

    @cached_property
    def moliere_mm(self) -> float:
        """R_M in mm: 1/R_M = (1/Es) sum of w_i Ec_i / X0_i by mass [hep-ex/0001020]."""
        inverse = self._mixed([material.critical_energy / material.x0_mass for material, _ in self.parts])
        return 10 * SCALE_ENERGY / inverse / self._density

    @cached_property
    def interaction_mm(self) -> float:
        """Effective nuclear interaction length in mm."""
        return 10 / self._mixed([1 / material.interaction_length for material, _ in self.parts]) / self._density

    @cached_property
    def sampling_frequency(self) -> float:
        """F_S = X0eff / (mean thickness of a layer), lengths in mm; endless where nothing is passive."""
        if not self.passive:
            return np.inf
        thickness = sum(self.passive_mm) + sum(self.active_mm)
        mass = sum(self.passive_mm) * self.passive.density + sum(self.active_mm) * self.active.density
        x0_mm = 10 * self.x0_mass * thickness / mass
        return x0_mm * self.layers / thickness

    @property
    def e_over_mip(self) -> float:
        """Signal of electrons over that of minimum-ionising particles, 1/(1 + 0.007 (Z_passive - Z_active))."""
        return 1 / (1 + 0.007 * (self.passive.z - self.active.z)) if self.passive else 1.0

    def _boundaries(self, lengths: Sequence[float]) -> np.ndarray:
        """Boundaries of the layers (layers + 1,), in units of each material's length in mm."""
        parts = zip(self.parts, lengths, strict=True)
        return np.concatenate([[0.0], np.cumsum(sum(np.array(mm) / length for (_, mm), length in parts))])

    @cached_property
    def depths(self) -> np.ndarray:
        """Boundaries of the layers in radiation lengths, (layers + 1,)."""
        return self._boundaries([material.x0_mm for material, _ in self.parts])

    @cached_property
    def hadronic_depths(self) -> np.ndarray:
        """Boundaries of the layers in nuclear interaction lengths, (layers + 1,)."""
        return self._boundaries([10 * material.interaction_length / material.density for material, _ in self.parts])

    @cached_property
    def first_steps(self) -> np.ndarray:
        """Number of the first step of each layer, and of all steps: (layers + 1,). No step is longer than LONGEST_STEP.

        Within a thick layer a shower widens: its radial profile there is the mean over steps.
        """
        return np.concatenate([[0], np.cumsum(np.ceil(np.diff(self.depths) / LONGEST_STEP).astype(np.int64))])

    def in_steps(self, boundaries: np.ndarray) -> np.ndarray:
        """Boundaries of the steps (steps + 1,) from those of the layers (layers + 1,), which stay the same numbers."""
        return np.interp(np.arange(self.first_steps[-1] + 1), self.first_steps, boundaries)

    @cached_property
    def mip_energy(self) -> np.ndarray:
        """GeV that a minimum-ionising particle loses in each layer, (layers,), active and passive together."""
        return np.diff(self._boundaries([1e4 / (material.de_dx * material.density) for material, _ in self.parts]))


def lcd_ecal(
    passive_mm: Sequence[float] = (2.4,) * 17 + (4.8,) * 8,
    active_mm: Sequence[float] = (0.5,) * 25,
    cells: int = 11,
    cell_mm: float = 5.1,
    stochastic_term: float = 0.17,
    constant_term: float = 0.01,
    noise: float = 0.0,
    h_over_e: float = 0.75,
) -> Geometry:
    """A silicon-tungsten calorimeter, by default of 25 layers and 22.7 X0: 17 plates of 2.4 mm, then 8 of 4.8 mm."""
    return Geometry(
        active=SILICON,
        active_mm=tuple(active_mm),
        passive=TUNGSTEN,
        passive_mm=tuple(passive_mm),
        cells=cells,
        cell_mm=cell_mm,
        stochastic_term=stochastic_term,
        constant_term=constant_term,
        noise=noise,
        h_over_e=h_over_e,
    )


def nai_block(
    layers: int = 12,
    cells: int = 12,
    layer_mm: float = 50,
    cell_mm: float = 20,
    stochastic_term: float = 0.0,
    constant_term: float = 0.0,
    noise: float = 0.0,
    h_over_e: float = 0.5,
) -> Geometry:
    """A homogeneous block of sodium iodide, by default 600 mm (23.2 X0) deep and 240 mm wide, read out ideally."""
    return Geometry(
        active=SODIUM_IODIDE,
        active_mm=(layer_mm,) * layers,
        cells=cells,
        cell_mm=cell_mm,
        stochastic_term=stochastic_term,
        constant_term=constant_term,
        noise=noise,
        h_over_e=h_over_e,
    )

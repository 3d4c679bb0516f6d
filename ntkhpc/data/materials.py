"""Materials of calorimeters, with the numbers that shower parametrisations need."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Material:
    """One material; values of the Particle Data Group, Atomic and nuclear properties of materials.

    z, a: charge and mass number (g/mol); of a compound, z is averaged by mass and a is z over the mean Z/A.
    x0_mm: radiation length in mm; density: g/cm3; interaction_length: nuclear, in g/cm2;
    de_dx: ionisation loss of a minimum-ionising particle in MeV cm2/g.
    """

    z: float
    a: float
    x0_mm: float
    density: float
    interaction_length: float
    de_dx: float

    def __post_init__(self) -> None:
        if not all(0 < value < inf for value in vars(self).values()):
            raise ValueError(f"every number of a material must be positive: {self}")

    @property
    def x0_mass(self) -> float:
        """Radiation length in g/cm2."""
        return self.x0_mm / 10 * self.density

    @property
    def critical_energy(self) -> float:
        """Ec in GeV = 2.66 (X0 Z/A)^1.1 MeV, X0 in g/cm2 [Grindhammer and Peters, hep-ex/0001020]."""
        return 2.66e-3 * (self.x0_mass * self.z / self.a) ** 1.1


TUNGSTEN = Material(z=74, a=183.84, x0_mm=3.504, density=19.30, interaction_length=191.9, de_dx=1.145)
SILICON = Material(z=14, a=28.085, x0_mm=93.70, density=2.329, interaction_length=108.4, de_dx=1.664)
IRON = Material(z=26, a=55.845, x0_mm=17.57, density=7.874, interaction_length=132.1, de_dx=1.451)
SODIUM_IODIDE = Material(
    z=46.6, a=46.6 / 0.42697, x0_mm=25.88, density=3.667, interaction_length=154.6, de_dx=1.305
)  # fmt: skip

NAMES = {TUNGSTEN: "tungsten", SILICON: "silicon", SODIUM_IODIDE: "sodium iodide"}
"""Of materials that calorimeters of studies are made of."""

"""The calorimeter task: a particle's energy from its shower, made by the package's own parametrisation."""

from itertools import groupby
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
from msgspec import Meta, structs

from ntkhpc import seeds
from ntkhpc.data import shower, shower_inputs
from ntkhpc.data.formats import capacity
from ntkhpc.data.materials import NAMES
from ntkhpc.data.shower_inputs import ShowerSource
from ntkhpc.data.source import MEBIBYTE, Facts
from ntkhpc.data.split import Split
from ntkhpc.data.table import first_like
from ntkhpc.errors import DataError
from ntkhpc.phase.settings import NonNegativeFloat, Positive, PositiveFloat
from ntkhpc.references import GRINDHAMMER_PETERS, Reference
from ntkhpc.words import joined

Particle = Literal["electron", "photon", "pion"]

LCD_LAYERS = 25
BATCH_BYTES = 64 * MEBIBYTE
"""The memory of the cells of showers that are made at once."""

PROFILES = 3
"""Numbers held for each cell of the showers whose profiles are computed at once."""

MOST_ENERGY = 1e6
"""GeV; far more than the profiles were fitted to."""

CHECKED_SHOWERS, CHECKED_CELLS = 64, 2**22
"""Of the pool, and half as many test showers: so many are made before a run of an unusual calorimeter is."""

USUAL_THRESHOLDS = (1e-9, 1e9)
"""GeV, of which the logarithm of no energy overflows or vanishes."""

USUAL_RANGE = 1.001
"""Of energies, energy_max / energy_min: in a much narrower one they are the same number."""

SECONDS_PER_SHOWER = 60e-6
SECONDS_PER_TOWER = 4e-6
"""For the cells that stand behind one another in all layers, of one shower."""


class Calorimeter(ShowerSource, frozen=True, kw_only=True, tag="calorimeter"):
    """Energy regression of showers from the package's own generator (a parametrisation)."""

    introduced: ClassVar[dict[str, object]] = {"generator": 1}
    generator: Literal[1, 2] = 2
    pool: Positive = 8192
    test: Positive = 2000
    particles: Annotated[tuple[Particle, ...], Meta(min_length=1)] = ("electron",)
    energy_min: PositiveFloat = 10.0
    energy_max: PositiveFloat = 500.0
    spectrum: Literal["log-uniform", "uniform"] = "log-uniform"
    geometry: Literal["lcd", "nai"] = "lcd"
    absorber_mm: tuple[PositiveFloat, ...] = ()
    nai_layers: Positive = 12
    layer_mm: PositiveFloat = 50.0
    cells: Positive = 11
    cell_mm: PositiveFloat = 5.1
    stochastic_term: NonNegativeFloat = 0.17
    constant_term: NonNegativeFloat = 0.01
    noise: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        self._require_range(self.energy_min, self.energy_max)
        if self.energy_min < 1:
            raise ValueError(
                f"energy_min = {self.energy_min} GeV is outside the shower parametrisation; at least 1 GeV"
            )
        if self.energy_max > MOST_ENERGY:
            raise ValueError(
                f"energy_max = {self.energy_max:g} GeV is outside the shower parametrisation; "
                f"at most {MOST_ENERGY:g} GeV"
            )
        if len(set(self.particles)) < len(self.particles):
            raise ValueError(f"particles = {list(self.particles)} names one of them twice")
        self._require_used()
        if self.geometry == "lcd" and not self.stochastic_term:
            raise ValueError("stochastic_term = 0 is impossible for geometry = 'lcd', a sampling calorimeter")

    @property
    def layers(self) -> int:
        return self.nai_layers if self.geometry == "nai" else len(self.absorber_mm) or LCD_LAYERS

    def facts(self) -> Facts:
        per_layer = {"layers": 1, "rings": (self.cells + 1) // 2, "cells": self.cells**2}
        return Facts(features=self.layers * per_layer[self.inputs], outputs=1)

    def image(self, facts: Facts) -> tuple[int, int, int] | None:
        """Cells across the axis, with the layers as channels."""
        return (self.cells, self.cells, self.layers) if self.inputs == "cells" else None

    @property
    def references(self) -> tuple[Reference, ...]:
        return (GRINDHAMMER_PETERS,)

    def origin(self, facts: Facts) -> str:
        kinds = joined(f"{particle}s" for particle in self.particles)
        mixed = " (each with equal probability)" if len(self.particles) > 1 else ""
        made = geometry(self)
        terms = [
            f"sampling fluctuations of {100 * made.stochastic_term:g} %/sqrt(E/GeV)" if made.stochastic_term else "",
            f"a constant term of {100 * made.constant_term:g} %" if made.constant_term else "",
            f"noise of {1e3 * made.noise:g} MeV in the sum of all cells" if made.noise else "no noise",
        ]
        seen = ""
        if self.inputs != "layers":
            seen = f"The window around the axis has {made.cells} x {made.cells} cells of {made.cell_mm:g} mm. "
        return (
            f"The data are showers of {kinds}{mixed} with {self.energy_min:g} to {self.energy_max:g} GeV, "
            f"{self.spectrum} in the incident energy, in {_layers(made)}. {seen}They are made by a parametrisation "
            f"with the profiles of Grindhammer and Peters (generator {self.generator} of this software, seed "
            f"{self.seed}); no particles are simulated. The read-out has {joined(filter(None, terms))}; what leaks out "
            "of the calorimeter is lost."
        )

    def making_seconds(self, facts: Facts) -> float:
        per_shower = SECONDS_PER_SHOWER if self.inputs == "layers" else self.cells**2 * SECONDS_PER_TOWER
        return self.used_rows * per_shower

    def making_bytes(self, facts: Facts) -> int:
        if self.inputs == "layers":
            return 0
        shower_bytes, inputs = 8 * self.layers * self.cells**2, 8 * self.used_rows * facts.features
        showers = min(self.used_rows * shower_bytes, max(BATCH_BYTES, shower_bytes))
        return inputs + showers + PROFILES * min(self.used_rows, shower.BATCH) * shower_bytes

    @property
    def slow_to_check(self) -> bool:
        return not self._is_usual()

    def check(self, facts: Facts) -> tuple[str, ...] | None:
        """Make the showers of least and most energy, and a split of a few, unless the calorimeter is known to work."""
        if self._is_usual():
            return ()
        capacity.require(64 * self.used_rows, "[data]", f"energies of {self.used_rows:,} showers", "lower data.pool")
        self._require_resolution()
        energy, particles = _energies(self), _particles(self)
        size = self.layers * self.cells**2
        capacity.require(
            8 * 8 * size, "[data]", f"a shower of {size:,} cells", "lower data.cells or the number of layers"
        )
        for particle in self.particles:
            chosen = energy[particles == particle]
            ends = np.array([chosen.min(), chosen.max()]) if len(chosen) else np.array([])
            made = _made(self, particle, ends, 0)
            if not np.isfinite(made).all():
                raise DataError(
                    f"a shower of {ends[0]:g} GeV has energies that are not finite",
                    where="[data]",
                    cause="numbers that no calorimeter has: noise, the constant term, thicknesses, or data.threshold",
                    todo="compare with jobs/template.toml",
                )
        few = max(2, min(CHECKED_SHOWERS, CHECKED_CELLS // size))
        split = structs.replace(self, pool=min(self.pool, few), test=min(self.test, few // 2)).load(facts)
        again = int((first_like(split.x_train) != np.arange(len(split.x_train))).sum())
        if again:
            raise DataError(
                f"{again} of {len(split.x_train)} showers leave in the inputs what another one leaves, such as nothing",
                where="[data]",
                cause="too little material, a window that a shower misses, or fluctuations that no calorimeter has: "
                "equal inputs make kernels singular",
                todo="compare thicknesses, cells and stochastic_term with jobs/template.toml",
            )
        return ()

    def load(self, facts: Facts) -> Split:
        """The test showers follow the pool's in the generator's numbering."""
        energy, particles = _energies(self), _particles(self)
        raw = np.empty((self.used_rows, facts.features))
        size = max(1, BATCH_BYTES // (8 * self.layers * self.cells**2))
        for number, particle in enumerate(get_args(Particle)):
            chosen = np.flatnonzero(particles == particle)
            for begin in range(0, len(chosen), size):
                batch = chosen[begin : begin + size]
                # Each kind has numbers of its own, so that a pion is no function of a photon's random numbers.
                raw[batch] = _made(self, particle, energy[batch], (number << 40) + begin)
        return self._split(raw, energy)

    def _require_resolution(self) -> None:
        """Raises DataError if what is read out fluctuates by more than the energy itself, whatever the energy."""
        terms = {
            "stochastic_term": self.stochastic_term / np.sqrt(self.energy_max),
            "constant_term": self.constant_term,
            "noise": self.noise / self.energy_max,
        }
        if (resolution := float(np.hypot.reduce([*terms.values()]))) > 1:
            worst = max(terms, key=lambda name: terms[name])
            raise DataError(
                f"sigma_E/E is {resolution:.3g} at {self.energy_max:g} GeV, where it is least: nothing of the showers "
                "is left",
                where="[data]",
                cause=f"data.{worst} = {getattr(self, worst):g}: another unit, or a number that no calorimeter has",
                todo=f"lower data.{worst}; jobs/template.toml says what it means",
            )

    def _is_usual(self) -> bool:
        """Whether every field that decides how showers are made is at its default, or known to do no harm."""
        may_differ = {"generator", "pool", "test", "seed", "particles", "spectrum", "inputs", "threshold", "scaling"}
        usual = {field.name: field.default for field in structs.fields(self) if field.name not in may_differ}
        within = self.energy_min >= usual.pop("energy_min") and self.energy_max <= usual.pop("energy_max")
        within &= USUAL_THRESHOLDS[0] <= self.threshold <= USUAL_THRESHOLDS[1]
        within &= self.energy_max >= USUAL_RANGE * self.energy_min
        return within and all(getattr(self, name) == value for name, value in usual.items())

    def _require_used(self) -> None:
        """Fields that another field makes meaningless stay at their defaults, so that equal data have equal ids."""
        default = {field.name: field.default for field in structs.fields(self)}
        elsewhere = {
            "geometry = 'lcd'": ("absorber_mm",) if self.geometry == "nai" else (),
            "geometry = 'nai'": ("nai_layers", "layer_mm") if self.geometry == "lcd" else (),
            "inputs = 'rings' or 'cells'": ("cells", "cell_mm") if self.inputs == "layers" else (),
        }
        for where, names in elsewhere.items():
            for name in names:
                if getattr(self, name) != default[name]:
                    raise ValueError(f"{name} = {getattr(self, name)} has a meaning with {where} only")
        if self.geometry == "nai":
            needed = ("stochastic_term", "constant_term", *(("cell_mm",) if self.inputs != "layers" else ()))
            if left := [name for name in needed if getattr(self, name) == default[name]]:
                raise ValueError(
                    f"geometry = 'nai' needs its own {' and '.join(left)}, not those of silicon and tungsten: "
                    "a crystal may have stochastic_term = 0.0, constant_term = 0.0, cell_mm = 20.0"
                )


def _layers(made: shower.Geometry) -> str:
    """The stack of a calorimeter in words; layers of equal thickness are counted."""
    parts = []
    for material, thicknesses in made.parts:
        runs = [(mm, len(list(same))) for mm, same in groupby(thicknesses)]
        sizes = joined(f"{mm:g} mm" if len(runs) == 1 else f"{number} of {mm:g} mm" for mm, number in runs)
        parts.append(f"{NAMES[material]} ({sizes})")
    kind = "a sampling calorimeter" if made.passive else "a homogeneous calorimeter"
    return f"{kind} of {made.layers} layers of {joined(parts)}, {made.depths[-1]:.1f} radiation lengths deep"


def geometry(section: Calorimeter) -> shower.Geometry:
    common = {name: getattr(section, name) for name in ("cells", "stochastic_term", "constant_term", "noise")}
    if section.geometry == "nai":
        return shower.nai_block(section.layers, layer_mm=section.layer_mm, cell_mm=section.cell_mm, **common)
    if section.absorber_mm:
        common["passive_mm"], common["active_mm"] = section.absorber_mm, (0.5,) * section.layers
    return shower.lcd_ecal(cell_mm=section.cell_mm, **common)


def _made(section: Calorimeter, particle: Particle, energy: np.ndarray, first: int) -> np.ndarray:
    """As `_inputs`. Raises DataError for a calorimeter that the parametrisation does not hold for."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused by those who ask
            return _inputs(section, particle, energy, first)
    except (ValueError, OverflowError, MemoryError) as error:
        raise DataError(
            f"the shower generator cannot make {particle}s in this calorimeter: {error}",
            where="[data]",
            cause="plates too thick for the least energy, or numbers that no calorimeter has",
            todo="thinner data.absorber_mm or data.layer_mm, more layers of them, or a higher data.energy_min",
        ) from error


def _inputs(section: Calorimeter, particle: Particle, energy: np.ndarray, first: int) -> np.ndarray:
    which: dict[str, int] = {"first": first, "generator": section.generator}
    if section.inputs == "layers":
        deposits = shower.layer_energies(geometry(section), particle, energy, section.seed, **which)
    else:
        deposits = shower.simulate(geometry(section), particle, energy, section.seed, **which)
        if section.inputs == "rings":
            deposits = shower_inputs.rings(deposits)
    return shower_inputs.compressed(deposits.reshape(len(energy), -1), section.threshold)


def _energies(section: Calorimeter) -> np.ndarray:
    """Incident energies in GeV; the first n are the same whatever number is asked for."""
    u = seeds.generator(section.seed, seeds.ENERGIES).random(section.used_rows)
    low, high = section.energy_min, section.energy_max
    if section.spectrum == "uniform":
        return low + (high - low) * u
    return low * (high / low) ** u


def _particles(section: Calorimeter) -> np.ndarray:
    """The kind of each shower, any of those asked for with equal probability."""
    u = seeds.generator(section.seed, seeds.PARTICLES).random(section.used_rows)
    return np.array(section.particles)[(u * len(section.particles)).astype(int)]

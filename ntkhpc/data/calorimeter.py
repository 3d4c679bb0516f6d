"""The calorimeter task: a particle's energy from its shower, made by the package's own parametrisation."""

from typing import get_args

import numpy as np

from ntkhpc import seeds
from ntkhpc.data import shower, shower_inputs
from ntkhpc.data.sources import Calorimeter, Particle
from ntkhpc.data.split import Split, regression

BATCH_BYTES = 64 * 2**20
"""Of the cells of showers made at once."""


def prepare(section: Calorimeter) -> None:
    """Nothing is needed but this package."""


def load(section: Calorimeter) -> Split:
    """Training pool and test points; the test showers follow the pool's in the generator's numbering."""
    rows = section.pool + section.test
    energy, particles = _energies(section, rows), _particles(section, rows)
    raw = np.empty((rows, section.features))
    size = max(1, BATCH_BYTES // (8 * section.layers * section.cells**2))
    for number, particle in enumerate(get_args(Particle)):
        chosen = np.flatnonzero(particles == particle)
        for begin in range(0, len(chosen), size):
            batch = chosen[begin : begin + size]
            # Each kind has numbers of its own, so that a pion is no function of a photon's random numbers.
            raw[batch] = _inputs(section, particle, energy[batch], (number << 40) + begin)
    return regression(
        raw,
        energy[:, None],
        section.pool,
        log_target=section.log_target,
        scaling=section.scaling,
        keep_constant=True,  # cells that nothing ever reached
    )


def geometry(section: Calorimeter) -> shower.Geometry:
    common = {name: getattr(section, name) for name in ("cells", "stochastic_term", "constant_term", "noise")}
    if section.geometry == "nai":
        return shower.nai_block(section.layers, layer_mm=section.layer_mm, cell_mm=section.cell_mm, **common)
    if section.absorber_mm:
        common["passive_mm"], common["active_mm"] = section.absorber_mm, (0.5,) * section.layers
    return shower.lcd_ecal(cell_mm=section.cell_mm, **common)


def _inputs(section: Calorimeter, particle: Particle, energy: np.ndarray, first: int) -> np.ndarray:
    if section.inputs == "layers":
        deposits = shower.layer_energies(geometry(section), particle, energy, section.seed, first=first)
    else:
        deposits = shower.simulate(geometry(section), particle, energy, section.seed, first=first)
        if section.inputs == "rings":
            deposits = shower_inputs.rings(deposits)
    return shower_inputs.compressed(deposits.reshape(len(energy), -1), section.threshold)


def _energies(section: Calorimeter, rows: int) -> np.ndarray:
    """Incident energies in GeV; the first n are the same whatever number is asked for."""
    u = seeds.generator(section.seed, seeds.ENERGIES).random(rows)
    low, high = section.energy_min, section.energy_max
    if section.spectrum == "uniform":
        return low + (high - low) * u
    return low * (high / low) ** u


def _particles(section: Calorimeter, rows: int) -> np.ndarray:
    """The kind of each shower, any of those asked for with equal probability."""
    u = seeds.generator(section.seed, seeds.PARTICLES).random(rows)
    return np.array(section.particles)[(u * len(section.particles)).astype(int)]

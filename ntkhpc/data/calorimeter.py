"""The calorimeter task: an electron's energy from the energies in the 25 layers of its shower.

Inputs: log1p(layer energy / 50 MeV), centred per feature, divided by one scale. Target: log E, standardised.
"""

import numpy as np

from ntkhpc import seeds
from ntkhpc.data import shower
from ntkhpc.data.split import Split, standardise
from ntkhpc.study import Calorimeter

CELL_THRESHOLD_GEV = 0.050


def load(section: Calorimeter) -> Split:
    """Training pool and test points; the test showers follow the pool's in the generator's numbering."""
    rows = section.pool + section.test
    energy = _energies(section, rows)
    layers = shower.layer_energies(
        shower.lcd_ecal(),
        energy,
        section.seed,
        stochastic_term=section.stochastic_term,
        constant_term=section.constant_term,
    )
    # A constant-term fluctuation beyond 100 sigma could make an energy negative; there is none to speak of.
    raw = np.log1p(np.maximum(layers, 0) / CELL_THRESHOLD_GEV)
    x, feature_mean, feature_scale = standardise(raw, raw[: section.pool])
    log_energy = np.log(energy)
    target_mean, target_scale = log_energy[: section.pool].mean(), log_energy[: section.pool].std()
    y = ((log_energy - target_mean) / target_scale)[:, None]
    train, test = slice(section.pool), slice(section.pool, rows)
    return Split(
        x_train=x[train],
        y_train=y[train],
        x_test=x[test],
        y_test=y[test],
        target_train=energy[train, None],
        target_test=energy[test, None],
        feature_mean=feature_mean,
        feature_scale=feature_scale,
        target_mean=np.array([target_mean]),
        target_scale=np.array([target_scale]),
    )


def _energies(section: Calorimeter, rows: int) -> np.ndarray:
    """Incident energies in GeV; the first n are the same whatever number is asked for."""
    u = seeds.generator(section.seed, seeds.ENERGIES).random(rows)
    low, high = section.energy_min, section.energy_max
    if section.spectrum == "uniform":
        return low + (high - low) * u
    return low * (high / low) ** u

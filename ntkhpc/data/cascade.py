"""What generator 2 adds to the profile of a shower: a front, few sub-showers, and photons that penetrate deep.

A gamma distribution whose shape and depth fluctuate leaves too little freedom: neighbouring layers are correlated too
strongly, and the middle of a shower fluctuates too little. Here the profile of shape a and rate b is the mean of a sum.

- Sub-showers start at depths of the gamma distribution of shape a - k and rate b, and each lays down its energy with
  that of shape k and rate b. The mean of the sum is the profile, because gamma distributions of one rate add shapes.
- A share LATE of the sub-showers goes on with photons near the minimum of their attenuation.
- The front is what the first particles lose. The gamma distribution lacks it, which is known to fail within the first
  two radiation lengths [Particle Data Group, Passage of particles through matter].

The published widths of ln T and ln a are those of whole showers. Sub-showers make all of the second, and a part of the
first: T is drawn from a narrower distribution, and a is not drawn. The constants are not published. They are fitted to
showers of Geant4 11.4, of electrons of 1 to 50 GeV in sodium iodide; docs/data.md says how well they agree. Depth in X0
carries them over to other materials.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from ntkhpc.data.geometry import Geometry
from ntkhpc.data.profiles import Longitudinal, longitudinal

DEPTH_WIDTH = 0.65
"""The width of ln T that is drawn, over the published one."""
NUMBER = 7.5
"""Sub-showers of equal energy that fluctuate as those of a shower of 1 GeV do."""
POWER = 0.3
"""Their number grows as E^POWER."""
KERNEL = 2.0
"""k, the shape by which a sub-shower lays down its energy; less where a - k would be below LEAST."""
LEAST = 0.5
LATE = 0.2
"""Share of the sub-showers whose energy goes on as penetrating photons."""
ATTENUATION = 0.32
"""Of these photons, per X0: the slope of the far tail of the mean shower."""
FRONT = 0.19
"""Energy of the front over sqrt(E Ec). It falls off as exp(-t)."""


def profile(geometry: Geometry, energy: np.ndarray, z1: np.ndarray, z2: np.ndarray) -> Longitudinal:
    """Profiles of electrons of `energy` (n,) in GeV about which their sub-showers scatter, from normals z1, z2 (n,)."""
    return longitudinal(geometry, energy, z1, z2, depth_width=DEPTH_WIDTH, shape_width=0.0)


def spots(geometry: Geometry, energy: np.ndarray) -> np.ndarray:
    """Number (n,) of spots of exponentially distributed energy of showers of `energy` (n,) in GeV: 2 E/Ec.

    They fluctuate as E/Ec equal ones do. That is the length in X0 of all tracks of a shower, if electrons lose Ec per
    X0 [Rossi, High-Energy Particles].
    """
    return np.ceil(2 * energy / geometry.critical_energy).astype(np.int64)


def contained(
    geometry: Geometry, energy: np.ndarray, mean: Longitudinal, since: np.ndarray, streams: Sequence[Generator]
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the energy before each depth `since` (n, steps) in X0 from the start, and its centre of gravity in X0.

    Both are drawn for each shower, (n, steps) and (n,); the centre is that of all sub-showers. energy: GeV, (n,);
    mean: as of `profile`.
    """
    result, centre = np.empty(since.shape), np.empty(len(since))
    rates = (mean.shape - 1) / mean.peak
    for i, stream in enumerate(streams):
        effective = NUMBER * energy[i] ** POWER
        number = int(np.ceil(2 * effective))
        kernel = min(KERNEL, mean.shape[i] - LEAST)
        # Energies of a gamma distribution of this shape fluctuate as `effective` equal ones do.
        parts = stream.standard_gamma(effective / (number - effective), number)
        starts = stream.standard_gamma(mean.shape[i] - kernel, number) / rates[i]
        depth = np.maximum(since[i] - starts[:, None], 0)
        laid = (1 - LATE) * _prompt(kernel, rates[i] * depth) + LATE * _penetrating(rates[i], depth)
        result[i] = parts @ laid / parts.sum()
        ends = starts + (1 - LATE) * kernel / rates[i] + LATE * (1 / rates[i] + 1 / ATTENUATION)
        centre[i] = parts @ ends / parts.sum()
    front = (FRONT * np.sqrt(geometry.critical_energy / energy))[:, None]
    share = front * -np.expm1(-since) + (1 - front) * result
    return np.minimum(np.maximum.accumulate(share, axis=1), 1), centre  # whatever the rounding


def _prompt(kernel: float, x: np.ndarray) -> np.ndarray:
    """Cumulative gamma distribution of rate 1; in closed form where its shape is 2."""
    if kernel == 2:
        return 1 - (1 + x) * np.exp(-x)

    from scipy.special import gammainc  # slow to import

    return np.asarray(gammainc(kernel, x))


def _penetrating(rate: float, depth: np.ndarray) -> np.ndarray:
    """Cumulative distribution of the sum of two exponential depths, of rates `rate` and ATTENUATION."""
    slow = ATTENUATION if abs(rate - ATTENUATION) > 1e-4 else ATTENUATION - 1e-4
    near, far = np.exp(-rate * depth), np.exp(-slow * depth)
    return 1 - far + slow / (rate - slow) * (near - far)

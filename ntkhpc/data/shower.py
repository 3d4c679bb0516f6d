"""Showers in a calorimeter: a parametrisation, not a simulation of particles.

Profiles after Grindhammer and Peters [hep-ex/0001020], with their correlated fluctuations of shape and depth, those of
a finite number of sub-showers (generator 2 only, see cascade.py) and of energy spots, sampling fluctuations, a constant
term and noise. Shower i is a function of (generator, seed, first + i, energy[i]) and the particle alone, so showers may
be made in batches of any size and order.
"""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from ntkhpc import seeds
from ntkhpc.data import window
from ntkhpc.data.geometry import Geometry, lcd_ecal, nai_block
from ntkhpc.data.particles import Component, ShowerProfiles, start

__all__ = ["Geometry", "layer_energies", "lcd_ecal", "nai_block", "simulate"]

BATCH = 128
"""Showers whose profiles are computed at once: what they need fits into a cache."""
TRACK_SPREAD = 0.2
"""Relative standard deviation of a track's signal in one layer, about that of Landau's law in a thin sensor."""


def simulate(
    geometry: Geometry, particle: str, energy: np.ndarray, seed: int, *, first: int = 0, generator: int = 2
) -> np.ndarray:
    """Energies (n, layer, x, y) in GeV of the cells of showers with incident energies `energy` (n,) in GeV.

    particle: electron, photon or pion. It enters perpendicularly at the centre of the window; what falls beside the
    window or behind the last layer is missing. The scale is that of electrons, whose mean sum is what is contained.
    generator: 2, or 1 for the showers of version 0.1.0, which fluctuate too little. Pions are the same in both.
    Raises ValueError for an unknown particle or generator, energies below 1 GeV, and plates too thick for an energy.
    """
    result = np.zeros((len(energy), geometry.layers, geometry.cells**2))
    place = np.argsort(window.inner_first(geometry.cells))
    for begin, streams, common, showers in _batches(geometry, particle, energy, seed, first, generator):
        spread = [_window(geometry, component) for component in showers.components]
        for i, stream in enumerate(streams):
            deposits, track = _longitudinal(geometry, showers, i, stream)
            cells = np.zeros(result.shape[1:])
            for component, (inside, shares), (count, layer) in zip(showers.components, spread, deposits, strict=True):
                if component.placed is None:
                    hit = stream.multinomial(stream.binomial(count, inside[i]), shares[i])
                    cells += component.energy[i] * hit / component.spots[i]
                else:
                    parts = np.ceil(component.placed[i] * layer / component.energy[i]).astype(np.int64)
                    cells += _divided(layer, parts, inside[i], shares[i], stream)
            cells = _sampled(geometry, cells, stream)
            if track.any():
                # With an even number of cells the axis is where four of them meet, and a track is in one of those.
                cells[:, 0 if geometry.cells % 2 else stream.integers(4)] += track
            result[begin + i] = _read_out(geometry, cells, common[i], stream)[:, place]
    return result.reshape(-1, *geometry.shape)


def layer_energies(
    geometry: Geometry, particle: str, energy: np.ndarray, seed: int, *, first: int = 0, generator: int = 2
) -> np.ndarray:
    """Energies (n, layers) in GeV of layers without end, otherwise as `simulate`, and much faster.

    Only what leaks out behind the last layer is missing. The same shower has the same deposit in each layer in both.
    """
    result = np.empty((len(energy), geometry.layers))
    for begin, streams, common, showers in _batches(geometry, particle, energy, seed, first, generator):
        for i, stream in enumerate(streams):
            deposits, track = _longitudinal(geometry, showers, i, stream)
            layers = np.zeros(geometry.layers)
            for _, layer in deposits:
                layers += layer
            layers = _sampled(geometry, layers, stream) + track
            result[begin + i] = _read_out(geometry, layers, common[i], stream)
    return result


def _batches(
    geometry: Geometry, particle: str, energy: np.ndarray, seed: int, first: int, generator: int
) -> Iterator[tuple[int, list[Generator], np.ndarray, ShowerProfiles]]:
    """Batches of showers: number of their first, their streams, a normal each for the constant term, and profiles."""
    energy = np.asarray(energy, np.float64)
    if energy.ndim != 1 or not ((energy >= 1) & (energy < np.inf)).all():
        raise ValueError("energy must be one-dimensional and at least 1 GeV: below, the parametrisation has no meaning")
    if first < 0:
        raise ValueError(f"first = {first} must not be negative: showers are numbered from 0")
    for begin in range(0, max(len(energy), 1), BATCH):
        part = energy[begin : begin + BATCH]
        streams = [seeds.generator(seed, seeds.SHOWERS, first + begin + i) for i in range(len(part))]
        normals = np.array([stream.standard_normal(3) for stream in streams]).reshape(-1, 3)
        showers = start(geometry, particle, part, streams, normals[:, :2], generator=generator)
        yield begin, streams, normals[:, 2], showers


def _longitudinal(
    geometry: Geometry, showers: ShowerProfiles, i: int, stream: Generator
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Of shower i the spots of each component in each layer and their GeV, and the GeV of its track, all (layers,)."""
    deposits = []
    for component in showers.components:
        fractions = np.diff(component.contained[i, geometry.first_steps])
        leaked = max(0.0, 1 - fractions.sum())
        count = stream.multinomial(component.spots[i], np.append(fractions, leaked))
        if component.placed is None:
            layer = component.energy[i] * count[:-1] / component.spots[i]
        else:
            part = stream.standard_gamma(count)
            layer = component.energy[i] * part[:-1] / part.sum()
        deposits.append((count[:-1], layer))
    track = showers.track[i]
    if track.any():
        track = track * stream.standard_gamma(TRACK_SPREAD**-2, track.shape) * TRACK_SPREAD**2
    return deposits, track


def _divided(
    layer: np.ndarray, parts: np.ndarray, inside: np.ndarray, shares: np.ndarray, stream: Generator
) -> np.ndarray:
    """GeV (layers, cells) of the cells: the energy `layer` of each layer falls into them in a number of `parts`.

    Exponential energies of a given sum are those of a gamma distribution over that sum, whatever the sum is.
    """
    hit = stream.multinomial(stream.binomial(parts, inside), shares)
    part, beside = stream.standard_gamma(hit), stream.standard_gamma(parts - hit.sum(axis=1))
    total = part.sum(axis=1) + beside
    return part * (layer / np.where(total > 0, total, 1))[:, None]


def _window(geometry: Geometry, component: Component) -> tuple[np.ndarray, np.ndarray]:
    """Of each layer's spots the share in the window (n, layers), and of those in its cells (n, layers, cells**2)."""
    profile, starts = component.radial, geometry.first_steps[:-1]
    edges = window.edges(geometry.cells, geometry.cell_mm)
    weight = profile.weight[..., None, None]
    half = weight * window.corners(edges, profile.core) + (1 - weight) * window.corners(edges, profile.tail)
    share = np.diff(component.contained, axis=1)[..., None, None]
    layer = np.add.reduceat(share, starts, axis=1)
    mean = np.add.reduceat(share * half, starts, axis=1) / np.where(layer > 0, layer, 1)
    return window.shares(mean, geometry.cells)


def _sampled(geometry: Geometry, energy: np.ndarray, stream: Generator) -> np.ndarray:
    """Sampling fluctuations: mean dE and variance c^2 dE wherever there is a deposit dE."""
    scale = geometry.stochastic_term**2
    return scale * stream.standard_gamma(energy / scale) if scale else energy


def _read_out(geometry: Geometry, energy: np.ndarray, common: float, stream: Generator) -> np.ndarray:
    """Constant term, by the standard normal number `common`, and noise."""
    read = energy * (1 + geometry.constant_term * common)
    if geometry.noise:
        read += geometry.noise / np.sqrt(read.size) * stream.standard_normal(read.shape)
    return read

"""Generator 2: its mathematics against quadrature and moments, and its showers against Geant4.

Seeds are fixed, so nothing here fails by chance; limits of 4.9 standard errors are one false alarm in a million per
comparison. Limits against Geant4 are those of agreement, not of statistics: they are what docs/data.md claims.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import integrate, stats

from ntkhpc import seeds
from ntkhpc.data import cascade, profiles
from ntkhpc.data.shower import layer_energies, lcd_ecal, nai_block, simulate

FAR = 4.9


@dataclass(frozen=True)
class Reference:
    """Geant4 11.4, electrons along the axis of a wide block of sodium iodide, in layers of 50 mm.

    Production cuts of 0.7 mm; bremsstrahlung below 1 GeV and the photoelectric effect from formulas, not from tables.
    mean: of the energy of a layer over that of the electron; spread: relative standard deviation of that energy;
    neighbours: correlations of layers 1 and 2, 2 and 3, ...; centre: standard deviation of the centre of gravity in X0.
    """

    showers: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    neighbours: tuple[float, ...]
    centre: float


GEANT4 = {
    2.0: Reference(
        showers=6000,
        mean=(0.0670, 0.2125, 0.2463, 0.1889, 0.1216, 0.0720, 0.0409, 0.0226, 0.0123, 0.0065),
        spread=(0.477, 0.341, 0.239, 0.255, 0.351, 0.477, 0.628, 0.810, 0.968, 1.210),
        neighbours=(0.52, 0.27, -0.02, 0.28, 0.53, 0.61, 0.64, 0.64, 0.57),
        centre=0.963,
    ),
    10.0: Reference(
        showers=2000,
        mean=(0.0224, 0.1151, 0.2041, 0.2143, 0.1686, 0.1132, 0.0701, 0.0407, 0.0230, 0.0126),
        spread=(0.473, 0.350, 0.237, 0.159, 0.172, 0.252, 0.357, 0.463, 0.555, 0.626),
        neighbours=(0.70, 0.68, 0.40, 0.14, 0.52, 0.76, 0.83, 0.85, 0.82),
        centre=0.878,
    ),
    50.0: Reference(
        showers=300,
        mean=(0.0068, 0.0513, 0.1322, 0.1890, 0.1896, 0.1540, 0.1090, 0.0704, 0.0424, 0.0246),
        spread=(0.474, 0.383, 0.276, 0.186, 0.120, 0.140, 0.216, 0.301, 0.388, 0.468),
        neighbours=(0.77, 0.85, 0.80, 0.57, 0.28, 0.69, 0.87, 0.93, 0.93),
        centre=0.876,
    ),
}
WITHIN = {10: (0.549, 0.551), 20: (0.726, 0.728), 30: (0.809, 0.810), 50: (0.889, 0.890)}
"""By distance from the axis in mm: the share of the energy within, of electrons of 2 and 10 GeV in that Geant4."""
LATERAL = {2.0: (0.041, 0.206, 0.224), 10.0: (0.018, 0.092, 0.096)}
"""Relative standard deviations of the share within 15, from 15 to 35, and from 35 to 60 mm, of cells of 20 mm."""


def block_layers(energy: float, generator: int, number: int = 2500) -> np.ndarray:
    return layer_energies(nai_block(), "electron", np.full(number, energy), 3, generator=generator) / energy


@pytest.mark.parametrize(("kernel", "rate"), [(2.0, 0.5), (1.3, 0.4)])
def test_a_sub_shower_lays_down_its_energy_as_a_gamma_distribution(kernel: float, rate: float) -> None:
    depth = np.array([0.0, 0.3, 2.0, 9.0, 40.0])
    np.testing.assert_allclose(
        cascade._prompt(kernel, rate * depth), stats.gamma(kernel, scale=1 / rate).cdf(depth), atol=1e-14
    )


@pytest.mark.parametrize("rate", [0.6, 0.2, cascade.ATTENUATION, cascade.ATTENUATION + 1e-5])
def test_penetrating_photons_follow_a_sub_shower(rate: float) -> None:
    """The sum of two exponential depths, by convolution; equal rates are no exception."""
    slow = stats.expon(scale=1 / cascade.ATTENUATION)
    for depth in (0.4, 3.0, 20.0):
        exact, _ = integrate.quad(lambda t, x=depth: stats.expon(scale=1 / rate).pdf(t) * slow.cdf(x - t), 0, depth)
        assert cascade._penetrating(rate, np.array([depth]))[0] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("geometry", [nai_block(), lcd_ecal((10.0,) * 12, (0.5,) * 12)])
def test_the_mean_of_all_sub_showers_is_the_published_profile(geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tail and front, at fixed shape and depth. Thick plates make the shape so small that k is below 2.

    Their centres of gravity scatter as that many equal sub-showers do: sum of squared shares (k + 1)/(N k + 1).
    """
    monkeypatch.setattr(cascade, "LATE", 0.0)
    monkeypatch.setattr(cascade, "FRONT", 0.0)
    number, energy = 3000, np.full(3000, 10.0)
    streams = [seeds.generator(1, seeds.SHOWERS, i) for i in range(number)]
    mean = cascade.profile(geometry, energy, np.zeros(number), np.zeros(number))
    depth = np.broadcast_to(geometry.depths, (number, len(geometry.depths)))
    contained, centre = cascade.contained(geometry, energy, mean, depth, streams)
    error = contained.std(axis=0) / np.sqrt(number)
    assert (abs(contained.mean(axis=0) - mean.contained(depth)[0]) <= FAR * error).all()
    shape, rate = mean.shape[0], (mean.shape[0] - 1) / mean.peak[0]
    effective = cascade.NUMBER * 10**cascade.POWER
    parts = np.ceil(2 * effective)
    k = effective / (parts - effective)
    begun = shape - min(cascade.KERNEL, shape - cascade.LEAST)
    expected = begun / rate**2 * (k + 1) / (parts * k + 1)
    assert centre.var() == pytest.approx(expected, rel=2 * FAR * np.sqrt(2 / number))  # 2: tails of a skewed mean
    assert (k + 1) / (parts * k + 1) == pytest.approx(1 / effective, rel=0.05)


@pytest.mark.promise("Layers of 2 to 50 GeV electrons in sodium iodide fluctuate as in Geant4, to 20 %.")
@pytest.mark.parametrize("energy", GEANT4)
def test_layers_fluctuate_as_in_geant4(energy: float) -> None:
    """From the second layer to the ninth: relative spreads to 20 %, to 9 % on average; correlations to 0.2.

    2,500 showers and those of the reference know a spread to 2 % (50 GeV: 5 %). Generator 1 fails by far.
    """
    geant4 = GEANT4[energy]
    off, apart = {}, {}
    for generator in (1, 2):
        whole = block_layers(energy, generator)
        layers = whole[:, :10]
        off[generator] = (layers.std(axis=0) / layers.mean(axis=0) / geant4.spread - 1)[1:9]
        correlation = np.corrcoef(layers.T)
        apart[generator] = abs(np.diag(correlation, 1) - geant4.neighbours)[1:]
        if generator == 2:
            np.testing.assert_allclose(layers.mean(axis=0), geant4.mean, rtol=0.12)
            np.testing.assert_allclose(layers.mean(axis=0)[1:8], geant4.mean[1:8], rtol=0.08)
            depth = (np.arange(12) + 0.5) * 50 / 25.88
            assert (whole @ depth / whole.sum(axis=1)).std() == pytest.approx(geant4.centre, rel=0.12)
    assert abs(off[2]).max() < 0.20
    assert abs(off[2]).mean() < 0.09
    assert off[1][1:7].mean() < -0.15
    assert apart[2].max() < 0.2


@pytest.mark.parametrize("energy", [1.0, 10.0, 100.0])
def test_the_front_of_a_shower_is_anticorrelated_with_its_back(energy: float) -> None:
    """Energy before the maximum of the mean shower and 6 X0 behind it. Fisher's z of 2,500 showers is known to 0.02."""
    block = nai_block(layers=60, layer_mm=10)
    layers = layer_energies(block, "electron", np.full(2500, energy), 4)
    peak = layers.mean(axis=0).argmax()
    front, back = layers[:, : peak - 4].sum(axis=1), layers[:, peak + 15 :].sum(axis=1)
    assert np.arctanh(np.corrcoef(front, back)[0, 1]) < -FAR * 0.02
    assert np.corrcoef(layers[:, peak + 20], layers[:, peak + 24])[0, 1] > 0


@pytest.mark.parametrize("energy", [1.0, 10.0, 100.0])
def test_a_homogeneous_calorimeter_without_end_sees_all_of_the_energy(energy: float) -> None:
    for particle in ("electron", "photon"):
        endless = nai_block(layers=2, cells=1, layer_mm=1500, cell_mm=1e8)
        for function in (layer_energies, simulate):
            showers = function(endless, particle, np.full(50, energy), 5).reshape(50, -1)
            np.testing.assert_allclose(showers.sum(axis=1), energy, rtol=1e-6)


def test_the_energy_near_the_axis_is_that_of_geant4() -> None:
    """To 4 % within 10 to 50 mm. 5 mm and less are no claim: the core of two components is not sharp enough there."""
    block = nai_block(cells=60, cell_mm=2.5)
    x = (np.arange(60) - 29.5) * 2.5
    distance = np.hypot(x[:, None], x)
    for i, energy in enumerate((2.0, 10.0)):
        mean = simulate(block, "electron", np.full(200, energy), 6).mean(axis=0).sum(axis=0) / energy
        for radius, shares in WITHIN.items():
            assert mean[distance < radius].sum() == pytest.approx(shares[i], rel=0.04)


@pytest.mark.parametrize("energy", LATERAL)
def test_the_width_of_a_shower_fluctuates_as_in_geant4(energy: float) -> None:
    """Shares of three rings, to 25 %. Generator 1 has little more than half of it at 2 GeV."""
    x = (np.arange(12) - 5.5) * 20
    distance = np.hypot(x[:, None], x)
    spread = {}
    for generator in (1, 2):
        cells = simulate(nai_block(), "electron", np.full(1000, energy), 7, generator=generator).sum(axis=1)
        total = cells.sum(axis=(1, 2))
        rings = [(distance > low) & (distance < high) for low, high in ((0, 15), (15, 35), (35, 60))]
        shares = [cells[:, ring].sum(axis=1) / total for ring in rings]
        spread[generator] = np.array([share.std() / share.mean() for share in shares]) / LATERAL[energy]
    np.testing.assert_allclose(spread[2], 1, atol=0.25)
    assert (spread[1] < spread[2]).all()


@pytest.mark.parametrize("energy", [1.0, 10.0, 100.0])
def test_90_percent_of_a_shower_are_within_about_a_moliere_radius(energy: float) -> None:
    """The 90 and 95 % of 1 and 2 Moliere radii are rounded [Particle Data Group]: to 5 and 2.5 %."""
    block = nai_block(layers=20, cells=60, cell_mm=5)
    x = (np.arange(60) - 29.5) * 5
    distance = np.hypot(x[:, None], x)
    mean = simulate(block, "electron", np.full(60, energy), 8).mean(axis=0).sum(axis=0) / energy
    assert mean[distance < block.moliere_mm].sum() == pytest.approx(0.90, abs=0.05)
    assert mean[distance < 2 * block.moliere_mm].sum() == pytest.approx(0.95, abs=0.025)


def test_spots_are_as_many_as_tracks_are_long() -> None:
    """2 E/Ec exponential ones fluctuate as E/Ec equal ones: y = 161 at 2 GeV in sodium iodide."""
    block = nai_block()
    assert cascade.spots(block, np.array([2.0]))[0] == np.ceil(2 * 2.0 / block.critical_energy)
    assert profiles.spots(block, np.array([2.0]))[0] > cascade.spots(block, np.array([2.0]))[0]

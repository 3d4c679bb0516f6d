"""Showers obey the physics they claim: formulas against quadrature, samples against formulas.

Seeds are fixed, so nothing here fails by chance; the false-alarm rates are those of another seed. Limits of 4.9
standard errors are one false alarm in a million per comparison, and p-values below 1e-6 likewise.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from analysis import showers
from analysis.report import plotting
from ntkhpc import seeds
from ntkhpc.data import particles, profiles, window
from ntkhpc.data.shower import BATCH, Geometry, layer_energies, lcd_ecal, nai_block, simulate

FAR = 4.9
PARTICLES = ("electron", "photon", "pion")
FIXTURES = Path(__file__).parents[1] / "fixtures"
DEEP = lcd_ecal(passive_mm=(2.4,) * 60, active_mm=(0.5,) * 60)


def streams(seed: int, number: int) -> list[np.random.Generator]:
    return [seeds.generator(seed, seeds.SHOWERS, i) for i in range(number)]


def radii(geometry: Geometry) -> np.ndarray:
    """Distance in mm of the centre of each cell from the axis, (cells, cells)."""
    x = (np.arange(geometry.cells) - (geometry.cells - 1) / 2) * geometry.cell_mm
    return np.hypot(x[:, None], x)


def same(sample: np.ndarray, expected: float) -> bool:
    """The mean of a sample is the expected one, to FAR standard errors."""
    return abs(sample.mean() - expected) < FAR * sample.std() / np.sqrt(len(sample))


@pytest.mark.parametrize("radius", [0.3, 4.0, 40.0])
@pytest.mark.parametrize("cells", [4, 5])
def test_shares_of_cells_are_the_integrals_of_the_profile(radius: float, cells: int) -> None:
    edge = 5.1
    inside, share = window.shares(window.corners(window.edges(cells, edge), np.array(radius)), cells)
    square = np.zeros((cells, cells))
    square.flat[window.inner_first(cells)] = inside * share
    low = (np.arange(cells + 1) - cells / 2) * edge

    def density(y: float, x: float) -> float:
        return radius**2 / (np.pi * (x * x + y * y + radius**2) ** 2)

    for i, j in [(0, 0), (cells // 2, cells // 2), (1, 3), (cells - 1, 2)]:
        exact, _ = integrate.dblquad(density, low[i], low[i + 1], low[j], low[j + 1], epsabs=1e-11, epsrel=1e-9)
        assert square[i, j] == pytest.approx(exact, rel=1e-6, abs=1e-10)
    assert share.sum() == pytest.approx(1)


def test_a_radius_drawn_as_published_falls_into_cells_as_often_as_computed() -> None:
    """r = R sqrt(u/(1-u)), chosen between core and tail; chi2 over 36 cells and the outside, false alarm 1e-6."""
    random, cells, number = np.random.default_rng(3), 6, 200_000
    weight, core, tail = 0.7, 6.0, 25.0
    u = random.random(number)
    r = np.where(random.random(number) < weight, core, tail) * np.sqrt(u / (1 - u))
    phi = random.uniform(0, 2 * np.pi, number)
    edges = (np.arange(cells + 1) - 3) * 10.0
    drawn = np.histogram2d(r * np.cos(phi), r * np.sin(phi), [edges, edges])[0].ravel()[window.inner_first(cells)]
    half = [window.corners(window.edges(cells, 10.0), np.array(radius)) for radius in (core, tail)]
    inside, share = window.shares(weight * half[0] + (1 - weight) * half[1], cells)
    expected = number * np.append(inside * share, 1 - inside)
    assert stats.chisquare(np.append(drawn, number - drawn.sum()), expected).pvalue > 1e-6


def test_what_a_depth_contains_is_the_integral_of_the_profile() -> None:
    profile = profiles.Longitudinal(np.array([3.7]), np.array([5.2]), np.array([3.7]))
    b = 2.7 / 5.2
    density = stats.gamma(3.7, scale=1 / b).pdf
    for depth in (0.5, 5.2, 15.0):
        exact, _ = integrate.quad(density, 0, depth)
        assert profile.contained(np.array([[depth]]))[0, 0] == pytest.approx(exact, rel=1e-9)
    slope = (density(5.2 + 1e-4) - density(5.2 - 1e-4)) / density(5.2)
    assert slope == pytest.approx(0, abs=1e-7)  # T is where the profile peaks
    # tau of the average shower is depth over that of its maximum.
    np.testing.assert_allclose(profile.tau(np.array([[5.2, 10.4]])), [[1, 2]])


@pytest.mark.promise("Showers reach their maximum within 0.6 radiation lengths of the Particle Data Group's formula.")
@pytest.mark.parametrize("energy", [1.0, 10.0, 100.0, 500.0])
def test_the_maximum_lies_where_the_particle_data_group_puts_it(energy: float) -> None:
    """t_max = ln(E/Ec) + C, C = -0.5 for electrons and +0.5 for photons; within 0.6 X0 in a homogeneous block.

    PDG's C is a rounded fit. A photon here is an electron from its conversion on, which ends between the two.
    """
    block = nai_block(layers=120, layer_mm=10)
    middle = (block.depths[1:] + block.depths[:-1]) / 2
    peak = {}
    for particle, c in (("electron", -0.5), ("photon", 0.5)):
        mean = layer_energies(block, particle, np.full(2000, energy), 1).mean(axis=0)
        near = mean > 0.85 * mean.max()
        fit = np.polynomial.Polynomial.fit(middle[near], mean[near], 3)
        depth = np.linspace(*middle[near][[0, -1]], 1000)
        peak[particle] = depth[fit(depth).argmax()]
        assert peak[particle] == pytest.approx(np.log(energy / block.critical_energy) + c, abs=0.6)
    assert 1.0 < peak["photon"] - peak["electron"] < 1.6


def test_the_response_to_electrons_and_photons_is_linear() -> None:
    for particle in ("electron", "photon"):
        for energy in (1.0, 10.0, 100.0, 1000.0):
            assert same(layer_energies(DEEP, particle, np.full(1500, energy), 3).sum(axis=1) / energy, 1.0)


@pytest.mark.promise("The energy resolution has the stochastic and the constant term of the calorimeter.")
def test_the_resolution_is_that_of_the_geometry() -> None:
    """Variances s2 of (sum/E) at six energies against a^2/E + b^2, by weighted least squares; false alarm 2e-6."""
    number, energy = 3000, np.geomspace(5, 500, 6)
    deep = replace(DEEP, stochastic_term=0.2, constant_term=0.012)
    sums = [layer_energies(deep, "electron", np.full(number, e), 4, first=i * number) for i, e in enumerate(energy)]
    s2 = np.array([layers.sum(axis=1).var() for layers in sums]) / energy**2
    design = np.stack([1 / energy, np.ones(6)], axis=1)
    scaled = design / (s2 * np.sqrt(2 / number))[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    a2, b2 = covariance @ scaled.T @ np.full(6, np.sqrt(number / 2))
    error = np.sqrt(np.diag(covariance))
    assert abs(a2 - 0.2**2) < FAR * error[0] < 0.1 * a2
    assert abs(b2 - 0.012**2) < FAR * error[1] < 0.5 * b2


def test_noise_is_that_of_the_whole_sum() -> None:
    energy = np.full(1000, 20.0)
    for function, geometry in ((layer_energies, lcd_ecal(noise=0.3)), (simulate, nai_block(3, 4, noise=0.3))):
        quiet = function(replace(geometry, noise=0.0), "electron", energy, 5).reshape(1000, -1)
        noise = (function(geometry, "electron", energy, 5).reshape(1000, -1) - quiet).sum(axis=1)
        assert noise.std() == pytest.approx(0.3, rel=FAR / np.sqrt(2000))


def test_showers_are_contained_as_they_should_be() -> None:
    """22.7 X0 hold a 10 GeV shower and leak of a 500 GeV one; a Moliere radius holds about 90 % on average."""
    calm = lcd_ecal(stochastic_term=0.02, constant_term=0.0)
    for energy, low, high in ((10.0, 0.993, 0.999), (500.0, 0.96, 0.98)):
        assert low < layer_energies(calm, "electron", np.full(1000, energy), 6).sum(axis=1).mean() / energy < high
    for geometry in (nai_block(20, 81, 40, 11), replace(lcd_ecal(cells=61, cell_mm=1.8), passive_mm=(4.8,) * 25)):
        mean = simulate(geometry, "electron", np.full(40, 20.0), 6).mean(axis=0).sum(axis=0)
        inside = [mean[radii(geometry) < k * geometry.moliere_mm].sum() / 20.0 for k in (1, 2)]
        assert 0.84 < inside[0] < 0.93 < inside[1] < 0.97


def test_spots_make_layers_fluctuate_as_a_multinomial_about_the_profile() -> None:
    """Counts less their mean given shape and depth have variance N f (1 - f): false alarm 1e-6."""
    block, energy, number = nai_block(layers=6), 2.0, 1500
    drawn = np.array([stream.standard_normal(3) for stream in streams(8, number)])
    profile = profiles.longitudinal(block, np.full(number, energy), drawn[:, 0], drawn[:, 1])
    fraction = np.diff(profile.contained(block.depths[None]), axis=1)
    spots = profiles.spots(block, np.array([energy]))[0]
    assert spots == round(93 * np.log(46.6) * 2**0.876)
    counts = layer_energies(block, "electron", np.full(number, energy), 8, generator=1) * spots / energy
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)  # equal parts, nothing sampled
    pull = (counts - spots * fraction)[:, 1:5] / np.sqrt(spots * fraction * (1 - fraction))[:, 1:5]
    assert (abs(pull.mean(axis=0)) < FAR / np.sqrt(number)).all()
    assert (abs(pull.var(axis=0) - 1) < 1.1 * FAR * np.sqrt(2 / number)).all()  # 1.1: tails of a skewed count


def test_early_and_late_layers_are_anticorrelated() -> None:
    """A shower that begins late is late everywhere. Fisher's z of 1,000 showers is known to 0.032."""
    layers = layer_energies(lcd_ecal(), "electron", np.full(1000, 50.0), 9)
    correlation = np.corrcoef(layers.T)
    assert np.arctanh(correlation[3, 20]) < -FAR * 0.032
    assert np.arctanh(correlation[3, 4]) > FAR * 0.032
    assert np.arctanh(correlation[19, 20]) > FAR * 0.032


@pytest.mark.promise("Energies of cells add up to those of layers, where the window has no end.")
@pytest.mark.parametrize("particle", PARTICLES)
def test_cells_add_up_to_layers(particle: str) -> None:
    """They do so exactly in a window without end; the default one lacks the share that the profile leaves outside."""
    energy = np.full(30, 30.0)
    layers = layer_energies(nai_block(), particle, energy, 10)
    endless = nai_block(cells=1, cell_mm=1e7)
    np.testing.assert_allclose(simulate(endless, particle, energy, 10)[..., 0, 0], layers, rtol=1e-9)
    cells = simulate(nai_block(), particle, energy, 10)
    assert cells.shape == (30, 12, 12, 12)
    assert (cells >= 0).all()
    assert (cells.sum(axis=(2, 3)) <= layers * (1 + 1e-9)).all()
    share = cells.sum() / layers.sum()
    assert 0.95 < share < 0.99 if particle != "pion" else 0.7 < share < 0.95


def test_sampling_fluctuations_leave_the_mean_of_the_layers() -> None:
    """A wide window against layers without end, other seeds: 25 pulls, false alarm 2e-5 together."""
    geometry, energy = lcd_ecal(cells=3, cell_mm=2000.0), np.full(800, 20.0)
    difference = simulate(geometry, "electron", energy, 1).sum(axis=(2, 3)).mean(axis=0)
    layers = layer_energies(geometry, "electron", energy, 2)
    error = layers.std(axis=0) * np.sqrt(2 / 800)
    assert (abs(difference - layers.mean(axis=0)) < FAR * error).all()


@pytest.mark.promise("A shower has the same bytes in every batch.")
@pytest.mark.parametrize("generator", [1, 2])
@pytest.mark.parametrize("particle", PARTICLES)
def test_a_shower_is_the_same_in_any_batch(particle: str, generator: int) -> None:
    geometry = lcd_ecal(passive_mm=(10.0,) * 4, active_mm=(0.5,) * 4, cells=4, noise=0.01)
    energy = np.geomspace(1, 500, BATCH + 30)
    options = {"generator": generator}
    for function in (simulate, layer_energies):
        whole = function(geometry, particle, energy, 11, **options)
        parts = [
            function(geometry, particle, energy[i : i + 37], 11, first=i, **options) for i in range(0, len(energy), 37)
        ]
        assert whole.tobytes() == np.concatenate(parts).tobytes()
        assert whole[5].tobytes() == function(geometry, particle, energy[5:6], 11, first=5, **options)[0].tobytes()
        assert (whole != function(geometry, particle, energy, 12, **options)).any()
        assert function(geometry, particle, energy[:0], 11, **options).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("cells", [4, 5])
@pytest.mark.parametrize("particle", ["electron", "pion"])
def test_the_mean_shower_is_symmetric(particle: str, cells: int) -> None:
    """Cells that mirror each other differ by what 1,500 showers leave: at most 100 pulls, false alarm 1e-4 together."""
    geometry = lcd_ecal(passive_mm=(20.0,) * 2, active_mm=(0.5,) * 2, cells=cells, cell_mm=8.0)
    showers = simulate(geometry, particle, np.full(1500, 20.0), 13)
    for mirrored in (showers.swapaxes(2, 3), showers[:, :, ::-1], showers[:, :, :, ::-1]):
        difference = showers - mirrored
        error = difference.std(axis=0) / np.sqrt(1500)
        assert (abs(difference.mean(axis=0)) <= FAR * error).all()


def test_photons_convert_after_an_exponential_depth() -> None:
    """Kolmogorov-Smirnov on the depth before which nothing is deposited, false alarm 1e-6."""
    block = nai_block(layers=1, layer_mm=2000)
    drawn = streams(14, 1000)
    normals = np.zeros((1000, 2))
    begun = particles.start(block, "photon", np.full(1000, 5.0), drawn, normals, generator=1)
    contained = begun.components[0].contained
    reference = profiles.longitudinal(block, np.full(1, 5.0), np.zeros(1), np.zeros(1))
    # Equal profiles: how much of one is contained at a depth tells where it began.
    at = block.in_steps(block.depths)[20]
    grid = np.linspace(0, at, 20_001)
    began = at - np.interp(contained[:, 20], reference.contained(grid[None])[0], grid)
    assert stats.kstest(began, stats.expon(scale=9 / 7).cdf).pvalue > 1e-6


def test_pictures_of_showers_are_drawn(tmp_path: Path) -> None:
    with plotting.style():
        curve, fit = showers.resolution(count=100)
        drawn = {"profiles": showers.profiles(count=10), "event": showers.event("pion"), "resolution": curve}
        drawn["fluctuations"] = showers.fluctuations(count=30)
    plotting.save(drawn, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for name in drawn for kind in ("pdf", "png")}
    assert fit.params["a"].value == pytest.approx(0.17, abs=FAR * fit.params["a"].stderr)

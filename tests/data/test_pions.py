"""Showers of charged pions: where they begin, what they leave before, and how a calorimeter responds.

Limits of FAR standard errors are one false alarm in a million per comparison, and p-values below 1e-6 likewise.
"""

import numpy as np
import pytest
from scipy import stats

from ntkhpc import seeds
from ntkhpc.data import particles
from ntkhpc.data.shower import TRACK_SPREAD, layer_energies, lcd_ecal, nai_block

FAR = 4.9


def test_pions_interact_after_an_exponential_depth() -> None:
    """From the length of the track; Kolmogorov-Smirnov, false alarm 1e-6."""
    block = nai_block(layers=300)
    streams = [seeds.generator(15, seeds.SHOWERS, i) for i in range(1000)]
    track = particles.start(block, "pion", np.full(1000, 50.0), streams, np.zeros((1000, 2))).track
    length = track.sum(axis=1) / (block.mip_energy[0] / np.diff(block.hadronic_depths)[0])
    assert stats.kstest(length, stats.expon.cdf).pvalue > 1e-6


def test_pions_leave_a_minimum_before_they_interact() -> None:
    """A thin calorimeter is crossed by most: on the electron scale, a minimum over e/mip in each layer."""
    thin = lcd_ecal((2.4,) * 4, (0.5,) * 4, constant_term=0.0)
    layers = layer_energies(thin, "pion", np.full(3000, 50.0), 16)
    loss = 1e-3 * (0.24 * 19.3 * 1.145 + 0.05 * 2.329 * 1.664)
    crossed = layers[layers.max(axis=1) < 4 * loss]
    assert len(crossed) / 3000 == pytest.approx(np.exp(-thin.hadronic_depths[-1]), abs=0.02)
    expected = loss / thin.e_over_mip
    assert 1.3 < 1 / thin.e_over_mip < 1.5
    np.testing.assert_allclose(crossed.mean(axis=0), expected, rtol=0.02)
    assert crossed[:, 0].std() / crossed[:, 0].mean() == pytest.approx(TRACK_SPREAD, rel=0.15)


def test_the_response_to_pions_is_not_linear() -> None:
    """E f_em + E (1 - f_em) h/e, f_em = 1 - E^(m-1), in a calorimeter of 19 interaction lengths; the track counts
    fully, which moves the response by less than 2 % above 20 GeV."""
    block = nai_block(layers=160)
    found = []
    for energy in (20.0, 200.0):
        response = layer_energies(block, "pion", np.full(1500, energy), 17).sum(axis=1) / energy
        share = 1 - energy ** (particles.HADRON_POWER - 1)
        expected = share + (1 - share) * block.h_over_e
        assert response.mean() == pytest.approx(expected, abs=0.02 + FAR * response.std() / np.sqrt(1500))
        found.append(response)
    assert found[1].mean() - found[0].mean() > 0.04
    electron = layer_energies(block, "electron", np.full(100, 200.0), 17).sum(axis=1) / 200
    assert found[1].std() > 5 * electron.std()

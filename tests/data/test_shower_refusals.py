"""Calorimeters that cannot be, and showers that cannot be made in them, are refused."""

import numpy as np
import pytest

from ntkhpc.data.materials import Material
from ntkhpc.data.shower import layer_energies, lcd_ecal, nai_block, simulate


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells": 0}, "cells = 0 must be a whole number"),
        ({"cells": 5.5}, "cells = 5.5 must be a whole number of at least 1, even or odd"),
        ({"cell_mm": -1.0}, "cell_mm = -1.0 must be positive"),
        ({"passive_mm": (-2.4,) * 25}, "one positive thickness per layer"),
        ({"passive_mm": (2.4,) * 24}, "got 24 and 25, the least 0.5"),
        ({"active_mm": (0.5,) * 24 + (np.nan,)}, "one positive thickness per layer"),
        ({"noise": -0.1}, "must be finite and not negative"),
        ({"stochastic_term": 0.0}, "a sampling calorimeter fluctuates"),
        ({"stochastic_term": 1e-9}, "cannot be drawn"),
        ({"passive_mm": (2.4,) * 24 + (1e5,)}, "radiation lengths deep, and 1,000 at most"),
        ({"active_mm": (1e308,) * 25}, "inf radiation lengths deep"),
        ({"h_over_e": 0.0}, "h_over_e"),
    ],
)
def test_calorimeters_that_cannot_be_are_refused(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lcd_ecal(**change)


@pytest.mark.parametrize(
    ("particle", "energy", "first", "said"),
    [
        ("elektron", [10.0], 0, r"unknown particle 'elektron'; did you mean \"electron\"\? \(there are electron, ph"),
        ("Pion", [10.0], 0, 'did you mean "pion"'),
        ("muon", [10.0], 0, "unknown particle 'muon'"),
        ("electron", [10.0, 0.99], 0, "at least 1 GeV"),
        ("electron", [np.nan], 0, "at least 1 GeV"),
        ("electron", [np.inf], 0, "at least 1 GeV"),
        ("electron", [[10.0]], 0, "one-dimensional"),
        ("electron", [10.0], -1, "first = -1 must not be negative"),
    ],
)
def test_showers_that_cannot_be_made_are_refused(particle: str, energy: list, first: int, said: str) -> None:
    for function in (simulate, layer_energies):
        with pytest.raises(ValueError, match=said):
            function(nai_block(), particle, np.array(energy), 1, first=first)
        with pytest.raises(ValueError, match="generator = 3 must be 1 or 2"):
            function(nai_block(), "electron", np.array([10.0]), 1, generator=3)


@pytest.mark.parametrize("generator", [1, 2])
def test_plates_too_thick_for_the_parametrisation_are_refused(generator: int) -> None:
    with pytest.raises(ValueError, match=r"a layer of 8\.5\d radiation lengths is too thick .* at 1 GeV"):
        layer_energies(lcd_ecal((30.0,) * 4, (0.5,) * 4), "electron", np.array([1.0, 9.0]), 1, generator=generator)


def test_a_material_has_positive_numbers() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Material(z=74, a=183.84, x0_mm=-3.5, density=19.3, interaction_length=191.9, de_dx=1.145)

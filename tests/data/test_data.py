"""Showers behave as showers, and data that cannot be used are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.runs import make_run

from ntkhpc import seeds, studies
from ntkhpc.data import shower
from ntkhpc.data.calorimeter import Calorimeter
from ntkhpc.data.source import Facts
from ntkhpc.data.split import Split
from ntkhpc.engine import store
from ntkhpc.engine.inputs import StoreInputs
from ntkhpc.engine.run import Run
from ntkhpc.errors import DataError
from ntkhpc.phase.block import Block
from ntkhpc.phase.work import Work
from ntkhpc.studies import data as data_phase

SMALL = Calorimeter(pool=50, test=20)


def test_a_shower_does_not_depend_on_the_batch_it_is_made_in() -> None:
    geometry, energy = shower.lcd_ecal(), np.linspace(10, 500, 40)
    whole = shower.layer_energies(geometry, "electron", energy, 7)
    parts = [shower.layer_energies(geometry, "electron", energy[i : i + 13], 7, first=i) for i in range(0, 40, 13)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert (whole != shower.layer_energies(geometry, "electron", energy, 8)).any()


def test_depth_and_energy_scale_are_those_of_the_geometry() -> None:
    geometry = shower.lcd_ecal()
    assert geometry.layers == Calorimeter().facts().features == 25
    assert geometry.depths[-1] == pytest.approx(22.7, abs=0.2)
    assert geometry.critical_energy == pytest.approx(8.1e-3, rel=0.05)


@pytest.mark.parametrize("energy", [10.0, 50.0, 200.0])
def test_response_resolution_and_maximum_of_showers(energy: float) -> None:
    """4,000 showers: resolution to 1.1 % by its statistics; 4.5 standard errors are allowed (false alarm 1e-5)."""
    geometry = shower.lcd_ecal()
    layers = shower.layer_energies(geometry, "electron", np.full(4000, energy), 1)
    total = layers.sum(axis=1)
    assert 0.97 < total.mean() / energy < 1.0
    assert (layers >= 0).all()
    # Leakage adds to sampling and constant term, so theirs is a lower bound and 1.45 of it an upper one here.
    expected = np.hypot(0.17 / np.sqrt(energy), 0.01)
    assert expected * (1 - 4.5 * 0.011) < total.std() / total.mean() < 1.45 * expected
    middle = (geometry.depths[1:] + geometry.depths[:-1]) / 2
    peak = middle[(layers.mean(axis=0) / np.diff(geometry.depths)).argmax()]
    # Sampling calorimeters peak up to 1.4 X0 before the PDG's ln(E/Ec) - 0.5 for a homogeneous block.
    assert -1.6 < peak - (np.log(energy / geometry.critical_energy) - 0.5) < 0.3


def test_a_stochastic_term_is_recovered_from_the_resolution() -> None:
    """sigma_E/E at two terms, without constant term, where leakage is small: their ratio is that of the terms."""
    energy = np.full(4000, 10.0)
    low, high = (
        shower.layer_energies(geometry, "electron", energy, 2).sum(axis=1).std()
        for geometry in (shower.lcd_ecal(stochastic_term=c, constant_term=0.0) for c in (0.17, 0.34))
    )
    assert high / low == pytest.approx(2, rel=4.5 * 0.011 * np.sqrt(2))


def test_energies_below_the_parametrisation_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 GeV"):
        shower.layer_energies(shower.lcd_ecal(), "electron", np.array([0.5]), 1)


def test_the_split_is_standardised_on_the_pool() -> None:
    split = SMALL.load(SMALL.facts())
    assert np.mean(split.x_train**2) == pytest.approx(1)
    np.testing.assert_allclose(split.x_train.mean(axis=0), 0, atol=1e-12)
    assert split.y_train.mean() == pytest.approx(0, abs=1e-12)
    assert split.y_train.std() == pytest.approx(1)
    np.testing.assert_allclose(
        np.log(split.target_test), split.y_test * split.target_scale + split.target_mean, rtol=1e-12
    )
    assert len(set(split.feature_scale)) == 1
    assert split.target_train.min() >= 10
    assert split.target_train.max() <= 500


def test_training_sets_are_nested_and_draws_differ() -> None:
    wanted = studies.loads(
        'name = "t"\n[data]\nsource = "calorimeter"\npool = 60\n[network]\nwidths = [8]\n'
        "[ensemble]\nn_train = [9, 12]\nmembers = 2\ndraws = 3\n[infinite_width]\nredraws = 4"
    )
    permutation = data_phase.permutations(wanted)
    assert permutation.shape == (3 + 1, 60)
    assert (np.sort(permutation, axis=1) == np.arange(60)).all()
    assert (permutation[0] != permutation[1]).any()


def test_streams_of_different_tags_and_numbers_differ() -> None:
    pairs = [(seeds.SHOWERS, 0), (seeds.SHOWERS, 1), (seeds.ENERGIES, 0), (seeds.PERMUTATION, 0)]
    drawn = [seeds.generator(1, *pair).random() for pair in pairs]
    assert len(set(drawn)) == len(pairs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x_train": np.nan}, r"x_train\[3, 2\] = nan is not a finite number \(1 such values\)"),
        ({"y_test": np.inf}, r"y_test\[3, 0\] = inf"),
        ({"x_test": np.zeros((19, 25))}, r"x_test has shape \(19, 25\), the split needs \(20, 25\)"),
        ({"x_test": np.zeros((20, 24))}, r"needs \(20, 25\)"),
        ({"y_train": np.zeros((50, 1))}, "constant target"),
        ({"y_train": np.zeros((50, 1), np.float32)}, "must be float64"),
        ({"x_train": np.zeros((0, 25))}, "not empty"),
    ],
)
def test_a_split_that_cannot_be_used_is_refused(change: dict, said: str) -> None:
    split = SMALL.load(SMALL.facts())
    name, value = next(iter(change.items()))
    if not isinstance(value, np.ndarray):
        damaged = getattr(split, name).copy()
        damaged[3, 2 if name.startswith("x") else 0] = value
        value = damaged
    with pytest.raises(DataError, match=said):
        replace(split, **{name: value})


@pytest.mark.promise("A NaN in the data stops the data phase before anything is written.")
def test_a_nan_in_the_data_stops_the_data_phase_before_anything_is_written(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_run(runs)

    good = target.study.data.load(target.study.known)

    def spoilt(_: Calorimeter, facts: Facts) -> Split:
        return replace(good, x_test=good.x_test + np.where(np.arange(15) == 4, np.nan, 0)[:, None])

    monkeypatch.setattr(Calorimeter, "load", spoilt)
    with pytest.raises(DataError, match=r"x_test\[4, 0\] = nan"):
        data_phase.compute(Work(target.study, Block({}, {}), StoreInputs(target)))
    assert len(target.missing("data")) == 1
    assert not list((target.store / "x_test").glob("c*"))


@pytest.mark.promise("The store holds the training pool and test points that the data source gave, bit for bit.")
def test_the_store_holds_the_split_the_generator_gives(finished: Run) -> None:
    split = finished.study.data.load(finished.study.known)
    stored = store.load(finished.store, *vars(split))
    assert all(stored[name].tobytes() == value.tobytes() for name, value in vars(split).items())
    assert studies.phase_names()[0] == "data"

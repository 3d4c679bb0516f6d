"""What another draw and another test set would change, against brute force."""

import numpy as np
import pytest
import xarray

from analysis.contrasts import slope_weights
from analysis.ensemble import curves, prediction

STUDY = """
name = "t"
[data]
source = "calorimeter"
pool = 40
test = 30
[network]
widths = [8]
[ensemble]
n_train = [16]
members = 40
tile = 2
"""


def exact(table: np.ndarray, sizes: tuple[int, ...]) -> xarray.DataArray:
    return xarray.DataArray(table, dims=("draw", "n_train"), coords={"n_train": list(sizes)})


SIZES = (10, 20, 40)
POOL = 80


def means(rng: np.random.Generator, draws: int, apart: int = 1) -> np.ndarray:
    """exp of means of nested draws (draws, sizes) from a pool of its own, relative spread 0.01/sqrt(n)."""
    numbers = rng.standard_normal(POOL)
    orders = [rng.permutation(POOL)[: 40 * apart].reshape(apart, 40) for _ in range(-(-draws // apart))]
    return np.exp(0.01 * np.stack([numbers[np.concatenate(orders)[:draws, :n]].mean(axis=1) for n in SIZES], axis=1))


@pytest.mark.parametrize(("count", "apart"), [(1, 1), (4, 1), (2, 2), (3, 2), (5, 2)])
def test_what_fresh_data_do_to_a_mean_over_draws_of_one_pool_is_known(count: int, apart: int) -> None:
    """Against 4,000 pools: variances of means over draws, to 8 % (3.6 standard errors, seed fixed), and of exponents.

    Errors of exponents are not too small, and too large where draws share many samples: half of the pool here.
    """
    rng, weights, drawn = np.random.default_rng(2), slope_weights(np.array(SIZES, float)), curves.Drawn(POOL, apart)
    fresh = np.array([np.log(means(rng, count, apart)).mean(axis=0) for _ in range(4000)])
    claimed, exponents = np.zeros(3), 0.0
    for _ in range(400):
        one = curves.draws(exact(means(rng, 32, apart), SIZES), drawn)
        assert one is not None
        deviates = curves.averaged(one, np.array(SIZES), drawn, count).deviates
        claimed += (deviates**2).sum(axis=1) / 400
        exponents += ((weights @ deviates) ** 2).sum() / 400
    np.testing.assert_allclose(claimed / fresh.var(axis=0), 1, atol=0.08)
    ratio = exponents / (fresh @ weights).var()
    assert 0.92 < ratio < (1.25 if count <= apart else 4)


def test_the_error_of_a_mean_over_draws_is_that_of_its_exponents() -> None:
    rng, sizes = np.random.default_rng(3), (8, 16, 32, 64)
    table = np.array(sizes) ** -0.5 * np.exp(0.1 * rng.standard_normal((9, 4)))
    curve = curves.exact(exact(table, sizes), curves.Drawn(10**9))
    assert curve is not None
    slopes = np.log(table) @ slope_weights(np.array(sizes, float))
    assert curve.slope().value == pytest.approx(slopes.mean())
    assert curve.slope().stderr == pytest.approx(slopes.std(ddof=1) / 3, rel=1e-4)
    assert curve.slope().dof == 8


def test_draws_that_are_not_there_are_left_out() -> None:
    table = means(np.random.default_rng(6), 9)
    table[4, 1] = np.nan
    whole, part = (curves.draws(exact(one, SIZES), curves.Drawn(POOL)) for one in (np.delete(table, 4, axis=0), table))
    assert whole is not None
    assert part is not None
    np.testing.assert_array_equal(whole.deviates, part.deviates)


@pytest.mark.parametrize("largest", [60, 55])
def test_draws_that_take_the_pool_say_nothing_of_another(largest: int) -> None:
    table = 1 + 0.1 * np.random.default_rng(4).random((5, 3))
    assert curves.draws(exact(table, (10, 20, largest)), curves.Drawn(60)) is None
    assert curves.draws(exact(table[:1], (10, 20, 30)), curves.Drawn(60)) is None


def test_exact_values_between_sizes_follow_a_power_law() -> None:
    table = np.array([[10.0, 40.0, 90.0], [20.0, 30.0, 50.0]])
    table[0] = np.array([8, 16, 64]) ** -0.7
    found = curves.interpolated(exact(table, (8, 16, 64)), np.array([8, 32]))
    assert found is not None
    np.testing.assert_allclose(found.values[0], np.array([8.0, 32.0]) ** -0.7)
    assert curves.interpolated(exact(table, (8, 16, 64)), np.array([4, 32])) is None


def test_errors_of_a_prediction_are_those_of_its_variance_by_source() -> None:
    """The standard deviation of predictions has half the relative error of their variance."""
    rng = np.random.default_rng(5)
    f = rng.normal(size=(40, 30, 1)) * np.linspace(0.5, 1.5, 30)[:, None]
    tiles = f.reshape(1, 1, 1, 20, 2, 30, 1)
    dims = ("width", "n_train", "draw", "tile", "test_point", "output")
    law = np.linspace(0.5, 1.5, 30) ** 2
    store = xarray.Dataset(
        {
            "prediction_mean": (dims, tiles.mean(axis=4)),
            "prediction_m2": (dims, 2 * tiles.var(axis=4)),
            "status": (("width", "n_train", "draw", "member"), np.zeros((1, 1, 1, 40), int)),
            "y_test": (("test_point", "output"), np.ones((30, 1))),
            "law_variance": (("draw", "n_train", "test_point"), law[None, None]),
        },
        coords={"width": [8], "n_train": [16], "draw": [0]},
        attrs={"study_toml": STUDY, "format": 2},
    )  # fmt: skip
    draws = np.exp(0.2 * rng.standard_normal(12))
    draw = curves.draws(exact(draws[:, None], (16,)), curves.Drawn(40))
    found = prediction.largest_cell(store, np.ones(1), None, draw)
    assert found is not None
    sd = float(np.sqrt(f.var(axis=0, ddof=1).mean()))
    assert found.initialisation.value == pytest.approx(sd)
    assert found.infinite_width == pytest.approx(np.sqrt(law.mean()))
    parts = found.initialisation.parts
    assert parts["test points"] == pytest.approx(sd / 2 * law.std(ddof=1) / np.sqrt(30) / law.mean())
    among = np.log(draws).std(ddof=1)
    assert parts["draw"] == pytest.approx(sd / 2 * among / np.sqrt(1 - 16 / 40))
    said = found.beside_infinite_width(lambda value: f"{value:.2f}")
    assert said.startswith(f" (infinitely wide networks after the same steps: {np.sqrt(law.mean()):.2f}, ")
    assert said.endswith("for this cell alone)")
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(2 * np.log(sd / found.infinite_width))
    wider = found.initialisation.half() / found.initialisation.stderr
    assert prediction.halves(found.initialisation)["members"] == pytest.approx(wider * parts["members"])
    few = prediction.largest_cell(store.isel(tile=slice(0, 4), member=slice(0, 8)), np.ones(1))
    assert few is not None
    assert np.isnan(few.p_value)
    assert "too few tiles" in few.beside_infinite_width(str)

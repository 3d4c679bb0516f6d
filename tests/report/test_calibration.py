"""The calibration of `make calibrate`, small: synthetic studies of known truth through the real analysis."""

import numpy as np
import pytest
import xarray

from analysis.calibration import __main__ as calibration
from analysis.calibration.__main__ import Scenario
from analysis.calibration.checks import Tally
from analysis.calibration.synthetic import Pool, make
from analysis.calibration.truth import LawMoments
from analysis.calibration.world import World, sample
from analysis.ensemble.curves import Drawn
from analysis.ensemble.results import EnsembleResults

SCENARIO = Scenario("small", members=60)
STUDIES = 48


@pytest.fixture(scope="module")
def world() -> World:
    return calibration.world_of(SCENARIO, test=60, count=4 * calibration.POOL)


@pytest.fixture(scope="module")
def pools(world: World) -> list[Pool]:
    return calibration.pools(world, range(STUDIES))


@pytest.fixture(scope="module")
def tally(world: World, pools: list[Pool]) -> Tally:
    found = calibration.run(world, SCENARIO, pools, range(STUDIES))
    found.merge(calibration.run_laws(world, 0.0, pools))
    return found


def test_networks_of_the_world_have_the_law_that_the_world_says(world: World) -> None:
    """4,000 sampled networks: mean and variance of L at both ends of the sizes, within 4.5 standard errors (1e-5)."""
    rng = np.random.default_rng(1)
    one = world.draws(world.rows(rng, world.pool(rng), 1))
    losses = ((sample(world, one, 4000, rng) - world.split.y_test[:, 0]) ** 2).mean(axis=-1)[0] / 2
    for i in (0, -1):
        truth = LawMoments.of(one.laws[0][i], world.split.y_test)
        squared = (losses[i] - losses[i].mean()) ** 2
        assert abs(losses[i].mean() - truth.mu) < 4.5 * losses[i].std() / np.sqrt(4000)
        assert abs(squared.mean() - truth.sigma2) < 4.5 * squared.std() / np.sqrt(4000)


def test_heavy_tails_of_the_world_are_those_it_says(world: World) -> None:
    """Losses of 200,000 networks at two points, times exp(s z - s^2/2): moments within 4.5 standard errors (1e-5)."""
    rng, s = np.random.default_rng(2), 0.3
    mean, covariance = (one[:2] if one.ndim == 1 or one.shape[1] == 1 else one[:2, :2]
                        for one in world.laws(world.rows(rng, world.pool(rng), 1)[0])[0])  # fmt: skip
    y = world.split.y_test[:2]
    truth = LawMoments.of((mean, covariance), y, s)
    f = rng.multivariate_normal(mean[:, 0], covariance, size=200_000)
    points = (f - y[:, 0]) ** 2 / 2 * np.exp(s * rng.standard_normal(200_000) - s**2 / 2)[:, None]
    total = points.mean(axis=1)

    def near(values: np.ndarray, expected: float) -> bool:
        return bool(abs(values.mean() - expected) < 4.5 * values.std() / np.sqrt(len(values)))

    assert near(total, truth.mu)
    assert near((total - truth.mu) ** 2, truth.sigma2)
    assert near((points[:, 0] - truth.point_mean[0]) * (points[:, 1] - truth.point_mean[1]), truth.population)
    assert near((points[:, 1] - truth.point_mean[1]) ** 2, truth.point_variance[1])
    assert near((points[:, 1] - truth.point_mean[1]) * (total - truth.mu), truth.point_covariance[1])


def test_a_synthetic_study_has_the_exact_law_of_its_samples(world: World, pools: list[Pool]) -> None:
    rng = np.random.default_rng(3)
    made = make(world, SCENARIO.losses, pools[0], rng)
    assert made.results.law.mu_L.values.ravel() == pytest.approx([one.mu for one in made.own[0]])
    assert made.results.redraws.sizes["draw"] == 32
    assert float(made.results.moments.mu_L[0, 0, 0]) == pytest.approx(made.own[0][0].mu, rel=0.5)


def test_further_draws_of_a_store_with_a_permutation_for_each_share_samples(world: World, pools: list[Pool]) -> None:
    """As early stores have; errors are larger then, where they were taken for apart."""
    today = make(world, SCENARIO.losses, pools[0], np.random.default_rng(3)).results
    found = {}
    for orders in (today.study.orders, 1 + 32):
        order = xarray.DataArray(np.zeros((orders, 1), int), dims=("order", "pool"))
        found[orders] = EnsembleResults(today.run, today.store.assign(permutation=order), "")
    assert found[today.study.orders].redrawn == today.redrawn == Drawn(8192, 32)
    assert found[33].redrawn == Drawn(8192, 1)
    wider = found[33].redraw_curves["mu_L"].log_value(-1).stderr / today.redraw_curves["mu_L"].log_value(-1).stderr
    assert wider == pytest.approx(np.sqrt((1 + 31 / 32) / (1 - 1 / 32)))


def test_without_further_draws_those_of_the_curve_tell_what_another_draw_does(world: World, pools: list[Pool]) -> None:
    made = make(world, SCENARIO.losses, pools[0], np.random.default_rng(3)).without_redraws()
    assert made.results.in_units is not None
    assert "draw" in made.results.in_units.found.initialisation.parts


@pytest.mark.promise(
    "Intervals of the report cover what they say, in synthetic studies of known truth (make calibrate)."
)
def test_every_interval_covers_what_it_says(tally: Tally) -> None:
    """48 studies of 2 widths: within 4 binomial errors of 68 and 95 % (6e-5 each, and the two widths share a draw)."""
    assert len(tally.intervals) > 50
    for name, outcomes in tally.intervals.items():
        if name.startswith("(control)"):
            continue
        for rate, level in zip(np.mean(outcomes, axis=0), (0.683, 0.95), strict=True):
            assert np.isnan(rate) or abs(rate - level) < 4 * np.sqrt(level * (1 - level) / STUDIES), (name, level, rate)


def pooled(tally: Tally, ending: str) -> tuple[float, float]:
    """Coverage of the exponents of all quantities together."""
    outcomes = [one for name, found in tally.intervals.items() if name.startswith("exponent of") for one in found
                if name.endswith(ending)]  # fmt: skip
    narrow, wide = np.mean(outcomes, axis=0)
    return float(narrow), float(wide)


def test_exponents_cover_what_they_say_and_would_be_found_out_if_they_did_not(tally: Tally) -> None:
    """All quantities together, of 48 draws: within 11 and 6 points, about 2.5 standard errors of each (seed fixed).

    With the errors of the members alone, exponents of mu_L for any draw would cover far less: 68 % intervals less than
    half of the draws.
    """
    for ending in ("this draw", "any draw"):
        narrow, wide = pooled(tally, ending)
        assert abs(narrow - 0.683) < 0.11
        assert abs(wide - 0.95) < 0.06
    blind = np.mean(tally.intervals["(control) exponent of mu_L, any draw, by members alone"], axis=0)
    assert blind[0] < 0.5
    assert blind[1] < 0.85


def test_verdicts_at_one_percent_are_rarely_false(tally: Tally) -> None:
    """At a rate of 2 % more than 7 of 48 studies, or 14 of 96 widths, alarm with a probability below 1e-4."""
    for name, alarms in tally.alarms.items():
        if not name.startswith("(control)"):
            assert np.mean(alarms) < 0.15, (name, np.mean(alarms))


def test_errors_for_the_test_points_cover_what_a_much_larger_test_set_shows() -> None:
    """32 test sets of two draws: within 4 binomial errors (6e-5 each, were they independent)."""
    found = calibration.run_points(2 * calibration.TEST_SETS).intervals
    assert {f"test points: exponent of {name}" for name in ("mu_L", "eps_pop")} <= set(found)
    for name, outcomes in found.items():
        assert len(outcomes) == 32, name
        for rate, level in zip(np.mean(outcomes, axis=0), (0.683, 0.95), strict=True):
            assert abs(rate - level) < 4 * np.sqrt(level * (1 - level) / 32), (name, level, rate)

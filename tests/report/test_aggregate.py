"""Moments of a finished run against an outsider's script and plain NumPy."""

import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import xarray
from support.runs import ROOT

from analysis import aggregate, agreement, estimators, infinite
from analysis.contrasts import Estimate
from ntkhpc.engine.run import Run


@pytest.fixture(scope="module")
def moments(finished: Run) -> xarray.Dataset:
    return aggregate.moments(finished)


@pytest.mark.promise(
    "An outsider's NumPy script recomputes mu_L, eps_L, eps_pop (12 digits) and their laws (6) from the store."
)
def test_an_outsider_recomputes_the_results_from_the_store_alone(
    finished: Run, moments: xarray.Dataset, tmp_path: Path
) -> None:
    """Another program, float64 NumPy, without this package on its path: ensembles to 1e-12, their exact law to 1e-6.

    Its textbook kernels lose half the digits on their diagonal, which is why the law agrees to 1e-6 only.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-P", str(ROOT / "tests" / "support" / "outsider.py"), str(finished.store)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    theirs = json.loads(ran.stdout)
    law = infinite.law(aggregate.open_store(finished)).transpose("n_train", "draw", ...)
    assert theirs["loss_error"] < 1e-6
    for name in ("mu_L", "eps_L", "eps_pop"):
        np.testing.assert_allclose(moments[name].values.ravel(), theirs[name], rtol=1e-12)
        np.testing.assert_allclose(law[name].values.ravel(), theirs[f"law_{name}"], rtol=1e-6)


def test_bias_and_variance_add_up_to_the_mean_loss(moments: xarray.Dataset) -> None:
    np.testing.assert_allclose(moments.bias2 + moments.variance, moments.mu_L, rtol=1e-6)


def test_bias_and_variance_of_chosen_points_are_those_of_their_predictions(finished: Run) -> None:
    """Against plain NumPy over stored predictions, and the jackknife over tiles by leaving tiles out."""
    store = aggregate.open_store(finished)
    chosen = np.arange(store.sizes["test_point"]) % 3 == 0
    found = aggregate.prediction_variance(store, chosen)
    y, tile = store.y_test.values[chosen], finished.study.ensemble.tile

    def direct(f: np.ndarray) -> tuple[float, float]:
        variance = f.var(axis=0, ddof=1)
        return ((f.mean(axis=0) - y) ** 2 - variance / len(f)).mean() / 2, variance.mean() / 2

    for i in range(store.sizes["n_train"]):
        f = store.prediction.values[0, i, 0][:, chosen].astype(float)
        cell = found.isel(width=0, n_train=i, draw=0)
        np.testing.assert_allclose([cell.bias2, cell.variance], direct(f), rtol=1e-6)
        starts = range(0, len(f), tile)
        left = np.array([direct(np.delete(f, slice(start, start + tile), axis=0)) for start in starts])
        errors = np.sqrt((len(left) - 1) * left.var(axis=0))
        tiles = [f[start : start + tile] for start in starts]
        sums, counts = np.array([one.sum(axis=0) for one in tiles]), np.array([len(one) for one in tiles])
        errors[0] *= aggregate._less_excess(counts, sums, errors[0] ** 2)
        np.testing.assert_allclose([cell.bias2_stderr, cell.variance_stderr], errors, rtol=1e-5)


def test_the_square_of_a_covariance_is_that_of_all_differences_of_two_pairs_of_tiles() -> None:
    """((a - b).(c - d))^2/4 of four different tiles is tr S^2 on average, by brute force over all fours."""
    rng, tiles, members = np.random.default_rng(3), 6, 5
    sums = rng.normal(size=(tiles, 7, 2))
    rows = sums.reshape(tiles, -1) / np.sqrt(members)
    fours = permutations(range(tiles), 4)
    trace = np.mean([((rows[a] - rows[b]) @ (rows[c] - rows[d])) ** 2 / 4 for a, b, c, d in fours])
    excess = 2 * trace / (30 * 29) / 28**2 * tiles / (tiles - 2)
    for variance in (1.0, 3 * excess):
        kept = aggregate._less_excess(np.full(tiles, members), sums, variance) ** 2
        assert kept == pytest.approx(1 - excess / 2 / variance, rel=1e-9)
    assert aggregate._less_excess(np.full(tiles, members), sums, excess) ** 2 == pytest.approx(0.75)
    assert aggregate._less_excess(np.full(3, 10), sums[:3], 1.0) == 1.0


def test_errors_of_bias2_have_half_of_what_the_jackknife_has_too_much() -> None:
    """1,000 Gaussian ensembles of 40 members in 8 tiles, whose mean is wrong by little: the mean square of the errors,
    against the exact variances of the linear and of the quadratic part, within 4 standard errors (false alarm 6e-5)."""
    rng, members, m, points = np.random.default_rng(4), 40, 8, 12
    root, wrong = rng.normal(size=(points, points)), 0.2 * rng.normal(size=points)
    covariance, y = root @ root.T, np.zeros((points, 1))
    linear = 4 * wrong @ covariance @ wrong / members / (2 * points) ** 2
    quadratic = 2 * np.trace(covariance @ covariance) / (members * (members - 1)) / (2 * points) ** 2
    found = []
    for _ in range(1000):
        f = (wrong + rng.normal(size=(members, points)) @ root.T).reshape(m, -1, points, 1)
        mean, m2 = f.mean(axis=1), ((f - f.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        found.append((aggregate._from_tiles(np.full(m, members // m), mean, m2, y)["bias2"][1] ** 2).sum())
    expected = linear + quadratic * (2 * (m - 1) - m / 2) / (m - 2)
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(len(found))
    assert expected < 0.85 * (linear + quadratic * 2 * (m - 1) / (m - 2))


def test_tiles_are_the_studys_own_also_when_the_last_one_is_short() -> None:
    status = np.zeros(100, int)
    status[[3, 99]] = 1
    assert aggregate._tile_counts(status, 32).tolist() == [31, 32, 32, 3]


@pytest.mark.promise(
    "The test of all sizes together calls a true law false as often as it says, in 500 synthetic studies."
)
def test_all_sizes_together_call_a_true_law_false_no_more_often_than_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 skewed samples whose sizes share members: p < 0.05 in 5 %, and p < 0.2 in 20 %, within 3.3 binomial errors.

    The smallest p of mean and spread: false-alarm rate 1e-3 each. An F distribution, as Hotelling has it, gives
    p < 0.05 in about 15 % for the spread.
    """
    rng, k, members, trials = np.random.default_rng(11), 4, 40, 500
    mean, variance = np.exp(0.18), (np.exp(0.36) - 1) * np.exp(0.36)
    values = {"mu_L": np.log(mean), "eps_L": np.log(np.sqrt(variance) / mean)}
    exact = {name: np.full((k, 1), value) for name, value in values.items()}
    monkeypatch.setattr(agreement, "RESAMPLES", 199)
    p = []
    for _ in range(trials):
        common, own = rng.normal(size=(1, 1, members)), rng.normal(size=(k, 1, members))
        sample = np.exp(0.6 * (0.8 * common + 0.6 * own))
        p.append(min(agreement.all_sizes_p_values(sample, exact).values()))
    for level in (0.05, 0.2):
        rate = np.mean(np.array(p) <= level)
        assert abs(rate - level) < 3.3 * np.sqrt(level * (1 - level) / trials) + 0.02, (level, rate)


def test_a_difference_that_is_said_to_be_seen_is_seen() -> None:
    """100 ensembles that differ at all sizes by `seen` of the mean: of 95 % that are to be called different, at least
    88 are (3.3 binomial errors, false alarm 1e-3)."""
    rng, k, members, trials = np.random.default_rng(12), 4, 60, 100
    spread, called = 0.3, []
    stderr = np.sqrt((np.exp(spread**2) - 1) / members * (0.64 + 0.36 / k))
    seen = Estimate(0.0, {"members": float(stderr)}, members - 1.0).seen(agreement.LEVEL / agreement.TESTS)
    exact = {"mu_L": np.full((k, 1), spread**2 / 2), "eps_L": np.full((k, 1), np.log(np.exp(spread**2) - 1) / 2)}
    for _ in range(trials):
        common, own = rng.normal(size=(1, 1, members)), rng.normal(size=(k, 1, members))
        sample = np.exp(seen + spread * (0.8 * common + 0.6 * own))
        p = agreement.all_sizes_p_values(sample, exact)["mu_L"]
        called.append(1 - (1 - p) ** 2 <= agreement.LEVEL)
    assert np.mean(called) > 0.95 - 3.3 * np.sqrt(0.95 * 0.05 / trials)


@pytest.mark.parametrize(("tiles", "families"), [(6, 1), (10, 2)])
def test_only_tests_that_are_made_count_among_those_that_could_alarm(tiles: int, families: int) -> None:
    """The variance is tested by tiles, and not by few; then the tests of the members have the whole level."""
    rng, k, members = np.random.default_rng(5), 3, 60
    sample = np.exp(0.3 * rng.normal(size=(k, 1, members)))
    moments = estimators.moments(sample[:, 0])
    values = {"mu_L": moments.mu, "eps_L": moments.eps, "variance": moments.mu}
    cell = xarray.Dataset(
        {name: ("n_train", value) for name, value in values.items()}
        | {f"{name}_deviates": (("n_train", "member"), rng.normal(size=(k, members))) for name in ("mu_L", "eps_L")}
        | {"variance_deviates": (("n_train", "tile"), rng.normal(size=(k, tiles)))},
        coords={"n_train": [8, 16, 32]},
    )
    exact = {"mu_L": 1.1, "eps_L": 0.3, "variance": 1.1}
    law = xarray.Dataset({name: (("draw", "n_train"), np.full((1, k), value)) for name, value in exact.items()})
    found = agreement.compare(sample, cell, law)
    alone = agreement.all_sizes_p_values(sample, {n: np.full((k, 1), np.log(exact[n])) for n in ("mu_L", "eps_L")})
    for name, p in alone.items():
        assert found[name].p_value == pytest.approx(1 - (1 - p) ** families)
        assert 0 < p < 1
    assert np.isfinite(found["variance"].p_value) == (families == 2)


def test_all_sizes_together_find_a_difference() -> None:
    sample = np.exp(0.3 * np.random.default_rng(2).normal(size=(5, 2, 300)))
    shifted = {"mu_L": np.full((5, 2), 0.045 + 0.1)}
    assert agreement.all_sizes_p_values(sample, shifted)["mu_L"] < 0.003
    # Alike on average, but not size by size: only the shape tells.
    bent = {"mu_L": np.full((5, 2), 0.045) + np.array([0.2, -0.2, 0.2, -0.2, 0.0])[:, None]}
    assert agreement.all_sizes_p_values(sample, bent)["mu_L"] < 0.003
    assert agreement.all_sizes_p_values(sample[..., :7], shifted) == {}


def test_spreads_on_fewer_test_points_are_those_of_blocks(finished: Run, moments: xarray.Dataset) -> None:
    store = aggregate.open_store(finished)
    losses = store.test_point_loss.values.astype(float)
    for size in store.test_size.values:
        count = losses.shape[-1] // size
        blocks = losses[..., : count * size].reshape(*losses.shape[:-1], count, size).mean(axis=-1)
        expected = np.sqrt(blocks.var(axis=3, ddof=1).mean(axis=-1))
        np.testing.assert_allclose(moments.size_sigma.sel(test_size=size), expected, rtol=1e-10)


def test_deviates_are_those_of_leaving_one_out() -> None:
    """Their squares add up to the jackknife's variance of the logarithm, members that are not there have none."""
    rng = np.random.default_rng(3)
    sample = np.exp(rng.normal(size=12))
    sample[4] = np.nan
    there = np.isfinite(sample)
    left = np.array([np.log(np.delete(sample, i)[np.isfinite(np.delete(sample, i))].std(ddof=1)) for i in range(12)])
    moved = estimators.deviates(left, there)
    jackknife = (11 - 1) / 11 * ((left[there] - left[there].mean()) ** 2).sum()
    assert (moved**2).sum() == pytest.approx(jackknife)
    assert moved[4] == 0
    assert np.isnan(estimators.deviates(np.full(12, np.nan), there)).all()


def test_what_points_add_is_their_covariance_with_the_loss(finished: Run, moments: xarray.Dataset) -> None:
    store = aggregate.open_store(finished)
    losses = store.test_point_loss.transpose("width", "n_train", "draw", "member", "test_point").values[0, 1, 0]
    cell = moments.isel(width=0, n_train=1, draw=0)
    np.testing.assert_allclose(cell.point_mean, losses.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(cell.point_variance, losses.astype(float).var(axis=0, ddof=1), rtol=1e-6)
    direct = [np.cov(column, losses.mean(axis=1, dtype=float))[0, 1] for column in losses.T.astype(float)]
    np.testing.assert_allclose(cell.point_covariance, direct, rtol=1e-5, atol=1e-12)
    assert float(cell.point_covariance.mean()) == pytest.approx(float(cell.sigma_L) ** 2, rel=1e-6)


@pytest.mark.promise("The error of a mean over draws knows that draws share their initialisations.")
def test_averaging_over_draws_keeps_that_they_share_initialisations() -> None:
    """Two draws with the same losses have the error of one; independent ones would have it over sqrt(2)."""
    rng = np.random.default_rng(0)
    leverage = rng.normal(size=(1, 2, 1, 50))
    dims = ("width", "n_train", "draw", "member")
    one = xarray.Dataset({"mu_L_leverage": (dims, leverage), "mu_L": (dims[:3], np.ones((1, 2, 1)))})
    two = xarray.concat([one, one], dim="draw")
    np.testing.assert_allclose(aggregate.over_draws(two).mu_L_stderr, aggregate.over_draws(one).mu_L_stderr)
    other = one.copy(data={"mu_L_leverage": rng.normal(size=(1, 2, 1, 50)), "mu_L": one.mu_L.values})
    mixed = aggregate.over_draws(xarray.concat([one, other], dim="draw"))
    assert (mixed.mu_L_stderr < aggregate.over_draws(one).mu_L_stderr).all()


def test_members_drawn_from_the_law_agree_with_it_and_others_do_not(finished: Run, moments: xarray.Dataset) -> None:
    """Kolmogorov-Smirnov distance of a sample of the tabulated law itself, and of one a standard deviation away."""
    store = aggregate.open_store(finished)
    probability, exact = store["quantile"].values, infinite.law(store).loss.values[0, 0]
    sample = np.sort(np.interp(np.random.default_rng(4).random(1000), probability, exact))
    assert agreement.ks_distance(sample, exact, probability) < 1.95 / np.sqrt(1000)
    assert agreement.ks_distance(sample + exact.std(), exact, probability) > 0.3

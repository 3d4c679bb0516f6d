"""Budgets: what is promised of a study against what the analysis states of it, and against many estimates."""

import math
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from analysis.budgets import foreseen_law
from analysis.budgets.budget import FEWEST, Design, MemberVariance, Seconds, Target, cheapest, points_needed
from analysis.budgets.foreseen import MOST_DRAWS, Foreseen
from analysis.budgets.pilot import covariances
from analysis.calibration import __main__ as calibration
from analysis.calibration.__main__ import Scenario
from analysis.calibration.synthetic import PLAIN, Pool, make
from analysis.calibration.world import World
from analysis.two_level import Levels
from ntkhpc.studies.ensemble import redraws

SMALL = Scenario("budget", 60, redraws=16)
TEST, POOL, STUDIES = 80, 2048, 6


@pytest.fixture(scope="module")
def world() -> World:
    return World(calibration.study(SMALL, TEST, POOL), calibration.samples(TEST, 4 * POOL))


@pytest.fixture(scope="module")
def pool(world: World) -> Pool:
    return Pool.of(world, [0.0], np.random.default_rng(20))


@pytest.fixture(scope="module")
def foreseen(world: World, pool: Pool) -> Foreseen:
    split = world.split
    parts = {name: getattr(split, name)[pool.rows] for name in ("x_train", "y_train", "target_train")}
    return foreseen_law.foresee(world.study, replace(split, **parts))


def stated(world: World, pool: Pool, design: Design, quantity: str) -> float:
    """Root mean square over studies of these numbers of the error that a report gives, of the smallest N_D."""
    ensemble = structs.replace(world.study.ensemble, members=design.trained, draws=design.draws)
    one = World(structs.replace(world.study, ensemble=ensemble), world.split)
    squares = []
    for number in range(STUDIES):
        results = make(one, PLAIN, pool, np.random.default_rng([21, number])).results
        if quantity.startswith("exponent_"):
            found = results.fits[quantity.removeprefix("exponent_"), 64].slope.stderr
        else:
            number_of = results.value(quantity, 64, 0)
            assert number_of is not None
            found = number_of.stderr / number_of.value
        squares.append(found**2)
    return math.sqrt(np.mean(squares))


@pytest.mark.parametrize(("quantity", "error"), [("mu_L", 0.04), ("eps_L", 0.09), ("exponent_eps_L", 0.06)])
def test_errors_of_a_study_of_the_designed_numbers_are_those_promised(
    world: World, pool: Pool, foreseen: Foreseen, quantity: str, error: float
) -> None:
    """Within 20 %, the error that reports of 6 synthetic studies state, which scatters by 7 %: draws differ.

    The cell with the largest error is that of the smallest N_D. Draws are part of the error of the exponent alone.
    """
    design = cheapest(foreseen.targets(quantity), Seconds(1.0, draw=5.0), error, "training", multiple=10)
    assert design.trained > FEWEST
    assert 0.9 * error < design.error <= error
    assert stated(world, pool, design, quantity) == pytest.approx(design.error, rel=0.2)


def test_draws_of_an_exponent_are_a_part_of_its_error(foreseen: Foreseen) -> None:
    """With one draw no number of members reaches what draws alone leave; with several one does."""
    (target,) = foreseen.targets("exponent_mu_L")
    floor = math.sqrt(target.draws[0])
    assert len(target.draws) == MOST_DRAWS
    assert target.variance(10**9, 0, 1) == pytest.approx(floor**2, rel=1e-3)
    design = cheapest([target], Seconds(1.0), 0.6 * floor, "training")
    assert design.draws > 2
    assert design.error <= 0.6 * floor


def test_draws_of_a_study_share_samples_as_those_of_its_report_do(world: World, pool: Pool, foreseen: Foreseen) -> None:
    """At the size 256 of a pool of 2048 eight of them leave (1 + 7/8)/8 of the variance of one, not an eighth.

    Further draws, of which eight fit into the pool, share none; those tell what one does.
    """
    assert foreseen.drawn == make(world, PLAIN, pool, np.random.default_rng(26)).results.drawn
    source = foreseen.draw["mu_L"]
    assert source is not None
    weights = (foreseen.n == 256).astype(float)
    variances = foreseen._draws("mu_L", weights)
    assert variances[0] == pytest.approx((source.deviates[-1] ** 2).sum())
    assert variances[7] / variances[0] == pytest.approx(15 / 64)
    many = structs.replace(world.study, ensemble=structs.replace(world.study.ensemble, draws=200))
    orders = foreseen_law.data_phase.permutations(many)[:200, :256].reshape(100, 2, 256)
    shared = np.mean([len(np.intersect1d(*pair)) for pair in orders])
    assert shared / 256 == pytest.approx(1 / 8, rel=0.06)  # each pair to 15.5 %: 4 standard errors


def test_members_of_several_draws_have_part_of_their_deviates_in_common(world: World, pool: Pool) -> None:
    """The share that the joint law says, from 4,000 networks at two draws, to 0.05: 3.5 standard deviations at most."""
    from analysis.calibration.world import sample
    from analysis.contrasts import slope_weights

    study, rng = world.study, np.random.default_rng(22)
    foreseen = foreseen_law.foresee(study, world.split)
    orders = foreseen_law.data_phase.permutations(study)
    rows = np.stack([orders[0, :256], redraws.chosen(study, orders, study.ensemble.draws)])
    f = sample(world, world.draws(rows), 4000, rng)
    losses = ((f - world.split.y_test[:, 0]) ** 2).mean(axis=-1)[None] / 2
    measured = covariances(losses, losses)
    for name in ("mu_L", "sigma_L", "eps_L"):
        law, seen = foreseen.trained[name][0].reshape(14, 14), measured[name][0].reshape(14, 14)
        scale = np.sqrt(np.outer(np.diag(seen), np.diag(seen)))
        size = np.sqrt(np.outer(np.diag(law), np.diag(law)))
        assert np.abs(law / size - seen / scale).max() < (0.06 if name == "mu_L" else 0.16)
        weights = slope_weights(foreseen.n)
        table = np.einsum("i,aibj,j->ab", weights, measured[name][0], weights)
        (shared,) = [foreseen._shared(foreseen.trained[name][0], weights, name)]
        assert shared.own == pytest.approx(np.trace(table) / 2, rel=0.15)
        assert shared.between == pytest.approx(table[0, 1], abs=0.1 * shared.own)


def still(**variances: float) -> Target:
    """A number of a study whose draws are what they are."""
    parts = {name: MemberVariance(value, value) for name, value in variances.items()}
    return Target("one", parts["trained"], parts["leapt"], parts["difference"], np.zeros(4))


@pytest.mark.parametrize(("cost", "share"), [(0.1, 1 / 20), (0.05, 1 / 100), (0.3, 1 / 8)])
def test_the_share_that_is_trained_beside_leaps_is_the_cheapest(cost: float, share: float) -> None:
    """m/M = sqrt(c V/(1 - V)), and no other m at the same error costs less."""
    target = still(trained=1.0, leapt=1.0, difference=share)
    seconds, error = Seconds(1.0, cost), 0.005
    design = cheapest([target], seconds, error, "both")
    assert design.trained / design.leapt == pytest.approx(math.sqrt(cost * share / (1 - share)), rel=0.1)
    assert design.seconds < cheapest([target], seconds, error, "training").seconds
    for trained in np.geomspace(design.trained / 3, 3 * design.trained, 41):
        leapt = (1 - share) / (error**2 - share / trained) if error**2 > share / trained else np.inf
        assert design.seconds <= 1.01 * (trained + cost * leapt)


def test_the_error_of_leaps_and_training_together_is_that_of_many_estimates() -> None:
    """log mu_L from 20,000 pairs of ensembles, chi-squared losses and leaps that follow them, m among the M: to 3 %,
    6 standard errors."""
    rng, (trained, leapt) = np.random.default_rng(23), (20, 160)
    losses = 1 + 0.25 * (rng.chisquare(6, size=(20_000, leapt)) - 6) / math.sqrt(12)
    leaps = losses * (1 + 0.05 * rng.standard_normal(losses.shape)) - 0.01
    found = leaps.mean(axis=1) + (losses - leaps)[:, :trained].mean(axis=1)
    target = still(trained=losses.var(), leapt=leaps.var(), difference=(losses - leaps).var())
    assert found.std() == pytest.approx(math.sqrt(target.variance(trained, leapt, 1)), rel=0.03)
    assert found.mean() == pytest.approx(1, abs=5 * found.std() / math.sqrt(20_000))  # which leaps alone are not
    assert target.variance(leapt, leapt, 1) == pytest.approx(target.variance(leapt, 0, 1))


def test_leaps_alone_are_not_offered_where_their_bias_counts() -> None:
    target = still(trained=1.0, leapt=1.0, difference=0.05)
    with pytest.raises(ValueError, match="bias of about 1 %"):
        cheapest([target], Seconds(1.0, 0.1), 0.02, "leaps")
    assert cheapest([target], Seconds(1.0, 0.1), 0.05, "leaps").leapt == 400


def test_leaps_alone_are_offered_down_to_three_times_a_measured_bias() -> None:
    target = still(trained=1.0, leapt=1.0, difference=0.05)
    with pytest.raises(ValueError, match=r"bias of about 2\.5 % .* not below 7\.5 %"):
        cheapest([target], Seconds(1.0, 0.1), 0.07, "leaps", bias=0.025)
    assert cheapest([target], Seconds(1.0, 0.1), 0.02, "leaps", bias=0.005).leapt == 2500


def test_leaps_that_vary_as_networks_do_save_nothing_and_draws_are_not_blamed() -> None:
    """U_diff >= U of one of two targets: training reaches the error, leaps beside it do not."""
    bad = replace(still(trained=1.0, leapt=1.5, difference=1.2), name="two", draws=np.full(4, 0.0001))
    targets = [still(trained=1.0, leapt=1.0, difference=0.05), bad]
    assert cheapest(targets, Seconds(1.0, 0.1), 0.05, "training").trained == 417  # 1/(0.05^2 - 0.01^2)
    with pytest.raises(ValueError, match=r"^two: leaps vary as much from training as networks do: they save nothing$"):
        cheapest(targets, Seconds(1.0, 0.1), 0.05, "both")


def test_what_draws_leave_is_refused_with_its_size() -> None:
    target = replace(still(trained=1.0, leapt=1.0, difference=0.1), draws=np.array([0.04, 0.01]))
    with pytest.raises(ValueError, match=r"one: draws .* error of 0.1 with up to 2 draws, more than 0.05"):
        cheapest([target], Seconds(1.0), 0.05, "training")


def test_test_points_go_with_the_square_of_the_error() -> None:
    target = replace(still(trained=1.0, leapt=1.0, difference=0.1), points=0.02**2)
    assert points_needed([target], 0.01, 500) == 2000


def test_test_points_that_are_needed_do_not_depend_on_how_many_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 80 points of which the law looks at 40, as many are needed as of the study whose test set is these 40."""
    monkeypatch.setattr(foreseen_law, "MOST_POINTS", 40)
    large, split = world.study, world.split
    rows = foreseen_law._spread(TEST, 40)
    small = structs.replace(large, data=structs.replace(large.data, test=40))
    part = replace(split, **{name: getattr(split, name)[rows] for name in ("x_test", "y_test", "target_test")})
    found, expected = foreseen_law.foresee(large, split), foreseen_law.foresee(small, part)
    for quantity in ("mu_L", "eps_L"):
        one, other = found.targets(quantity), expected.targets(quantity)
        needed = points_needed(one, 0.01, TEST)
        assert needed == pytest.approx(points_needed(other, 0.01, 40), abs=1)
        assert needed > 100
        assert one[0].trained.own == pytest.approx(other[0].trained.own)


def test_the_jackknife_of_a_large_ensemble_has_the_covariances_of_its_influences() -> None:
    """50,000 pairs of Gaussian losses of relative spread 0.1 and correlation 0.6, to 4 %: 5 standard errors."""
    rng = np.random.default_rng(24)
    one, other = rng.multivariate_normal([1, 1], 0.01 * np.array([[1, 0.6], [0.6, 1]]), size=50_000).T
    found = covariances(np.array([one, other])[None, None], np.array([one, other])[None, None])
    assert found["mu_L"][0, 0, 0, 0, 1] == pytest.approx(0.006, rel=0.04)
    assert found["sigma_L"][0, 0, :, 0].diagonal() == pytest.approx([0.5, 0.5], rel=0.04)
    assert found["sigma_L"][0, 0, 0, 0, 1] == pytest.approx(0.18, rel=0.06)
    paired = covariances(np.array([[[one]]]), np.array([[[other]]]), differ=True)
    assert paired["mu_L"].ravel() == pytest.approx([0.008], rel=0.04)


@pytest.mark.parametrize(("quantity", "error"), [("mu_L", 0.01), ("eps_L", 0.04)])
def test_errors_of_a_study_with_leaps_are_those_promised(quantity: str, error: float) -> None:
    """Within 20 %, the root mean square over 40 studies of the error that two-level estimates state, which scatters by
    3 % for mu_L and by 5 % for eps_L. Losses are sums of squares; leaps follow them, with a bias of 2 %."""

    def sample(members: int) -> tuple[np.ndarray, np.ndarray]:
        losses = 1 + 0.3 * (rng.chisquare(6, size=members) - 6) / math.sqrt(12)
        return losses, 0.98 * losses + 0.05 * (rng.chisquare(6, size=members) - 6) / math.sqrt(12)

    rng = np.random.default_rng(25)
    losses, leaps = (one[None, None, None] for one in sample(100_000))
    parts = {
        "trained": covariances(losses, losses),
        "leapt": covariances(leaps, leaps),
        "difference": covariances(losses, leaps, differ=True),
    }
    target = still(**{name: float(one[quantity].item()) for name, one in parts.items()})
    design = cheapest([target], Seconds(1.0, 0.1), error, "both")
    assert FEWEST <= design.trained < design.leapt / 4
    squares = []
    for _ in range(40):
        trained, leapt = sample(design.leapt)
        estimate = Levels.of(trained[: design.trained], leapt).quantities()[quantity].estimate()
        assert estimate is not None
        squares.append((estimate.stderr / estimate.value) ** 2)
    assert math.sqrt(np.mean(squares)) == pytest.approx(design.error, rel=0.2)

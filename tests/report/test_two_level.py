"""Two-level estimates against brute force, samples of known truth, and what they must not depend on."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.contrasts import number
from analysis.two_level import LARGEST, LEAPT, NAMES, TRAINED, Accuracy, Levels, Sample, over_draws, sources
from ntkhpc import kernels, leaps, training
from ntkhpc.networks import MLP

POINTS, M, FEW = 6, 60, 14


def losses(seed: int, shape: tuple[int, ...] = (M, POINTS), bias: float = -0.02) -> tuple[np.ndarray, np.ndarray]:
    """Of networks, trained and leapt: points of a network are alike, leaps are biased and off by 3 %."""
    rng = np.random.default_rng(seed)
    trained = rng.gamma(8.0, 1 / 8, size=(shape[0], *[1] * (len(shape) - 1))) * rng.gamma(20.0, 1 / 20, size=shape)
    return trained, trained * (1 + bias + 0.03 * rng.standard_normal(shape))


def moments(values: np.ndarray) -> np.ndarray:
    """Mean, variance of L, and mean covariance of two different test points, with NumPy's own covariance matrix."""
    covariance = np.cov(values, rowvar=False)
    different = covariance[~np.eye(len(covariance), dtype=bool)].mean()
    return np.array([values.mean(), covariance.mean(), different])


def plainly(trained: np.ndarray, leapt: np.ndarray) -> dict[str, float]:
    """The four quantities from point losses, of which the first are of the same networks."""
    mean, variance, population = moments(leapt) + moments(trained) - moments(leapt[: len(trained)])
    return {"mu_L": mean, "sigma_L": variance**0.5, "eps_L": variance**0.5 / mean, "eps_pop": population**0.5 / mean}


def test_values_and_the_jackknife_are_those_of_leaving_out_one_network_after_the_other() -> None:
    trained, leapt = losses(1)
    trained = trained[:FEW]
    found = Levels.of(trained, leapt).quantities()
    whole = plainly(trained, leapt)
    left = [plainly(np.delete(trained, i, axis=0) if i < FEW else trained, np.delete(leapt, i, axis=0))
            for i in range(M)]  # fmt: skip
    for name in NAMES:
        assert found[name].value == pytest.approx(whole[name], rel=1e-12)
        logarithms = np.log([one[name] for one in left])
        for group in (slice(0, FEW), slice(FEW, M)):
            count = len(logarithms[group])
            expected = (logarithms[group].mean() - logarithms[group]) * np.sqrt((count - 1) / count)
            assert found[name].deviates[group] == pytest.approx(expected, rel=1e-9, abs=1e-13)
        parts = found[name].estimate().parts
        assert parts.keys() == {TRAINED, LEAPT}
        assert parts[TRAINED] == pytest.approx(whole[name] * np.sqrt((found[name].deviates[:FEW] ** 2).sum()))


def test_the_error_of_the_mean_knows_that_the_trained_networks_are_among_the_leapt_ones() -> None:
    """Var[P]/M + Var[L - P]/m + 2 Cov[P, L - P]/M, the two ways in which it is written; the jackknife to 1/M."""
    trained, leapt = losses(2, (400,), bias=-0.3)  # so that the covariance is seen
    few = trained[:100]
    share, both, alone = 0.25, leapt[:100], leapt[100:]
    exact = np.var(few - (1 - share) * both, ddof=1) / 100 + (1 - share) ** 2 * np.var(alone, ddof=1) / 300
    pairs = np.cov(both, few - both)
    other = np.var(leapt, ddof=1) / 400 + pairs[1, 1] / 100 + 2 * pairs[0, 1] / 400
    found = Levels.of(few, leapt).quantities()["mu_L"].estimate()
    assert found.stderr**2 == pytest.approx(exact, rel=5e-3)
    assert other == pytest.approx(exact, rel=0.1)
    assert abs(other - 2 * pairs[0, 1] / 400 - exact) > 0.2 * exact


def test_estimates_of_samples_are_right_where_leaps_are_biased_and_their_errors_say_how_much_they_scatter() -> None:
    """800 samples of 20 trained and 200 leapt networks: means within 4.5 standard errors (1e-5), mean stated variances
    within 20 % of those seen, 4 of their standard errors (1e-4); leaps as they are would be found out."""
    shape, found, raw = 25.0, {name: [] for name in NAMES[:3]}, []
    stated = {name: [] for name in found}
    rng = np.random.default_rng(3)
    for _ in range(800):
        trained = rng.gamma(shape, 1 / shape, size=200)
        levels = Levels.of(trained[:20], trained * (0.97 + 0.02 * rng.standard_normal(200)))
        quantities = levels.quantities()
        raw.append(levels.leapt_alone()["mu_L"].value)
        for name in found:
            one = quantities[name].estimate()
            found[name].append(one.value)
            stated[name].append(one.stderr**2)
    for name, truth in (("mu_L", 1.0), ("sigma_L", shape**-0.5), ("eps_L", shape**-0.5)):
        spread = np.std(found[name])
        # eps_L and sigma_L have a bias of second order, a fraction 1/(2 M) of themselves or so.
        assert abs(np.mean(found[name]) - truth) < 4.5 * spread / np.sqrt(800) + (truth / 200 if name != "mu_L" else 0)
        assert np.mean(stated[name]) == pytest.approx(spread**2, rel=0.2)
    assert abs(np.mean(raw) - 1) > 20 * np.std(raw) / np.sqrt(800)


def test_the_variance_is_that_of_the_leaps_and_not_that_of_the_few() -> None:
    trained, leapt = losses(4, (1000,))
    few, both = trained[:20], Levels.of(trained[:20], leapt).quantities()
    alone = Levels.of(few, few).quantities()
    for name in ("mu_L", "sigma_L", "eps_L"):
        assert both[name].estimate().stderr < alone[name].estimate().stderr / 2.5


def test_of_networks_that_were_all_trained_leaps_change_nothing() -> None:
    trained, leapt = losses(5)
    own = Levels.of(trained, trained).quantities()
    for levels in (Levels.of(trained, leapt), Levels.of(trained, np.concatenate([leapt, leapt[:5]])).without_alone()):
        for name, one in levels.quantities().items():
            assert one.value == pytest.approx(own[name].value, rel=1e-12)
            assert one.deviates[:M] == pytest.approx(own[name].deviates, abs=1e-12)
            assert not one.deviates[M:].any()
            assert one.value == pytest.approx(plainly(trained, trained)[name], rel=1e-12)
    almost = Levels.of(trained[:-2], leapt).quantities()  # two alone have no jackknife, and are left out
    assert almost["mu_L"].value == pytest.approx(trained[:-2].mean(), rel=1e-12)


def test_networks_that_diverged_one_way_or_the_other_are_in_no_number() -> None:
    trained, leapt = losses(6)
    few = trained[:FEW].copy()
    few[3], leapt[5, 2], leapt[40] = np.nan, np.inf, np.nan
    kept, rest = [i for i in range(FEW) if i not in (3, 5)], [i for i in range(FEW, M) if i != 40]
    found = Levels.of(few, leapt)
    assert (found.both.nonzero()[0] == kept).all()
    assert (found.alone.nonzero()[0] == rest).all()
    expected = plainly(few[kept], np.concatenate([leapt[kept], leapt[rest]]))
    for name, one in found.quantities().items():
        assert one.value == pytest.approx(expected[name], rel=1e-12)
        assert not one.deviates[[3, 5, 40]].any()
    assert found.accuracy().networks == FEW - 2


def test_ratios_of_the_same_networks_have_the_error_of_pairs() -> None:
    trained, leapt = losses(7, (M,))
    levels, scaled = Levels.of(trained[:FEW], leapt), Levels.of(3 * trained[:FEW], 3 * leapt)
    one, three = levels.quantities()["mu_L"], scaled.quantities()["mu_L"]
    same = three.log_ratio(one)
    assert same.value == pytest.approx(np.log(3))
    assert same.stderr < 1e-12
    twin = Sample.of(leapt**1.1)
    pairs = Sample.of(np.where(levels.both, leapt**1.1, np.nan))
    linear = Levels(pairs, pairs, twin).quantities()["mu_L"]
    ratio = one.log_ratio(linear)
    values = np.log([plainly_mean(trained[:FEW], leapt, i) / np.delete(leapt**1.1, i).mean() for i in range(M)])
    variance = sum((len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum() for v in (values[:FEW], values[FEW:]))
    assert ratio.stderr**2 == pytest.approx(variance, rel=1e-9)
    assert ratio.stderr < 0.5 * one.estimate().stderr / one.value


def test_ratios_of_few_pairs_cover_what_they_say() -> None:
    """eps_L of 20 trained among 800 leapt networks over that of others of the same seeds, 1,500 studies: within four
    binomial errors of 68 and 95 % (6e-5 each). With the whole of the skewness that 20 pairs show, 68 %
    intervals of the very same studies cover less often by more than 2.5 %, which is known to 0.5 %."""
    rng, shape, found, whole = np.random.default_rng(8), 25.0, [], []
    truth = np.log(shape**-0.5) - np.log(_spread_of_twins(shape))
    for _ in range(1500):
        trained = rng.gamma(shape, 1 / shape, size=800)
        leapt, twin = (trained**power * (1 + 0.02 * rng.standard_normal(800)) for power in (1, 0.9))
        levels = Levels.of(trained[:20], leapt)
        pairs = Sample.of(np.where(levels.both, twin, np.nan))
        one, other = levels.quantities()["eps_L"], Levels(pairs, pairs, Sample.of(twin)).quantities()["eps_L"]
        ratio = one.log_ratio(other)
        plain = sources((one.deviates - other.deviates)[None], one.paired)
        taken = number(one.value / other.value, [replace(source, differences=False) for source in plain])
        assert (taken.value, taken.parts, taken.dof) == (ratio.value, ratio.parts, ratio.dof)
        for kept, estimate in ((found, ratio), (whole, taken)):
            kept.append([low <= truth <= high for low, high in (estimate.interval(), estimate.interval(0.95))])
    for rate, level in zip(np.mean(found, axis=0), (0.683, 0.95), strict=True):
        assert abs(rate - level) < 4 * np.sqrt(level * (1 - level) / 1500)
    assert np.mean(found, axis=0)[0] - np.mean(whole, axis=0)[0] > 0.025


def _spread_of_twins(shape: float) -> float:
    """eps_L of x^0.9 (1 + 0.02 z) with x of a gamma distribution of mean one, z normal: by moments."""
    first, second = (math.exp(math.lgamma(shape + k) - math.lgamma(shape) - k * math.log(shape)) for k in (0.9, 1.8))
    return math.sqrt(second * (1 + 0.02**2) / first**2 - 1)


def test_differences_are_where_networks_were_leapt_alone_and_in_ratios() -> None:
    trained, leapt = losses(10, (M,))
    few = Levels.of(trained[:FEW], leapt).quantities()["mu_L"]
    own = Levels.of(trained, leapt).quantities()["mu_L"]
    assert [(one.name, one.differences) for one in few.sources()] == [(TRAINED, True), (LEAPT, False)]
    assert [(one.name, one.differences) for one in own.sources()] == [(TRAINED, False)]
    assert [one.differences for one in sources(own.deviates[None], own.paired, ratio=True)] == [True]


def plainly_mean(trained: np.ndarray, leapt: np.ndarray, i: int) -> float:
    """Two-level mean without network i."""
    few = len(trained)
    kept = np.delete(np.arange(few), i) if i < few else np.arange(few)
    return float(np.delete(leapt, i).mean() + (trained[kept] - leapt[kept]).mean())


def test_means_over_draws_average_what_a_network_does() -> None:
    trained, leapt = losses(8, (M,))
    one = Levels.of(trained[:FEW], leapt).quantities()["eps_L"]
    other = Levels.of(trained[:FEW] ** 2, leapt**2).quantities()["eps_L"]
    mean = over_draws([one, other])
    assert mean.value == (one.value + other.value) / 2
    assert mean.deviates == pytest.approx((one.deviates + other.deviates) / 2)
    assert over_draws([one, one]).estimate().stderr == pytest.approx(one.estimate().stderr)


@pytest.mark.parametrize(("off", "refused"), [(0.099, False), (0.101, True), (-0.2, True)])
def test_leaps_that_are_off_by_more_than_a_tenth_are_refused(off: float, refused: bool) -> None:
    trained, _ = losses(9, (20,))
    accuracy = Levels.of(trained, trained * (1 + off)).accuracy()
    assert accuracy.rms == pytest.approx(abs(off))
    assert accuracy.bias.value == pytest.approx(off)
    assert bool(accuracy.refusal) == refused
    if refused:
        assert f"off by {100 * abs(off):.0f} % rms, more than {100 * LARGEST:.0f} %" in accuracy.refusal


def test_one_network_that_is_leapt_badly_is_enough_and_few_networks_tell_nothing() -> None:
    trained, leapt = losses(10, (20,))
    assert not Levels.of(trained, leapt).accuracy().refusal
    leapt[7] = 1.6 * trained[7]
    assert "rms" in Levels.of(trained, leapt).accuracy().refusal
    lonely = Levels.of(trained[:3], leapt)
    assert "only 3 of the leapt networks were trained too" in lonely.accuracy().refusal
    assert all(np.isnan(one.value) and one.estimate() is None for one in lonely.quantities().values())
    assert Levels.of(np.empty(0), leapt).accuracy().networks == 0


def test_accuracy_is_that_of_the_losses() -> None:
    trained, leapt = losses(11, (20,))
    found = Accuracy.of(trained, leapt)
    off = leapt / trained - 1
    assert found.bias.value == off.mean()
    assert found.bias.stderr == pytest.approx(off.std(ddof=1) / np.sqrt(20))
    assert found.rms**2 == pytest.approx(off.mean() ** 2 + off.var())
    assert found.correlation == pytest.approx(np.corrcoef(trained, leapt)[0, 1])
    assert found.reduction == pytest.approx(trained.var() / (trained - leapt).var())


def test_what_is_handed_over_must_be_of_the_same_networks() -> None:
    with pytest.raises(ValueError, match="30 networks were trained and 20 leapt"):
        Levels.of(np.ones(30), np.ones(20))
    for trained, leapt in ((np.ones(5), np.ones((20, 3))), (np.ones((5, 2)), np.ones((20, 3))), (1.0, 2.0)):
        with pytest.raises(ValueError, match="must be"):
            Levels.of(trained, leapt)


def test_a_variance_that_is_not_positive_has_no_logarithm_and_no_error() -> None:
    rng = np.random.default_rng(12)
    trained = 1 + 0.001 * rng.standard_normal(20)
    leapt = np.concatenate([1 + 0.05 * rng.standard_normal(20), 1 + 0.01 * rng.standard_normal(100)])
    found = Levels.of(trained, leapt).quantities()
    assert found["mu_L"].is_known
    assert np.isnan(found["sigma_L"].value)
    assert found["sigma_L"].estimate() is found["eps_L"].estimate() is None


def test_five_fixed_leaps_of_narrow_deep_networks_are_refused_and_adaptive_ones_are_not() -> None:
    """Depth 2, erf, 3 outputs, 16 units: the kernel moves most where five leaps are longest."""
    rng, mlp, n = np.random.default_rng(0), MLP(2, "erf", outputs=3), 64
    x, mixed = rng.normal(size=(n, 6)), rng.normal(size=(6, 3)) / np.sqrt(6)
    x_test = rng.normal(size=(200, 6))
    data = (x, np.sin(2 * x @ mixed), x_test, np.sin(2 * x_test @ mixed))
    rate = n * mlp.outputs / kernels.lambda_max(kernels.nngp_ntk(mlp, x)[1])
    program = training.Program(mlp, 16, (0, 4 * n))
    given = {"learning_rate": rate, "seed": 1, "members": range(20)}
    trained = training.train_tile(program, *data, **given).test_loss[:, -1]
    five, adaptive = (
        Levels.of(trained, leaps.leap_tile(program, *data, **given, **how).test_loss).accuracy()
        for how in ({"leaps": 5}, {"tolerance": 0.03})
    )
    assert "more than 10 %" in five.refusal
    assert not adaptive.refusal
    assert adaptive.rms < 0.04

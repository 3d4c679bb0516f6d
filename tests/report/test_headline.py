"""First chapters of a report with networks in leaps: two-level estimates where they are more precise."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.leapt_results import changed, leapt_results, with_store

from analysis import agreement as agreement_tests
from analysis import two_level
from analysis.contrasts import mean_weights, slope_weights
from analysis.ensemble import agreement, answer, curves, exponents, learning_curves, overview, width_dependence
from analysis.ensemble.curves import FITTED
from analysis.ensemble.headline import MARK
from analysis.ensemble.results import EnsembleResults
from analysis.report.numbers import estimate

WIDTHS = (64, 256)


@pytest.fixture(scope="module")
def made() -> EnsembleResults:
    return leapt_results()


@pytest.fixture(scope="module")
def alone(made: EnsembleResults) -> EnsembleResults:
    """Without leaps."""
    return with_store(made, made.store.drop_vars([name for name in made.store if str(name).startswith("leap_")]))


def drawn(figure: Figure, panel: int, label: str) -> np.ndarray:
    """The values of the points of this label in a panel, without those moved along n_train."""
    (bars,) = [one for one in figure.axes[panel].containers if one.get_label() == label]
    return np.asarray(bars.lines[0].get_ydata(), float)


def values(made: EnsembleResults, name: str, width: int) -> list[float]:
    return [made.leapt.two_level[name, width, int(n)].value for n in made.sizes]


def test_what_leaps_tell_better_is_two_level_and_gains_are_ratios_of_errors(made: EnsembleResults) -> None:
    found = made.headline
    assert {(name, width) for name in ("mu_L", "sigma_L", "eps_L") for width in WIDTHS} <= found.gains.keys()
    for (name, width), gain in found.gains.items():
        two = [made.leapt.two_level[name, width, int(n)] for n in made.sizes]
        own = [made.value(name, width, i) for i in range(len(two))]
        errors = [sum((one.deviates**2).sum() for one in two), sum((one.stderr / one.value) ** 2 for one in own)]
        assert gain == pytest.approx(math.sqrt(errors[1] / errors[0]))
        assert gain > 1
        for i, one in enumerate(two):
            assert found.value(name, width, i) == one.estimate()
        assert found.curves[name, width] is made.leapt.two_level_curves[name, width]
        slope = found.fits[name, width].slope
        assert slope.value == pytest.approx(slope_weights(made.sizes) @ np.log([one.value for one in two]))
        assert slope.stderr < made.fits[name, width].slope.stderr
    assert list(found.curves) == [key for name in FITTED for width in WIDTHS if (key := (name, width)) in found.curves]


def test_tables_and_figures_of_the_first_chapters_have_them_and_say_so(made: EnsembleResults) -> None:
    above, below = answer.answer(made), learning_curves.learning_curves(made)
    for width in WIDTHS:
        label = f"width {width}{MARK}"
        assert drawn(above, 0, label) == pytest.approx(values(made, "eps_L", width))
        assert drawn(below, 0, label) == pytest.approx(values(made, "mu_L", width))
        assert drawn(below, 1, label) == pytest.approx(values(made, "eps_L", width))
        over = [bars.lines[0].get_ydata() for bars in below.axes[2].containers]
        law = made.law_mean.mu_L.values
        assert any(np.allclose(one, values(made, "mu_L", width) / law) for one in over)
    _, *rows = overview.rows(made)
    assert [row[0] for row in rows[:2]] == [f"width {width}{MARK}" for width in WIDTHS]
    assert rows[0][1] == estimate(made.leapt.two_level["mu_L", 64, 256].estimate())
    said = (
        "(mu_L and eps_L of width 64 and 256): by 120 networks in leaps, corrected by 20 of them that were trained too"
    )
    (table, shares) = overview.tables(made)
    assert said in table.note
    assert said in learning_curves.caption(made)
    assert (
        shares.rows[1][2] == f"{100 * made.headline.value('mu_L', 256, 3).stderr / values(made, 'mu_L', 256)[-1]:.1f} %"
    )
    assert "networks in leaps, corrected by trained ones" in answer.claim(made)
    assert "eps_L" in answer.caption(made).split("Two-level (")[1]
    assert any(row[1] == f"width 256{MARK}" for row in answer.table(made).rows)
    assert "eps_L width 256" in answer.fits(made)["answer"]  # the keys of a file do not depend on it
    assert "trained networks alone" in exponents.SECTION.tables(made)[0].note


def test_without_leaps_nothing_is_said_of_them(made: EnsembleResults, alone: EnsembleResults) -> None:
    assert alone.headline.gains == {}
    assert alone.headline.curves == alone.curves
    assert alone.headline.fits == alone.fits
    assert drawn(answer.answer(alone), 0, "width 64") == pytest.approx(alone.mean.eps_L.sel(width=64).values)
    said = [answer.caption(alone), learning_curves.caption(alone), answer.claim(alone), overview.tables(alone)[0].note,
            exponents.SECTION.tables(alone)[0].note, answer.table(alone).note]  # fmt: skip
    assert not any("wo-level" in text or "leaps" in text for text in said)
    assert "ensembles of trained networks" in said[1]


def test_a_width_is_two_level_at_every_size_or_at_none(made: EnsembleResults) -> None:
    """Leaps of one cell are refused: its width is shown as trained, the other one is not."""

    def spoil(arrays: dict[str, np.ndarray]) -> None:
        for name in ("leap_loss", "leap_point_loss"):
            arrays[name][0, 2] *= 1.3

    found = changed(made, spoil)
    assert {width for _, width in found.headline.gains} == {256}
    for name in ("mu_L", "eps_L"):
        assert found.headline.value(name, 64, 0) == found.value(name, 64, 0)
        assert found.headline.fits[name, 64] is found.fits[name, 64]
    figure = answer.answer(found)
    assert drawn(figure, 0, "width 64") == pytest.approx(found.mean.eps_L.sel(width=64).values)
    assert drawn(figure, 0, f"width 256{MARK}") == pytest.approx(values(made, "eps_L", 256))
    assert "Two-level (mu_L and eps_L of width 256)" in overview.tables(found)[0].note
    assert [row[0] for row in overview.rows(found)[1:3]] == ["width 64", f"width 256{MARK}"]


def test_leaps_that_tell_less_than_trained_networks_are_not_shown(made: EnsembleResults) -> None:
    """Losses that are all alike but for leaps that are off by 5 %: a few more of these do not help."""
    few = with_store(made, made.store.isel(leap_member=slice(0, 26)))

    def alike(arrays: dict[str, np.ndarray]) -> None:
        rng, shape = np.random.default_rng(3), arrays["leap_loss"].shape
        for name in ("test_loss", "leap_loss"):
            arrays[name][...] = 1 + 0.01 * rng.standard_normal(arrays[name].shape)
        arrays["leap_loss"] *= 1 + 0.05 * rng.standard_normal(shape)
        for name, loss in (("test_point_loss", "test_loss"), ("leap_point_loss", "leap_loss")):
            arrays[name][...] = arrays[loss][..., None]

    found = changed(few, alike)
    assert all(one.adds for one in found.leapt.cells)
    assert not {("mu_L", width) for width in WIDTHS} & found.headline.gains.keys()
    assert found.headline.value("mu_L", 64, 0) == found.value("mu_L", 64, 0)


def test_the_law_and_the_line_over_widths_have_the_two_level_values(
    made: EnsembleResults, alone: EnsembleResults
) -> None:
    """Differences are tested by the mean over sizes of the two-level ratios, each quantity a family of its own."""
    for name in ("mu_L", "eps_L"):
        for width in WIDTHS:
            found, ratios = (
                made.comparisons[name, width],
                np.array(values(made, name, width)) / made.law_mean[name].values,
            )
            assert found.ratio.value == pytest.approx(np.log(ratios).mean())
            assert found.ratio.stderr < alone.comparisons[name, width].ratio.stderr
            families = 2 + np.isfinite(made.comparisons["variance", width].p_value)
            assert found.p_value == pytest.approx(1 - (1 - found.ratio.p_value()) ** families)
        for i, n in enumerate(made.sizes):
            logs = [math.log(values(made, name, width)[i] / float(made.law_mean[name][i])) for width in WIDTHS]
            x = 1 / np.array(WIDTHS)
            assert made.width_lines[name, int(n)].a.value == pytest.approx(x @ logs / (x @ x))
    figure = width_dependence.width_dependence(made)
    assert drawn(figure, 0, "$N_D$ = 256") == pytest.approx(
        [values(made, "mu_L", width)[-1] / float(made.law_mean.mu_L[-1]) for width in WIDTHS]
    )
    assert "Two-level (mu_L and eps_L of width 64 and 256)" in width_dependence.caption(made)
    assert width_dependence.caption(alone) == width_dependence.CAPTION
    assert any("Two-level" in str(said) for said in agreement.SECTION.sentences(made))
    assert not any("Two-level" in str(said) for said in agreement.SECTION.sentences(alone))


def test_a_true_law_is_seldom_called_false_by_two_level_estimates() -> None:
    """400 studies of 20 of 300 skewed networks, leaps off by 3 +- 4 %: p < 0.05 of mean and spread together in 5 %,
    within 3.3 binomial errors and the two points by which intervals of 20 pairs may be too narrow."""
    rng, trials, alarms, sizes = np.random.default_rng(4), 400, 0, np.array([8.0, 16.0, 32.0])
    mean, eps = math.exp(0.08), math.sqrt(math.exp(0.16) - 1)
    for _ in range(trials):
        common = rng.standard_normal(300)
        cells = []
        for _ in sizes:
            loss = np.exp(0.4 * (0.8 * common + 0.6 * rng.standard_normal(300)))
            leapt = loss * (0.97 + 0.04 * rng.standard_normal(300))
            cells.append(two_level.Levels.of(loss[:20], leapt).quantities())
        found = {name: curves.leapt(sizes, [one[name] for one in cells], ()) for name in ("mu_L", "eps_L")}
        p = [found[name].over(np.full(3, truth)).contrast(mean_weights(sizes)).p_value()
             for name, truth in (("mu_L", mean), ("eps_L", eps))]  # fmt: skip
        alarms += 1 - (1 - min(p)) ** 2 <= 0.05
    assert alarms / trials < 0.07 + 3.3 * math.sqrt(0.05 * 0.95 / trials)
    assert alarms / trials > 0.01


def test_a_law_that_is_missing_at_a_size_is_compared_with_nothing(made: EnsembleResults) -> None:
    holed = made.store.law_cumulant.copy(deep=True)
    holed[{"n_train": 1}] = np.nan
    found = with_store(made, made.store.assign(law_cumulant=holed))
    assert not {("mu_L", width) for width in WIDTHS} & found.comparisons.keys()
    assert all("mu_L" not in text for text in agreement.agreements(found))


def test_fewer_trained_networks_than_tests_need_are_not_tested(made: EnsembleResults) -> None:
    found = with_store(made, made.store.isel(member=slice(0, 6)))
    assert ("mu_L", 64) in found.headline.gains
    assert all(
        np.isnan(one.p_value) for (name, _), one in found.comparisons.items() if name in agreement_tests.STATISTICS
    )


def test_curves_are_two_level_or_nothing_of_a_width_is(made: EnsembleResults) -> None:
    """Two sizes have no curve: the first chapters are of the trained networks, and do not speak of others."""
    found = with_store(made, made.store.isel(n_train=slice(0, 2)))
    assert found.headline.gains == {}
    assert found.headline.sentence("mu_L", "eps_L") == ""

"""First chapters of a report with networks in leaps: two-level estimates where they are more precise."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.leapt_results import changed, leapt_results, with_store

from analysis.contrasts import slope_weights
from analysis.ensemble import agreement, answer, exponents, learning_curves, overview
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


def test_two_level_estimates_are_compared_with_the_law_beside_the_trained_networks(made: EnsembleResults) -> None:
    """Of networks whose mean loss is 9 % above the law by construction."""
    found = agreement.two_level(made)
    assert found.keys() == {(name, width) for name in ("mu_L", "eps_L") for width in WIDTHS}
    for (name, width), one in found.items():
        two = [made.leapt.two_level[name, width, int(n)] for n in made.sizes]
        logarithms = np.log(np.array([each.value for each in two]) / made.law_mean[name].values)
        assert one.ratio.value == pytest.approx(logarithms.mean())
        moved = np.mean([each.deviates for each in two], axis=0)
        assert one.ratio.stderr == pytest.approx(np.sqrt((moved**2).sum()))
        assert one.p_value == pytest.approx(1 - (1 - one.ratio.p_value()) ** 2)
        assert one.ratio.stderr < made.comparisons[name, width].ratio.stderr
    alone, said = agreement.agreements(made), agreement.two_level_agreements(made)
    assert [text.split(":")[0] for text in alone + said] == [
        "width 64",
        "width 256",
        *(f"width {w}{MARK}" for w in WIDTHS),
    ]
    assert "no difference seen in mu_L" in alone[1]
    assert "differs in mu_L (+9" in said[1]
    value = made.leapt.two_level["mu_L", 256, 256].value / float(made.law_mean.mu_L[-1])
    assert f"At N_D = 256: mu_L +{100 * (value - 1):.1f} ±" in said[1]
    assert set(alone + said) == set(agreement.SECTION.sentences(made)[1])


def test_without_leaps_nothing_is_said_of_them(made: EnsembleResults, alone: EnsembleResults) -> None:
    assert alone.headline.gains == {}
    assert alone.headline.curves == alone.curves
    assert alone.headline.fits == alone.fits
    assert agreement.two_level_agreements(alone) == []
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

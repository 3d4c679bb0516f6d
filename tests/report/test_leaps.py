"""Leapt networks of a store: cells, refusals, the section of the report, and coverage of intervals."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray
from support.leapt_results import LEAPT, TRAINED, changed, leapt_results, with_store

from analysis import aggregate, leaps, two_level
from analysis.calibration import leapt
from analysis.calibration.checks import Tally
from analysis.ensemble import SECTIONS, curves, results, split
from analysis.ensemble import leaps as section
from analysis.ensemble.results import EnsembleResults
from analysis.report.compose import Cover, compose
from analysis.report.section import aligned
from analysis.two_level import Levels
from ntkhpc.studies.ensemble.train import DIVERGED, MISSING


@pytest.fixture(scope="module")
def made() -> EnsembleResults:
    return leapt_results()


def test_a_cell_has_the_two_level_estimates_of_its_losses_at_test_points(made: EnsembleResults) -> None:
    for one in made.leapt.cells:
        cell = made.store.sel(width=one.width, n_train=one.n_train, draw=one.draw)
        levels = Levels.of(cell.test_point_loss.values, cell.leap_point_loss.values)
        assert (one.leapt, one.accuracy.networks, one.lost) == (LEAPT, TRAINED, 0)
        assert (one.leaps, one.error) == (9, pytest.approx(0.05))
        for found, expected in ((one.quantities, levels.quantities()), (one.raw, levels.leapt_alone())):
            for name in two_level.NAMES:
                assert found[name].value == pytest.approx(expected[name].value, rel=1e-9), name
                assert found[name].deviates == pytest.approx(expected[name].deviates, rel=1e-6, abs=1e-9, nan_ok=True)
        assert dataclasses.astuple(one.accuracy)[2:] == pytest.approx(dataclasses.astuple(levels.accuracy())[2:])
    assert len(made.leapt.cells) == 8
    known = [one.quantities[name].is_known for one in made.leapt.cells for name in two_level.NAMES]
    assert sum(known) >= 30


def test_lazy_stores_and_those_with_other_orders_of_dimensions_say_the_same(made: EnsembleResults) -> None:
    chunks = {"leap_member": 50, "member": 7, "test_point": 30}
    lazy = made.store.chunk(chunks).transpose("test_point", "leap_member", "member", ...)
    for one, other in zip(made.leapt.cells, leaps.cells(lazy), strict=True):
        for name in two_level.NAMES:
            assert other.quantities[name].value == pytest.approx(one.quantities[name].value, rel=1e-9)
            assert other.quantities[name].deviates == pytest.approx(
                one.quantities[name].deviates, abs=1e-9, nan_ok=True
            )
    for one, other in zip(leaps.splits(made.store), leaps.splits(lazy), strict=True):
        assert other.twin["eps_L"].value == one.twin["eps_L"].value


def test_networks_that_diverged_or_were_not_computed_are_left_out_and_those_that_diverged_counted(
    made: EnsembleResults,
) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["status"][0, 0, 0, 3], arrays["test_loss"][0, 0, 0, 3] = DIVERGED, np.inf
        arrays["leap_status"][0, 0, 0, [5, 60]], arrays["leap_loss"][0, 0, 0, [5, 60]] = DIVERGED, np.nan
        arrays["leap_status"][0, 0, 0, 90:], arrays["leap_loss"][0, 0, 0, 90:] = MISSING, np.nan
        arrays["leap_point_loss"][0, 0, 0, 90:] = np.nan

    spoilt = changed(made, spoil)
    one, other = spoilt.leapt.cells[0], spoilt.leapt.cells[1]
    assert (one.leapt, one.accuracy.networks, one.lost) == (LEAPT - 30 - 3, TRAINED - 2, 3)
    assert (other.leapt, other.accuracy.networks, other.lost) == (LEAPT, TRAINED, 0)
    cell = made.store.isel(width=0, n_train=0, draw=0)
    kept = [i for i in range(90) if i not in (3, 5, 60)]
    trained = cell.test_point_loss.values[kept[:18]]
    expected = Levels.of(trained, cell.leap_point_loss.values[kept]).quantities()
    for name in two_level.NAMES:
        assert one.quantities[name].value == pytest.approx(expected[name].value, rel=1e-9)
        assert not one.quantities[name].deviates[[3, 5, 60, *range(90, LEAPT)]].any()
    (said,) = section.cautions(spoilt)
    assert said.startswith("3 networks whose leaps or training diverged are in no number of leaps")
    assert section.cautions(made) == []


def test_refused_leaps_are_in_no_number_and_the_reason_is_named(made: EnsembleResults) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["leap_loss"][0, 1] *= 1.3
        arrays["leap_point_loss"][0, 1] *= 1.3

    spoilt = changed(made, spoil)
    width, n = int(made.store.width[0]), int(made.sizes[1])
    given = {(w, size) for _, w, size in spoilt.leapt.two_level}
    assert given == {(w, size) for _, w, size in made.leapt.two_level} - {(width, n)}
    (said,) = section.cautions(spoilt)
    assert said.startswith(f"leaps of width {width} at N_D = {n} are refused, and in no number here: the losses")
    assert "% rms, more than 10 %" in said
    rows = {(row[0], row[1]): row for row in section.accuracy_rows(spoilt)[1:]}
    assert [key for key, row in rows.items() if row[-1] == "refused"] == [(f"{width}", f"{n}")]
    assert [row for row in section.value_rows(spoilt) if row[1:3] == (f"{width}", f"{n}")] == []
    assert len(section.value_rows(spoilt)) == len(section.value_rows(made)) - 2
    assert list(spoilt.leapt.two_level_curves["mu_L", width].n) == [made.sizes[i] for i in (0, 2, 3)]
    # What finite width does is told by the networks that were trained: those alone, with their own twins.
    cell = made.store.isel(width=0, n_train=1, draw=0)
    (refused,) = spoilt.leapt.splits[width, n]
    assert refused.trained["mu_L"].value == pytest.approx(float(cell.test_loss.mean()))
    assert refused.twin["mu_L"].value == pytest.approx(float(cell.twin_loss[:TRAINED].mean()))
    (sound,) = made.leapt.splits[width, n]
    assert sound.twin["mu_L"].value == pytest.approx(float(cell.twin_loss.mean()))
    assert sound.trained["mu_L"].value == pytest.approx(made.leapt.two_level["mu_L", width, n].value)


def test_leaps_of_too_few_trained_networks_are_refused_everywhere(made: EnsembleResults) -> None:
    few = with_store(made, made.store.isel(member=slice(0, 3)))
    assert few.leapt.two_level == {} == few.leapt.two_level_curves
    assert "Leaps are refused in every cell: no number of the report contains them." in section.sentences(few)
    said = section.cautions(few)
    assert len(said) == 4
    assert "only 3 of the leapt networks were trained too" in said[0]
    assert said[-1] == "leaps of 5 more cells are refused (leaps.csv)"
    assert len(section.tables(few)) == 1
    json.dumps(section.fits(few) | {"finite_width": split.records(few)}, allow_nan=False)


def test_of_leaps_that_were_not_computed_yet_nothing_is_said(made: EnsembleResults) -> None:
    def lose(arrays: dict[str, np.ndarray], *cells: tuple[int, int]) -> None:
        for cell in cells:
            arrays["leap_status"][cell], arrays["leap_loss"][cell] = MISSING, np.nan
            arrays["twin_status"][cell], arrays["twin_loss"][cell] = MISSING, np.nan

    partial = changed(made, lambda arrays: lose(arrays, (0, 1)))
    lost = (int(made.store.width[0]), int(made.sizes[1]))
    assert {(w, n) for _, w, n in made.leapt.two_level} - {(w, n) for _, w, n in partial.leapt.two_level} == {lost}
    assert section.cautions(partial) == []
    assert len(section.accuracy_rows(partial)) == 8
    assert len(split.tables(partial)[0].rows) == 15
    nothing = changed(made, lambda arrays: lose(arrays, *np.ndindex(2, 4)))
    for one in (section.SECTION, split.SECTION):
        assert not one.tables(nothing)
        assert not one.sentences(nothing)
        assert not one.cautions(nothing)
        assert one.figure(nothing) is None


def test_leaps_that_were_all_trained_are_judged_and_add_nothing(made: EnsembleResults) -> None:
    short = with_store(made, made.store.isel(leap_member=slice(0, 15)))
    assert short.leapt.two_level == {}
    assert section.sentences(short)[-1] == "Every leapt network was trained too: leaps are judged here and add nothing."
    assert len(section.tables(short)) == 1
    width, n = int(made.store.width[0]), int(made.sizes[0])
    (one,) = short.leapt.splits[width, n]
    cell = made.store.isel(width=0, n_train=0, draw=0)
    assert one.trained["mu_L"].value == pytest.approx(float(cell.test_loss[:15].mean()))


def drawn_twice(first: xarray.Dataset, second: xarray.Dataset) -> xarray.Dataset:
    """A store of two draws, from two of one."""
    moved = [name for name in first if "draw" in first[name].dims]
    both = [first[moved], second.assign_coords(draw=[1])[moved]]
    return xarray.concat(both, "draw", join="exact").merge(first.drop_vars([*moved, "draw"]), compat="override")


def test_several_draws_are_averaged_network_by_network_and_one_refused_draw_refuses_their_mean(
    made: EnsembleResults,
) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["leap_loss"][1, 2] *= 1.3

    found = with_store(made, drawn_twice(made.store, changed(made, spoil).store))
    width, n = int(made.store.width[0]), int(made.sizes[0])
    mine, twice = made.leapt.two_level["eps_L", width, n], found.leapt.two_level["eps_L", width, n]
    assert twice.value == pytest.approx(mine.value)
    assert twice.estimate().stderr == pytest.approx(mine.estimate().stderr)  # the same networks, no more of them
    lost = (int(made.store.width[1]), int(made.sizes[2]))
    assert lost not in {(w, size) for _, w, size in found.leapt.two_level}
    assert [(one.width, one.n_train, one.draw) for one in section.worst(found) if one.refusal] == [(*lost, 1)]


@pytest.mark.parametrize("first", [True, False])
def test_a_draw_that_cannot_be_judged_is_told_before_one_that_is_accurate(made: EnsembleResults, first: bool) -> None:
    """It has too few networks of both kinds, so that its root mean square is not known; in either order of draws."""

    def lose(arrays: dict[str, np.ndarray]) -> None:
        arrays["status"][1, 2, 0, 3:] = DIVERGED

    draws = [made.store, changed(made, lose).store]
    found = with_store(made, drawn_twice(*(draws[::-1] if first else draws)))
    lost = (int(made.store.width[1]), int(made.sizes[2]))
    assert [(one.width, one.n_train, one.draw) for one in section.worst(found) if one.refusal] == [(*lost, 1 - first)]
    rows = [row for row in section.accuracy_rows(found) if row[-1] == "refused"]
    assert [row[:2] for row in rows] == [(f"{lost[0]:,}", f"{lost[1]:,}")]
    assert any("only 3 of the leapt networks were trained too" in said for said in section.cautions(found))


def test_exponents_have_the_errors_of_both_samples_of_networks_at_all_sizes(made: EnsembleResults) -> None:
    width = int(made.store.width[0])
    curve = made.leapt.two_level_curves["mu_L", width]
    slope = curve.of(curves.MEMBERS, two_level.LEAPT).slope()
    assert slope.parts.keys() == {"members", "leaps"}
    weights = np.log(curve.n) - np.log(curve.n).mean()
    weights /= weights @ weights
    assert slope.value == pytest.approx(weights @ np.log(curve.value))
    deviates = np.stack([made.leapt.two_level["mu_L", width, int(n)].deviates for n in made.sizes])
    assert slope.stderr**2 == pytest.approx(((weights @ deviates) ** 2).sum())
    trained = made.curves["mu_L", width].of(curves.MEMBERS).slope()
    assert slope.stderr < trained.stderr


def test_sections_of_leaps_and_of_finite_width_are_on_the_page_where_their_arrays_are(made: EnsembleResults) -> None:
    cover = Cover("a", "b", "c", "d", {}, {})
    run = SimpleNamespace(study=made.study, path=None)
    shown = EnsembleResults(run, made.store, "")
    shown.__dict__["conflicts"] = ""
    mine = [one for one in SECTIONS if one.title in ("Leaps", "What finite width does")]
    assert len(mine) == 2
    report = compose(mine, shown, cover)
    assert report.figures.keys() == {"finite_width"}
    assert report.tables.keys() == {"leaps", "two_level", "finite_width"}
    assert len(report.tables["two_level"]) == 32
    assert set(report.tables["two_level"].quantity) == set(two_level.NAMES)
    assert len(report.tables["leaps"]) == 8
    assert len(report.tables["finite_width"]) == 16
    known = report.tables["two_level"].query("quantity != 'eps_pop'")  # it may be zero of 30 test points
    assert known.notna().all(axis=None)
    json.dumps(report.fits, allow_nan=False)
    assert "nan" not in report.summary.lower()
    words = "\n".join(line for one in mine for table in one.tables(shown) for line in aligned(table.rows))
    assert "nan" not in words.lower()
    assert f"{TRAINED} of {LEAPT}" in words
    for lacking, gone in (
        ("leap_loss", {"Leaps", "What finite width does"}),
        ("twin_loss", {"What finite width does"}),
    ):
        there = {one.title for one in mine if one.is_possible(made.store.drop_vars(lacking))}
        assert there == {"Leaps", "What finite width does"} - gone


@pytest.fixture(scope="module")
def tally() -> Tally:
    return leapt.run(leapt.world_of(TRAINED, test=30, pool=300), 200, 7, range(24))


@pytest.mark.promise(
    "Two-level intervals cover what they say, with 20 trained among the leapt networks (make calibrate)."
)
def test_two_level_intervals_cover_what_they_say(tally: Tally) -> None:
    """24 studies: each within 4 binomial errors of 68 and 95 % (6e-5 each), and all together."""
    names = [name for name in tally.intervals if not name.startswith("(control)")]
    assert len(names) > 30
    assert sum("exponent" in name for name in names) == 8
    for name in names:
        for rate, level in zip(np.mean(tally.intervals[name], axis=0), (0.683, 0.95), strict=True):
            count = len(tally.intervals[name])
            assert abs(rate - level) < 4 * np.sqrt(level * (1 - level) / count), (name, level, rate)
    together = np.mean([one for name in names for one in tally.intervals[name]], axis=0)
    assert abs(together[0] - 0.683) < 0.1  # of studies whose numbers move together; the seed is fixed
    assert abs(together[1] - 0.95) < 0.05


def test_moments_of_trained_networks_are_as_they_were_without_leaps(made: EnsembleResults) -> None:
    plain = made.store.drop_vars([name for name in made.store if str(name).startswith(("leap_", "twin_"))])
    xarray.testing.assert_identical(aggregate.moments(plain), aggregate.moments(made.store))
    assert results.EnsembleResults(made.run, plain, "").fits.keys() == made.fits.keys()

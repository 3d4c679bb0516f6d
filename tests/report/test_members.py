"""Members and test points that carry much of sigma_L^2, and members on the edge of instability, in the report."""

import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from scipy import stats

from analysis import dominance, ensemble, report, second_run
from analysis.ensemble import members, rechecked, results
from analysis.ensemble.results import EnsembleResults
from analysis.report.compose import cautions
from ntkhpc.engine.run import Run
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.recheck import HEAVY, LOST, ROSE
from ntkhpc.studies.ensemble.train import DIVERGED

RNG = np.random.default_rng(3)


def store_of(loss: np.ndarray, **arrays: np.ndarray) -> xarray.Dataset:
    """A store with these losses (width, n_train, draw, member) and arrays of the same dimensions."""
    dims = (*CELL, "member")
    found = {"test_loss": loss, "status": np.zeros(loss.shape, np.int8), **arrays}
    coords = dict(zip(dims, ([8, 32], [16, 64, 256], [0, 1], range(loss.shape[-1])), strict=True))
    return xarray.Dataset({name: (dims, values) for name, values in found.items()}, coords=coords)


@pytest.fixture
def loss() -> np.ndarray:
    return RNG.gamma(50.0, size=(2, 3, 2, 200))


def test_members_that_carry_more_than_a_tenth_are_found_with_what_is_left_without_them(loss: np.ndarray) -> None:
    loss[1, 2, 0, 17], loss[1, 2, 0, 5] = 900.0, 500.0
    status = np.zeros(loss.shape, np.int8)
    loss[0, 1, 1, 3], status[0, 1, 1, 3] = 1e6, DIVERGED  # it is in no number
    found = dominance.dominant(store_of(loss, status=status))
    assert found[[*CELL, "member"]].to_numpy().tolist() == [[32, 256, 0, 17], [32, 256, 0, 5]]
    cell = loss[1, 2, 0]
    for row in found.itertuples():
        others = np.delete(cell, row.member)
        assert row.share == pytest.approx((cell[row.member] - cell.mean()) ** 2 / ((cell - cell.mean()) ** 2).sum())
        assert row.loss_ratio == pytest.approx(cell[row.member] / cell.mean())
        assert row.eps_L == pytest.approx(cell.std(ddof=1) / cell.mean())
        assert row.eps_L_without == pytest.approx(others.std(ddof=1) / others.mean())
        assert row.chance == 1 / (1 + dominance.SAMPLES)


def test_chances_of_a_normal_sample_are_thompsons() -> None:
    """M/(M-1) share ~ Beta(1/2, (M-2)/2) [Thompson 1935]; above one half no two members can be, so the sum is exact.

    Within 4.5 standard errors at each of 5 points: false alarm below 1e-4.
    """
    for count, share in ((4, 0.6), (6, 0.6), (11, 0.5), (20, 0.5), (50, 0.5)):
        exact = count * stats.beta.sf(share * count / (count - 1), 0.5, (count - 2) / 2)
        drawn = dominance.largest_shares(count)
        assert len(drawn) == dominance.SAMPLES
        assert abs((drawn > share).mean() - exact) < 4.5 * np.sqrt(exact / len(drawn)) + 1e-9


def test_chances_are_those_of_the_skewness_of_their_cell_and_lower_bounds_without_one(loss: np.ndarray) -> None:
    """Over width too where each has its own; NaN is a normal law. Samples of 200: the chance of a share of .12."""
    loss[:, :, 0, 17] = loss.mean() + np.sqrt(0.14 * loss[0, 0, 0].var() * 200)
    cells = dominance.dominant(store_of(loss)).groupby(["width", "n_train"])
    assert len(cells) == 6
    skewness = xarray.DataArray(
        [[[0.0, 1.0, np.nan]] * 2, [[2.0, 1.0, np.nan]] * 2],
        dims=("width", "draw", "n_train"), coords={"width": [8, 32], "draw": [0, 1], "n_train": [16, 64, 256]},
    )  # fmt: skip
    found = dominance.dominant(store_of(loss), skewness).set_index(["width", "n_train", "member"]).sort_index()
    normal = dominance.dominant(store_of(loss)).set_index(["width", "n_train", "member"]).sort_index()
    assert normal.skewness.isna().all()
    for (width, n, _), row in found.iterrows():
        expected = float(skewness.sel(width=width, n_train=n, draw=0))
        np.testing.assert_equal(row.skewness, expected)
        chances = dominance.largest_shares(200, 0.0 if np.isnan(expected) else expected)
        assert row.chance == (1 + (chances >= row.share).sum()) / (1 + len(chances))
    assert (found.chance >= normal.chance[found.index]).all()
    assert found.chance[32, 16].iloc[0] > 10 * found.chance[8, 16].iloc[0]
    one_for_all = (
        dominance.dominant(store_of(loss), skewness.sel(width=32))
        .set_index(["width", "n_train", "member"])
        .sort_index()
    )
    assert one_for_all.chance[8, 16].iloc[0] == found.chance[32, 16].iloc[0]


@pytest.mark.parametrize(("count", "share"), [(10, 0.4), (40, 0.15), (40, 0.3), (200, 0.1), (1000, 0.1)])
def test_a_normal_law_gives_a_lower_bound_of_the_chance_of_skewed_losses(count: int, share: float) -> None:
    """9,999 samples each; a chance that is no larger lies below by 4.5 standard errors at most: 3e-6 a comparison."""
    chances = [(dominance.largest_shares(count, skew) >= share).mean() for skew in (0.0, 0.5, 1.0, 2.0)]
    for low, high in itertools.pairwise(chances):
        assert high >= low - 4.5 * np.sqrt(2 * max(low, 1e-4) / dominance.SAMPLES)
    assert chances[-1] > chances[0]


def test_skewed_laws_have_larger_shares_by_chance() -> None:
    normal, skewed = dominance.largest_shares(200), dominance.largest_shares(200, 2.0)
    assert (normal > 0.1).mean() < 0.01 < (skewed > 0.1).mean()
    # The gamma distribution of skewness 2 is the exponential: against NumPy's own, 4.5 standard errors.
    sample = np.random.default_rng(9).exponential(size=(4000, 200))
    squares = (sample - sample.mean(axis=1, keepdims=True)) ** 2
    direct = ((squares / squares.sum(axis=1, keepdims=True)).max(axis=1) > 0.1).mean()
    assert abs((skewed > 0.1).mean() - direct) < 4.5 * np.sqrt(direct / 4000 + direct / len(skewed))


@pytest.mark.promise("Shares of the test points in the variance of the loss add up to 1.")
def test_shares_of_test_points_are_those_of_brute_force() -> None:
    points = RNG.gamma(1.0, size=(3, 40, 7)) * np.arange(1, 8)  # (cell, member, test point)
    whole = points.mean(axis=2)
    covariance = np.array(
        [[np.cov(cell[:, a], L)[0, 1] for a in range(7)] for cell, L in zip(points, whole, strict=True)]
    )
    found = dominance.point_shares(covariance)
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    for share, cell, L in zip(found, points, whole, strict=True):
        # Var L is a double sum over points; a point's share is its row.
        rows = np.cov(cell.T).sum(axis=1)
        np.testing.assert_allclose(share, rows / rows.sum(), rtol=1e-10)
        assert rows.sum() / 49 == pytest.approx(L.var(ddof=1))


def with_second_runs(loss: np.ndarray) -> xarray.Dataset:
    """Two unstable members of one cell, a third that diverges in one precision only, and sound ones."""
    reason, last = np.zeros(loss.shape, np.int8), np.zeros(loss.shape, np.int32)
    second, status = np.full(loss.shape, np.nan), np.zeros(loss.shape, np.int8)

    def rerun(cell: tuple[int, int, int], member: int, ratio: float, why: int = ROSE) -> None:
        reason[cell][member], last[cell][member] = why, 40
        second[cell][member] = ratio * loss[cell][member]

    loss[0, 2, 0, [3, 7]] = 400.0, 200.0
    rerun((0, 2, 0), 3, 0.25, ROSE | HEAVY)
    rerun((0, 2, 0), 7, 1.02)
    rerun((0, 2, 0), 9, 1.005)
    rerun((1, 0, 1), 2, np.inf)
    rerun((1, 0, 0), 4, np.inf, LOST)
    status[1, 0, 0, 4] = DIVERGED
    reason[0, 0, 0, :6] = ROSE  # beyond the cap
    return store_of(loss, status=status, recheck_reason=reason, recheck_loss=second, last_rise=last)


def test_members_that_differ_by_more_than_a_per_cent_are_unstable(loss: np.ndarray) -> None:
    store = with_second_runs(loss)
    again = second_run.members(store)
    assert again.member.tolist() == [2, 3, 7, 9, 4]
    assert again.unstable.tolist() == [True, True, True, False, False]
    assert again.difference.to_numpy() == pytest.approx([np.inf, -0.75, 0.02, 0.005, 0.0])
    cells = second_run.cells(store, again)
    assert cells[[*CELL, "unstable", "trained_again", "worst"]].to_numpy().tolist() == [
        [8, 256, 0, 2, 3, 3],
        [32, 16, 1, 1, 1, 2],
    ]
    others = np.delete(loss[0, 2, 0], [3, 7])
    assert cells.eps_L[0] == pytest.approx(loss[0, 2, 0].std(ddof=1) / loss[0, 2, 0].mean())
    assert cells.eps_L_without[0] == pytest.approx(others.std(ddof=1) / others.mean())


@pytest.fixture(scope="module")
def collected(finished: Run) -> EnsembleResults:
    return results.collect(finished)


def changed(collected: EnsembleResults, **arrays: Any) -> EnsembleResults:
    """The results, with other values of arrays of their store."""
    store = collected.store.load()
    return dataclasses.replace(collected, store=store.assign({k: (store[k].dims, v) for k, v in arrays.items()}))


def test_a_report_names_the_member_that_carries_the_spread(collected: EnsembleResults) -> None:
    """Of 11 members some carry a tenth by chance; that is said without alarm. One that carries nearly all is named."""
    calm = np.array(collected.store.test_loss)
    calm[:] = 1 + 0.1 * np.linspace(-1, 1, 11)  # the largest share is .23
    usual = changed(collected, test_loss=calm)
    assert members.cautions(usual) == []
    (said,) = members.sentences(usual)
    assert said.startswith(
        "In 2 of 2 cells single networks carry more than a tenth of sigma_L^2, as may be by chance: "
    )
    assert members.tables(usual)
    calm[0, 0, 0, 4], calm[0, 1, 0, 4] = 30.0, 20.0
    (said,) = members.cautions(changed(collected, test_loss=calm))
    assert said.startswith("network 4 of width 4 carries 91 % of sigma_L^2 at N_D = 8 (more than a tenth in 1 other")
    assert said.endswith(" without it")
    (table,) = members.tables(changed(collected, test_loss=calm))
    assert [row[:5] for row in table.rows[1:]] == [("4", "8", "0", "4", "91 %"), ("4", "12", "0", "4", "91 %")]
    calm[:] = 1.0
    none = changed(collected, test_loss=calm)
    assert members.sentences(none) == ["No network carries more than a tenth of sigma_L^2 of its cell."]
    assert not members.tables(none)


def test_a_report_names_unstable_members_and_counts_those_that_were_not_trained_again(
    collected: EnsembleResults,
) -> None:
    shape = collected.store.test_loss.shape
    reason, second, last = np.zeros(shape, np.int8), np.full(shape, np.nan), np.zeros(shape, np.int32)

    def told() -> tuple[str, list[str]]:
        there = changed(collected, recheck_reason=reason, recheck_loss=second, last_rise=last)
        return rechecked.sentences(there)[0], rechecked.cautions(there)

    assert told() == ("No network is suspected of instability, so none was trained again.", [])
    reason[0, 0, 0, 6], last[0, 0, 0, 6] = ROSE, 5
    second[0, 0, 0, 6] = float(collected.store.test_loss[0, 0, 0, 6])
    calm, none = told()
    assert calm == (
        "1 suspicious network was trained again from the same weights in float64: no loss differs by more than 1 %."
    )
    assert none == []
    second[0, 0, 0, 6] *= 1.5
    reason[0, 1, 0, :3] = ROSE, HEAVY, LOST
    said, (one, two) = told()
    assert "the loss of 1 differs by more than 1 %. 3 less suspicious ones were not" in said
    assert "the training loss of 1 of these rose" in said
    assert one.startswith("1 network of width 4 at N_D = 8 is on the edge of instability: network 6 has L = ")
    assert re.search(r"in float32 and \S+ in float64; eps_L is \S+ there, and \S+ without it$", one)
    assert two.startswith("3 more networks are suspected of instability and were not trained again")


def test_many_of_them_are_a_few_sentences(collected: EnsembleResults) -> None:
    shape = collected.store.test_loss.shape
    loss = np.array(collected.store.test_loss)
    everywhere = changed(collected, recheck_reason=np.full(shape, ROSE, np.int8), recheck_loss=2 * loss)
    assert len(rechecked.cautions(everywhere)) <= 5
    (table,) = rechecked.tables(everywhere)
    assert len(table.rows) == 6
    assert "17 more are in second_runs.csv" in table.note


def test_the_report_of_a_run_has_both_parts_and_one_of_an_older_run_only_the_first(
    finished: Run, tmp_path: Path
) -> None:
    page = (finished.path / "analysis" / "report.html").read_text()
    assert ">Single networks</h2>" in page
    fits = json.loads((finished.path / "analysis" / "fits.json").read_text())
    assert fits["second_run"]["precision"] == "float64"
    assert {"dominant_members.csv", "second_runs.csv"} <= {path.name for path in (finished.path / "analysis").iterdir()}
    older = results.collect(finished)
    older = dataclasses.replace(older, store=older.store.drop_vars(second_run.ARRAYS))
    assert not rechecked.SECTION.is_possible(older.store)
    assert members.SECTION.is_possible(older.store)
    assert cautions([members.SECTION], older) == members.cautions(older)
    assert rechecked.SECTION in ensemble.SECTIONS


def test_a_shard_without_a_receipt_says_nothing_of_its_members(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    copy.receipt(copy.plan.of_phase("recheck")[0]).unlink()
    partial = results.collect(copy, partial=True)
    assert (partial.store.recheck_reason.isel(n_train=0) == -1).all()
    assert partial.store.recheck_loss.isel(n_train=0).isnull().all()
    assert set(partial.second_runs.n_train) <= {12}
    report.make(copy, partial=True)
    assert "1 of 2 recheck shards missing" in (copy.path / "analysis" / "summary.txt").read_text()

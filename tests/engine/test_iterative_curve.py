"""Phase curve without kernel matrices: the exact numbers within stated errors, through a kill; and its report."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray
from support.runs import made_once, run_shards, tiny_text

from analysis import ensemble, floor, infinite, report
from analysis.contrasts import Curve
from analysis.ensemble import curves
from analysis.ensemble.curves import DRAW, ITERATION
from analysis.ensemble.results import EnsembleResults, collect
from ntkhpc import studies
from ntkhpc.engine import arrays, run, store, verify
from ntkhpc.engine.run import Run
from ntkhpc.errors import DataError, StudyError
from ntkhpc.phase.block import Block
from ntkhpc.studies.ensemble import iterative_curve

SIZES = (12, 24, 40)
MOMENTS = ("mu", "sigma2", "population_variance", "bias2", "variance")
ITERATIVE = 'method = "iterative"\nprobes = 16\n'


def text(method: str = ITERATIVE, test: int = 1100, draws: int = 2, times: str = '["infinite"]') -> str:
    """More test points than are solved for one by one."""
    section = f"[infinite_width]\nn_train = {list(SIZES)}\ntimes = {times}\ndraws = {draws}\n{method}"
    plain = tiny_text(redraws=0, predictions="false").replace("pool = 40\ntest = 15", f"pool = 60\ntest = {test}")
    return plain.replace("[infinite_width]\n", section)


def computed(runs: Path, wanted: str, phases: tuple[str, ...] = ("data", "curve")) -> Run:
    target = run.create(runs, studies.loads(wanted))
    for phase in phases:
        done = run_shards(target, [shard.id for shard in target.plan.of_phase(phase)])
        assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def iterated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run, for its report."""
    phases = ("data", "ensemble", "law", "curve", "finalise", "recheck")
    return made_once(tmp_path_factory, "iterated", lambda folder: computed(folder, text(), phases))


@pytest.fixture(scope="module")
def results(iterated: Run) -> EnsembleResults:
    return collect(iterated, partial=True)


def values(target: Run) -> dict[str, np.ndarray]:
    names = [array.name for array in target.layout.arrays("curve")]
    return store.load(target.store, *names)


@pytest.mark.promise(
    "A curve by method = 'iterative' agrees with the one by 'exact' within its stated errors, at every size."
)
def test_an_iterated_curve_is_the_exact_one_within_its_stated_errors(iterated: Run, tmp_path: Path) -> None:
    """Within 4 errors by probes (Student's t of 15 for 24 numbers that are not independent: false alarms below 3 in
    100; the seed is fixed) and what residuals change; bias2 has no probes in it."""
    found, exact = values(iterated), values(computed(tmp_path, text("")))
    assert (found["curve_probes"] == 16).all()
    assert (found["curve_residual"] <= 1e-6).all()
    assert (found["curve_iterations"] > 0).all()
    for name in MOMENTS:
        one, error = found[f"curve_{name}"], found[f"curve_{name}_error"]
        off = np.abs(one - exact[f"curve_{name}"])
        assert (off <= 4 * error[..., 0] + error[..., 1] + 1e-10 * np.abs(one)).all(), name
        assert (error[..., 0] > 0).all() == (name != "bias2"), name
        assert (off > 0).all()
    for name, spread in (("eps", "sigma2"), ("eps_pop", "population_variance")):
        one, true = (np.sqrt(got[f"curve_{spread}"]) / got["curve_mu"] for got in (found, exact))
        error = found[f"curve_{name}_error"]
        assert (np.abs(one - true) <= 4 * error[..., 0] + error[..., 1]).all(), name
        assert (error[..., 0] < 0.2 * one).all(), name


def test_few_test_points_are_all_solved_for(tmp_path: Path) -> None:
    found, exact = values(computed(tmp_path, text(test=15))), values(computed(tmp_path, text("", test=15)))
    assert (found["curve_probes"] == 0).all()
    for name in MOMENTS:
        one, error = found[f"curve_{name}"], found[f"curve_{name}_error"]
        assert (error[..., 0] == 0).all()
        assert (np.abs(one - exact[f"curve_{name}"]) <= error[..., 1] + 1e-10 * np.abs(one)).all(), name


def test_draws_have_probes_of_their_own_and_sizes_of_a_draw_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.loads(text())
    layout, seeds = studies.layout(study), {}
    monkeypatch.setattr(
        "ntkhpc.iterative.trained_statistics", lambda *given, **_: seeds.setdefault(place, given[-1].seed)
    )
    inputs = {"permutation": np.zeros((2, 60), int), "x_train": np.zeros((60, 2)), "y_train": np.zeros((60, 1)),
              "x_test": None, "y_test": np.zeros((5, 1))}  # fmt: skip
    for block in layout.blocks(iterative_curve.PHASE):
        place = (block.value("curve_draw"), block.value("curve_n_train"))
        iterative_curve.statistics(iterative_curve.Work(study, block, inputs), "infinite")  # type: ignore[arg-type]  # a stand-in
    assert len(seeds) == 6
    assert len(set(seeds.values())) == 2
    assert all(seeds[draw, n] == seeds[draw, SIZES[0]] for draw, n in seeds)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((0, 2), "; training inputs 0 and 2 of these, counted from 0, are rows 31 and 33 of the pool (x_train)"),
        ((1,), "; training input 1 of these, counted from 0, is row 32 of the pool (x_train)"),
        ((), ""),
    ],
)
def test_inputs_that_make_a_kernel_singular_are_named_by_their_rows_of_the_pool(
    rows: tuple[int, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of draw 1, whose first samples are the rows 31, 32, ..."""
    study = studies.loads(text())

    def refuse(*given: object, **more: object) -> None:
        raise DataError("singular", rows=rows, cause="two are equal", todo="remove one")

    monkeypatch.setattr("ntkhpc.iterative.trained_statistics", refuse)
    inputs = {"permutation": (np.arange(60) + np.array([[0], [31]])) % 60, "x_train": np.zeros((60, 2)),
              "y_train": np.zeros((60, 1)), "x_test": None, "y_test": np.zeros((5, 1))}  # fmt: skip
    blocks = studies.layout(study).blocks(iterative_curve.PHASE)
    block = next(one for one in blocks if (one.value("curve_draw"), one.value("curve_n_train")) == (1, 24))
    with pytest.raises(DataError) as caught:
        iterative_curve.statistics(iterative_curve.Work(study, block, inputs), "infinite")  # type: ignore[arg-type]  # a stand-in
    assert caught.value.where == f"draw 1, its first 24 samples{said}"
    assert (caught.value.cause, caught.value.todo) == ("two are equal", "remove one")


@pytest.mark.promise("An iterated curve whose worker was killed, and that was run again, has the same bits.")
def test_a_kill_changes_no_bit(iterated: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(iterated.path, tmp_path / iterated.path.name))
    shutil.rmtree(copy.path / "receipts" / "curve")
    rooms = [arrays.folder(copy.store, array.name) for array in copy.layout.arrays("curve")]
    before = {path: path.read_bytes() for room in rooms for path in room.glob("c.*")}
    for path in before:
        path.unlink()
    shards = [shard.id for shard in copy.plan.of_phase("curve")]
    assert shards[:2] == ["curve-d0-n12", "curve-d0-n24"]
    assert run_shards(copy, shards, failpoint="chunk-written:5").returncode == -signal.SIGKILL
    assert copy.missing("curve")
    assert run_shards(copy, [shard.id for shard in copy.missing("curve")]).returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    assert list(verify.problems(copy)) == []


def test_no_kernel_is_kept_and_the_exact_curve_has_none_of_these_arrays() -> None:
    layout = studies.layout(studies.loads(text().replace("draws = 2\nmethod", "draws = 2\ntile = 16\nmethod")))
    assert not {"kernel", "factor"} & set(layout.phases)
    assert not [array.name for array in layout.arrays() if array.scratch]
    assert not {"curve_point_mean", "curve_size_variance", "curve_largest_share"} & set(layout.writers)
    exact = studies.layout(studies.loads(text("")))
    assert not [name for name in exact.writers if name.endswith("_error") or name == "curve_probes"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"times": '["steps", "infinite"]'}, r"the law at the end of training.*times = \['infinite'\]"),
        ({"method": 'method = "iterative"\nprobes = 7\n'}, "probes"),
        ({"method": 'method = "iterative"\ntolerance = 1.0\n'}, "tolerance"),
        ({"method": 'method = "cg"\n'}, "method"),
    ],
)
def test_what_an_iteration_cannot_do_is_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        studies.loads(text(**changes))  # type: ignore[arg-type]  # of a dict


def test_costs_follow_what_is_iterated() -> None:
    """Seconds by the square of the size, and more products; memory by the size, and by probes, but not where all
    points are solved for."""

    def seconds(n: int, **changes: int) -> float:
        wanted = studies.loads(large(n, **changes))
        return iterative_curve.seconds(wanted, Block({"curve_n_train": (0, 1)}, {"curve_n_train": [n]}))

    def memory(n: int, **changes: int) -> int:
        return iterative_curve.memory_bytes(studies.loads(large(n, **changes)))

    def large(n: int, test: int = 2000, probes: int = 128) -> str:
        plain = text(f'method = "iterative"\nprobes = {probes}\n', test=test)
        return plain.replace("pool = 60", "pool = 400000").replace(f"n_train = {list(SIZES)}", f"n_train = [8, {n}]")

    assert 2**2.3 < seconds(400_000) / seconds(200_000) < 2**2.45
    added = memory(400_000) - memory(200_000)
    assert added == 8 * 200_000 * (25 + 1 + 200 + 17 * (128 + 1 + 8))
    assert memory(400_000) < 8 * 400_000**2 / 100
    assert memory(100_000, probes=256) > 1.5 * memory(100_000, probes=128)
    assert memory(100_000, test=20, probes=256) == memory(100_000, test=20, probes=128)


def test_the_error_of_the_iteration_is_one_of_its_own(results: EnsembleResults) -> None:
    """Against the stored errors: at a size, over draws, and of a slope between two sizes."""
    stored = values(results.run)
    curve = results.exact_curves["mu_L", "infinite"]
    assert {one.name for one in curve.sources} == {DRAW, ITERATION}
    parts = stored["curve_mu_error"][:, 0] / stored["curve_mu"][:, 0, :, None]
    expected = np.hypot(np.sqrt((parts[..., 0] ** 2).sum(axis=0)) / 2, parts[..., 1].mean(axis=0))
    for i in range(len(SIZES)):
        value = curve.of(ITERATION).log_value(i)
        np.testing.assert_allclose(value.stderr, expected[i])
        assert value.dof == 15
        assert abs(value.skewness) < 1e-12
    step = curve.of(ITERATION).local_slope(0).stderr
    np.testing.assert_allclose(step, np.hypot(*expected[:2]) / np.log(SIZES[1] / SIZES[0]))


def test_nothing_is_claimed_of_one_draw_by_the_error_of_the_iteration_alone(results: EnsembleResults) -> None:
    one = EnsembleResults(results.run, results.store.isel(curve_draw=slice(0, 1)), results.missing)
    curve: Curve = one.exact_curves["eps_L", "infinite"]
    assert [source.name for source in curve.sources] == [ITERATION]
    fit = one.curve_fits["eps_L", "infinite"]
    assert fit.slope.parts[ITERATION] > 0
    assert fit.end == "unknown"
    assert np.isnan(fit.p_slope)
    assert not fit.aicc
    assert results.curve_fits["eps_L", "infinite"].p_slope >= 0


def test_an_exact_curve_of_one_draw_keeps_the_description_of_its_floor(results: EnsembleResults) -> None:
    """Without an error of the iteration nothing claims anything: intervals are points, and no test has a p-value."""
    store = results.store.isel(curve_draw=slice(0, 1)).drop_vars(list(infinite.ITERATION))
    exact = EnsembleResults(results.run, store, results.missing)
    curve = exact.exact_curves["eps_L", "infinite"]
    assert not curve.sources
    assert len(curve.n) < floor.SIZES  # the run has too few for a floor
    longer = Curve(np.array([8.0, 16, 32, 64, 128]), 0.7 + np.array([8.0, 16, 32, 64, 128]) ** -0.8)
    exact.__dict__["exact_curves"] = {("eps_L", "infinite"): longer}
    fit = exact.curve_fits["eps_L", "infinite"]
    assert fit.floor is not None
    assert fit.floor.offset == pytest.approx(0.7, rel=1e-3)
    assert np.isnan(fit.p_slope)


def test_a_report_without_its_curve_says_nothing_of_its_iteration(results: EnsembleResults) -> None:
    """Of a partial run: what is not there yet reads as its fill values."""
    there = "".join(ensemble._iterated(results))
    assert "16 random probes" in there
    store = results.store.copy()
    for name in (*infinite.CURVE, *infinite.ITERATION):
        store[name] = xarray.full_like(store[name], np.nan if store[name].dtype.kind == "f" else -1)
    without = EnsembleResults(results.run, store, results.missing)
    assert without.is_iterated
    assert ensemble._iterated(without) == []


def test_a_partial_report_of_an_iterated_run_without_its_curve_is_made(iterated: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(iterated.path, tmp_path / iterated.path.name))
    shutil.rmtree(copy.path / "receipts" / "curve")
    for array in copy.layout.arrays("curve"):
        for path in arrays.folder(copy.store, array.name).glob("c.*"):
            path.unlink()
    report.make(copy, partial=True)
    page = re.sub(r"<[^>]+>", "", (copy.path / "analysis" / "report.html").read_text())
    assert "The iterated law at infinite width took" not in page
    assert not re.search(r"(?<![\d.e-])[-−]1 (products|random probe)|\bnan\b", page)


def test_an_error_that_is_not_there_leaves_the_curve_out(results: EnsembleResults) -> None:
    store = results.store.copy()
    store["curve_mu_error"] = store.curve_mu_error * np.nan
    found = EnsembleResults(results.run, store, "").exact_curves
    assert ("mu_L", "infinite") not in found
    assert ("eps_L", "infinite") in found


def test_residuals_of_all_draws_may_go_one_way_and_probes_do_not(results: EnsembleResults) -> None:
    value, errors = results.curve.mu_L.sel(time="infinite"), results.iteration_errors["mu_L"].sel(time="infinite")
    alone = 0 * results.curve.probes.sel(time="infinite")
    by_residuals = errors.where(errors.error_part != 0, 0.0) if "error_part" in errors.coords else errors * [0.0, 1.0]
    found = curves.iteration(value, by_residuals, alone)
    assert found is not None
    assert np.isinf(found.dof)
    table = (errors[..., 1] / value).transpose("draw", "n_train").values
    np.testing.assert_allclose(np.sqrt((found.deviates**2).sum(axis=1)), table.mean(axis=0))


def test_the_report_says_that_the_law_was_iterated_and_how_well(iterated: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(iterated.path, tmp_path / iterated.path.name))
    report.make(copy, partial=True)
    folder = copy.path / "analysis"
    page = re.sub(r"<[^>]+>", "", (folder / "report.html").read_text())
    assert "This law was iterated" in page
    assert "16 random probes" in page
    assert "products with the kernels for a size and draw" in page
    assert re.search(r"the largest that was left is \d\.\d × 10", page)
    assert "the iteration (random probes and residuals)" in page
    assert re.search(
        r"at the end of training, .{0,40} is 0\.\d+ ± 0\.\d+ at .{0,30} = 40; \d+(\.\d+)? ± \d+(\.\d+)? % of", page
    )
    table = pd.read_csv(folder / "curve.csv")
    assert {"mu_L_error", "eps_L_error", "eps_pop_error", "bias2_error", "iterations", "largest_residual"} <= set(table)
    assert (table["eps_L_error"] > 0).all()
    exponents = pd.read_csv(folder / "exponents.csv").set_index(["quantity", "network"])
    assert exponents.loc[("mu_L", "infinite width, time infinite"), "stderr_iteration"] > 0
    fit = json.loads((folder / "fits.json").read_text())["infinite_width_curve"]["mu_L infinite"]
    assert fit["exponent"]["parts"]["iteration"] > 0
    assert (folder / "flattening.png").exists()
    assert ensemble.SECTIONS

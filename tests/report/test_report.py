"""The analysis of a run: its files, what it refuses, what it says."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray
from matplotlib import font_manager
from support.runs import all_shards, make_run, ntkhpc, run_shards

import ntkhpc as ntkhpc_library
from analysis import ensemble, report
from analysis.ensemble import results
from analysis.ensemble.agreement import agreements
from analysis.ensemble.results import EnsembleResults
from analysis.report import numbers, page
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError

FIGURES = (
    "answer",
    "learning_curves",
    "flattening",
    "distribution",
    "width_dependence",
    "bias_and_variance",
)
"""Of two sizes, through which no power law is fitted that could leave residuals."""


@pytest.fixture(scope="module")
def collected(finished: Run) -> EnsembleResults:
    return results.collect(finished)


def test_a_finished_run_has_its_report(finished: Run) -> None:
    folder = finished.path / "analysis"
    for name in FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    fits = json.loads((folder / "fits.json").read_text())
    assert fits["missing"] == ""
    assert fits["resolution"]["initialisation"] > 0
    moments = pd.read_csv(folder / "moments.csv")
    assert len(moments) == 2
    assert {"mu_L", "eps_L_stderr", "law_eps_L", "ks_p_value"} <= set(moments.columns)
    assert len(pd.read_csv(folder / "curve.csv")) == 4
    assert "contributes" in (folder / "summary.txt").read_text()


def test_equal_runs_have_equal_results_whatever_the_users_matplotlibrc_and_fonts(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9.0)
    sans = [entry for entry in font_manager.fontManager.ttflist if entry.name == "DejaVu Sans Mono"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [replace(entry, name="DejaVu Sans") for entry in sans])
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    before = {path.name: path.read_bytes() for path in (copy.path / "analysis").iterdir()}
    report.make(copy)
    after = {path.name: path.read_bytes() for path in (copy.path / "analysis").iterdir()}
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert {entry.name for entry in font_manager.fontManager.ttflist} == {"DejaVu Sans"}


@pytest.mark.promise("An incomplete run gets no report unless it is asked for, and then every figure says PARTIAL.")
def test_an_incomplete_run_is_refused_unless_partial_and_then_says_so(runs: Path) -> None:
    target = make_run(runs)
    lacking = target.plan.of_phase("ensemble")[-1].id
    some = [shard for shard in all_shards(target) if shard != lacking and not shard.startswith(("finalise", "recheck"))]
    assert run_shards(target, some).returncode == 0
    with pytest.raises(RunError, match="1 of 4 ensemble shards missing"):
        results.collect(target)
    refused = ntkhpc("report", f"--run={target.path}")
    assert refused.returncode == 1
    assert "PARTIAL=1" in refused.stderr
    assert not (target.path / "analysis").exists()
    made = ntkhpc("report", f"--run={target.path}", "--partial")
    assert made.returncode == 0, made.stderr
    assert "PARTIAL: 1 of 4 ensemble shards missing, 1 of 1 finalise shards missing" in made.stdout
    assert "PARTIAL REPORT" in (target.path / "analysis" / "report.html").read_text()
    figures = ensemble.compose(target, partial=True).figures
    assert figures.keys() == set(FIGURES)
    assert all("PARTIAL" in figure.get_suptitle() for figure in figures.values())


def test_what_there_is_of_a_run_without_laws_or_networks_is_reported(runs: Path) -> None:
    target = make_run(runs)
    assert run_shards(target, ["data-0"]).returncode == 0
    made = ntkhpc("report", f"--run={target.path}", "--partial")
    assert made.returncode == 0, made.stderr
    assert "4 of 4 ensemble shards missing" in made.stdout
    ensemble = [shard.id for shard in target.plan.of_phase("ensemble")]
    assert run_shards(target, ensemble).returncode == 0
    made = ntkhpc("report", f"--run={target.path}", "--partial")
    assert made.returncode == 0, made.stderr
    assert "contributes" in made.stdout
    assert "nan" not in made.stdout.lower()


@pytest.mark.promise("Values without a receipt are in no partial report.")
def test_values_whose_receipts_are_gone_are_in_no_partial_report(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    for shard in (copy.plan.of_phase("law")[-1], copy.plan.of_phase("ensemble")[0], copy.plan.of_phase("curve")[0]):
        copy.receipt(shard).unlink()
    partial = results.collect(copy, partial=True)
    assert np.isnan(partial.law.mu_L.isel(n_train=-1)).all()
    assert np.isfinite(partial.law.mu_L.isel(n_train=0)).all()
    assert np.isnan(partial.curve.mu_L).all()
    assert partial.moments.members.values.ravel().tolist() == [5, 11]


def test_values_without_a_receipt_are_in_no_moments_of_an_opened_run(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    opened = ntkhpc_library.open_run(copy.path)
    xarray.testing.assert_identical(opened.moments(), opened.moments(partial=True))
    for shard in (copy.plan.of_phase("ensemble")[0], *copy.plan.of_phase("finalise")):
        copy.receipt(shard).unlink()
    with pytest.raises(RunError, match="1 of 4 ensemble shards missing, 1 of 1 finalise shards missing") as refused:
        opened.moments()
    assert "partial=True" in refused.value.todo
    partial = opened.moments(partial=True)
    assert partial.members.values.ravel().tolist() == [5, 11]
    assert np.isnan(partial.bias2).all()
    assert np.isfinite(opened.store.test_loss).all()  # the store is what is on disk


def test_the_curve_of_the_same_draw_is_the_law_of_the_cells(finished: Run, collected: EnsembleResults) -> None:
    """Two phases, two factorisations: one Lanczos, one dense lambda_max."""
    curve = collected.curve.sel(time="steps", draw=0)
    for name in ("mu_L", "sigma_L", "eps_pop", "bias2", "variance"):
        np.testing.assert_allclose(curve[name], collected.law[name].isel(draw=0), rtol=1e-8)


def test_small_widths_are_told_from_infinite_width_only_by_their_data(collected: EnsembleResults) -> None:
    said = agreements(collected)
    assert len(said) == 1
    assert said[0].startswith("width 4: ")
    ratio = np.exp(np.log(collected.agreement.mu_L_ratio.values[0, :, 0]).mean())
    assert f"mu_L ({100 * (ratio - 1):+.0f} ± " in said[0]
    assert "the variance of the prediction" in said[0]


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.0076321, 0.000092, "0.00763 ± 0.00009"),
        (0.16832, 0.0118, "0.168 ± 0.012"),
        (-0.6934, 0.036, "-0.69 ± 0.04"),
        (123.4, 25.0, "123 ± 25"),
        (0.154, float("nan"), "0.154"),
        (float("nan"), 1.0, "-"),
    ],
)
def test_numbers_are_written_with_the_digits_their_error_allows(value: float, stderr: float, text: str) -> None:
    assert numbers.pm(value, stderr) == text


def test_words_are_text_never_markup() -> None:
    assert page.text("<b>&") == "&lt;b&gt;&amp;"


def test_an_analysis_by_processes_of_dask_is_that_by_threads(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    before = (copy.path / "analysis" / "moments.csv").read_bytes()
    code = (
        "if __name__ == '__main__':\n"
        "    import sys; from pathlib import Path\n"
        "    from analysis import phase; from ntkhpc.engine.run import Run\n"
        "    phase.compute(Run(Path(sys.argv[1])))\n"
    )
    script = tmp_path / "analyse.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(copy.code), "NTKHPC_DASK": "local:2"}
    (copy.path / "analysis" / "moments.csv").unlink()
    done = subprocess.run(
        [sys.executable, str(script), str(copy.path)], env=environment, capture_output=True, text=True, timeout=180,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (copy.path / "analysis" / "moments.csv").read_bytes() == before

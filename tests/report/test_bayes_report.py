"""The report of a posterior: its files, what it warns of, and what it says of runs that are partial or small."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from support.bayes_run import composed, confirm, make, sample
from support.runs import reseal

from analysis import posterior, report
from analysis.posterior import losses, results
from analysis.posterior.claim import claim
from analysis.posterior.results import PosteriorResults
from analysis.report.compose import cautions
from ntkhpc.engine import plan, run, store
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError


def test_a_report_has_all_its_files(posterior: Run, posterior_results: PosteriorResults) -> None:
    folder = posterior.path / "analysis"
    figures = ("loss", "order_parameter", "scans", "distribution", "scaling", "chains")
    for name in figures:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    text = (folder / "report.html").read_text()
    assert text.count("data:image/svg+xml;base64,") == len(figures)
    assert text.index('class="claim"') < text.index("<h2 ")
    assert "no factor 1/2" in text
    assert " nan" not in re.sub("<[^>]*>", " ", text).lower()
    fits = json.loads((folder / "fits.json").read_text())
    assert fits["claim"] == claim(posterior_results)
    assert fits["posterior_less_trained"]["eps_L"]["draws"] == 2
    assert len(pd.read_csv(folder / "chains.csv")) == 12
    assert len(pd.read_csv(folder / "coverage.csv")) == 12 * 8
    assert len(pd.read_csv(folder / "scan_readout.csv")) == 2 * 3 * 2 * 3
    assert set(pd.read_csv(folder / "moments.csv").network) == {
        "posterior, theory", "posterior, sampled", "trained to the end"
    }  # fmt: skip
    assert claim(posterior_results) in (folder / "summary.txt").read_text()


def test_every_finding_of_chains_is_warned_of(posterior_copy: Run) -> None:
    expected = store.open_array(posterior_copy.store, "sample_expected_loss", writable=True)
    expected[0, 0, 0, 0] = np.asarray(expected[0, 0, 0, 0]) * 1.5
    store.open_array(posterior_copy.store, "chain_divergences", writable=True)[1, 1, 1, 0] = 7
    store.open_array(posterior_copy.store, "sample_loss", writable=True)[1, 0, 0, 2] = np.nan
    for shard in posterior_copy.plan.of_phase("chains"):
        confirm(posterior_copy, shard)
    said = "\n".join(cautions(posterior.SECTIONS, results.collect(posterior_copy)))
    assert re.search(r"R-hat is not below 1.01: .*\(P = 15, N1 = 10, draw 0\)", said)
    assert re.search(r"diverged: .* in \(P = 30, N1 = 40, draw 1\)", said)
    assert "1 of 48 chains are missing" in said
    assert "fewer than 400 effective samples" in said


@pytest.mark.parametrize(
    ("sampler", "learning_rate", "precisions", "said"),
    [
        ("langevin", 1e-3, (1.0, 1.0), "span 0.3 relaxation times 1/(learning_rate T lambda) = 20,000 steps"),
        ("langevin", 0.1, (0.2, 5.0), "span 6 relaxation times 1/(learning_rate T lambda) = 1,000 steps"),
        ("langevin", 0.1, (1.0, 1.0), ""),
        ("hmc", 1e-3, (1.0, 1.0), ""),
    ],
)
def test_langevin_chains_of_few_relaxation_times_are_warned_of(
    posterior_results: PosteriorResults,
    tmp_path: Path,
    sampler: str,
    learning_rate: float,
    precisions: tuple[float, float],
    said: str,
) -> None:
    """60 samples of 100 steps at T = 0.05."""
    old = posterior_results.study
    sampling = msgspec.structs.replace(old.sampling, sampler=sampler, thin=100, learning_rate=learning_rate)
    precise = msgspec.structs.replace(old.posterior, precisions=precisions)
    wanted = msgspec.structs.replace(old, sampling=sampling, posterior=precise)
    changed = dataclasses.replace(posterior_results, run=run.create(tmp_path, wanted))
    found = [text for text in cautions(posterior.SECTIONS, changed) if "relaxation" in text]
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_an_incomplete_run_is_refused_and_its_partial_report_knows_what_is_missing(
    posterior_copy: Run, tmp_path: Path
) -> None:
    theory, shard = posterior_copy.plan.of_phase("theory")[-1], posterior_copy.plan.of_phase("chains")[0]
    posterior_copy.receipt(theory).unlink()
    posterior_copy.receipt(shard).unlink()
    with pytest.raises(RunError, match=r"1 of 6 theory shards missing, 1 of 24 chains shards missing"):
        report.make(posterior_copy)
    publication, page = composed(posterior_copy)
    assert "PARTIAL REPORT" in page
    assert all("PARTIAL" in figure.get_suptitle() for figure in publication.figures.values())
    partial = results.collect(posterior_copy, partial=True)
    assert partial.chains is not None
    assert float(partial.chains.chains.sum()) == 46
    assert np.isfinite(partial.theory.loss.values).sum() == 5 * 3
    [last] = [cell for cell in partial.cells if (cell.n_train, cell.width) == (60, 10)]
    assert last.draws == 1


def test_missing_populations_are_masked(posterior_copy: Run) -> None:
    [gone] = [shard for shard in posterior_copy.plan.of_phase("adaptive") if shard.id == "w10-n60-d1"]
    posterior_copy.receipt(gone).unlink()
    with pytest.raises(RunError, match="1 of 12 adaptive shards missing"):
        results.collect(posterior_copy)
    partial = results.collect(posterior_copy, partial=True)
    assert [(cell.n_train, cell.width) for cell in partial.cells if not cell.is_adaptive] == [(60, 10)]
    assert partial.chi_square is not None
    assert (partial.chi_square.cells, partial.chi_square.adaptive_cells) == (6, 5)


def test_a_run_older_than_the_adaptive_kernel_is_reported(
    posterior_copy: Run, posterior_results: PosteriorResults, tmp_path: Path
) -> None:
    """Its study has no such section, its plan no such shards and its store no such arrays."""
    shards = tuple(shard for shard in posterior_copy.plan.shards if shard.phase != "adaptive")
    (posterior_copy.path / "plan.json").write_bytes(
        plan.dumps(msgspec.structs.replace(posterior_copy.plan, shards=shards))
    )
    settings = (posterior_copy.path / "study.toml").read_text()
    (posterior_copy.path / "study.toml").write_text(re.sub(r"\[adaptive\]\n(\w+ = .*\n)+", "", settings))
    known = json.loads((posterior_copy.store / "zarr.json").read_text())
    for name in [name for name in known["consolidated_metadata"]["metadata"] if re.match("adaptive|population", name)]:
        known["consolidated_metadata"]["metadata"].pop(name)
        shutil.rmtree(posterior_copy.store / name)
    (posterior_copy.store / "zarr.json").write_text(json.dumps(known))
    reseal(posterior_copy)
    old = Run(posterior_copy.path)
    publication, page = composed(old)
    found = results.collect(old)
    assert "adaptive kernel" not in publication.summary + page
    assert losses.rows(found)[0] == tuple(
        name for name in losses.rows(posterior_results)[0] if name not in losses.ADAPTIVE
    )
    assert publication.fits["adaptive_kernel"] == []
    assert publication.fits["study"] == posterior_copy.plan.run_name != old.study.run_name
    assert old.study.run_name not in page
    assert [cell.sampled for cell in found.cells] == [cell.sampled for cell in posterior_results.cells]


@pytest.mark.parametrize("phases", [("theory", "chains"), ("theory",), ("chains",), ("adaptive",)])
def test_whatever_is_there_is_reported(posterior_copy: Run, tmp_path: Path, phases: tuple[str, ...]) -> None:
    for phase in phases:
        for shard in posterior_copy.plan.of_phase(phase):
            posterior_copy.receipt(shard).unlink()
    publication, page = composed(posterior_copy)
    assert " nan" not in publication.summary + re.sub("<[^>]*>", " ", page)


THEORY_ALONE = {
    "chain_count": 0,
    "populations": 0,
    "temperatures": "[]",
    "factors": "[]",
    "draws": 1,
    "sizes": "[20]",
    "widths": "[10]",
}


@pytest.mark.parametrize(
    ("settings", "fill"),
    [
        (THEORY_ALONE, False),
        ({"sampled_widths": "[40]", "sampled_sizes": "[15, 60]", "factors": "[]", "draws": 1}, True),
    ],
)
def test_small_studies_are_reported(tmp_path: Path, settings: dict, fill: bool) -> None:
    target = make(tmp_path, **settings)
    fill_or_not: Callable[[Run], None] = sample if fill else lambda _: None
    fill_or_not(target)
    _, text = composed(target)
    found = results.collect(target)
    assert (found.chains is not None) == fill
    assert ("no networks were sampled" in claim(found)) == (not fill)
    assert bool(found.exact_fits) == fill
    assert not found.sampled_fits
    assert (">Chains</h2>" in text) == fill
    assert ("adaptive kernel" in text) == fill
    assert len(found.sampled_cells) == (2 if fill else 0)

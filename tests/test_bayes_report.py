"""The report of a posterior: diagnostics of chains with known answers, and numbers recomputed from the store."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
import xarray
from conftest import run_shards
from scipy import stats
from test_convergence import ar1

from analysis import report
from analysis.bayes import comparison, coverage, exponents, results, tables, words
from analysis.bayes import report as bayes_report
from analysis.bayes.results import Results
from analysis.numbers import pm
from analysis.provenance import provenance
from analysis.publication import Publication
from ntkhpc import convergence, plan, run, store, study
from ntkhpc.errors import RunError
from ntkhpc.run import Run

STUDY = """
kind = "bayes"
name = "posterior"
[data]
source = "calorimeter"
pool = 60
test = 20
[network]
widths = {widths}
[posterior]
n_train = {sizes}
draws = {draws}
temperature = 0.05
[scan]
temperatures = {temperatures}
readout_factors = {factors}
[adaptive]
populations = {populations}
neurons = 20
updates = 20
[sampling]
chains = {chains}
shard_chains = 2
draws = 60
tile = 20
widths = {sampled_widths}
n_train = {sampled_sizes}
"""

RNG_SEED = 20


def make(
    folder: Path,
    *,
    widths: str = "[10, 40]",
    sizes: str = "[15, 30, 60]",
    draws: int = 2,
    temperatures: str = "[0.01]",
    factors: str = "[0.5, 2.0]",
    chain_count: int = 4,
    sampled_widths: str = "[]",
    sampled_sizes: str = "[]",
    populations: int = 3,
) -> Run:
    """A run with data and theory by their own phases, all in one process."""
    text = STUDY.format(
        widths=widths, sizes=sizes, draws=draws, temperatures=temperatures, factors=factors, chains=chain_count,
        sampled_widths=sampled_widths, sampled_sizes=sampled_sizes, populations=populations,
    )  # fmt: skip
    target = run.create(folder, study.loads(text))
    done = run_shards(target, [shard.id for phase in ("data", "theory") for shard in target.plan.of_phase(phase)])
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def sample(target: Run) -> None:
    """Fill the chains' arrays with chains about theory's values, 3 % above them, and give their shards receipts.

    Populations of neurons, if there are any, are 2 % above.
    """
    found, rng = xarray.open_zarr(target.store, chunks=None), np.random.default_rng(RNG_SEED)
    at = {"theory_width": found.sampled_width.values.astype(float), "n_train": found.sampled_n_train.values}
    theory = found.sel(at).transpose("theory_width", "n_train", "draw", ...)
    shape = store.load(target.store, "sample_loss")["sample_loss"].shape
    loss = (theory.theory_bias + theory.theory_variance).values[..., None, None]
    sigma = np.sqrt(theory.theory_sigma2).values[..., None, None]
    values = {
        "sample_expected_loss": 1.03 * loss + 0.1 * sigma * ar1(rng, shape),
        "sample_loss": 1.03 * loss + 0.5 * sigma * ar1(rng, shape),
        "sample_q_bar": theory.theory_q_bar.values[..., None, None] * (1 + 0.1 * ar1(rng, shape)),
        "sample_potential": ar1(rng, shape),
        "chain_acceptance": np.full(shape[:-1], 0.8),
        "chain_step_size": np.full(shape[:-1], 0.1),
        "chain_divergences": np.zeros(shape[:-1], int),
        "chain_gradients": np.full(shape[:-1], 600),
    }
    if target.plan.of_phase("adaptive"):
        populations = store.load(target.store, "adaptive_loss")["adaptive_loss"].shape
        values["adaptive_loss"] = 1.02 * loss[..., 0] * (1 + 0.004 * rng.standard_normal(populations))
    for name, value in values.items():
        store.open_array(target.store, name, writable=True)[...] = value
    some_receipt = target.receipt(target.plan.of_phase("theory")[0]).read_bytes()
    for shard in (*target.plan.of_phase("adaptive"), *target.plan.of_phase("chains")):
        target.receipt(shard).write_bytes(some_receipt)


@pytest.fixture(scope="module")
def posterior(tmp_path_factory: pytest.TempPathFactory) -> Run:
    target = make(tmp_path_factory.mktemp("posterior"))
    sample(target)
    report.make(target)
    return target


@pytest.fixture(scope="module")
def collected(posterior: Run) -> Results:
    return results.collect(posterior)


@pytest.fixture
def changed(posterior: Run, tmp_path: Path) -> Run:
    """A copy that a test may spoil."""
    return Run(shutil.copytree(posterior.path, tmp_path / "copy"))


def composed(target: Run, folder: Path) -> tuple[Publication, str]:
    """A report and its page, without the seconds that figures take to be written."""
    publication = bayes_report.compose(target, partial=True)
    for name in publication.figures:
        (folder / f"{name}.png").write_bytes(b"")
    return publication, publication.page(provenance(target), folder)


# Coverage.


def test_coverage_of_gaussian_draws_is_the_level() -> None:
    values = np.random.default_rng(7).standard_normal((4, 5000))
    for level in coverage.LEVELS:
        end = stats.norm.ppf((1 + level) / 2)
        share, stderr = coverage.inside(values, -end, end)
        assert stderr == pytest.approx(math.sqrt(level * (1 - level) / values.size), rel=0.15)
        assert abs(share - level) < 4 * stderr


def test_none_inside_is_no_certainty() -> None:
    share, stderr = coverage.inside(np.random.default_rng(8).standard_normal((2, 50)), 50, 60)
    assert share == 0
    assert 0.002 < stderr < 0.05


def test_coverage_is_a_count_of_the_store(collected: Results, posterior: Run) -> None:
    """Samples of half of theory's standard deviation, 3 % above its mean: far more inside than promised."""
    found = xarray.open_zarr(posterior.store, chunks=None)
    law = found.theory_quantile.sel(n_train=30, theory_width=40, draw=1)
    low, high = (float(law.sel(quantile=p, method="nearest")) for p in (0.25, 0.75))
    losses = found.sample_loss.sel(sampled_width=40, sampled_n_train=30, draw=1).values
    assert collected.coverage is not None
    one = collected.coverage.sel(law="finite width", level=0.5, width=40, n_train=30, draw=1)
    assert float(one.share) == ((losses >= low) & (losses <= high)).mean()
    assert words.intervals(collected)[0].startswith("finite width: ")


# Numbers.


def test_losses_are_those_of_the_store(collected: Results, posterior: Run) -> None:
    found = xarray.open_zarr(posterior.store, chunks=None)
    frame = tables.frames(collected)["losses"].set_index(["n_train", "width"])
    assert frame.index.tolist() == [(n, w) for n in (15, 30, 60) for w in (10, 40)]
    row = frame.loc[(30, 10)]
    theory = (found.theory_bias + found.theory_variance).sel(n_train=30)
    samples = found.sample_expected_loss.sel(sampled_width=10, sampled_n_train=30).values
    assert row.theory == pytest.approx(float(theory.sel(theory_width=10).mean()), rel=1e-12)
    assert row.infinite_width == pytest.approx(float(theory.sel(theory_width=np.inf).mean()), rel=1e-12)
    assert row.sampled == pytest.approx(samples.mean(), rel=1e-12)
    assert row.sampled_stderr == pytest.approx(
        math.sqrt(convergence.mcse(samples[0]) ** 2 + convergence.mcse(samples[1]) ** 2) / 2, rel=1e-9
    )
    assert row.draw_spread == pytest.approx(samples.mean(axis=(1, 2)).std(ddof=1), rel=1e-12)
    assert row.deviation == pytest.approx(row.sampled / row.theory - 1)
    assert row.deviation == pytest.approx(0.03, abs=0.02)
    assert row.pull == pytest.approx((row.sampled - row.theory) / row.sampled_stderr)


def test_moments_of_single_networks_are_those_of_the_samples(collected: Results, posterior: Run) -> None:
    losses = xarray.open_zarr(posterior.store, chunks=None).sample_loss.values[1, 2, 0]
    assert collected.chains is not None
    one = collected.chains.sel(width=40, n_train=60, draw=0)
    assert float(one.sigma_L) == pytest.approx(losses.std(ddof=1), rel=1e-12)
    assert float(one.eps_L) == pytest.approx(losses.std(ddof=1) / losses.mean(), rel=1e-12)
    assert float(one.mu_L_stderr) == convergence.mcse(losses)
    assert float(one.gradients_per_ess) == pytest.approx(4 * 600 / float(one.ess), rel=1e-12)


def test_the_claim_has_the_numbers_of_its_cell(collected: Results) -> None:
    found = re.match(
        r"At P = (\d+) and N1 = (\d+) the sampled posterior has test loss (\S+) ± (\S+); the finite-width theory says "
        r"(\S+), infinite width (\S+)\. ",
        words.claim(collected),
    )
    assert found, words.claim(collected)
    n, width, sampled, stderr, theory, infinite = map(float, found.groups())
    apart = {(cell.n_train, cell.width): abs(math.log(cell.theory / cell.infinite)) for cell in collected.cells}
    assert (n, width) == max(apart, key=lambda key: apart[key])
    [cell] = [cell for cell in collected.cells if (cell.n_train, cell.width) == (n, width)]
    assert sampled == pytest.approx(cell.sampled, abs=0.51 * stderr)
    assert stderr == pytest.approx(cell.stderr, rel=0.3)
    assert theory == pytest.approx(cell.theory, rel=1e-3)
    assert infinite == pytest.approx(cell.infinite, rel=1e-3)


def cell(**changes: float) -> comparison.Cell:
    values = {"n_train": 10, "width": 5, "theory": 1.0, "infinite": 2.0, "mixture": 1.0, "adaptive": math.nan,
              "adaptive_stderr": math.nan, "sampled": 1.1, "stderr": 0.05, "spread": math.nan, "q_bar": 0.5,
              "sampled_q_bar": 0.5, "q_bar_stderr": 0.1, "s": 0.5, "r_hat": 1.0, "ess": 1000.0, "draws": 1}  # fmt: skip
    return comparison.Cell(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sampled", "stderr", "closer"),
    [(1.1, 0.05, "finite"), (1.9, 0.05, "infinite"), (1.45, 0.05, ""), (1.1, 0.5, ""), (math.nan, math.nan, "")],
)
def test_the_closer_theory_is_named_only_where_errors_allow(sampled: float, stderr: float, closer: str) -> None:
    assert cell(sampled=sampled, stderr=stderr).closer == closer
    mirrored = cell(sampled=3 - sampled, stderr=stderr, theory=2.0, infinite=1.0)
    assert mirrored.closer == closer


def test_chi_square_is_the_sum_of_squared_pulls() -> None:
    found = comparison.chi_square((cell(), cell(sampled=0.9), cell(sampled=math.nan)))
    assert found is not None
    assert (found.cells, found.finite, found.infinite) == (2, pytest.approx(8.0), pytest.approx(324 + 484))
    assert found.p_finite == pytest.approx(math.exp(-4))
    assert (found.adaptive_cells, math.isnan(found.adaptive), math.isnan(found.p_adaptive)) == (0, True, True)
    assert comparison.chi_square((cell(sampled=math.nan),)) is None


def test_the_adaptive_kernel_is_held_to_both_errors() -> None:
    one, other = cell(adaptive=1.0, adaptive_stderr=0.12, stderr=0.05), cell(adaptive=1.49, adaptive_stderr=0.12)
    assert one.adaptive_deviation == pytest.approx(0.1)
    assert one.adaptive_pull == pytest.approx(0.1 / 0.13)
    found = comparison.chi_square((one, other, cell(), cell(sampled=math.nan, adaptive=1.0, adaptive_stderr=0.1)))
    assert found is not None
    assert (found.cells, found.adaptive_cells) == (3, 2)
    assert found.adaptive == pytest.approx((0.1**2 + 0.39**2) / 0.13**2)
    assert found.p_adaptive == pytest.approx(math.exp(-found.adaptive / 2))


def test_the_adaptive_kernel_is_that_of_the_store(collected: Results, posterior: Run) -> None:
    found = xarray.open_zarr(posterior.store, chunks=None)
    losses = found.adaptive_loss.sel(sampled_width=10, sampled_n_train=30).values
    mean, stderr = losses.mean(), math.sqrt((losses.var(axis=1, ddof=1) / 3).sum()) / 2
    row = tables.frames(collected)["losses"].set_index(["n_train", "width"]).loc[(30, 10)]
    assert row.adaptive == pytest.approx(mean, rel=1e-12)
    assert row.adaptive_stderr == pytest.approx(stderr, rel=1e-12)
    assert row.adaptive_deviation == pytest.approx(row.sampled / mean - 1)
    assert row.adaptive_pull == pytest.approx((row.sampled - mean) / math.hypot(row.sampled_stderr, stderr))
    fits = json.loads((posterior.path / "analysis" / "fits.json").read_text())
    [one] = [one for one in fits["adaptive_kernel"] if (one["n_train"], one["width"]) == (30, 10)]
    assert (one["loss"], one["stderr"]) == (pytest.approx(mean), pytest.approx(stderr))
    assert fits["chi_square"]["adaptive_kernel_cells"] == 6
    assert fits["chi_square"]["adaptive_kernel"] < fits["chi_square"]["finite_width"]
    heading, *rows = tables.losses(collected)
    [text] = [text for text in rows if text[:2] == ("30", "10")]
    told = dict(zip(heading, text, strict=True))
    assert told["adaptive kernel"] == pm(mean, stderr)
    assert told["deviation from it"] == f"{words.per_cent(row.adaptive_deviation)} ({row.adaptive_pull:+.1f} s.e.)"
    table = tables.terminal(collected).split("\ntest loss")[0].splitlines()
    assert pm(mean, stderr) in "\n".join(table)
    assert max(map(len, table)) <= 110


@pytest.mark.parametrize(
    ("adaptive", "said"),
    [
        ((1.11, 1.08), "within 1.9 % of the samples in all 2 cells (largest deviation +1.9 %, 0.4 standard errors, "
                       "at P = 20, N1 = 5), the saddle point within 10 %."),
        ((1.6, 0.5), "within 120 % of the samples in all 2 cells (largest deviation +120 %, 12.0 standard errors, "
                     "at P = 20, N1 = 5), the saddle point within 10 %."),
        ((1.0, math.nan), "within 10 % of the samples in the one cell where it is there (largest deviation +10 %, 2.0 "
                          "standard errors, at P = 10, N1 = 5), the saddle point within 10 %."),
    ],
)  # fmt: skip
def test_how_the_adaptive_kernel_fares_is_said(collected: Results, adaptive: tuple[float, float], said: str) -> None:
    """Sampled: 1.1, where the saddle point says 1."""
    cells = tuple(cell(n_train=n, adaptive=a, adaptive_stderr=0.0) for n, a in zip((10, 20), adaptive, strict=True))
    found = dataclasses.replace(collected, cells=cells, chi_square=comparison.chi_square(cells))
    assert words.claim(found).endswith(f" The adaptive kernel is {said}")
    assert words.claim(found).count("adaptive") == 1
    assert ["adaptive" in text for text in words.chi_squares(found)] == [False, False, True]


def test_without_samples_the_adaptive_kernel_is_compared_with_the_saddle_point(collected: Results) -> None:
    alone = cell(sampled=math.nan, stderr=math.nan, adaptive=0.8, adaptive_stderr=0.01)
    found = dataclasses.replace(collected, cells=(alone,), chi_square=None)
    assert words.claim(found).endswith("at P = 10 and N1 = 5: 0.800 ± 0.010, 20 % below.")


def test_a_run_older_than_the_adaptive_kernel_is_reported(changed: Run, collected: Results, tmp_path: Path) -> None:
    """Its study has no such section, its plan no such shards and its store no such arrays."""
    shards = tuple(shard for shard in changed.plan.shards if shard.phase != "adaptive")
    (changed.path / "plan.json").write_bytes(plan.dumps(msgspec.structs.replace(changed.plan, shards=shards)))
    settings = (changed.path / "study.toml").read_text()
    (changed.path / "study.toml").write_text(re.sub(r"\[adaptive\]\n(\w+ = .*\n)+", "", settings))
    known = json.loads((changed.store / "zarr.json").read_text())
    for name in [name for name in known["consolidated_metadata"]["metadata"] if re.match("adaptive|population", name)]:
        known["consolidated_metadata"]["metadata"].pop(name)
        shutil.rmtree(changed.store / name)
    (changed.store / "zarr.json").write_text(json.dumps(known))
    old = Run(changed.path)
    publication, page = composed(old, tmp_path)
    found = results.collect(old)
    assert "adaptive kernel" not in publication.summary + page
    assert tables.losses(found)[0] == tuple(name for name in tables.losses(collected)[0] if name not in tables.ADAPTIVE)
    assert publication.fits["adaptive_kernel"] == []
    assert publication.fits["study"] == changed.plan.run_name != old.study.run_name
    assert old.study.run_name not in page
    assert [cell.sampled for cell in found.cells] == [cell.sampled for cell in collected.cells]


def test_the_sign_rule_is_told_for_every_size(collected: Results) -> None:
    said = words.sign_rule(collected)
    assert [text.split(":")[0] for text in said] == ["P = 15", "P = 30", "P = 60"]
    for text, n in zip(said, (15, 30, 60), strict=True):
        s = float(collected.theory.s.sel(n_train=n).mean())
        assert ("finite width helps" in text) == (s < 1)


# Exponents.


def powers(exponent: float, draws: int, rng: np.random.Generator, noise: float = 0.0) -> xarray.Dataset:
    n = np.array([10, 20, 40, 80])
    one = 3.0 * n**exponent * np.exp(noise * rng.standard_normal((draws, 4)))
    values = xarray.DataArray(one, dims=("draw", "n_train"), coords={"n_train": n})
    return xarray.Dataset(dict.fromkeys(exponents.QUANTITIES, values))


def test_exponents_of_exact_powers_are_found_and_compared_draw_by_draw() -> None:
    rng = np.random.default_rng(9)
    descent, theory = (
        powers(-0.5, 3, rng),
        powers(-0.7, 3, rng, 0.02).expand_dims(theory_width=[10.0, math.inf], axis=2),
    )
    found = exponents.exact(theory, descent)
    assert found["eps_L", exponents.GRADIENT_DESCENT].exponent == pytest.approx(-0.5, abs=1e-6)
    assert found["eps_L", exponents.POSTERIOR].exponent == pytest.approx(-0.7, abs=0.03)
    assert ("mu_L", "posterior, width 10") in found
    difference = exponents.differences(theory, descent)["eps_L"]
    assert difference.value == pytest.approx(-0.2, abs=0.03)
    assert 0 < difference.stderr < 0.03


def test_sampled_exponents_have_the_errors_of_their_chains() -> None:
    rng = np.random.default_rng(10)
    theory = powers(-0.5, 1, rng).expand_dims(theory_width=[10.0, math.inf], axis=2)
    means = powers(-0.5, 1, rng, 0.02).isel(draw=0).expand_dims(width=[10])
    means = means.assign({f"{name}_stderr": 0.02 * means[name] for name in exponents.QUANTITIES})
    found = exponents.sampled(means, theory, 1)["eps_L", 10]
    log_n = np.log([10, 20, 40, 80])
    known = 0.02 / math.sqrt(((log_n - log_n.mean()) ** 2).sum())
    assert found.sampled.this_draw.none.exponent_stderr == pytest.approx(known, rel=0.05)
    assert found.theory is not None
    assert found.theory.exponent == pytest.approx(-0.5, abs=1e-6)
    assert math.isnan(found.sampled.draw_spread)


# Files.


def test_a_report_has_all_its_files(posterior: Run, collected: Results) -> None:
    folder = posterior.path / "analysis"
    figures = ("loss", "order_parameter", "scans", "distribution", "scaling", "chains")
    for name in figures:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    text = (folder / "report.html").read_text()
    assert text.count("data:image/png;base64,") == len(figures)
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert text.index('class="claim"') < text.index("<h2>")
    assert "no factor 1/2" in text
    assert " nan" not in re.sub("<[^>]*>", " ", text).lower()
    fits = json.loads((folder / "fits.json").read_text())
    assert fits["claim"] == words.claim(collected)
    assert fits["posterior_less_trained"]["eps_L"]["draws"] == 2
    assert len(pd.read_csv(folder / "chains.csv")) == 12
    assert len(pd.read_csv(folder / "coverage.csv")) == 12 * 8
    assert len(pd.read_csv(folder / "scan_readout.csv")) == 2 * 3 * 2 * 3
    assert set(pd.read_csv(folder / "moments.csv").network) == {
        "posterior, theory", "posterior, sampled", "trained to the end"
    }  # fmt: skip
    assert words.claim(collected) in (folder / "summary.txt").read_text()


def test_every_finding_of_chains_is_warned_of(changed: Run) -> None:
    expected = store.open_array(changed.store, "sample_expected_loss", writable=True)
    expected[0, 0, 0, 0] = np.asarray(expected[0, 0, 0, 0]) * 1.5
    store.open_array(changed.store, "chain_divergences", writable=True)[1, 1, 1, 0] = 7
    store.open_array(changed.store, "sample_loss", writable=True)[1, 0, 0, 2] = np.nan
    said = "\n".join(words.warnings(results.collect(changed)))
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
    collected: Results, tmp_path: Path, sampler: str, learning_rate: float, precisions: tuple[float, float], said: str
) -> None:
    """60 samples of 100 steps at T = 0.05."""
    old = collected.study
    sampling = msgspec.structs.replace(old.sampling, sampler=sampler, thin=100, learning_rate=learning_rate)
    precise = msgspec.structs.replace(old.posterior, precisions=precisions)
    wanted = msgspec.structs.replace(old, sampling=sampling, posterior=precise)
    changed = dataclasses.replace(collected, run=run.create(tmp_path, wanted))
    found = [text for text in words.warnings(changed) if "relaxation" in text]
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_an_incomplete_run_is_refused_and_its_partial_report_knows_what_is_missing(
    changed: Run, tmp_path: Path
) -> None:
    theory, shard = changed.plan.of_phase("theory")[-1], changed.plan.of_phase("chains")[0]
    changed.receipt(theory).unlink()
    changed.receipt(shard).unlink()
    with pytest.raises(RunError, match=r"1 of 6 theory shards missing, 1 of 24 chains shards missing"):
        report.make(changed)
    publication, page = composed(changed, tmp_path)
    assert "PARTIAL REPORT" in page
    assert all("PARTIAL" in figure.get_suptitle() for figure in publication.figures.values())
    partial = results.collect(changed, partial=True)
    assert partial.chains is not None
    assert float(partial.chains.chains.sum()) == 46
    assert np.isfinite(partial.theory.loss.values).sum() == 5 * 3
    [last] = [cell for cell in partial.cells if (cell.n_train, cell.width) == (60, 10)]
    assert last.draws == 1


def test_missing_populations_are_masked(changed: Run) -> None:
    [gone] = [shard for shard in changed.plan.of_phase("adaptive") if shard.id == "w10-n60-d1"]
    changed.receipt(gone).unlink()
    with pytest.raises(RunError, match="1 of 12 adaptive shards missing"):
        results.collect(changed)
    partial = results.collect(changed, partial=True)
    assert [(cell.n_train, cell.width) for cell in partial.cells if not cell.is_adaptive] == [(60, 10)]
    assert partial.chi_square is not None
    assert (partial.chi_square.cells, partial.chi_square.adaptive_cells) == (6, 5)


@pytest.mark.parametrize("phases", [("theory", "chains"), ("theory",), ("chains",), ("adaptive",)])
def test_whatever_is_there_is_reported(changed: Run, tmp_path: Path, phases: tuple[str, ...]) -> None:
    for phase in phases:
        for shard in changed.plan.of_phase(phase):
            changed.receipt(shard).unlink()
    publication, page = composed(changed, tmp_path)
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
    _, text = composed(target, tmp_path)
    found = results.collect(target)
    assert (found.chains is not None) == fill
    assert ("no networks were sampled" in words.claim(found)) == (not fill)
    assert bool(found.exact_fits) == fill
    assert not found.sampled_fits
    assert ("<h2>Chains</h2>" in text) == fill
    assert ("adaptive kernel" in text) == fill
    assert len(found.sampled_cells) == (2 if fill else 0)

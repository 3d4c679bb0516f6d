"""A posterior against its theories: numbers recomputed from the store, and those with known answers."""

import dataclasses
import json
import math
import re
from typing import Any

import numpy as np
import pytest
import xarray
from scipy import stats

from analysis.posterior import comparison, coverage, exponents, losses
from analysis.posterior.chi_square import chi_squares
from analysis.posterior.claim import claim
from analysis.posterior.distribution import intervals
from analysis.posterior.order_parameter import sign_rule
from analysis.posterior.results import PosteriorResults
from analysis.posterior.text import per_cent
from analysis.report.numbers import pm
from ntkhpc import convergence
from ntkhpc.engine.run import Run


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


def test_coverage_is_a_count_of_the_store(posterior_results: PosteriorResults, posterior: Run) -> None:
    """Samples of half of theory's standard deviation, 3 % above its mean: far more inside than promised."""
    found = xarray.open_zarr(posterior.store, chunks=None)
    law = found.theory_quantile.sel(n_train=30, theory_width=40, draw=1)
    low, high = (float(law.sel(quantile=p, method="nearest")) for p in (0.25, 0.75))
    each = found.sample_loss.sel(sampled_width=40, sampled_n_train=30, draw=1).values
    assert posterior_results.coverage is not None
    one = posterior_results.coverage.sel(law="finite width", level=0.5, width=40, n_train=30, draw=1)
    assert float(one.share) == ((each >= low) & (each <= high)).mean()
    assert intervals(posterior_results)[0].startswith("finite width: ")


def test_losses_are_those_of_the_store(posterior_results: PosteriorResults, posterior: Run) -> None:
    found = xarray.open_zarr(posterior.store, chunks=None)
    frame = losses.entries(posterior_results).set_index(["n_train", "width"])
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


def test_moments_of_single_networks_are_those_of_the_samples(
    posterior_results: PosteriorResults, posterior: Run
) -> None:
    each = xarray.open_zarr(posterior.store, chunks=None).sample_loss.values[1, 2, 0]
    assert posterior_results.chains is not None
    one = posterior_results.chains.sel(width=40, n_train=60, draw=0)
    assert float(one.sigma_L) == pytest.approx(each.std(ddof=1), rel=1e-12)
    assert float(one.eps_L) == pytest.approx(each.std(ddof=1) / each.mean(), rel=1e-12)
    assert float(one.mu_L_stderr) == convergence.mcse(each)
    assert float(one.gradients_per_ess) == pytest.approx(4 * 600 / float(one.ess), rel=1e-12)


def test_the_claim_has_the_numbers_of_its_cell(posterior_results: PosteriorResults) -> None:
    found = re.match(
        r"At P = (\d+) and N1 = (\d+) the sampled posterior has test loss (\S+) ± (\S+); the finite-width theory says "
        r"(\S+), infinite width (\S+)\. ",
        claim(posterior_results),
    )
    assert found, claim(posterior_results)
    n, width, sampled, stderr, theory, infinite = map(float, found.groups())
    apart = {(cell.n_train, cell.width): abs(math.log(cell.theory / cell.infinite)) for cell in posterior_results.cells}
    assert (n, width) == max(apart, key=lambda key: apart[key])
    [cell] = [cell for cell in posterior_results.cells if (cell.n_train, cell.width) == (n, width)]
    assert sampled == pytest.approx(cell.sampled, abs=0.51 * stderr)
    assert stderr == pytest.approx(cell.stderr, rel=0.3)
    assert theory == pytest.approx(cell.theory, rel=1e-3)
    assert infinite == pytest.approx(cell.infinite, rel=1e-3)


def cell(**changes: float) -> comparison.ComparedCell:
    values: dict[str, Any] = {
        "n_train": 10,
        "width": 5,
        "theory": 1.0,
        "infinite": 2.0,
        "mixture": 1.0,
        "adaptive": math.nan,
        "adaptive_stderr": math.nan,
        "sampled": 1.1,
        "stderr": 0.05,
        "spread": math.nan,
        "q_bar": 0.5,
        "sampled_q_bar": 0.5,
        "q_bar_stderr": 0.1,
        "s": 0.5,
        "r_hat": 1.0,
        "ess": 1000.0,
        "draws": 1,
    }
    return comparison.ComparedCell(**(values | changes))


@pytest.mark.parametrize(
    ("sampled", "stderr", "closer"),
    [(1.1, 0.05, "finite"), (1.9, 0.05, "infinite"), (1.45, 0.05, ""), (1.1, 0.5, ""), (math.nan, math.nan, "")],
)
def test_the_closer_theory_is_named_only_where_errors_allow(sampled: float, stderr: float, closer: str) -> None:
    assert cell(sampled=sampled, stderr=stderr).closer == closer
    mirrored = cell(sampled=3 - sampled, stderr=stderr, theory=2.0, infinite=1.0)
    assert mirrored.closer == closer


def with_cells(found: PosteriorResults, *cells: comparison.ComparedCell) -> PosteriorResults:
    """Results in which these cells are all that there is."""
    changed = dataclasses.replace(found)
    vars(changed)["cells"] = cells
    return changed


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


def test_the_adaptive_kernel_is_that_of_the_store(posterior_results: PosteriorResults, posterior: Run) -> None:
    found = xarray.open_zarr(posterior.store, chunks=None)
    each = found.adaptive_loss.sel(sampled_width=10, sampled_n_train=30).values
    mean, stderr = each.mean(), math.sqrt((each.var(axis=1, ddof=1) / 3).sum()) / 2
    row = losses.entries(posterior_results).set_index(["n_train", "width"]).loc[(30, 10)]
    assert row.adaptive == pytest.approx(mean, rel=1e-12)
    assert row.adaptive_stderr == pytest.approx(stderr, rel=1e-12)
    assert row.adaptive_deviation == pytest.approx(row.sampled / mean - 1)
    assert row.adaptive_pull == pytest.approx((row.sampled - mean) / math.hypot(row.sampled_stderr, stderr))
    fits = json.loads((posterior.path / "analysis" / "fits.json").read_text())
    [one] = [one for one in fits["adaptive_kernel"] if (one["n_train"], one["width"]) == (30, 10)]
    assert (one["loss"], one["stderr"]) == (pytest.approx(mean), pytest.approx(stderr))
    assert fits["chi_square"]["adaptive_kernel_cells"] == 6
    assert fits["chi_square"]["adaptive_kernel"] < fits["chi_square"]["finite_width"]
    heading, *rows = losses.rows(posterior_results)
    [text] = [text for text in rows if text[:2] == ("30", "10")]
    told = dict(zip(heading, text, strict=True))
    assert told["adaptive kernel"] == pm(mean, stderr)
    assert told["deviation from it"] == f"{per_cent(row.adaptive_deviation)} ({row.adaptive_pull:+.1f} s.e.)"
    table = "\n".join(losses.summary(posterior_results)).split("\ntest loss")[0].splitlines()
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
def test_how_the_adaptive_kernel_fares_is_said(
    posterior_results: PosteriorResults, adaptive: tuple[float, float], said: str
) -> None:
    """Sampled: 1.1, where the saddle point says 1."""
    cells = tuple(cell(n_train=n, adaptive=a, adaptive_stderr=0.0) for n, a in zip((10, 20), adaptive, strict=True))
    found = with_cells(posterior_results, *cells)
    assert claim(found).endswith(f" The adaptive kernel is {said}")
    assert claim(found).count("adaptive") == 1
    assert ["adaptive" in text for text in chi_squares(found)] == [False, False, True]


def test_without_samples_the_adaptive_kernel_is_compared_with_the_saddle_point(
    posterior_results: PosteriorResults,
) -> None:
    alone = cell(sampled=math.nan, stderr=math.nan, adaptive=0.8, adaptive_stderr=0.01)
    found = with_cells(posterior_results, alone)
    assert claim(found).endswith("at P = 10 and N1 = 5: 0.800 ± 0.010, 20 % below.")


def test_the_sign_rule_is_told_for_every_size(posterior_results: PosteriorResults) -> None:
    said = sign_rule(posterior_results)
    assert [text.split(":")[0] for text in said] == ["P = 15", "P = 30", "P = 60"]
    for text, n in zip(said, (15, 30, 60), strict=True):
        s = float(posterior_results.theory.s.sel(n_train=n).mean())
        assert ("finite width helps" in text) == (s < 1)


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

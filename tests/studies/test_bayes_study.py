"""Studies of kind bayes: what they refuse, how they are cut, and that the store holds what the theory says."""

import math
import tomllib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.runs import ROOT, assert_every_array_is_covered_once, run_shards, store_bytes
from support.templates import check_defaults

from ntkhpc import seeds, studies
from ntkhpc.bayesian import OneLayerProblem, adaptive_kernel, loss_distribution, one_hidden_layer, posterior_covariance
from ntkhpc.bayesian.prior import output_layer
from ntkhpc.engine import failures, plan, run, store
from ntkhpc.engine.run import Run
from ntkhpc.errors import StudyError
from ntkhpc.studies.posterior import study as bayes_study
from ntkhpc.studies.posterior.study import PosteriorStudy

TINY = """
kind = "bayes"
name = "tiny-bayes"
seed = 3
[data]
source = "calorimeter"
pool = 40
test = 15
[network]
widths = [6, 20]
[posterior]
n_train = [8, 24]
draws = 2
temperature = 0.05
precisions = [0.7, 2.0]
[scan]
temperatures = [0.01, 0.5]
readout_factors = [0.5, 1.0, 4.0]
[sampling]
chains = 3
shard_chains = 2
warmup = 40
draws = 20
tile = 10
widths = [20]
n_train = [8]
[adaptive]
populations = 3
neurons = 60
updates = 20
"""


def tiny(*changes: tuple[str, str]) -> PosteriorStudy:
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return studies.loads(text).of_kind(PosteriorStudy)


@pytest.fixture(scope="module")
def theory(tmp_path_factory: pytest.TempPathFactory) -> Run:
    target = run.create(tmp_path_factory.mktemp("bayes"), tiny())
    done = run_shards(target, [one.id for phase in ("data", "theory") for one in target.plan.of_phase(phase)])
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "bayes"', 'kind = "bayse"', "did you mean 'bayes'"),
        ("chains = 3", "chains = 1", "at least 2, or 0"),
        ("populations = 3", "populations = 1", "at least 2, or 0"),
        ("updates = 20", "updates = 5", "adaptive.updates"),
        ("draws = 20", "draws = 25", "multiple of tile"),
        ("draws = 20\ntile = 10", "draws = 4\ntile = 4", "sampling.draws"),
        ("temperatures = [0.01, 0.5]", "temperatures = [inf]", "not a finite number"),
        ("widths = [20]", "widths = [21]", "none of"),
        ("n_train = [8]", "n_train = [9]", "none of"),
        ("n_train = [8, 24]", "n_train = [8, 41]", "data.pool has 40"),
        ("temperature = 0.05", "temperature = 0.0", "posterior.temperature"),
        ("precisions = [0.7, 2.0]", "precisions = [1.0]", "posterior.precisions"),
        ("readout_factors = [0.5, 1.0, 4.0]", "readout_factors = [4.0, 1.0]", "strictly increasing"),
        ("[posterior]", "[posteriori]", "did you mean 'posterior'"),
        (
            'source = "calorimeter"\npool = 40\ntest = 15',
            'source = "mnist"\npool = 40\ntest = 15',
            "10 outputs; studies of kind bayes have one",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(old: str, new: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        tiny((old, new))
    assert said in str(caught.value)


@pytest.mark.promise("jobs/template-bayes.toml has every field of a Bayesian study, with its default.")
def test_the_template_explains_every_field_with_its_default() -> None:
    text = (ROOT / "jobs" / "template-bayes.toml").read_text()
    table = tomllib.loads(text)
    sections = {
        "network": bayes_study.PosteriorNetwork,
        "posterior": bayes_study.PosteriorSettings,
        "scan": bayes_study.Scan,
        "sampling": bayes_study.Sampling,
        "adaptive": bayes_study.AdaptiveKernel,
    }
    for name, section in sections.items():
        check_defaults(section, table[name], {})
    assert set(table) == set(PosteriorStudy.__struct_fields__) - {"facts"}
    assert all("#" in line for line in text.splitlines() if " = " in line)


@pytest.mark.promise("Every value of a Bayesian study's store belongs to exactly one shard, in whole chunks.")
@pytest.mark.parametrize("chains", [2, 3, 5])
def test_shards_cover_every_array_exactly_once_in_whole_chunks(chains: int) -> None:
    wanted = tiny(("chains = 3", f"chains = {chains}"))
    planned = plan.make(wanted)
    assert {shard.phase for shard in planned.shards} == {"data", "theory", "adaptive", "chains", "analysis"}
    assert_every_array_is_covered_once(wanted)


def test_without_chains_or_scans_there_are_no_such_arrays_or_shards() -> None:
    wanted = tiny(
        ("chains = 3", "chains = 0"),
        ("populations = 3", "populations = 0"),
        ("temperatures = [0.01, 0.5]", ""),
        ("readout_factors = [0.5, 1.0, 4.0]", ""),
    )
    assert {shard.phase for shard in plan.make(wanted).shards} == {"data", "theory", "analysis"}
    names = {array.name for array in studies.layout(wanted).arrays()}
    assert not any(name.startswith(("sample_", "chain_", "adaptive_", "temperature_", "readout_")) for name in names)


@pytest.mark.promise("The stored theory of a Bayesian study is that of the library's functions.")
def test_stored_theory_is_that_of_the_functions(theory: Run) -> None:
    kept = store.load(theory.store, *(a.name for phase in ("data", "theory") for a in theory.layout.arrays(phase)))
    wanted = theory.study.of_kind(PosteriorStudy)
    for (d, (i, n)), (j, width) in product(
        product(range(2), enumerate(wanted.posterior.n_train)), enumerate(wanted.theory_widths)
    ):
        chosen = kept["permutation"][d, :n]
        data = (kept["x_train"][chosen], kept["y_train"][chosen], kept["x_test"], kept["y_test"])
        same = {"temperature": 0.05, "activation": "erf", "precisions": (0.7, 2.0)}
        found = one_hidden_layer(*data, width, **same)
        np.testing.assert_allclose(kept["theory_q_bar"][d, i, j], found.q_bar, rtol=1e-10)
        np.testing.assert_allclose(kept["theory_mean"][d, i, j], found.mean, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(kept["theory_point_variance"][d, i, j], found.point_variance, rtol=1e-8)
        np.testing.assert_allclose(kept["theory_bias"][d, i, j] + kept["theory_variance"][d, i, j], found.test_loss)
        for k, temperature in enumerate(wanted.scan.temperatures):
            other = one_hidden_layer(*data, width, **{**same, "temperature": temperature})
            np.testing.assert_allclose(kept["temperature_bias"][d, i, k, j], other.bias, rtol=1e-8)
            np.testing.assert_allclose(kept["temperature_q_bar"][d, i, k, j], other.q_bar, rtol=1e-10)
        for k, factor in enumerate(wanted.scan.readout_factors):
            other = one_hidden_layer(*data, width, **{**same, "precisions": (0.7, 2.0 * factor)})
            np.testing.assert_allclose(kept["readout_variance"][d, i, k, j], other.variance, rtol=1e-8)
        # L has mean bias + variance, and its quantiles are in order around it.
        quantiles = kept["theory_quantile"][d, i, j]
        assert (np.diff(quantiles) > 0).all()
        assert quantiles[0] < found.test_loss < quantiles[-1]
        assert kept["theory_size_variance"][d, i, j, -1] == pytest.approx(kept["theory_sigma2"][d, i, j], rel=1e-10)
    # Infinitely wide networks do not know the width: saddle and mixture are the same.
    np.testing.assert_allclose(kept["theory_bias"][..., -1], kept["mixture_bias"][..., -1], rtol=1e-10)
    np.testing.assert_allclose(kept["theory_variance"][..., -1], kept["mixture_variance"][..., -1], rtol=1e-10)


@pytest.mark.promise("An adaptive kernel that was killed and resumed agrees with the library's function to 5 digits.")
def test_the_adaptive_kernel_killed_at_any_population_has_the_bits_of_the_function(theory: Run, tmp_path: Path) -> None:
    shards = ["data-0", *(one.id for one in theory.plan.of_phase("adaptive"))]
    assert shards == ["data-0", "w20-n8-d0", "w20-n8-d1"]
    target = run.create(tmp_path, theory.study)
    for failpoint in ("tile-saved:1", "tile-saved:3"):
        assert run_shards(target, shards, failpoint=failpoint).returncode != 0
    done = run_shards(target, shards)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiles from an earlier attempt" in done.stdout
    kept = store.load(
        target.store, "x_train", "y_train", "x_test", "y_test", "permutation",
        "adaptive_loss", "adaptive_mean", "adaptive_point_variance",
    )  # fmt: skip
    for draw in range(2):
        chosen = kept["permutation"][draw, :8]
        data = (kept["x_train"][chosen], kept["y_train"][chosen], kept["x_test"], kept["y_test"])
        found = adaptive_kernel(
            *data, 20, temperature=0.05, activation="erf", precisions=(0.7, 2.0),
            populations=3, neurons=60, updates=20, seed=seeds.cell_seed(3, 20, 8, draw),
        )  # fmt: skip
        cell = (0, 0, draw)
        np.testing.assert_allclose(kept["adaptive_loss"][cell], found.losses, rtol=1e-6)
        np.testing.assert_allclose(kept["adaptive_mean"][cell].mean(axis=0), found.mean, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(kept["adaptive_point_variance"][cell].mean(axis=0), found.point_variance, rtol=1e-5)


@pytest.mark.promise("The trained ensemble beside a posterior has the same prior, checked against kernels written out.")
def test_the_ensemble_beside_it_is_the_trained_law_of_the_same_prior(theory: Run) -> None:
    """From the kernels of f = v.erf(W x/sqrt(lam_0 d))/sqrt(lam_1 N), W, v ~ N(0, 1), written out for erf."""
    kept = store.load(theory.store, "x_train", "y_train", "x_test", "y_test", "permutation", "ntk_bias", "ntk_variance")
    chosen = kept["permutation"][1, :24]
    x, y = np.concatenate([kept["x_train"][chosen], kept["x_test"]]), kept["y_train"][chosen]
    c = x @ x.T / (0.7 * x.shape[1])
    d = 1 + 2 * np.diag(c)
    nngp = 2 / np.pi * np.arcsin(2 * c / np.sqrt(np.outer(d, d))) / 2.0
    ntk = nngp + c * 4 / np.pi / np.sqrt(np.outer(d, d) - 4 * c**2) / 2.0
    weights = np.linalg.solve(ntk[:24, :24], ntk[:24, 24:]).T
    mean = weights @ y
    across = weights @ nngp[:24, 24:]
    covariance = nngp[24:, 24:] - across - across.T + weights @ nngp[:24, :24] @ weights.T
    assert kept["ntk_bias"][1, 1] == pytest.approx(float(((mean - kept["y_test"]) ** 2).mean()), rel=1e-6)
    assert kept["ntk_variance"][1, 1] == pytest.approx(float(np.diag(covariance).mean()), rel=1e-6)


@pytest.mark.parametrize("width", [6, math.inf])
def test_the_loss_distribution_is_that_of_gaussian_outputs(width: float) -> None:
    """20,000 draws of f: mean and deviation within 4 standard errors; false alarm below 2e-4."""
    rng = np.random.default_rng(2)
    x_train, x_test = rng.normal(size=(12, 5)), rng.normal(size=(7, 5))
    y_train, y_test = np.sin(x_train[:, :1]), np.sin(x_test[:, :1])
    problem = OneLayerProblem.make(x_train, y_train, x_test, y_test, activation="erf", precisions=(0.7, 1.3))
    found = problem.solve(width, 0.1)
    test_kernel = output_layer(x_test, x_test[:1], "erf", (0.7, 1.3)).train
    covariance = posterior_covariance(problem, test_kernel, found.q_bar, 0.1)
    np.testing.assert_allclose(np.diag(covariance), found.point_variance, rtol=1e-10)
    law = loss_distribution(found.mean, covariance, y_test, probabilities=np.array([0.1, 0.5, 0.9]))
    assert law.mu_L == pytest.approx(found.test_loss, rel=1e-12)
    f = rng.multivariate_normal(found.mean, covariance, size=20_000)
    losses = ((f - y_test[:, 0]) ** 2).mean(axis=1)
    deviation = losses.std(ddof=1)
    assert abs(losses.mean() - law.mu_L) < 4 * deviation / math.sqrt(20_000)
    fourth = ((losses - losses.mean()) ** 4).mean()
    assert abs(deviation**2 - law.sigma2_L) < 4 * math.sqrt((fourth - deviation**4) / 20_000)
    below = [(losses < q).mean() for q in law.quantiles]
    assert np.abs(np.array(below) - [0.1, 0.5, 0.9]).max() < 4 * 0.5 / math.sqrt(20_000)


@pytest.mark.promise("Markov chains that were killed between tiles and resumed store the bytes of uninterrupted ones.")
def test_chains_killed_at_any_tile_end_with_the_same_bits(theory: Run, tmp_path: Path) -> None:
    """Killed after its warm-up and after its last tile; and its samples are those of the sampler, near the theory."""
    shards = [one.id for phase in ("data", "theory", "chains") for one in theory.plan.of_phase(phase)]
    whole = run.create(tmp_path / "whole", theory.study)
    done = run_shards(whole, shards)
    assert done.returncode == 0, done.stdout + done.stderr
    killed = run.create(tmp_path / "killed", theory.study)
    for failpoint in ("tile-saved:1", "tile-saved:2", "tile-saved:4"):
        assert run_shards(killed, shards, failpoint=failpoint).returncode != 0
    again = run_shards(killed, shards)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "tiles from an earlier attempt" in again.stdout
    assert store_bytes(killed) == store_bytes(whole)
    kept = store.load(
        whole.store, "sample_loss", "sample_expected_loss", "sample_q_bar", "chain_mean", "chain_divergences"
    )
    assert all(np.isfinite(values).all() for values in kept.values())
    assert not kept["chain_divergences"].any()
    # No two chains, draws of the training set or samples are the same.
    assert len(np.unique(kept["sample_loss"])) == kept["sample_loss"].size


def test_a_chain_that_explodes_fails_its_shard_with_the_cause(tmp_path: Path) -> None:
    wild = tiny(("[sampling]", '[sampling]\nsampler = "langevin"\nthin = 20\nlearning_rate = 1e3'))
    target = run.create(tmp_path, wild)
    assert run_shards(target, ["data-0"]).returncode == 0
    shard = target.plan.of_phase("chains")[0].id
    failed = run_shards(target, [shard])
    assert failed.returncode != 0
    assert "left the finite numbers" in failed.stderr
    assert f"where: shard {shard}" in failed.stderr
    assert "learning_rate = 1000.0" in failed.stderr
    assert target.finished("chains") == set()
    (record,) = failures.open_records(target)
    assert record["kind"] == "bug"  # it would fail again, so nothing tries it again by itself


def test_one_run_directory_for_each_kind(tmp_path: Path) -> None:
    assert tiny().id != tiny(("seed = 3", "seed = 4")).id
    assert studies.loads(studies.dumps(tiny()).decode()) == tiny()

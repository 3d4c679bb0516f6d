"""Exact curves with a ridge, and of the NNGP posterior: closed forms, by every method; and what a report says."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.runs import made_once, run_shards, tiny_text

from analysis import report
from ntkhpc import kernels, networks, studies
from ntkhpc.engine import run, store
from ntkhpc.engine.run import Run
from ntkhpc.errors import StudyError
from ntkhpc.studies.ensemble.study import EnsembleStudy

RIDGE, NOISE = 0.3, 0.05
SIZES = (10, 24, 38)
MOMENTS = ("curve_mu", "curve_sigma2", "curve_population_variance", "curve_bias2", "curve_variance")


def text(times: str = '["infinite", "posterior"]', noise: float = NOISE, ridge: float = RIDGE, more: str = "") -> str:
    section = f"[infinite_width]\nn_train = {list(SIZES)}\ntimes = {times}\ndraws = 2\nridge = {ridge}\n"
    section += f"noise = {noise}\n" if noise else ""
    return tiny_text(redraws=0).replace("[infinite_width]\n", section + more)


def computed(runs: Path, wanted: str) -> Run:
    """A run with its curve."""
    target = run.create(runs, studies.loads(wanted))
    for phase in (*target.layout.closure("curve"), "curve"):
        done = run_shards(target, [shard.id for shard in target.plan.of_phase(phase)])
        assert done.returncode == 0, done.stdout + done.stderr
    return target


def loaded(target: Run, *names: str) -> dict[str, np.ndarray]:
    return {name: np.asarray(store.load(target.store, name)[name]) for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_once(tmp_path_factory, "ridge-and-posterior", lambda folder: computed(folder, text()))


@pytest.mark.promise("A curve with a ridge, and that of the NNGP posterior, are their closed forms to 1e-10.")
def test_curves_are_the_closed_forms(whole: Run) -> None:
    """By inverses, and moments of quadratic forms of Gaussian variables."""
    split = loaded(whole, "x_train", "y_train", "x_test", "y_test", "permutation")
    found = loaded(whole, "curve_mu", "curve_sigma2", "curve_bias2", "curve_variance")
    network = whole.study.of_kind(EnsembleStudy).network
    mlp = networks.MLP(network.depth, network.activation, network.weight_variance, network.bias_variance)
    points = len(split["x_test"])
    for draw, order in enumerate(split["permutation"][:2]):
        for i, n in enumerate(SIZES):
            rows = order[:n]
            nngp, ntk = kernels.nngp_ntk(mlp, np.concatenate([split["x_train"][rows], split["x_test"]]))
            across = nngp[n:, :n]
            for time, (kernel, added) in enumerate(((ntk, RIDGE), (nngp, NOISE))):
                a = kernel[n:, :n] @ np.linalg.inv(kernel[:n, :n] + added * np.eye(n))
                sigma = nngp[n:, n:] - a @ across.T
                if time == 0:
                    sigma = sigma - across @ a.T + a @ nngp[:n, :n] @ a.T
                d = (a @ split["y_train"][rows] - split["y_test"])[:, 0]
                bias2, variance = d @ d / (2 * points), np.trace(sigma) / (2 * points)
                sigma2 = 2 * (np.vdot(sigma, sigma) + 2 * d @ sigma @ d) / (2 * points) ** 2
                got = [found[name][draw, time, i] for name in found]
                np.testing.assert_allclose(got, (bias2 + variance, sigma2, bias2, variance), rtol=1e-10)


@pytest.mark.parametrize(
    ("more", "tolerance"), [("tile = 16\n", 1e-10), ('tile = 16\nfactor_precision = "float32"\n', 1e-8)]
)
def test_a_ridge_by_tiles_is_that_of_whole_matrices(more: str, tolerance: float, whole: Run, runs: Path) -> None:
    tiled = computed(runs, text(times='["infinite"]', noise=0.0, more=more))
    assert "factor" in tiled.plan.phases
    expected = loaded(whole, *MOMENTS)
    for name, values in loaded(tiled, *MOMENTS).items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(values[:, 0], expected[name][:, 0], rtol=0, atol=tolerance * scale, err_msg=name)


def test_both_are_iterated_within_their_errors(whole: Run, runs: Path) -> None:
    """Of 15 test points each is solved for: residuals are the only error, which is bounded whatever the seed."""
    more = 'method = "iterative"\ntolerance = 1e-9\n'
    iterated, expected = computed(runs, text(more=more)), loaded(whole, *MOMENTS)
    for name, values in loaded(iterated, *MOMENTS).items():
        errors = loaded(iterated, f"{name}_error")[f"{name}_error"]
        assert errors.shape == (*values.shape, 2)
        assert (np.abs(values - expected[name]) <= errors[..., 1] + 1e-12 * np.abs(expected[name]).max()).all(), name
        assert (errors[..., 1] < 1e-4 * np.abs(expected[name]).max()).all(), name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"more": "tile = 16\n"}, r"posterior.*38 points are more than infinite_width.tile = 16.*iterative"),
        ({"times": '["infinite"]'}, r"noise = 0.05 is that of the time 'posterior'"),
        ({"times": '["posterior"]'}, r"ridge = 0.3 is that of the time 'infinite'"),
        ({"ridge": -0.1}, "ridge"),
        ({"times": '["steps", "posterior"]', "ridge": 0.0, "more": 'method = "iterative"\n'}, "eigendecomposition"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        studies.loads(text(**changes))  # type: ignore[arg-type]


def test_a_report_names_the_ridge_and_the_posterior(whole: Run, tmp_path: Path) -> None:
    target = Run(shutil.copytree(whole.path, tmp_path / whole.path.name))
    for phase in ("ensemble", "law", "finalise", "recheck"):
        if shards := [shard.id for shard in target.plan.shards if shard.phase == phase]:
            assert run_shards(target, shards).returncode == 0
    report.make(target, partial=True)
    page = re.sub(r"(<[^>]*>|\s)+", " ", (target.path / "analysis" / "report.html").read_text())
    assert "at the end of training with a ridge of 0.3," in page
    assert "in the posterior of the NNGP with a noise variance of 0.05," in page
    assert "infinite, NNGP posterior" in page
    methods = " ".join(target.study.methods())
    assert "the posterior of the Gaussian process with the NNGP kernel and noise of variance 0.05" in methods
    assert "the penalty 0.3 |theta - theta_0|^2/(2 N_D K), a ridge of the NTK" in methods

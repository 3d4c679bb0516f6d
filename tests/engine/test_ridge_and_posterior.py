"""Exact curves with a ridge, and of the NNGP posterior: closed forms, by every method; and what a report says."""

import random
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from support.runs import made_once, run_shards, tiny_text

from analysis import report
from analysis.ensemble import _refined
from analysis.ensemble.results import collect
from analysis.infinite import REFINEMENT
from ntkhpc import kernels, networks, studies
from ntkhpc.engine import arrays, plan, receipts, run, store, verify
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


def computed(runs: Path, wanted: str, *phases: str) -> Run:
    """A run with its curve, or with these phases alone."""
    target = run.create(runs, studies.loads(wanted))
    phases = phases or (*target.layout.closure("curve"), "curve")
    done = run_shards(target, [shard.id for phase in phases for shard in target.plan.of_phase(phase)])
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


TILED = "tile = 16\n"
PHASES = ("kernel", "factor", "nngp_factor", "curve")


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_once(tmp_path_factory, "posterior-by-tiles", lambda folder: computed(folder, text(more=TILED)))


@pytest.fixture
def copy(tiled: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(tiled.path, tmp_path / tiled.path.name))


def assert_same_curve(found: Run, expected: Run, tolerance: float) -> None:
    arrays_of = [array.name for array in expected.layout.arrays("curve")]
    wanted = loaded(expected, *arrays_of)
    for name, values in loaded(found, *arrays_of).items():
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(values, wanted[name], rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.promise("A posterior beyond one tile has the numbers of whole matrices to 1e-10, beside other times.")
def test_a_posterior_by_tiles_is_that_of_whole_matrices(tiled: Run, whole: Run) -> None:
    assert tiled.plan.phases[2:7] == ("law", *PHASES)
    assert_same_curve(tiled, whole, 1e-10)
    assert list(verify.problems(tiled)) == []
    room = tiled.path / arrays.SCRATCH
    chunks = list(room.glob("*/c.*"))
    assert plan.scratch(tiled.layout)[1] == sum(path.stat().st_size for path in chunks)
    assert len(chunks) == 4 * 2 * 9


def test_a_posterior_by_a_factor_in_float32_is_refined_to_that_in_float64(whole: Run, runs: Path) -> None:
    single = computed(runs, text(more=TILED + 'factor_precision = "float32"\n'))
    factor = loaded(single, "nngp_factor", "x_train", "permutation")
    assert factor["nngp_factor"].dtype == np.float32
    assert_same_curve(single, whole, 1e-8)
    found = loaded(single, *REFINEMENT["NTK"], *REFINEMENT["NNGP kernel"])
    network = single.study.of_kind(EnsembleStudy).network
    mlp = networks.MLP(network.depth, network.activation, network.weight_variance, network.bias_variance)
    for draw, order in enumerate(factor["permutation"][:2]):
        nngp = kernels.nngp_ntk(mlp, factor["x_train"][order[: SIZES[-1]]])[0] + NOISE * np.eye(SIZES[-1])
        exact = np.array([np.linalg.cond(nngp[:n, :n]) for n in SIZES])
        ratio = found["curve_posterior_condition"][draw] / exact
        assert ((ratio > 0.1) & (ratio < 2)).all()  # of few test points
    assert ((found["curve_posterior_sweeps"] >= 1) & (found["curve_posterior_sweeps"] <= 5)).all()
    told = " ".join(_refined(collect(single, partial=True)))
    assert "the factor of the NTK in float32" in told
    assert "the factor of the NNGP kernel in float32" in told
    assert "factor of the NTK and NNGP kernel is in float32" in " ".join(single.study.methods())


def test_a_posterior_alone_and_beside_finite_times_takes_no_factor_of_the_ntk(runs: Path) -> None:
    curves = []
    for more in (TILED, ""):
        target = computed(runs, text(times='["posterior", "steps"]', ridge=0.0, more=more))
        assert "factor" not in target.plan.phases
        curves.append(target)
    assert "nngp_factor" in curves[0].plan.phases
    assert_same_curve(curves[0], curves[1], 1e-10)
    alone = studies.layout(studies.loads(text(times='["posterior"]', ridge=0.0, more=TILED)))
    assert {"nngp_factor", "factor"} & set(alone.phases) == {"nngp_factor"}
    other = studies.layout(studies.loads(text(times='["infinite"]', noise=0.0, more=TILED)))
    assert {"nngp_factor", "factor"} & set(other.phases) == {"factor"}


@pytest.mark.promise("Workers killed at seeded moments of the posterior's factor, and run again, change no stored bit.")
def test_kills_in_the_factor_of_the_posterior_change_no_bit(tiled: Run, copy: Run) -> None:
    expected = files_of(tiled)
    for phase in ("nngp_factor", "curve"):
        shutil.rmtree(copy.path / "receipts" / phase)
    for chunk in arrays.folder(copy.store, "nngp_factor").glob("c.*"):
        chunk.unlink()
    moments = random.Random("nngp_factor")
    stages = ("claimed", "shard-computed", "chunk-written", "values-compared", "receipt-published")
    killed = 0
    for stage in moments.sample(stages, 4):
        failpoint = f"{stage}:{moments.randint(1, 2)}"
        missing = [shard.id for shard in copy.missing("nngp_factor")]
        killed += run_shards(copy, missing, failpoint=failpoint).returncode == -signal.SIGKILL
    assert killed
    left = [shard.id for phase in ("nngp_factor", "curve") for shard in copy.missing(phase)]
    assert run_shards(copy, left).returncode == 0
    assert files_of(copy) == expected
    assert list(verify.problems(copy)) == []


def files_of(target: Run) -> dict[str, bytes]:
    """Every chunk that the tiled phases write."""
    names = [array.name for phase in PHASES for array in target.layout.arrays(phase)]
    found = [path for name in names for path in arrays.folder(target.store, name).iterdir()]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


LONGER = str(list(SIZES)), str([10, 24, 38, 40])


@pytest.mark.promise(
    "A posterior that is extended takes the tiles of its factor from a run of the same noise, and has the bits of one "
    "from nothing."
)
def test_an_extended_posterior_takes_the_tiles_of_the_same_noise(tiled: Run, runs: Path, tmp_path: Path) -> None:
    """Of 3 blocks of 16 rows two are whole, and with that of the test points have 5 tiles; a ridge of another kernel
    decides none of them."""
    shutil.copytree(tiled.path, runs / tiled.path.name)
    longer = text(more=TILED).replace(*LONGER)
    nothing = computed(tmp_path / "nothing", longer)
    for given, factors in ((longer, (10, 10)), (longer.replace("ridge = 0.3", "ridge = 0.4"), (0, 18)),
                           (longer.replace("noise = 0.05", "noise = 0.06"), (18, 0))):  # fmt: skip
        extended = computed(runs, given, "data", *(PHASES if given == longer else PHASES[:-1]))
        assert tuple(taken(extended, phase) for phase in ("factor", "nngp_factor")) == factors
        if given == longer:
            assert files_of(extended) == files_of(nothing)
    assert [taken(nothing, phase) for phase in PHASES] == [0] * 4


def taken(target: Run, phase: str) -> int:
    """How many tiles a phase took from other runs."""
    found = [receipts.read(target, shard) for shard in target.plan.of_phase(phase)]
    return len([name for one in found if one for names in one.taken.values() for name in names if name])


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
        ({"times": '["infinite"]'}, r"noise = 0.05 is that of the time 'posterior'"),
        ({"times": '["posterior"]'}, r"ridge = 0.3 is that of the time 'infinite'"),
        ({"ridge": -0.1}, "ridge"),
        ({"times": '["steps", "posterior"]', "ridge": 0.0, "more": 'method = "iterative"\n'}, "eigendecomposition"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        studies.loads(text(**changes))  # type: ignore[arg-type]  # of a dict


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

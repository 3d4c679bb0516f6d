"""Studies of outputs over gamma, of the mu-parametrisation and of centred networks, from the plan to the report."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from support.pages import dangling
from support.runs import assert_every_array_is_covered_once, run_shards, store_bytes, tiny_text

from analysis.ensemble import fixed_gamma, members, oscillating, reference, results
from analysis.ensemble.drawing import widths
from ntkhpc import infinite_width, kernels, loss_law, studies, training
from ntkhpc.engine import plan, run, store
from ntkhpc.engine.run import Run
from ntkhpc.networks import MLP
from ntkhpc.output_scale import OutputScale, mean_field
from ntkhpc.studies.dims import CELL, PROBABILITIES
from ntkhpc.studies.ensemble import exact, standing, train
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import EnsembleStudy

MUP = 'parametrisation = "mup"\ngamma0 = 2.0'
CENTRED = "centred = true"
SIZES = (8, 12)


def text(network: str, training: str = "", *, infinite: str = "", widths: str = "[4, 9]") -> str:
    found = tiny_text(widths=widths, members=10, shard_members=10, redraws=2, predictions="false")
    found = found.replace(f"widths = {widths}", f"widths = {widths}\n{network}")
    found = found.replace("[training.steps]", f"[training]\n{training}\n[training.steps]")
    return found.replace("[infinite_width]", f"[infinite_width]\n{infinite}")


def study(network: str, training: str = "", **changes: str) -> EnsembleStudy:
    return studies.loads(text(network, training, **changes)).of_kind(EnsembleStudy)


def made(runs: Path, wanted: EnsembleStudy, *phases: str) -> Run:
    """A run with shards of these phases done, or of all."""
    target = run.create(runs, wanted)
    done = run_shards(target, [shard.id for shard in target.plan.shards if not phases or shard.phase in phases])
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def mup(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("mup"), study(MUP))


@pytest.fixture(scope="module")
def centred(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("centred"), study(CENTRED))


def given(target: Run, n: int) -> tuple[Any, ...]:
    stored = store.load(target.store, "permutation", "x_train", "y_train", "x_test", "y_test")
    chosen = stored["permutation"][0, :n]
    return stored["x_train"][chosen], stored["y_train"][chosen], stored["x_test"], stored["y_test"]


@pytest.mark.promise(
    "In the mu-parametrisation each width has the law of its own gamma, with its moments and quantiles."
)
def test_each_width_has_the_law_of_its_own_gamma(mup: Run) -> None:
    found = store.load(mup.store, *(array.name for array in mup.layout.arrays() if array.name.startswith("law_")))
    for at, n in enumerate(SIZES):
        x, y, x_test, y_test = given(mup, n)
        for place, width in enumerate((4, 9)):
            # gamma0 = 2 halves the fraction of the bound.
            law = infinite_width.trained_law(
                MLP(1, "relu"), x, y, x_test, time=n, learning_rate_fraction=0.25, output_scale=mean_field(2.0, width)
            )
            plain = infinite_width.trained_law(MLP(1, "relu"), x, y, x_test, time=n, learning_rate_fraction=0.25)
            np.testing.assert_allclose(found["law_mean"][0, at], plain[0], rtol=1e-9)
            np.testing.assert_allclose(found["law_variance"][place, 0, at], np.diag(plain[1]) / (4 * width), rtol=1e-9)
            cumulants = loss_law.loss_moments(*law, y_test)
            np.testing.assert_allclose(found["law_cumulant"][place, 0, at], cumulants, rtol=1e-9)
            quantiles = loss_law.quantiles(*law, y_test, np.array(PROBABILITIES))
            np.testing.assert_allclose(found["law_quantile"][place, 0, at], quantiles, rtol=1e-9)


@pytest.mark.promise("A study in the mu-parametrisation is reported beside the lazy law of each width, as a reference.")
def test_the_report_of_the_mu_parametrisation_has_the_lazy_law_as_a_reference(mup: Run) -> None:
    found = results.collect(mup)
    page = (mup.path / "analysis" / "report.html").read_text()
    assert "Beside the law at fixed gamma" in page
    assert "lazy law" in page
    assert "reference and no limit" in page
    assert "Does finite width differ from infinite width?" not in page
    assert "arXiv:2011.14522" in page
    assert not any((found.has_law, found.has_curve, found.has_redraws))
    assert set(mup.layout.phases) == {"data", "ensemble", "law", "finalise", "recheck", "analysis"}
    assert dangling(page) == []
    dominant, skewness = found.dominant, found.reference.skewness
    for row in dominant.itertuples():
        own = skewness.sel(width=row.width, draw=row.draw, n_train=row.n_train)
        assert row.skewness == pytest.approx(float(own))
    assert len(set(dominant.width)) == 2
    assert "skewness of the lazy law beside the networks, at the gamma of each width" in members.tables(found)[0].note
    said = fixed_gamma.caption(found)
    assert "Thin solid lines, in the colours of the widths: the lazy law" in said
    assert "no spread" not in said
    figure = fixed_gamma.against_fixed_gamma(found)
    for axis in figure.axes:
        drawn = {line.get_label(): line.get_color() for line in axis.lines if "lazy" in str(line.get_label())}
        assert drawn == {f"lazy law, {width}": look.color for width, look in widths(found)}
    exact_mu = reference.reference(found).mu_L
    assert exact_mu.dims == ("width", "n_train")
    rows = reference.rows(found, "lazy law")
    assert [row[0] for row in rows] == ["network", "width 4", "lazy law, 4", "width 9", "lazy law, 9"]
    fits = json.loads((mup.path / "analysis" / "fits.json").read_text())
    assert fits["law"] == "the lazy law beside each width"


@pytest.mark.promise("A study of centred networks is reported, and says that at infinite width they have no spread.")
def test_the_report_of_centred_networks_says_that_all_are_one_at_infinite_width(centred: Run) -> None:
    found = results.collect(centred)
    page = (centred.path / "analysis" / "report.html").read_text()
    assert "at infinite width all members are one" in page
    assert "Does finite width differ from infinite width?" not in page
    assert dangling(page) == []
    assert found.skewness is None
    assert "as a normal law, as no skewness is known" in members.tables(found)[0].note
    said = fixed_gamma.caption(found)
    assert "Thin black: the law at infinite width and fixed gamma" in said
    assert "It has no spread, and no line for eps_L." in said
    labels = [
        [line.get_label() for line in axis.lines if "infinite" in str(line.get_label())]
        for axis in fixed_gamma.against_fixed_gamma(found).axes
    ]
    assert labels == [["infinite width, centred"], []]
    beside = reference.reference(found)
    assert (beside.sigma_L == 0).all()
    assert (beside.eps_L == 0).all()
    x, y, x_test, y_test = given(centred, 12)
    mean, _ = infinite_width.trained_law(MLP(1, "relu"), x, y, x_test, time=12)
    assert float(beside.mu_L[-1]) == pytest.approx(((mean - y_test) ** 2).mean() / 2, rel=1e-9)
    trained = store.load(centred.store, "test_loss_trace", "y_test")
    first = trained["test_loss_trace"][..., 0]
    np.testing.assert_allclose(first, (trained["y_test"] ** 2).mean() / 2, rtol=1e-5)
    assert reference.rows(found, "infinite width")[-1][-1] == "-"


@pytest.mark.promise("A run in the mu-parametrisation that was killed goes on to the same bits.")
def test_an_interrupted_run_ends_in_the_same_bits(mup: Run, tmp_path: Path) -> None:
    target = run.create(tmp_path, study(MUP))
    shards = [shard.id for shard in target.plan.shards if shard.phase != "analysis"]
    assert run_shards(target, shards, failpoint="tile-saved:3").returncode != 0
    assert list((target.path / "partial").rglob("*.npz"))
    done = run_shards(target, shards)
    assert done.returncode == 0, done.stdout + done.stderr
    assert store_bytes(target) == store_bytes(mup)


def test_the_second_run_trains_the_same_networks(mup: Run) -> None:
    """recheck trains in float64 what was trained in float32: outputs over the same gamma."""
    found = store.load(mup.store, "recheck_loss", "test_loss", "status")
    again = np.isfinite(found["recheck_loss"]) & (found["status"] == train.OK)
    assert again.any()
    ratio = found["recheck_loss"][again] / found["test_loss"][again]
    assert np.median(abs(ratio - 1)) < 0.01


def test_laws_and_curves_of_a_fixed_gamma_are_over_its_square(tmp_path: Path) -> None:
    target = made(tmp_path, study("gamma = 1.5", infinite='times = ["steps", "infinite"]'), "data", "law", "curve")
    found = store.load(target.store, "curve_mu", "curve_sigma2", "law_cumulant")
    for at, n in enumerate(SIZES):
        x, y, x_test, y_test = given(target, n)
        for row, time in enumerate((n, math.inf)):
            law = infinite_width.trained_law(MLP(1, "relu"), x, y, x_test, time=time)
            expected = loss_law.statistics(law[0], law[1] / 1.5**2, y_test)
            assert found["curve_mu"][0, row, at] == pytest.approx(expected.mu_L, rel=1e-8)
            assert found["curve_sigma2"][0, row, at] == pytest.approx(expected.sigma2_L, rel=1e-8)
            if not row:
                assert found["law_cumulant"][0, at, 1] == pytest.approx(expected.sigma2_L, rel=1e-8)


@pytest.mark.parametrize(
    "infinite",
    [
        'method = "iterative"\ntimes = ["infinite"]\ntolerance = 1e-10',
        'tile = 16\nn_train = [8, 20]\ntimes = ["infinite"]',
    ],
)
def test_iterated_curves_and_curves_of_tiles_are_over_gamma_too(infinite: str, tmp_path: Path) -> None:
    target = made(tmp_path, study("gamma = 1.5", infinite=infinite), "data", "kernel", "factor", "curve")
    found = store.load(target.store, "curve_mu", "curve_sigma2", "curve_population_variance", "curve_bias2")
    x, y, x_test, y_test = given(target, 8)
    law = infinite_width.trained_law(MLP(1, "relu"), x, y, x_test)
    expected = loss_law.statistics(law[0], law[1] / 1.5**2, y_test)
    for name, value in (
        ("mu", expected.mu_L), ("sigma2", expected.sigma2_L), ("population_variance", expected.population_variance),
        ("bias2", expected.bias2),
    ):  # fmt: skip
        assert found[f"curve_{name}"][0, 0, 0] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("network", ["gamma = 1.5", MUP, CENTRED, f"{MUP}\n{CENTRED}"])
def test_every_value_has_one_shard_and_the_methods_say_what_outputs_are(network: str) -> None:
    wanted = study(network)
    assert_every_array_is_covered_once(wanted)
    methods = "\n".join(wanted.methods())
    assert "gamma = " in methods
    assert "gamma^2 times" in methods
    assert "  " not in methods
    cited = {one.arxiv for one in wanted.references}
    assert "1812.07956" in cited
    assert ("2011.14522" in cited) == (MUP in network)
    assert ("2410.04642" in cited) == (MUP in network)
    assert standing.is_own(wanted) == (network == "gamma = 1.5")


def test_a_study_without_these_fields_is_what_it_was() -> None:
    """Ids of before the fields, and programs without a scale."""
    assert studies.loads(tiny_text()).id == "4b023d1b78"
    plain = study("")
    assert plain.id == study('parametrisation = "ntk"\ngamma = 1.0\ngamma0 = 1.0\ncentred = false').id
    program = train.program(plain, 4, (0, 5))
    assert program == training.Program(mlp(plain), 4, (0, 5), watched=True)
    assert len({study(one).id for one in ("", "gamma = 1.5", MUP, CENTRED, 'parametrisation = "mup"')}) == 5


def test_gamma_is_at_most_the_root_of_the_narrowest_width_and_lazy_beyond_a_part_of_it() -> None:
    assert standing.lazy_widths(study("gamma = 1.5")).startswith("At width 4 and 9 ")
    assert standing.lazy_widths(study("gamma = 1.5", widths="[4, 400]")).startswith("At width 4 ")
    assert standing.lazy_widths(study("", widths="[4, 400]")) == ""
    with pytest.raises(Exception, match=r"gamma = 2.1 is more than sqrt\(width\) = 2"):
        study("gamma = 2.1")


ADAM = 'optimiser = "adam"\nlearning_rate = 0.1'
ADAMW = 'optimiser = "adamw"\nlearning_rate = 0.1\nweight_decay = 0.1'
DENSE = "'serial(Dense(width), Relu(), Dense(outputs))'"


@pytest.mark.parametrize(
    ("network", "training", "infinite", "said"),
    [
        ("gamma0 = 2.0", "", "", "gamma0 = 2 is not that of parametrisation = 'ntk'.*give gamma"),
        ('parametrisation = "mup"\ngamma = 2.0', "", "", "gamma = 2 is not that of .*'mup'.*give gamma0"),
        ("gamma = 1e-5", "", "", "between 0.001 and 1000"),
        ("gamma = 0.0", "", "", "gamma = 0.0"),
        (f"{MUP}\narchitecture = {DENSE}", "", "", "gamma0 = 2 with an architecture"),
        ("gamma = 1.5", ADAM, "", "how its rate goes with a fixed gamma is not known"),
        ('parametrisation = "mup"', ADAMW, "", "training.weight_decay"),
        (CENTRED, "", 'times = ["steps", "posterior"]', "has 'posterior'"),
        (MUP, "", "n_train = [4, 12]", "infinite_width.n_train: there are no curves"),
        (CENTRED, "", "draws = 2", "no curves at infinite width of centred networks"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_when_it_is_read(network: str, training: str, infinite: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        study(network, training, infinite=infinite)


@pytest.mark.parametrize("network", ['parametrisation = "mup"', "centred = true"])
@pytest.mark.parametrize(
    ("training", "sizes"),
    [
        ("weight_decay = 0.01", "[4, 8]"),
        ('optimiser = "sgd"\nbatch = 4\nweight_decay = 0.01\ndecay_towards = "start"', "[4, 8]"),
        ('optimiser = "sgd"\nbatch = 4', "[4, 5000]"),
        ('weight_decay = 0.01\ndecay_towards = "start"', "[4, 5000]"),
        ("", "[4, 30000]"),
    ],
)
def test_what_curves_would_forbid_is_allowed_where_there_are_none(network: str, training: str, sizes: str) -> None:
    """With the usual [infinite_width], whose times, tile and sizes are about curves alone."""
    found = studies.loads(
        f'name = "scaled"\n[data]\nsource = "calorimeter"\npool = 60000\n[network]\nwidths = [8]\n{network}\n'
        f"[training]\n{training}\n[ensemble]\nn_train = {sizes}\nmembers = 20\n"
    ).of_kind(EnsembleStudy)
    assert not exact.has_curves(found)


def test_members_of_centred_networks_are_called_one_only_where_they_are() -> None:
    plain = study(CENTRED)
    own = study(CENTRED, 'optimiser = "sgd"\nbatch = 2\norder = "own"')
    adam = study(CENTRED, ADAM)
    shrinking = study(CENTRED, "weight_decay = 0.1")
    assert "all members are one" in standing.sentence(plain)
    assert "members that have one order of mini-batches are one" in standing.sentence(own)
    assert standing.short(own).endswith("but that of orders of mini-batches")
    for one in (adam, shrinking):
        assert "are one" not in standing.sentence(one)
        assert "the reference, which has no spread" in standing.sentence(one)


def test_what_has_no_law_of_its_own_algorithm_says_so_too() -> None:
    adam = study('parametrisation = "mup"', ADAM)
    assert train.program(adam, 4, (0, 5)).layerwise
    said = standing.sentence(adam)
    assert "No exact law for adam" in said
    assert "lazy law" in said
    assert "arXiv:2203.03466" in "\n".join(adam.methods())
    assert "2203.03466" in {one.arxiv for one in adam.references}
    shrinking = study(CENTRED, "weight_decay = 0.1")
    assert not exact.has_law(shrinking)
    assert not train.program(study(CENTRED, ADAM), 4, (0, 5)).layerwise


def test_a_law_for_each_width_costs_more() -> None:
    def seconds(network: str) -> float:
        wanted = studies.loads(text(network).replace("test = 15", "test = 500")).of_kind(EnsembleStudy)
        return sum(shard.seconds for shard in plan.make(wanted).of_phase("law"))

    assert seconds(MUP) > seconds("gamma = 1.5") == seconds("")


def stored(last_rise: np.ndarray, steps: int, status: np.ndarray | None = None, end: float = 0.1) -> xarray.Dataset:
    """A store with one cell, in which training losses go from 1 to `end`."""
    shape = (1, 1, 1, len(last_rise))
    return xarray.Dataset(
        {
            "status": ((*CELL, "member"), np.zeros(shape, int) if status is None else status.reshape(shape)),
            "last_rise": ((*CELL, "member"), last_rise.reshape(shape)),
            "n_steps": ("n_train", [steps]),
            "train_loss_trace": ((*CELL, "member", "trace_point"), np.broadcast_to([1.0, 2.0, end], (*shape, 3))),
        },
        coords={"width": [64], "n_train": [24], "draw": [0], "member": np.arange(len(last_rise))},
    )


@pytest.mark.promise(
    "Networks whose training loss goes up and down to the end without diverging are named by the report."
)
def test_networks_that_oscillate_to_the_end_are_found_and_sound_ones_are_not() -> None:
    """gamma0 = 2 at half the bound of a linear model, against the same with the rate that a study takes."""
    mlp_, rng = MLP(1, "relu"), np.random.default_rng(2)
    x, weights = rng.normal(size=(24, 5)), rng.normal(size=(5, 1))
    y = x @ weights / math.sqrt(((x @ weights) ** 2).mean())
    half = 24 / kernels.lambda_max(kernels.nngp_ntk(mlp_, x)[1])
    found = {}
    for name, gamma0, rate in (("fast", 2.0, half), ("sound", 2.0, half / 2), ("lazy", 0.25, half)):
        program = training.Program(mlp_, 64, (0, 400), watched=True, output_scale=mean_field(gamma0, 64))
        trained = training.train_tile(program, x, y, x[:2], y[:2], learning_rate=rate, seed=1, members=range(8))
        values = train.tile_values(program.trace_steps, trained, y[:2], 8)
        found[name] = oscillating.oscillating(stored(values["last_rise"], 400, values["status"]))
    assert len(found["fast"]) == 1
    assert found["fast"].oscillating[0] >= 6
    assert found["sound"].empty
    assert found["lazy"].empty


def test_an_oscillation_is_in_the_last_tenth_of_a_network_that_did_not_diverge() -> None:
    found = oscillating.oscillating(stored(np.array([0, 90, 91, 100, 95]), 100, np.array([0, 0, 0, 0, train.DIVERGED])))
    assert found.members.tolist() == ["3 2"]
    assert found.iloc[0].to_dict() | {"oscillating": 2, "trained": 4, "last_rise": 100} == found.iloc[0].to_dict()
    assert oscillating.oscillating(stored(np.array([-1, -1]), 100)).empty
    for end, is_found in ((0.9e-3, False), (1.1e-3, True)):
        low = stored(np.array([100]), 100, end=end)
        assert oscillating.oscillating(low, np.array([1e-3])).empty == (not is_found)


def test_the_report_names_them(mup: Run, tmp_path: Path) -> None:
    with (mup.path / "analysis" / "oscillating.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored_rises = store.load(mup.store, "last_rise", "status", "n_steps")
    late = (stored_rises["last_rise"] > 0.9 * stored_rises["n_steps"][None, :, None, None]) & (
        stored_rises["status"] == 0
    )
    assert sum(int(row["oscillating"]) for row in rows) == late.sum()
    page = (mup.path / "analysis" / "report.html").read_text()
    assert ("without diverging" in page) == late.any()


def test_an_architecture_is_scaled_as_well() -> None:
    """In one place for all networks: a text of layers with outputs over gamma."""
    wanted = study(f"gamma = 1.5\ncentred = true\narchitecture = {DENSE}", widths="[4]")
    assert train.program(wanted, 4, (0, 5)).output_scale == OutputScale(1.5, centred=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, wanted.features)), rng.normal(size=(6, 1))
    found = training.train_tile(train.program(wanted, 4, (0, 5)), x, y, x, y, learning_rate=0.1, seed=0, members=[0])
    assert found.train_loss[0, 0] == pytest.approx((y**2).mean() / 2, rel=1e-6)
    assert found.train_loss[0, -1] < found.train_loss[0, 0]

"""Studies of every training algorithm: what they say, refuse and store, from the plan to the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pages import dangling
from support.runs import run_shards, store_bytes, tiny_text

from analysis.ensemble import members, reference, results
from ntkhpc import infinite_width, kernels, loss_law, optimisers, studies
from ntkhpc.engine import plan, run, store
from ntkhpc.engine.run import Run
from ntkhpc.optimisers import Algorithm
from ntkhpc.studies.ensemble import exact, train, training_cost
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import EnsembleStudy

ADAM = 'optimiser = "adam"\nlearning_rate = 0.1\nbatch = 3\norder = "own"\nschedule = "warmup-cosine"'
SGD = 'optimiser = "sgd"\nbatch = 4\norder = "own"'
DECAYED = 'optimiser = "nesterov"\nmomentum = 0.5\nschedule = "cosine"\nweight_decay = 0.05\ndecay_towards = "start"'


def text(training: str, **changes: str) -> str:
    found = tiny_text(members=10, shard_members=10, redraws=2, predictions="false")
    found = found.replace("[training.steps]", f"[training]\n{training}\n[training.steps]")
    for old, new in changes.items():
        assert old in found, old
        found = found.replace(old, new)
    return found


def study(training: str, **changes: str) -> EnsembleStudy:
    return studies.loads(text(training, **changes)).of_kind(EnsembleStudy)


def made(runs: Path, training: str, *phases: str) -> Run:
    """A run with shards of these phases done, or of all."""
    target = run.create(runs, study(training))
    done = run_shards(target, [shard.id for shard in target.plan.shards if not phases or shard.phase in phases])
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("adam"), ADAM)


@pytest.mark.promise("A study by Adam says that it has no exact law, and shows full-batch descent as a reference only.")
def test_a_study_without_a_law_has_its_report_with_a_reference(adam: Run) -> None:
    found = results.collect(adam)
    page = (adam.path / "analysis" / "report.html").read_text()
    assert "No exact law for adam: ensemble only." in page
    assert "Beside full-batch descent" in page
    assert "Does finite width differ from infinite width?" not in page
    assert "was not looked at" in page
    assert "infinite_width.redraws tell" not in page
    assert dangling(page) == []
    assert "exact curve" not in page.split("What the words mean</h2>")[0].replace("exact law for adam", "")
    (table,) = members.tables(found)
    assert "with the skewness of full-batch descent at infinite width: another law" in table.note
    assert found.dominant.skewness.iloc[0] == pytest.approx(
        float(found.reference.skewness.sel(n_train=found.dominant.n_train[0], draw=0))
    )
    assert not any((found.has_law, found.has_curve, found.has_redraws))
    wanted, stored = study(ADAM), store.load(adam.store, "permutation", "x_train", "y_train", "x_test", "y_test")
    chosen = stored["permutation"][0, :12]
    law = infinite_width.trained_law(
        mlp(wanted), stored["x_train"][chosen], stored["y_train"][chosen], stored["x_test"], time=12
    )
    expected = loss_law.statistics(*law, stored["y_test"])
    assert float(reference.reference(found).mu_L[-1]) == pytest.approx(expected.mu_L, rel=1e-12)


def test_adam_trains_and_its_members_differ(adam: Run) -> None:
    found = store.load(adam.store, "train_loss_trace", "status", "last_rise", "learning_rate")
    assert (found["status"] == train.OK).all()
    losses = found["train_loss_trace"].mean(axis=3)[0, :, 0]  # (n_train, trace point)
    assert (losses[:, -1] < 0.9 * losses[:, 0]).all()
    assert (found["last_rise"] == -1).all()
    assert (found["learning_rate"] == 0.1).all()


@pytest.mark.promise("A shard of Adam with batch orders of its own that was killed goes on to the same bits.")
def test_an_interrupted_run_with_orders_of_its_own_ends_in_the_same_bits(adam: Run, tmp_path: Path) -> None:
    target = run.create(tmp_path, study(ADAM))
    shards = [shard.id for shard in target.plan.shards if shard.phase != "analysis"]
    killed = run_shards(target, shards, failpoint="tile-saved:7")
    assert killed.returncode != 0
    assert list((target.path / "partial").rglob("*.npz"))
    done = run_shards(target, shards)
    assert done.returncode == 0, done.stdout + done.stderr
    assert store_bytes(target) == store_bytes(adam)


def test_a_law_of_orders_of_their_own_is_a_mixture(tmp_path: Path) -> None:
    target = made(tmp_path, SGD, "data", "law", "curve")
    found = store.load(target.store, *(array.name for array in target.layout.arrays()))
    wanted, chosen = study(SGD), found["permutation"][0, :12]
    x, y, x_test, y_test = (found[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    blocks = infinite_width.panels(mlp(wanted), x[chosen], x_test)
    bound = optimisers.stability_bound(
        Algorithm("sgd", batch=4), kernels.lambda_max(blocks.ntk_train), 12, 1, np.diag(blocks.ntk_train)
    )
    assert found["learning_rate"][0, 1] == pytest.approx(0.5 * float(bound), rel=1e-12)
    laws = [
        next(infinite_width.finite_time_laws(blocks, y[chosen], [exact.training(wanted, 12, order)]))
        for order in range(exact.ORDERS)
    ]
    moments = [loss_law.loss_moments(*law, y_test, max_order=2) for law in laws]
    mu, sigma2 = np.mean(moments, axis=0)
    between = np.var([one[0] for one in moments], ddof=1)
    assert between > 0
    np.testing.assert_allclose(found["law_cumulant"][0, 1, :2], [mu, sigma2 + between], rtol=1e-10)
    np.testing.assert_allclose(found["curve_mu"][0, 0, 1], mu, rtol=1e-10)
    np.testing.assert_allclose(found["curve_sigma2"][0, 0, 1], sigma2 + between, rtol=1e-10)
    assert found["law_point_covariance"][0, 1].mean() == pytest.approx(sigma2 + between)
    assert (np.diff(found["law_quantile"][0, 1]) > 0).all()


def test_decay_is_in_the_curve_at_finite_steps_and_at_the_end(tmp_path: Path) -> None:
    target = made(tmp_path, DECAYED, "data", "law", "curve", "redraws")
    found = store.load(target.store, *(array.name for array in target.layout.arrays()))
    algorithm = Algorithm("nesterov", 0.5, "cosine", weight_decay=0.05, decay_towards="start")
    wanted = study(DECAYED)
    for at, n in enumerate((8, 12)):
        chosen = found["permutation"][0, :n]
        given = mlp(wanted), found["x_train"][chosen], found["y_train"][chosen], found["x_test"]
        for row, time in enumerate((n, np.inf)):
            law = infinite_width.trained_law(*given, time=time, optimiser=algorithm)
            expected = loss_law.statistics(*law, found["y_test"])
            assert found["curve_mu"][0, row, at] == pytest.approx(expected.mu_L, rel=1e-9)
            if row == 0:
                assert found["law_cumulant"][0, at, 1] == pytest.approx(expected.sigma2_L, rel=1e-9)
                assert found["redraw_mu"].shape == (2, 2)


def test_momentum_alone_is_heavy_ball_as_it_always_was() -> None:
    plain, named = study("momentum = 0.9"), study('optimiser = "momentum"\nmomentum = 0.9')
    assert plain.training.algorithm == named.training.algorithm == Algorithm("momentum", 0.9)
    assert study("").training.algorithm == Algorithm()
    program = train.program(plain, 4, (0, 5))
    assert program.trained_by == Algorithm("momentum", 0.9)


LARGE = {"pool = 40": "pool = 8000", "[infinite_width]": "[infinite_width]\nn_train = [5000]"}
TIMES = '[infinite_width]\ntimes = ["steps"]'


@pytest.mark.parametrize(
    ("training", "changes", "said"),
    [
        ('optimiser = "adam"', {}, "learning_rate = 0: adam has no stability bound"),
        ("learning_rate = 0.1", {}, "learning_rate = 0.1 is for adam and adamw"),
        ('optimiser = "momentum"', {}, "needs momentum"),
        ("batch = 4", {}, "batch = 4 is not for gd"),
        ('optimiser = "sgd"\nbatch = 9', {}, "batch = 9 is more than ensemble.n_train has at least, 8"),
        ('optimiser = "sgd"\nbatch = 6', {"[infinite_width]": "[infinite_width]\nn_train = [4, 12]"},
         "more than infinite_width.n_train has at least, 4"),
        ('optimiser = "sgd"\nbatch = 4', LARGE,
         "raise infinite_width.tile"),
        ("weight_decay = 0.1", {}, "no law at the end of training"),
        ('optimiser = "sgd"\nbatch = 4\nweight_decay = 0.1\ndecay_towards = "start"', {}, "no fixed point in common"),
        ('weight_decay = 0.1\ndecay_towards = "start"',
         LARGE, "a ridge of its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_when_it_is_read(training: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        study(training, **changes)


@pytest.mark.parametrize(
    ("training", "changes", "said"),
    [
        ("weight_decay = 0.1", {"[infinite_width]": TIMES}, ("towards zero by 0.1 times", "its exact law")),
        ("weight_decay = 0.1", {"[infinite_width]": TIMES, "widths = [4]": 'widths = [4]\nactivation = "erf"'},
         ("no exact law for gd with weight decay to zero: ensemble only",)),
        (ADAM, {}, ("Adam", "batches of 3", "each network has its own", "0.1/sqrt(width)", "first 10 %",
                    "no exact law for adam: ensemble only", "as a reference")),
        (SGD, {}, ("stochastic gradient descent in mini-batches of 4 samples", "mixture of those of 16 orders")),
        (DECAYED, {}, ("Nesterov momentum 0.5", "2 (1 + 0.5)/(1 + 2 0.5)", "cosine", "its initial value by 0.05")),
        ('optimiser = "adamw"\nweight_decay = 0.2\nlearning_rate = 0.3', {}, ("full-batch AdamW", "0.3/sqrt(width)")),
    ],
)  # fmt: skip
def test_the_methods_say_how_it_trains(training: str, changes: dict[str, Any], said: tuple[str, ...]) -> None:
    methods = "\n".join(study(training, **changes).methods())
    assert [one for one in said if one not in methods] == []
    assert "  " not in methods


def test_a_plan_counts_states_batches_and_orders() -> None:
    """Adam keeps two numbers a parameter; a batch makes a step cheaper; mixtures make a law dearer."""
    sized = {"widths = [4]": "widths = [2000]"}
    plain, adam = study("", **sized), study('optimiser = "adam"\nlearning_rate = 0.1', **sized)
    parameters = 2000 * (plain.features + 1)
    assert (
        training_cost.network_bytes(adam, "float32") - training_cost.network_bytes(plain, "float32") == 4 * parameters
    )
    batched = study('optimiser = "adam"\nlearning_rate = 0.1\nbatch = 4', **sized)
    assert training_cost.member_seconds(batched, 2000, 12, "float32") < training_cost.member_seconds(
        adam, 2000, 12, "float32"
    )

    def seconds(training: str) -> float:
        return sum(shard.seconds for shard in plan.make(study(training)).of_phase("law"))

    assert seconds(SGD) > seconds('optimiser = "sgd"\nbatch = 4') > seconds("")

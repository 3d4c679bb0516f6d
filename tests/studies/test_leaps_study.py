"""Networks in leaps, in studies: how many there are, what is refused, what is stored of them, what they are to cost."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.comparison import TEXT as COMPARISON
from support.runs import assert_every_array_is_covered_once, tiny_text

from ntkhpc import kernels, lanes, studies, training
from ntkhpc.engine import plan
from ntkhpc.errors import StudyError
from ntkhpc.leaps import leap_tile
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm
from ntkhpc.phase.work import Work
from ntkhpc.stax_network import StaxNetwork
from ntkhpc.studies import frozen
from ntkhpc.studies.ensemble import leaps, leaps_cost, train, training_cost
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import DIVERGED, OK


def text(fields: str, settings: str = "", network: str = "", **changes: Any) -> str:
    found = tiny_text(**changes).replace("trace_points", f"{fields}\ntrace_points")
    found = found.replace("[training.steps]", f"[training]\n{settings}\n[training.steps]")
    return found.replace("widths", f"{network}\nwidths")


def study(fields: str, **changes: Any) -> EnsembleStudy:
    return studies.loads(text(fields, **changes)).of_kind(EnsembleStudy)


class Store(dict[str, Any]):
    """Arrays that phases wrote, in memory."""

    def open(self, name: str) -> Any:
        return self[name]


BESIDE = "leap_members = 40\ntwin = true"
INSTEAD = 'method = "leaps"\nvalidation = 3'


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('method = "leap"', "did you mean 'leaps'"),
        ('method = "leaps"', "validation = 20 .* members = 11: lower validation"),
        (f"{INSTEAD}\nleap_members = 5", "leap_members = 5: .*members says how many: leave leap_members out"),
        ("validation = 5", 'validation = 5 is for method = "leaps".*leave it out'),
        ("leap_members = 5\nvalidation = 3", 'validation = 3 is for method = "leaps"'),
        ('method = "leaps"\nvalidation = 1', "ensemble.validation = 1 is not allowed"),
        ("leap_members = 1", "leap_members = 1: one network has no spread"),
        ("leap_members = -3", "ensemble.leap_members = -3 is not allowed"),
        ("twin = true", "twin = true is about networks .* leaps, and there are none: give leap_members"),
        ("leap_tolerance = 0.2", "leap_tolerance = 0.2 is about networks .* leaps, and there are none"),
        ("leap_members = 5\nleap_tolerance = 0.0", "ensemble.leap_tolerance = 0.0 is not allowed"),
        ("leap_members = 5\nleap_tolerance = 0.9", "ensemble.leap_tolerance = 0.9 is not allowed"),
    ],
)
def test_fields_of_leaps_that_mean_nothing_are_refused(fields: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        study(fields)
    assert "jobs/template.toml" in str(caught.value) or "allowed" in str(caught.value)


@pytest.mark.promise("Leaps are refused, before anything is made, for algorithms they are not known of.")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('weight_decay = 0.1\ndecay_towards = "start"', "weight decay 0.1"),
        ('optimiser = "sgd"\nbatch = 4', "mini-batches of 4 samples"),
        ('optimiser = "adam"\nlearning_rate = 0.1', "full-batch Adam"),
    ],
)
@pytest.mark.parametrize(("fields", "field"), [(BESIDE, "leap_members = 40"), (INSTEAD, 'method = "leaps"')])
def test_leaps_of_algorithms_they_are_not_known_of_are_refused(
    settings: str, said: str, fields: str, field: str
) -> None:
    given = text(fields, settings).replace("[infinite_width]", '[infinite_width]\ntimes = ["steps"]')
    with pytest.raises(StudyError, match=f"ensemble.{field}: leaps take .*{said}.*Leave ensemble."):
        studies.loads(given)
    without = given.replace(fields, "")
    assert "leaps" not in studies.layout(studies.loads(without)).phases  # which is a study


@pytest.mark.parametrize(
    ("settings", "network", "lane_bytes"),
    [
        ('optimiser = "nesterov"\nmomentum = 0.5\nschedule = "warmup-cosine"', "depth = 2\nbias_variance = 0.1", None),
        ("", 'parametrisation = "mup"\ngamma0 = 0.5\ncentred = true', 2**30),
    ],
)
def test_a_study_with_leaps_has_members_near_the_trained_ones(
    settings: str, network: str, lane_bytes: int | None
) -> None:
    """One after another as on a CPU, or side by side as on a GPU; the first cell of a study."""
    given = text("leap_members = 2\nleap_tolerance = 0.03", settings, network, widths="[64]", members=2, redraws=0)
    wanted = studies.loads(given.replace("factor = 1.0", "factor = 4.0")).of_kind(EnsembleStudy)
    layout, store = studies.layout(wanted), Store()
    for name in ("data", "ensemble", "leaps"):
        phase = layout.phases[name]
        assert phase.compute is not None
        bytes_of_leaps = lane_bytes if name == "leaps" else None
        store.update(phase.compute(Work(wanted, next(layout.blocks(phase)), store, lane_bytes=bytes_of_leaps)))
    np.testing.assert_allclose(store["leap_loss"], store["test_loss"], rtol=0.05)
    np.testing.assert_allclose(store["leap_train_loss"], store["train_loss"], rtol=0.1)
    assert abs(store["leap_loss"] / store["test_loss"][..., ::-1] - 1).min() > 0.05  # the other network's is far


def test_on_a_gpu_as_many_leap_side_by_side_as_fit() -> None:
    wanted = study("leap_members = 1000", tile=10, shard_members=10)
    one = leaps_cost.lane_bytes(wanted, 4, 12)
    shared = lanes.shared_bytes(train.sizes(wanted, 4, 12), dual=False)
    found = [leaps.lanes(wanted, 4, 12, shared + fit * one).count for fit in (0, 1, 7, 32, 999)]
    assert found == [1, 1, 4, 25, 50]
    assert leaps.lanes(wanted, 4, 12, None) == lanes.MAPPED
    block = next(studies.layout(wanted).blocks(leaps.PHASE))
    assert leaps.PHASE.lanes is not None
    assert leaps.PHASE.lanes(wanted, block, 2**40) == leaps.tile_members(wanted) == 50
    kernels = one - lanes.lane_bytes(train.sizes(wanted, 4, 12), Algorithm(), dual=False)
    assert kernels >= 4 * 12 * 12  # that of a member is in its lane


def test_networks_that_are_not_fully_connected_leap() -> None:
    """In leaps of one step each, which are training."""
    image, rng = (4, 4, 1), np.random.default_rng(0)
    built = StaxNetwork("serial(Conv(width, (2, 2)), Relu(), Flatten(), Dense(outputs))", 1, 2.0, 0.0, image)
    program = training.Program(built, 5, (0, 6))
    data = rng.normal(size=(6, 16)), rng.normal(size=(6, 1)), rng.normal(size=(3, 16)), rng.normal(size=(3, 1))
    given: Any = {"learning_rate": 0.1, "seed": 1, "members": range(2)}
    trained = training.train_tile(program, *data, **given)
    found = leap_tile(program, *data, **given, leaps=range(1, 7))
    np.testing.assert_allclose(found.predictions, trained.predictions, atol=1e-5)
    assert abs(trained.predictions[0] - trained.predictions[1]).min() > 1e-3


def test_a_comparison_has_no_leaps() -> None:
    with pytest.raises(
        StudyError, match=r"ensemble.leap_members = 40: variants are compared by networks that are trained"
    ):
        studies.loads(COMPARISON.replace("trace_points", "leap_members = 40\ntrace_points"))


@pytest.mark.parametrize(
    ("fields", "trained", "leapt"), [("", 11, 0), (BESIDE, 11, 40), ("leap_members = 5", 11, 5), (INSTEAD, 3, 11)]
)
def test_members_are_trained_and_leap_members_leapt(fields: str, trained: int, leapt: int) -> None:
    wanted = study(fields)
    layout = studies.layout(wanted)
    assert (wanted.trained_members, wanted.leapt_members) == (trained, leapt)
    assert (layout.sizes["member"], layout.sizes["leap_member"]) == (trained, leapt)
    assert ("leaps" in layout.phases) == (leapt > 0)
    names = {array.name for array in layout.arrays()}
    assert {"leap_loss", "leap_point_loss", "leap_status", "leap_member"} <= names or not leapt
    assert ("twin_loss" in names) == wanted.ensemble.twin
    assert any(name.startswith("leap") for name in names) == (leapt > 0)
    assert plan.make(wanted).phases[:2] == ("data", "ensemble")


def test_studies_without_leaps_are_what_they_were() -> None:
    plain = study("")
    spelt = study('method = "train"\nleap_members = 0\nleap_tolerance = 0.1\nvalidation = 20\ntwin = false')
    assert spelt.id == plain.id == studies.loads(tiny_text()).id
    assert len({plain.id, study(BESIDE).id, study("leap_members = 40").id, study(INSTEAD).id}) == 4
    assert frozen.loads(studies.dumps(study(BESIDE)).decode()) == study(BESIDE)


@pytest.mark.parametrize("fields", [BESIDE, INSTEAD, "leap_members = 7"])
@pytest.mark.parametrize(("tile", "shard_members"), [(2, 2), (2, 4), (3, 6), (4, 20)])
def test_every_value_of_leaps_belongs_to_one_shard(fields: str, tile: int, shard_members: int) -> None:
    wanted = study(fields, tile=tile, shard_members=shard_members)
    assert_every_array_is_covered_once(wanted)
    assert len(plan.make(wanted).of_phase("leaps")) == 2 * -(-wanted.leapt_members // (5 * shard_members))


@pytest.mark.parametrize(
    ("leapt", "members"), [(7, 2), (10, 10), (11, 2), (19, 10), (40, 10), (41, 2), (95, 10), (1000, 10)]
)
def test_tiles_of_leaps_are_larger_where_that_adds_few_members(leapt: int, members: int) -> None:
    assert leaps.tile_members(study(f"leap_members = {leapt}", tile=2, shard_members=4)) == members


def test_what_is_trained_how_is_in_the_methods() -> None:
    beside, instead, plain = ("\n".join(study(fields).methods()) for fields in (BESIDE, INSTEAD, ""))
    for one in ("40 networks", "step by step are the first 11", "in leaps all", "0.1 of its norm", "twin"):
        assert one in beside
    for one in ("11 networks", "step by step are the first 3", "in leaps all"):
        assert one in instead
    assert "twin" not in instead
    assert "leap" not in plain
    assert "  " not in beside + instead


def test_values_of_a_tile_follow_from_its_predictions() -> None:
    """Of five members, of which the last only fills the tile up; one is not finite, another beyond float32."""
    draw = np.random.default_rng(3)
    f, y = draw.standard_normal((5, 7, 2)).astype(np.float32), draw.standard_normal((7, 2))
    f[1, 3], f[2] = np.nan, 3e30
    done: Any = SimpleNamespace(
        predictions=f, train_loss=np.array([0.1, 0.1, 0.1, 0.2, 0.3], np.float32), leaps=np.arange(5),
        error=np.full(5, 0.01), kernel=np.array([1.0, 1.0, 1.0, np.inf, 1.0]),
    )  # fmt: skip
    found = leaps.leapt_values(done, y, 4)
    assert {len(one) for one in found.values()} == {4}
    expected = [sum(sum((f[0, a, k] - y[a, k]) ** 2 for k in range(2)) / 4 for a in range(7)) / 7]
    np.testing.assert_allclose(found["leap_loss"][0], expected[0], rtol=1e-6)
    np.testing.assert_array_equal(found["leap_loss"], found["leap_point_loss"].mean(axis=1, dtype=np.float64))
    assert found["leap_status"].tolist() == [OK, DIVERGED, DIVERGED, OK]
    assert found["leap_count"].tolist() == [0, 1, 2, 3]
    types = {array.name: array.dtype for array in leaps.ARRAYS}
    of_twins = leaps.twin_values(done, y, 4)
    assert of_twins["twin_status"].tolist() == [OK, DIVERGED, DIVERGED, DIVERGED]
    np.testing.assert_array_equal(of_twins["twin_loss"], found["leap_loss"])
    assert {name: one.dtype.str[1:] for name, one in (found | of_twins).items()} == types


def test_diverged_leaps_are_told() -> None:
    assert leaps.remarks(study(BESIDE), np.zeros((1, 2, 1, 40), np.int8)) == ()
    (said,) = leaps.remarks(study(BESIDE), np.array([[0, 1, 1, -1]], np.int8))
    assert said.startswith("2 networks that were trained in leaps diverged")


@pytest.mark.parametrize("tolerance", [0.1, 0.03])
def test_what_leaps_are_expected_to_cost_is_what_they_take(tolerance: float) -> None:
    """Leaps, and products with the kernel, on targets that networks of such sizes learn: within a factor of 1.7."""
    n, width, rng = 32, 32, np.random.default_rng(0)
    fields = f"leap_members = 40\nleap_tolerance = {tolerance}"
    given = text(fields, widths=f"[{width}]").replace("[8, 12]", f"[{n}]").replace("factor = 1.0", "factor = 4.0")
    wanted = studies.loads(given).of_kind(EnsembleStudy)
    x, x_test = rng.normal(size=(n, 25)), rng.normal(size=(2, 25))
    direction = rng.normal(size=(25, 1)) / 5
    mlp, steps = MLP(1, "relu"), wanted.training.steps(n)
    assert steps == 4 * n
    program = training.Program(mlp, width, (0, steps))
    rate = n / kernels.lambda_max(kernels.nngp_ntk(mlp, x)[1])
    targets = np.sin(2 * x @ direction), np.sin(2 * x_test @ direction)
    found = leap_tile(
        program, x, targets[0], x_test, targets[1], learning_rate=rate, seed=0, members=range(20), tolerance=tolerance
    )
    taken, multiplied = found.leaps.mean(), found.products.mean()
    assert 1 / 1.7 < leaps_cost.leaps(wanted, n) / taken < 1.7
    assert 1 / 1.7 < leaps_cost.leaps(wanted, n) * leaps_cost.products(wanted, n) / multiplied < 1.7


def test_a_smaller_tolerance_costs_more_leaps_and_never_more_than_steps() -> None:
    few, many = (study(f"leap_members = 40\nleap_tolerance = {one}") for one in (0.1, 0.001))
    assert leaps_cost.leaps(few, 1000) < leaps_cost.leaps(many, 1000)
    assert leaps_cost.leaps(many, 8) == many.training.steps(8) == 8
    assert leaps_cost.member_seconds(few, 64, 1000) < leaps_cost.member_seconds(many, 64, 1000)
    assert leaps_cost.member_seconds(few, 64, 1000) < training_cost.member_seconds(few, 64, 1000, "float32")
    twin = study(BESIDE)
    assert leaps_cost.member_seconds(few, 64, 1000) < leaps_cost.member_seconds(twin, 64, 1000)

"""Variants of an ensemble in one run: each as if it had been run alone."""

from pathlib import Path

import numpy as np
import pytest
import xarray
from support.comparison import TEXT
from support.runs import all_shards, assert_every_array_is_covered_once, run_shards

from analysis.comparison.cut import cut
from ntkhpc import studies
from ntkhpc.engine import plan, run
from ntkhpc.engine.run import Run
from ntkhpc.errors import StudyError
from ntkhpc.studies import frozen
from ntkhpc.studies.comparison.study import ComparisonStudy, NetworkChange, TrainingChange
from ntkhpc.studies.ensemble.network import Network
from ntkhpc.studies.ensemble.train import TrainingSettings

COMPARED = studies.loads(TEXT).of_kind(ComparisonStudy)


@pytest.fixture(scope="module")
def compared(compared_run: Run) -> xarray.Dataset:
    """The store of the comparison, all of whose shards were run."""
    return xarray.open_zarr(compared_run.store).load()


@pytest.mark.parametrize("number", range(3), ids=["gd", "adam", "mup"])
def test_a_variant_has_the_bits_of_a_run_of_its_own(compared: xarray.Dataset, number: int, tmp_path: Path) -> None:
    alone = run.create(tmp_path, COMPARED.ensembles[number])
    done = run_shards(alone, all_shards(alone))
    assert done.returncode == 0, done.stderr
    expected = xarray.open_zarr(alone.store).load()
    found = cut(compared, COMPARED, number, named=False)
    assert set(found.data_vars) == set(expected.data_vars)
    without_curves = {"curve_steps", "permutation"} if number == 2 else set()  # its own study knows of no curves
    for name in set(expected.data_vars) - without_curves:
        assert found[name].dims == expected[name].dims, name
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=str(name))


def test_members_of_variants_start_from_the_same_weights(compared: xarray.Dataset) -> None:
    """So that what differs between variants is known member by member. Outputs of "mup" are over another gamma."""
    first = compared.test_loss_trace.isel(trace_point=0)
    np.testing.assert_array_equal(first.sel(variant=0).values, first.sel(variant=1).values)


def test_every_value_belongs_to_one_shard() -> None:
    assert_every_array_is_covered_once(COMPARED)


def test_a_variant_without_curves_leaves_them_empty_and_is_planned_to_cost_nothing(compared: xarray.Dataset) -> None:
    assert np.isnan(compared.redraw_mu.sel(variant=2)).all()
    assert np.isfinite(compared.redraw_mu.sel(variant=[0, 1])).all()
    shards = plan.make(COMPARED).of_phase("redraws")
    assert [one.seconds < 1 for one in shards] == [one.region["variant"][0] == 2 for one in shards]


def test_where_one_law_depends_on_the_width_all_are_stored_so(compared: xarray.Dataset) -> None:
    assert compared.law_variance.dims[:2] == ("variant", "width")
    of_gd = compared.law_variance.sel(variant=0)
    np.testing.assert_array_equal(of_gd.isel(width=0), of_gd.isel(width=1))
    of_mup = compared.law_variance.sel(variant=2)
    assert (of_mup.isel(width=0) > of_mup.isel(width=1)).all()  # over gamma0^2 width


def test_its_frozen_text_is_the_same_study() -> None:
    again = frozen.loads(studies.dumps(COMPARED).decode())
    assert again == COMPARED
    assert again.id == COMPARED.id


def test_what_a_variant_does_not_change_is_left_as_the_study_says() -> None:
    gd, adam, mup = COMPARED.ensembles
    assert gd.training == COMPARED.training
    assert adam.training.steps == COMPARED.training.steps
    assert (adam.network, mup.training) == (COMPARED.network, COMPARED.training)
    assert mup.network.gamma0 == 0.5


@pytest.mark.parametrize(("change", "section"), [(NetworkChange, Network), (TrainingChange, TrainingSettings)])
def test_a_variant_may_change_every_field_of_its_tables_but_the_widths(change: type, section: type) -> None:
    assert {*change.__struct_fields__} == {*section.__struct_fields__} - {"widths"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "adam"', 'name = "gd"', "two variants have the name 'gd'"),
        ('name = "adam"', 'name = "a b"', "letters, digits"),
        ('optimiser = "adam", learning_rate = 0.05', 'optimiser = "gd"', "variants gd and adam are the same"),
        ("learning_rate = 0.05", "batch = 999, learning_rate = 0.05", "variant adam: .*999 is more than"),
        (', learning_rate = 0.05', "", "variant adam: learning_rate = 0"),
        ("learning_rate = 0.05", "learning_rat = 0.05", "unknown field variants.1..training.learning_rat.*did"),
        ("gamma0 = 0.5", "widths = [4]", "unknown field variants.2..network.widths"),
        ('optimiser = "adam"', 'optimiser = "adams"', "adams.*is not allowed; did you mean 'adam'"),
        ("redraws = 6", 'method = "iterative"\nredraws = 6', "method = 'iterative'"),
        ("redraws = 6", "n_train = [8, 24]\ntile = 16\nredraws = 6", "more than infinite_width.tile = 16"),
    ],
)  # fmt: skip
def test_variants_that_cannot_be_are_refused_by_name(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(StudyError, match=message):
        studies.loads(TEXT.replace(old, new))


def test_one_variant_is_no_comparison() -> None:
    with pytest.raises(StudyError, match="variants"):
        studies.loads(TEXT[: TEXT.index('[[variants]]\nname = "adam"')])


def test_methods_say_once_what_variants_share() -> None:
    text = COMPARED.methods()
    assert text[0] == COMPARED.data.description(COMPARED.known)
    assert [one.split(":")[0] for one in text if one.startswith("Variant")] == [
        "Variant gd", "Variant adam", "Variant mup",
    ]  # fmt: skip


def test_a_table_within_a_table_is_changed_field_by_field() -> None:
    text = TEXT.replace("factor = 1.0", "factor = 3.0").replace(
        'optimiser = "adam"', 'steps = { power = 0.5 }, optimiser = "adam"'
    )
    assert "power" in text
    gd, adam, _ = studies.loads(text).of_kind(ComparisonStudy).ensembles
    assert (gd.training.steps.factor, gd.training.steps.power) == (3.0, 1.0)
    assert (adam.training.steps.factor, adam.training.steps.power) == (3.0, 0.5)


def test_curves_are_those_of_the_variants_that_have_them_wherever_they_stand() -> None:
    """Tables of the study that have no curves themselves do not keep those of a variant from being computed."""
    text = TEXT.replace("[training.steps]", "centred = true\n[training.steps]").replace(
        'name = "gd"', 'name = "gd"\nnetwork = { centred = false }'
    )
    found = studies.loads(text).of_kind(ComparisonStudy)
    assert [len(one.infinite_width.times) for one in found.ensembles] == [1, 2, 2]
    assert found.base == found.ensembles[0]
    assert {"curve", "redraws"} <= set(studies.layout(found).phases)
    with pytest.raises(StudyError, match="keeps no tiles of kernels"):
        studies.loads(text.replace("redraws = 6", "n_train = [8, 24]\ntile = 16\nredraws = 6"))


def test_curves_that_no_variant_has_are_refused() -> None:
    text = TEXT.replace("[training.steps]", "centred = true\n[training.steps]")
    with pytest.raises(StudyError, match="no variant has curves at infinite width"):
        studies.loads(text)


def test_steps_of_curves_are_unknown_where_there_are_none() -> None:
    text = TEXT.replace('times = ["steps"]', 'times = ["infinite", "steps"]')
    found = studies.loads(text)
    layout = studies.layout(found)
    (steps,) = (one for one in layout.arrays("create") if one.name == "curve_steps")
    assert steps.values is not None
    gd, _, mup = np.asarray(steps.values(found))
    assert (gd[0] == -1).all()
    assert (gd[1] > 0).all()
    assert (mup == -1).all()


def test_one_table_of_variants_is_no_list() -> None:
    with pytest.raises(StudyError, match=r"write .*variants.* above each of them"):
        studies.loads(TEXT[: TEXT.index("[[variants]]")] + '[variants]\nname = "gd"\n')


def test_networks_that_diverged_are_told_by_variant() -> None:
    used = np.full((3, 2, 3, 1), 12)
    used[1, 0, 2] = 10
    (told,) = studies.kind_of(COMPARED).remarks(COMPARED, lambda name: {"members_used": used}[name])
    assert told.startswith("adam: 2 networks diverged")
    assert "lower training.learning_rate," in told

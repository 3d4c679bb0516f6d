"""A study's id: the hash of what differs from the introduced values; and studies frozen by other versions."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from support.fields import SOURCES, introduced, others, places, put, raw, rooms

from ntkhpc import studies
from ntkhpc.data.calorimeter import Calorimeter
from ntkhpc.data.source import Facts
from ntkhpc.errors import DamagedError, RunError, StudyError
from ntkhpc.phase.settings import Settings
from ntkhpc.studies import content, frozen
from ntkhpc.studies.base import Study
from ntkhpc.studies.ensemble.study import EnsembleStudy, Network, StepRule, TrainingSettings
from ntkhpc.studies.kinds import KINDS

PINNED = Path(__file__).with_name("introduced.json")

CASES = [("ensemble", source) for source in SOURCES] + [("bayes", "calorimeter")]


def frozen_study(table: dict[str, Any], format: int = frozen.FORMAT) -> Study:
    return frozen.loads(tomli_w.dumps(table), format=format)


@pytest.mark.promise("The value that each field of a study had when it was introduced is pinned.")
def test_what_every_field_was_when_it_was_introduced_is_pinned() -> None:
    pinned, found = json.loads(PINNED.read_text()), introduced()
    said = [
        f"{name} is new. Add it to {PINNED.name} with the value that means what was computed before it was there: "
        f"{json.dumps(found[name])}, unless its default means something else; then its class declares `introduced`."
        for name in found.keys() - pinned.keys()
    ]
    said += [
        f"{name} is gone. Every frozen study has it: write a migration in ntkhpc/studies/frozen.py that moves it, or "
        f"drops it where it had no effect; then take it out of {PINNED.name}."
        for name in pinned.keys() - found.keys()
    ]
    said += [
        f"{name} was introduced with {json.dumps(pinned[name])}, and its default is now {json.dumps(found[name])}. Ids "
        f"need the first for ever: declare `introduced = {{'{name.split('.')[-1]}': {pinned[name]!r}}}` in its class."
        for name in found.keys() & pinned.keys()
        if found[name] != pinned[name]
    ]
    assert not said, "\n".join(said)


def test_introduced_values_are_values_of_their_fields_and_tables_have_none_of_their_own() -> None:
    for section in rooms().values():
        fields = {field.name: field for field in structs.fields(section)}
        for name, value in content.introduced(section).items():
            assert msgspec.convert(value, fields[name].type) == value, name
            if isinstance(value, Settings):  # a table that a file lacks is filled field by field
                assert content.default(fields[name]) == type(value)(), name
        assert vars(section).get("introduced", {}).keys() <= content.introduced(section).keys(), section


@pytest.mark.promise("Another value of any field of a study is another id.")
@pytest.mark.parametrize(("kind", "source"), CASES)
def test_another_value_of_any_field_is_another_id(kind: str, source: str) -> None:
    for path, wanted in places(kind, source):
        ids, values = set(), others(wanted)
        assert len(values) > 1 or path == ("network", "parametrisation"), path
        for value in values:
            table = raw(kind, source)
            put(table, path, value)
            ids.add(frozen_study(table).id)
        assert len(ids) == len(values), path


@given(st.data())
def test_equal_ids_mean_equal_studies(data: st.DataObject) -> None:
    kind, source = data.draw(st.sampled_from(CASES))
    fields = dict(places(kind, source))
    two = []
    for _ in range(2):
        table = raw(kind, source)
        for path in data.draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=4)):
            put(table, path, data.draw(st.sampled_from(others(fields[path]))))
        two.append(frozen_study(table))
    one, other = two
    assert (one.id == other.id) == (one.content == other.content)
    assert (one.id == other.id) == (one == other)


def test_of_files_the_id_knows_what_is_in_them_and_not_where_they_are() -> None:
    def id_of(path: str, **facts: Any) -> str:
        table = raw("ensemble", "file")
        table["data"]["path"] = path
        return frozen_study({**table, "facts": {"features": 1, "outputs": 1, **facts}} if facts else table).id

    here, there = "/here/a.csv", "/there/b.csv"
    assert id_of(here, sha256=["ab"], rows=3) == id_of(there, sha256=["ab"])
    assert id_of(here, sha256=["ab"]) != id_of(here, sha256=["cd"])
    assert id_of(here) != id_of(there)


def test_what_is_written_out_in_full_has_the_same_id() -> None:
    for kind, source in CASES:
        plain = frozen_study(raw(kind, source))
        assert studies.loads(studies.dumps(plain).decode()) == plain
        assert frozen.loads(studies.dumps(plain).decode()).id == plain.id


class Dropout(Settings, frozen=True, kw_only=True):
    rate: float = 0.0


class WiderNetwork(Network, frozen=True, kw_only=True):
    gate: str = "none"


class NewerStudy(EnsembleStudy, frozen=True, kw_only=True):
    """A study with a new field in a table, and a new table."""

    network: WiderNetwork
    dropout: Dropout = Dropout()


class DeeperNetwork(Network, frozen=True, kw_only=True):
    """Networks of two hidden layers where a study does not say."""

    introduced: ClassVar[dict[str, object]] = {"depth": 1}

    depth: int = 2


class DeeperStudy(EnsembleStudy, frozen=True, kw_only=True):
    network: DeeperNetwork


def as_kind(kind: type[Study], **network: Any) -> Study:
    table = raw("ensemble")
    table["network"] |= network
    return msgspec.convert(table, kind)


@pytest.mark.promise("A new optional field of a study changes no id.")
def test_a_new_optional_field_changes_no_id() -> None:
    assert as_kind(NewerStudy).id == as_kind(EnsembleStudy).id
    assert as_kind(NewerStudy, gate="relu").id != as_kind(EnsembleStudy).id


class Sgd(Settings, frozen=True, kw_only=True, tag_field="rule", tag="sgd"):
    batch: int = 32


class Adam(Settings, frozen=True, kw_only=True, tag_field="rule", tag="adam"):
    decay: float = 0.0


class Leaps(Settings, frozen=True, kw_only=True):
    count: int = 5


class FurtherStudy(EnsembleStudy, frozen=True, kw_only=True):
    """A study with a table of several kinds, and one that need not be there."""

    optimiser: Sgd | Adam = Sgd()
    leaps: Leaps | None = None


def test_a_new_table_changes_no_id_until_it_says_something() -> None:
    def id_of(**tables: Any) -> str:
        return msgspec.convert({**raw("ensemble"), **tables}, FurtherStudy).id

    usual = as_kind(EnsembleStudy).id
    assert id_of() == id_of(optimiser={"rule": "sgd"}) == id_of(optimiser={"rule": "sgd", "batch": 32}) == usual
    different = [{"optimiser": {"rule": "adam"}}, {"optimiser": {"rule": "sgd", "batch": 8}}, {"leaps": {}}]
    assert len({usual, *(id_of(**one) for one in different), id_of(leaps={"count": 6})}) == 5
    assert id_of(leaps={}) == id_of(leaps={"count": 5})


class SlowerSteps(StepRule, frozen=True, kw_only=True):
    introduced: ClassVar[dict[str, object]] = {"factor": 4.0}

    factor: float = 8.0


class SlowerTraining(TrainingSettings, frozen=True, kw_only=True):
    steps: SlowerSteps = SlowerSteps()


class SlowerStudy(EnsembleStudy, frozen=True, kw_only=True):
    training: SlowerTraining = SlowerTraining()


def test_a_default_that_changed_in_a_table_that_nobody_writes_enters_the_id() -> None:
    assert msgspec.convert(raw("ensemble"), SlowerStudy).id != as_kind(EnsembleStudy).id
    written = {**raw("ensemble"), "training": {"steps": {"factor": 4.0}}}
    assert msgspec.convert(written, SlowerStudy).id == as_kind(EnsembleStudy).id


@pytest.mark.promise("A default that changes later enters the id of a study.")
def test_a_default_that_changed_later_enters_the_id() -> None:
    """One text is another study for newer code; what is the same study has the same id."""
    assert as_kind(DeeperStudy).id != as_kind(EnsembleStudy).id
    assert as_kind(DeeperStudy).id == as_kind(EnsembleStudy, depth=2).id
    assert as_kind(DeeperStudy, depth=1).id == as_kind(EnsembleStudy).id


def test_a_frozen_study_has_the_introduced_value_of_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    old = studies.dumps(as_kind(EnsembleStudy)).decode().replace("depth = 1\n", "")
    kind = KINDS["ensemble"]
    monkeypatch.setitem(KINDS, "ensemble", dataclasses.replace(kind, study=DeeperStudy))
    assert frozen.loads(old).network.depth == 1  # type: ignore[attr-defined]  # of studies of this kind
    assert studies.loads(old).network.depth == 2  # type: ignore[attr-defined]  # of studies of this kind
    monkeypatch.setitem(KINDS, "ensemble", dataclasses.replace(kind, study=NewerStudy))
    found = frozen.loads(studies.dumps(as_kind(EnsembleStudy)).decode())
    assert found == as_kind(NewerStudy)
    assert found.id == as_kind(EnsembleStudy).id


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[network]", "[network]\ngate = 3", "network.gate"),
        ("[network]", "[leaps]\ncount = 5\n[network]", "leaps"),
        ('kind = "ensemble"', 'kind = "flow"', "kind = 'flow'"),
        ('source = "calorimeter"', 'source = "jets"', "data.source = 'jets'"),
        ('activation = "relu"', 'activation = "tanh"', "network.activation"),
        ("factor = 4.0", "factor = 4.0\nwarm = 1", "training.steps.warm"),
    ],
)
def test_what_this_code_does_not_know_is_too_new_and_not_a_mistake(old: str, new: str, said: str) -> None:
    text = studies.dumps(as_kind(EnsembleStudy)).decode()
    assert old in text
    with pytest.raises(RunError, match="too new") as caught:
        frozen.loads(text.replace(old, new, 1))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "found", "facts"),
    [
        ("file", {"sha256": "ab", "bytes": 9, "rows": 70, "features": 3, "outputs": 2}, {}),
        ("showers", {"sha256": ["ab", "cd"], "rows": 70, "features": 25}, {"outputs": 1}),
        ("cifar10", {"sha256": "ab"}, {"features": 784, "outputs": 2}),
        ("cifar10", {"sha256": ""}, None),
        ("mnist", {}, None),
    ],
)
def test_facts_of_runs_of_format_1_were_in_the_data(source: str, found: dict, facts: dict | None) -> None:
    table = raw("ensemble", source)
    if source == "cifar10":
        table["data"] |= {"grey": True, "size": 28, "classes": ["cat", "dog"], "targets": []}
    now = frozen_study(table)
    old = frozen_study({**table, "data": {**table["data"], **found}}, format=1)
    assert old.data == now.data
    if facts is None:
        assert old == now
    else:
        sha256 = tuple([found["sha256"]] if isinstance(found["sha256"], str) else found["sha256"])
        assert old.facts == Facts(**{**found, **facts, "sha256": sha256})
        assert frozen.loads(studies.dumps(old).decode()) == old


def test_what_lacks_a_required_field_is_too_old_and_what_is_no_toml_is_damaged() -> None:
    text = studies.dumps(as_kind(EnsembleStudy)).decode()
    with pytest.raises(RunError, match=r"too old.*ensemble.members"):
        frozen.loads(text.replace("members = 20\n", "", 1))
    with pytest.raises(DamagedError):
        frozen.loads(text + "[")


def test_a_rule_that_came_later_leaves_frozen_studies_readable() -> None:
    """Files of users are checked by today's rules, studies of runs are not."""
    text = studies.dumps(as_kind(EnsembleStudy)).decode().replace("pool = 40", "pool = 10")
    assert frozen.loads(text).data.pool == 10
    with pytest.raises(StudyError, match="12 samples"):
        studies.loads(text)
    with pytest.raises(ValueError, match="energy_min"):  # and rules hold again afterwards
        Calorimeter(energy_min=600.0)


def test_older_formats_are_migrated_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(table: dict[str, Any]) -> dict[str, Any]:
        network = {"activation" if key == "nonlinearity" else key: value for key, value in table["network"].items()}
        return {**table, "network": network}

    text = studies.dumps(as_kind(EnsembleStudy)).decode().replace("activation", "nonlinearity")
    with pytest.raises(RunError, match="too new"):
        frozen.loads(text)
    monkeypatch.setattr(frozen, "MIGRATIONS", (*frozen.MIGRATIONS, renamed))
    assert frozen.loads(text, format=frozen.FORMAT) == as_kind(EnsembleStudy)
    with pytest.raises(RunError, match="too new"):
        frozen.loads(text, format=frozen.FORMAT + 1)


def test_a_posterior_that_is_older_than_adaptive_kernels_has_no_populations() -> None:
    table = raw("bayes")
    assert frozen_study(table, format=1).adaptive.populations == 0  # type: ignore[attr-defined]  # of studies of this kind
    assert frozen_study(table).adaptive.populations == 4  # type: ignore[attr-defined]  # of studies of this kind
    assert frozen_study({**table, "adaptive": {"populations": 3}}, format=1).adaptive.populations == 3  # type: ignore[attr-defined]  # of studies of this kind


@pytest.mark.parametrize("table", [{"data": 3}, {"data": [1]}, {"data": {"source": ["mnist"]}}, {"network": 1}])
@pytest.mark.parametrize("format", frozen.FORMATS)
def test_a_study_of_another_shape_is_too_new_and_no_traceback(table: dict[str, Any], format: int) -> None:
    with pytest.raises(RunError, match="too new"):
        frozen_study({**raw("ensemble"), **table}, format)

"""Studies: what is accepted, what is refused and how it is said."""

import math
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import ROOT, ntkhpc, tiny_text
from support.templates import check_defaults

from ntkhpc import studies
from ntkhpc.data import sources
from ntkhpc.errors import StudyError
from ntkhpc.studies.ensemble import study as ensemble_study
from ntkhpc.studies.kinds import KINDS


def refusal(text: str) -> str:
    with pytest.raises(StudyError) as caught:
        studies.loads(text, "here.toml")
    return str(caught.value)


@pytest.mark.promise("A wrong field of a study is refused with its name, its value and what is allowed.")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("widths", "width", ["network.width = [4]", "did you mean 'widths'", "parametrisation"]),
        ("[ensemble]", "[ensembel]", ["unknown field ensembel", "did you mean 'ensemble'"]),
        ('"calorimeter"', '"calorimetre"', ["data.source = 'calorimetre'", "did you mean 'calorimeter'"]),
        ("members = 11", "members = 1.5", ["ensemble.members = 1.5", "Expected `int`"]),
        ("members = 11", "members = 1", ["ensemble.members = 1", ">= 2"]),
        ("members = 11", "", ["[ensemble]", "`members`"]),
        ("shard_members = 6", "shard_members = 7", ["shard_members = 7", "multiple of tile = 2", "try 8"]),
        ("widths = [4]", "widths = [4, 4]", ["widths = [4, 4]", "strictly increasing"]),
        ("widths = [4]", "widths = []", ["network.widths = []"]),
        ("widths = [4]", "widths = [4, 0]", ["network.widths.1 = 0", ">= 1"]),
        ("widths = [4]", 'widths = [4]\nparametrisation = "standard"', ["network.parametrisation = 'standard'"]),
        ("widths = [4]", 'widths = [4]\nparametrisation = "NTK"', ["network.parametrisation = 'NTK'"]),
        ("factor = 1.0", "factor = nan", ["training.steps.factor = nan", "finite"]),
        ("factor = 1.0", "factor = 0.1", ["trace_points = 4", "n_train = 8 trains for 1"]),
        ("pool = 40", "pool = 10", ["12 samples", "data.pool has 10"]),
        ("pool = 40", "pool = 40\nenergy_min = 600.0", ["energy_min = 600.0", "energy_max = 500.0"]),
        ("seed = 5", "seed = 4294967296", ["seed = 4294967296", "<"]),
        ("[network]", "[network", ["not valid TOML", "line"]),
        ('name = "tiny"', "name = 3", ["name = 3", "Expected `str`"]),
        ("[data]", "data = 3\n[other]", ["unknown field other"]),
    ],
)
def test_a_wrong_field_is_refused_with_its_name_value_and_what_is_allowed(old: str, new: str, said: list[str]) -> None:
    text = refusal(tiny_text().replace(old, new, 1))
    assert "here.toml" in text
    for part in said:
        assert part in text


@pytest.mark.promise("Hostile names of studies are refused.")
@pytest.mark.parametrize(
    "name", ["a; rm -rf /", "two\\nlines", "it's", '\\"quoted\\"', "größe", "../up", "", "-x", "a" * 65]
)
def test_hostile_names_are_refused(name: str) -> None:
    assert "is not allowed" in refusal(tiny_text().replace('"tiny"', f'"{name}"'))


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_studies_load_and_survive_freezing(path: Path) -> None:
    loaded = studies.load(path)
    assert studies.loads(studies.dumps(loaded).decode()) == loaded
    assert loaded.name == path.stem


@pytest.mark.promise("jobs/template.toml has every field of an ensemble, with its default.")
def test_the_template_explains_every_field_with_its_default() -> None:
    text = (ROOT / "jobs" / "template.toml").read_text()
    loaded = studies.loads(text)
    sections = {name: type(getattr(loaded, name)) for name in ("data", "network", "training", "ensemble")}
    sections |= {"steps": ensemble_study.StepRule, "infinite_width": ensemble_study.InfiniteWidth}
    check_defaults(ensemble_study.EnsembleStudy, tomllib.loads(text), sections)
    assert all("#" in line for line in text.splitlines() if " = " in line and not line.startswith("#")), text


def test_the_template_explains_every_source_of_data() -> None:
    text = (ROOT / "jobs" / "template.toml").read_text()
    lines = [line.removeprefix("#: ") for line in text.splitlines() if line.startswith("#: ")]
    blocks = "\n".join(lines).split("[data]\n")[1:]
    classes = {str(one.__struct_config__.tag): one for one in get_args(sources.AnySource)}
    found = {"calorimeter"}
    for block in blocks:
        table = tomllib.loads(block)
        found.add(table["source"])
        check_defaults(classes[table["source"]], table, {})
        msgspec.convert(table, classes[table["source"]])
    assert found == set(classes)
    assert all("    # " in line or line.startswith("[") for line in lines), lines


def test_the_kind_that_is_the_default_leaves_ids_alone() -> None:
    """A changed id starts every existing run of a study anew."""
    assert studies.loads(tiny_text()).id == studies.loads('kind = "ensemble"\n' + tiny_text()).id
    first = tiny_text(redraws=0).replace("[infinite_width]", "recheck = 0.0\n[infinite_width]")
    first = first.replace("[data]\n", "[data]\ngenerator = 1\n")  # what there was when it was recorded
    assert studies.loads(first).id == "1a60d19acf"


def test_the_id_is_the_content_not_its_spelling() -> None:
    loaded = studies.loads(tiny_text())
    assert studies.loads("# comment\n" + tiny_text() + "\n\n").id == loaded.id
    assert studies.loads(tiny_text(seed=6)).id != loaded.id
    assert len(loaded.id) == 10


@given(last=st.integers(1, 100_000), points=st.integers(2, 40))
def test_trace_steps_begin_at_zero_end_at_the_last_step_and_increase(last: int, points: int) -> None:
    points = min(points, last + 1)
    text = tiny_text().replace("trace_points = 4", f"trace_points = {points}")
    text = text.replace("factor = 1.0", f"factor = {last}.0\npower = 0.0")
    steps = studies.loads(text).trace_steps(8)
    assert steps[0] == 0
    assert steps[-1] == last
    assert len(steps) == points
    assert all(b > a for a, b in pairwise(steps))


@given(factor=st.floats(0.01, 100), power=st.floats(0, 3), n=st.integers(1, 10_000))
def test_steps_are_the_ceiling_of_the_rule(factor: float, power: float, n: int) -> None:
    steps = ensemble_study.StepRule(factor=factor, power=power)(n)
    exact = factor * n**power
    assert steps >= 1
    assert exact - 1e-6 <= steps < max(1, exact) + 1
    assert isinstance(steps, int)
    assert math.isfinite(steps)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_wrong_field_sends_to_the_template_of_its_kind(kind: str) -> None:
    (named,) = re.findall(r"jobs/\S+\.toml", refusal(f'kind = "{kind}"\nname = "x"\nnonsense = 1\n'))
    assert isinstance(studies.load(ROOT / named), KINDS[kind].study)


def test_an_unknown_task_names_the_nearest_one() -> None:
    said = ntkhpc("plan", "--task=calorimetre")
    assert said.returncode == 2
    assert "did you mean 'calorimeter'?" in said.stderr
    assert "Traceback" not in said.stderr

"""A source of data is one class: what it must say is little, and everything else follows."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from support.runs import tiny_text

from ntkhpc import seeds, studies
from ntkhpc.data.source import SECONDS_PER_NUMBER, SECONDS_TO_OPEN, Facts, Source
from ntkhpc.data.sources import AnySource
from ntkhpc.data.split import Split, regression
from ntkhpc.engine import plan, run
from ntkhpc.engine.inputs import StoreInputs
from ntkhpc.errors import StudyError
from ntkhpc.phase.block import Block
from ntkhpc.phase.settings import Positive
from ntkhpc.phase.work import Work
from ntkhpc.studies import data as data_phase
from ntkhpc.studies import facts
from ntkhpc.studies.ensemble.study import EnsembleStudy


class Waves(Source, frozen=True, kw_only=True, tag="waves"):
    """y = sin(x_1 + x_2 + ...) of normal inputs: all that a new source has to say."""

    inputs: Positive = 3

    def facts(self) -> Facts:
        return Facts(features=self.inputs, outputs=1)

    def load(self, facts: Facts) -> Split:
        x = seeds.generator(self.seed, seeds.ROWS).normal(size=(self.used_rows, facts.features))
        return regression(x, np.sin(x.sum(axis=1, keepdims=True)), self.pool)


class WavyStudy(EnsembleStudy, frozen=True, kw_only=True):
    """The line of `ntkhpc.data.sources`."""

    data: AnySource | Waves  # type: ignore[assignment]  # a field of more types


TEXT = tiny_text().replace('"calorimeter"', '"waves"')


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(studies.KINDS, "ensemble", replace(studies.KINDS["ensemble"], study=WavyStudy))


@pytest.mark.promise(
    "A new source of data is one class: with facts and a loader its studies are planned, cost included."
)
def test_a_study_of_a_new_source_is_loaded_planned_and_its_cost_projected(tmp_path: Path) -> None:
    study = facts.resolve(studies.loads(TEXT.replace("pool = 40", "pool = 40\ninputs = 7")), tmp_path)
    assert (study.data.source, study.features, study.outputs) == ("waves", 7, 1)
    assert study.facts is None  # the section says it all
    small, large = (
        plan.make(msgspec.structs.replace(study, data=msgspec.structs.replace(study.data, test=test)))
        for test in (15, 1_500_000)
    )
    more = (1_500_000 - 15) * 7 * SECONDS_PER_NUMBER
    assert large.of_phase("data")[0].seconds - small.of_phase("data")[0].seconds == pytest.approx(more)
    assert small.of_phase("data")[0].seconds > SECONDS_TO_OPEN
    assert large.memory_bytes["data"] > small.memory_bytes["data"]
    assert study.data.folders() == ()


def test_the_data_phase_of_a_new_source_writes_what_it_loads(tmp_path: Path) -> None:
    study = facts.resolve(studies.loads(TEXT), tmp_path)
    made = run.create(tmp_path, study)
    assert made.study == study
    study.data.prepare(study.known)
    values = data_phase.compute(Work(made.study, Block({}, {}), StoreInputs(made)))
    assert values["x_train"].shape == (40, 3)
    assert (values["y_test"] == study.data.load(study.known).y_test).all()


def test_a_misspelt_field_or_name_of_a_new_source_is_explained() -> None:
    with pytest.raises(StudyError, match=r"data.input = 7; did you mean 'inputs'\?"):
        studies.loads(TEXT.replace("pool = 40", "pool = 40\ninput = 7"))
    with pytest.raises(StudyError, match=r"did you mean 'waves'\?"):
        studies.loads(TEXT.replace('"waves"', '"wave"'))


@pytest.mark.parametrize("source", get_args(AnySource), ids=lambda source: source.__name__)
def test_every_source_has_facts_or_looks_for_them_and_a_loader(source: type[Source]) -> None:
    assert source.facts is not Source.facts or source.examine is not Source.examine
    assert source.load is not Source.load
    assert source.making_bytes is not Source.making_bytes

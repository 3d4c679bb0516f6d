"""What a message tells to change is a field that the study has."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from support.advice import assert_names_own_fields
from support.bayes_run import STUDY as POSTERIOR
from support.comparison import TEXT as COMPARISON
from support.job_arrays import profile
from support.runs import tiny_text

from ntkhpc import studies
from ntkhpc.data.formats import capacity
from ntkhpc.engine import plan
from ntkhpc.errors import NtkhpcError, ProfileError, SurroundingsError
from ntkhpc.launch import prepare, tasks
from ntkhpc.phase.phase import Phase
from ntkhpc.studies.base import Study
from ntkhpc.studies.memory import MARGIN

TEXTS = {
    "ensemble": tiny_text().replace("trace_points", "leap_members = 20\ntrace_points").replace(
        "[infinite_width]",
        '[infinite_width]\nn_train = [12, 30]\ntile = 16\ntimes = ["steps", "infinite", "posterior"]\nnoise = 0.1',
    ),
    "bayes": POSTERIOR.format(
        widths="[10, 40]", sizes="[15, 30]", draws=2, temperatures="[0.01]", factors="[0.5]", chains=4,
        sampled_widths="[]", sampled_sizes="[]", populations=3,
    ),
    "comparison": COMPARISON,
}  # fmt: skip
"""A study of each kind, which has all of its phases."""

PHASES = [(kind, name) for kind, text in TEXTS.items() for name in studies.layout(studies.loads(text)).phases]


def described(kind: str, name: str) -> tuple[Study, Phase]:
    wanted = studies.loads(TEXTS[kind])
    return wanted, studies.layout(wanted).phases[name]


def test_there_is_a_study_of_every_kind_with_all_phases() -> None:
    assert set(TEXTS) == set(studies.KINDS)
    for kind in studies.KINDS.values():
        assert set(studies.layout(studies.loads(TEXTS[kind.name])).phases) == {one.name for one in kind.phases}


@pytest.mark.parametrize(("kind", "name"), PHASES)
def test_each_phase_says_what_makes_it_smaller_fewer_and_quicker(kind: str, name: str) -> None:
    wanted, phase = described(kind, name)
    assert_names_own_fields(phase.lower, wanted)
    if phase.blocks == ("variant",):
        assert "fewer variants" in phase.fewer  # which are no field
    elif phase.blocks:
        assert_names_own_fields(phase.fewer, wanted)
    if phase.keeps_tiles:
        assert_names_own_fields(phase.shorten, wanted)


@pytest.mark.parametrize(("kind", "name"), PHASES)
def test_a_partition_too_small_or_too_short_names_fields_of_the_study(kind: str, name: str) -> None:
    wanted, phase = described(kind, name)
    layout, planned = studies.layout(wanted), plan.make(wanted)
    shards = {name: planned.of_phase(name)}
    with pytest.raises(ProfileError, match=rf"a worker of phase {name} needs") as error:
        tasks.arrays(layout, planned, shards, profile(memory_gb=0.3), "n", 9)
    assert_names_own_fields(str(error.value), wanted)
    slow = [msgspec.structs.replace(one, seconds=1e6, tile_seconds=1e6 * phase.keeps_tiles) for one in shards[name]]
    with pytest.raises(ProfileError, match="cannot be stopped and continued") as error:
        tasks.arrays(layout, planned, {name: slow}, profile(), "n", 9)
    assert_names_own_fields(str(error.value), wanted)


def refused(wanted: Study, runs: Path) -> NtkhpcError:
    with pytest.raises(SurroundingsError) as caught:
        prepare.open_run(runs, wanted)
    assert not runs.exists()
    return caught.value


def test_a_machine_holds_a_worker_if_it_holds_what_a_job_would_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan.make(studies.loads(TEXTS["ensemble"]))
    largest = max(planned.memory_bytes.values())
    for there, fits in ((1.01 * MARGIN * largest, True), (0.99 * MARGIN * largest, False)):
        monkeypatch.setattr(capacity, "at_hand", lambda there=there: int(there))
        assert (prepare.too_large(planned) is None) == fits
    assert prepare.too_large(planned, min(planned.memory_bytes, key=planned.memory_bytes.__getitem__)) is None


@pytest.mark.parametrize("kind", TEXTS)
def test_a_machine_too_small_names_fields_of_the_study(kind: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = studies.loads(TEXTS[kind])
    with monkeypatch.context() as patch:
        patch.setattr(capacity, "at_hand", lambda: 2**20)
        assert_names_own_fields(str(refused(wanted, runs)), wanted)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
        assert_names_own_fields(str(refused(wanted, runs)), wanted)
    with monkeypatch.context() as patch:
        patch.setattr(
            os,
            "statvfs",
            lambda _: SimpleNamespace(
                f_files=10, f_favail=5, f_bavail=2**40, f_frsize=1, f_blocks=2**40, f_bfree=2**40
            ),
        )
        assert_names_own_fields(str(refused(wanted, runs)), wanted)

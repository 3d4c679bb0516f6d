"""What the doctor asks of a node, and what it makes of the answer. A stub of srun runs the check here."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from support.job_arrays import profile
from support.lab import on_table

from ntkhpc import studies
from ntkhpc.launch import doctor, nodecheck, speed
from ntkhpc.launch.profile import Container, Profile
from ntkhpc.studies import facts
from ntkhpc.studies.base import Study

SRUN = """#!/bin/sh
while [ "$1" != bash ]; do shift; done
exec "$@"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A profile without an image, for nodes that are this machine."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = profile()
    return Profile(partitions=found.partitions, name="mine", container=Container(runtime="none"))


@pytest.fixture
def table(tmp_path: Path) -> Study:
    """A study of a user's table, resolved: it has facts."""
    wanted = facts.resolve(studies.loads(on_table("table", tmp_path)), tmp_path)
    assert wanted.facts
    return wanted


def look(runs: Path, given: Profile, wanted: Study | None) -> list[doctor.Finding]:
    runs.mkdir()
    return list(doctor._node(runs, given, "main", given.partitions["main"], None, wanted))


def test_a_node_is_timed_with_a_study_of_a_users_table(runs: Path, here: Profile, table: Study) -> None:
    found = look(runs, here, table)
    assert all(one.ok for one in found), found
    assert speed.speeds(here, table.id)["main"] > 0
    assert not list(runs.iterdir())


def test_a_node_sees_the_code_and_the_environment_of_workers_and_nothing_of_this_installation(
    runs: Path, tmp_path: Path, here: Profile
) -> None:
    """The folder of an installed package is site-packages, whose JAX would hide that of the image."""
    said = tmp_path / "said"
    stub = f"#!/bin/sh\n{{ printf '%s\\n' \"$@\"; find .; }} >'{said}'\nexit 1\n"
    (tmp_path / "tools" / "apptainer").write_text(stub)
    (tmp_path / "tools" / "apptainer").chmod(0o755)
    runs.mkdir()
    (refused,) = doctor._node(runs, here, "main", here.partitions["main"], tmp_path / "i.sif", None)
    assert refused.ok is False
    words = said.read_text().splitlines()
    assert [after for word, after in pairwise(words) if word == "--bind"] == [str(runs)]
    isolated = words.index("-I")
    assert words[isolated - 2 : isolated] == [str(tmp_path / "i.sif"), "python3"]
    copy, _, code, code_hash, *settings = words[isolated + 3 : words.index("--")]
    assert settings == ["JAX_PLATFORMS=cpu"]
    assert code_hash.startswith(Path(code).name)
    for name in (Path(code) / "ntkhpc" / "launch" / "nodecheck.py", Path(copy)):
        assert f"./{name.relative_to(runs)}" in words
    assert not list(runs.iterdir())


def test_a_study_that_cannot_be_timed_says_nothing_about_the_device(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("no study")
    found = nodecheck.look(tmp_path, "study.toml", str(tmp_path / "study.toml"))
    assert found["platform"] != "none"
    assert "speed" not in found
    assert "the study cannot be read" in found["untimed"]
    json.dumps(found)

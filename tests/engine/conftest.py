"""Copies of runs that older versions made, and the studies that their users wrote."""

from pathlib import Path

import pytest
from support import older
from support.older import ARCHIVES

from ntkhpc.engine.run import Run

KINDS = ("ensemble", "posterior")


@pytest.fixture(scope="session", params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return older.unpacked(tmp_path_factory, request.param)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old(folder: Path, kind: str, runs: Path) -> Run:
    runs.mkdir()
    return older.copy(folder, kind, runs)


def _as_it_was(text: str) -> str:
    for table, field in (("[ensemble]", "recheck = 0.0"), ("[infinite_width]", "redraws = 0"),
                         ('source = "calorimeter"', "generator = 1")):  # fmt: skip
        text = text.replace(f"{table}\n", f"{table}\n{field}\n")
    return text


@pytest.fixture
def study_file(folder: Path, kind: str, tmp_path: Path) -> Path:
    """The study as its user wrote it, and its table, in places of their own.

    There were no second runs, further draws and other showers then. Where a study does not say, there are today, which
    is another study.
    """
    for name in (f"studies/{kind}.toml", "data/points.csv"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(_as_it_was((folder / name).read_text()))
    return tmp_path / "studies" / f"{kind}.toml"

"""The package as pip installs it: in an environment of its own, used in a folder that is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from support.runs import ROOT, tiny_text

from ntkhpc import __version__, files

SOURCE = ("pyproject.toml", "README.md", "LICENSE", "requirements.lock", "ntkhpc", "analysis")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `ntkhpc` of a wheel in a fresh environment, which sees the packages of this one.

    The environment stands in an unrelated repository, as a user's often does.
    """
    folder = tmp_path_factory.mktemp("wheel")
    _run(["git", "init", "--quiet"], folder)
    _run(["git", "-c", "user.name=a", "-c", "user.email=a", "commit", "--quiet", "--allow-empty", "-m", "a"], folder)
    source, wheels, environment = folder / "source", folder / "wheels", folder / "environment"
    source.mkdir()
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", wheels, source], folder)
    venv.create(environment, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    _run([*pip, "--python", environment, "install", "--no-deps", "--no-index", *wheels.glob("*.whl")], folder)
    (packages / "packages-of-the-tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin" / "ntkhpc"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny study in a folder that holds nothing else."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "tiny.toml").write_text(tiny_text(members=4, shard_members=4))
    return folder / "tiny.toml"


def _run(command: list[object], folder: Path, status: int = 0) -> str:
    """What a program says that sees no checkout; `status` is how it must end."""
    hidden = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_version_is_said(installed: Path, tmp_path: Path) -> None:
    assert _run([installed, "--version"], tmp_path) == f"ntkhpc {__version__}\n"


@pytest.mark.promise(
    "A wheel plans, runs, verifies and reports a study given by path, in a folder that is no checkout."
)
def test_a_study_given_by_path_is_planned_run_looked_at_and_reported(installed: Path, study: Path) -> None:
    folder = study.parent
    which = "--task=tiny.toml"
    assert "nothing was written" in _run([installed, "plan", which], folder)
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.toml"]
    assert "complete. Its values" in _run([installed, "submit", which, "--cores=1"], folder)
    assert "complete. Its values" in _run([installed, "status", which], folder)
    assert "intact" in _run([installed, "verify", which], folder)
    report = next(folder.glob("runs/tiny-*/analysis/report.html"))
    report.unlink()
    assert f"report: {report}" in _run([installed, "report", which], folder)
    assert report.is_file()

    manifest = files.read_sealed(report.parent.parent / "manifest.json")
    code = report.parent.parent / "code" / manifest["code"][:12]
    assert sorted(path.name for path in code.iterdir()) == ["analysis", "ntkhpc", "requirements.lock"]
    assert (code / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()
    assert manifest["lock"] == files.sha256_file(ROOT / "requirements.lock")
    assert manifest["git"] is None  # the repository around the environment is none of ours


def test_a_named_study_is_said_to_need_a_checkout(installed: Path, tmp_path: Path) -> None:
    said = _run([installed, "plan", "--task=mnist"], tmp_path, status=2)
    assert "named studies are those of jobs/ in a checkout" in said


def test_the_citation_names_the_version() -> None:
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text().splitlines()

"""Packages that workers would not see are found missing before there is a run."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from rich.console import Console
from support.job_arrays import profile
from support.runs import ROOT, make_run, tiny_text

from ntkhpc.errors import SurroundingsError
from ntkhpc.launch import cluster, container, local, seen
from ntkhpc.launch.profile import Analysis, Container, Profile

PACKAGES = sysconfig.get_path("purelib")


def submit(python: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.toml").write_text(tiny_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [python, "-m", "ntkhpc", "submit", "--task=tiny.toml", "--profile=local"],
        cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def assert_refused(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    for words in ("workers would not see", "jax", "submitit", "--user", "PYTHONPATH", "virtual environment"):
        assert words in done.stderr
    assert not (folder / "runs").exists()


@pytest.mark.promise("Packages that workers would not see are named before a run is made.")
def test_packages_on_pythonpath_are_refused_before_there_is_a_run(tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", symlinks=True)
    found = os.pathsep.join((str(ROOT), PACKAGES))
    assert_refused(submit(tmp_path / "empty" / "bin" / "python", tmp_path, PYTHONPATH=found), tmp_path)


def test_packages_of_the_user_are_refused_before_there_is_a_run(tmp_path: Path) -> None:
    site = Path(sysconfig.get_path("purelib", f"{os.name}_user", {"userbase": str(tmp_path)}))
    site.mkdir(parents=True)
    (site / "all.pth").write_text(f"{PACKAGES}\n")
    python = Path(getattr(sys, "_base_executable", sys.executable))
    bare = subprocess.run(
        [python, "-s", "-c", "import sys, importlib.util as u; sys.exit(u.find_spec('jax') is None)"],
        env={"PATH": os.environ["PATH"]}, check=False,
    )  # fmt: skip
    if bare.returncode == 0:
        pytest.skip("this environment's own interpreter has the packages")
    assert_refused(submit(python, tmp_path, PYTHONUSERBASE=str(tmp_path), PYTHONPATH=str(ROOT)), tmp_path)


def other_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process sees a JAX that workers do not."""
    real = seen.versions
    monkeypatch.setattr(seen, "versions", lambda names: {**real(names), "jax": "0"})


WITHOUT_IMAGE = Container(runtime="none")


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"container": WITHOUT_IMAGE}, True),
        ({"analysis": Analysis(dask="slurm")}, True),  # the analysis runs in the Python of the login node
        ({}, False),
    ],
)
def test_packages_of_an_image_are_not_asked_about(
    given: dict[str, object], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Profile(partitions=profile().partitions, name="mine", **given)
    container.require_packages(wanted)
    other_jax(monkeypatch)
    if not refused:
        container.require_packages(wanted)
        return
    with pytest.raises(SurroundingsError, match=r"jax 0 \(they see "):
        container.require_packages(wanted)


def test_a_run_that_is_there_starts_no_worker(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_run(runs)
    other_jax(monkeypatch)
    with pytest.raises(SurroundingsError, match="workers would not see"):
        local.run(target, Console(quiet=True))
    assert not (target.path / "logs").exists()
    wanted = Profile(partitions=profile().partitions, name="mine", container=WITHOUT_IMAGE)
    with pytest.raises(SurroundingsError, match="workers would not see"):
        cluster.submit(target, wanted, Console(quiet=True))
    assert not (target.path / "launch.json").exists()


def test_a_python_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho 'libpython is gone' >&2\nexit 127\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SurroundingsError, match="libpython is gone"):
        container.require_packages(None)

"""Which packages a run is bound to, and which are recorded only."""

import importlib.metadata
from pathlib import Path

import pytest
from msgspec import structs, to_builtins
from support.runs import make_run, ntkhpc, run_shards

from ntkhpc import files
from ntkhpc.engine import frozen_code, packages
from ntkhpc.engine.run import Run
from ntkhpc.launch import prepare


def made_with(runs: Path, versions: dict[str, str]) -> Run:
    """A new run whose manifest says that it was made with these versions."""
    target = make_run(runs)
    changed = structs.replace(target.manifest, versions=versions)
    (target.path / "manifest.json").write_bytes(files.seal(to_builtins(changed)))
    return target


def test_packages_of_values_and_of_reports_are_recorded(runs: Path) -> None:
    recorded = make_run(runs).manifest.versions
    assert set(recorded) == {"python", *packages.PACKAGES}
    assert "missing" not in recorded.values()
    assert {"jax", "zarr", "lmfit", "dask", "xarray"} <= set(recorded)


@pytest.mark.parametrize("name", ["python", *packages.DECIDING])
def test_another_version_of_what_decides_values_is_refused(name: str) -> None:
    here = packages.versions()
    assert packages.changed_versions({**here, name: "0"}) == [(name, "0", here[name])]


def test_another_version_of_what_decides_no_value_is_not(runs: Path) -> None:
    target = made_with(
        runs, {**packages.versions(), **dict.fromkeys(set(packages.PACKAGES) - set(packages.DECIDING), "0")}
    )
    assert prepare.differences(target) == []
    prepare.require_same_packages(target)


def recorded_by_older_code(submitit: str) -> dict[str, str]:
    """What code of format 1 recorded: submitit too, and fewer of the others."""
    here = packages.versions()
    return {**{name: here[name] for name in ("python", "jax", "jaxlib", "numpy")}, "submitit": submitit}


def test_a_run_of_older_code_goes_on(runs: Path) -> None:
    """Its manifest lacks what was not recorded then."""
    target = made_with(runs, recorded_by_older_code(importlib.metadata.version("submitit")))
    assert prepare.differences(target) == []
    prepare.require_same_packages(target)
    done = run_shards(target, ["data-0"])
    assert done.returncode == 0, done.stderr


def test_a_run_of_older_code_with_another_submitit_is_refused_before_anything_is_started(runs: Path) -> None:
    """Its own code compares every name of its record: each of its workers would refuse."""
    target = made_with(runs, recorded_by_older_code("0"))
    refused = ntkhpc("resume", f"--run={target.path}", "--cores=1")
    assert refused.returncode == 1
    assert "packages changed since the run was made: submitit 0 became" in refused.stderr
    assert "ACCEPT_CHANGE=1" in refused.stderr
    assert not (target.path / "logs").exists()
    assert not any(list(target.path.glob(f"{kind}/*/*")) for kind in ("receipts", "claims", "failures"))


def test_a_run_of_older_code_with_another_submitit_goes_on_when_the_change_is_accepted(runs: Path) -> None:
    target = made_with(runs, recorded_by_older_code("0"))
    prepare.accept_change(target, why="; ".join(prepare.differences(target)))
    assert prepare.differences(target) == []
    prepare.require_same_packages(target)
    done = run_shards(target, ["data-0"])
    assert done.returncode == 0, done.stderr
    assert "submitit 0 became" in target.manifest.changes[0]["why"]


def test_git_is_asked_about_this_file_only(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen copy within a checkout, or an installed package, is tracked by no repository."""
    frozen = make_run(runs).code
    monkeypatch.setattr(frozen_code, "__file__", str(frozen / "ntkhpc" / "engine" / "frozen_code.py"))
    assert frozen_code.git() is None

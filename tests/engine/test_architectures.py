"""Runs of a study with an architecture: by tiles and whole, and what they record."""

from pathlib import Path

import numpy as np
import pytest
from support.runs import made_once, ntkhpc, run_shards, tiny_text

from ntkhpc import files, studies
from ntkhpc.engine import packages, run, store
from ntkhpc.engine.run import Run

TEXT = """
serial(Conv(width, (2, 2), padding="SAME"), Relu(), AvgPool((2, 2)), Flatten(), Dense(outputs))
"""
NETWORK = f"widths = [4]\narchitecture = '''{TEXT}'''"


def text(tile: int, method: str = "exact") -> str:
    """Showers in 3 x 3 cells, of which the layers are the channels."""
    section = f'[infinite_width]\nn_train = [16, 30]\ntimes = ["infinite"]\ntile = {tile}\nmethod = "{method}"\n'
    given = tiny_text(redraws=0).replace("[infinite_width]\n", section).replace("widths = [4]", NETWORK)
    return given.replace('source = "calorimeter"', 'source = "calorimeter"\ninputs = "cells"\ncells = 3')


def compute(runs: Path, *phases: str, **changes: object) -> Run:
    target = run.create(runs, studies.loads(text(**changes)))  # type: ignore[arg-type]  # of a dict
    for phase in phases:
        done = run_shards(target, [shard.id for shard in target.plan.of_phase(phase)])
        assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    phases = ("data", "kernel", "factor", "curve", "law", "ensemble")
    return made_once(tmp_path_factory, "architecture", lambda folder: compute(folder, *phases, tile=16))


@pytest.mark.promise("A learning curve of any architecture by tiles has the numbers of whole matrices to 1e-8.")
def test_a_curve_by_tiles_is_that_of_whole_matrices(tiled: Run, runs: Path) -> None:
    whole = compute(runs, "data", "curve", tile=64)
    assert len(tiled.plan.of_phase("kernel")) == 5
    for array in whole.layout.arrays("curve"):
        found, expected = (store.load(one.store, array.name)[array.name] for one in (tiled, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max(), err_msg=array.name)


def test_networks_of_an_architecture_are_trained_and_have_a_law(tiled: Run) -> None:
    """At width 4 the mean loss is that of the law to a factor of two; before training all members differ."""
    found = store.load(tiled.store, "test_loss", "law_cumulant", "status", "test_loss_trace")
    assert (found["status"] == 0).all()
    trained = found["test_loss"].mean(axis=-1)[0].T  # (draw, n_train)
    ratio = trained.ravel() / found["law_cumulant"][..., 0].ravel()
    assert ((ratio > 0.5) & (ratio < 2)).all()
    assert len(set(found["test_loss_trace"][0, 0, 0, :, 0].tolist())) == tiled.study.ensemble.members


def test_its_runs_record_the_version_of_neural_tangents(tiled: Run, runs: Path) -> None:
    version = packages.versions(packages.SOME)["neural-tangents"]
    assert version != "missing"
    assert tiled.manifest.versions["neural-tangents"] == version
    receipt = files.read_sealed(tiled.receipt(tiled.plan.of_phase("curve")[0]))
    assert receipt["fingerprint"]["versions"]["neural-tangents"] == receipt["versions"]["neural-tangents"] == version
    assert packages.changed_versions({**tiled.manifest.versions, "neural-tangents": "0"}) == [
        ("neural-tangents", "0", version)
    ]
    assert "neural-tangents" not in run.create(runs, studies.loads(tiny_text())).manifest.versions


@pytest.mark.promise("plan refuses an architecture that does not fit the data, and says where in its text.")
def test_plan_refuses_an_architecture_that_does_not_fit_the_data(tmp_path: Path) -> None:
    task = tmp_path / "wrong.toml"
    task.write_text(text(64).replace("Flatten(), ", ""))
    done = ntkhpc("plan", f"--task={task}", f"--runs={tmp_path / 'runs'}")
    assert done.returncode != 0
    assert "network.architecture" in done.stderr
    assert "Flatten()" in done.stderr
    assert not (tmp_path / "runs").exists()

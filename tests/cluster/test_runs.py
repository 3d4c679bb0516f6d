"""Runs on a real SLURM in the real image, and that they give what a local run gives."""

import json
import re
from pathlib import Path

import pytest
from support.lab import (
    IMAGE,
    POSTERIOR,
    ROOT,
    Lab,
    assert_bits_are_local,
    complete,
    logs,
    of_phase,
    on_table,
    study_text,
    submit,
    wait_until_idle,
)

from ntkhpc import files
from ntkhpc.engine.run import Run
from ntkhpc.launch import submissions


@pytest.fixture(scope="module")
def calorimeter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Run]:
    lab = Lab(tmp_path_factory.mktemp("calorimeter"))
    lab.profile(cores=2)
    target = submit(lab, (ROOT / "jobs" / "calorimeter.toml").read_text())
    wait_until_idle(target, 1800)
    return lab, target


def test_the_calorimeter_study_runs_in_the_image_and_is_reported(calorimeter: tuple[Lab, Run]) -> None:
    lab, target = calorimeter
    assert complete(target), logs(target)
    code, output = lab.make("status")
    assert code == 0, output
    assert "contributes" in (target.path / "analysis" / "summary.txt").read_text()
    digest = files.sha256_file(Path(IMAGE))
    assert {receipt.image for receipt in of_phase(target, "ensemble")} == {digest}
    assert json.loads((target.path / "launch.json").read_text())["images"][0]["sha256"] == digest
    code, output = lab.make("efficiency")
    assert code == 0, output
    assert "ensemble" in output
    code, output = lab.make("submit")
    assert code == 0, output
    assert len(submissions.read(target)) == 1


@pytest.mark.promise("The calorimeter study on SLURM in the image has the stored bytes of a local run without either.")
def test_the_calorimeter_study_has_the_bytes_of_a_local_run(calorimeter: tuple[Lab, Run]) -> None:
    assert_bits_are_local(*calorimeter)


def test_a_bayesian_study_runs_as_arrays_and_has_the_bytes_of_a_local_run(lab: Lab) -> None:
    lab.profile(task_minutes=0.01)
    target = submit(lab, POSTERIOR)
    (made,) = submissions.read(target)
    tasks = {array.phase: len(array.tasks) for array in made.intent.arrays}
    assert tasks == {"data": 1, "theory": 1, "adaptive": 1, "chains": 2, "analysis": 1}
    wait_until_idle(target)
    assert complete(target), logs(target)
    assert {receipt.image for receipt in of_phase(target, "chains")} == {files.sha256_file(Path(IMAGE))}
    assert "theory" in (target.path / "analysis" / "summary.txt").read_text()
    assert_bits_are_local(lab, target)


@pytest.mark.promise("Kernels, factors and curves by tiles on SLURM in the image have the bytes of a local run.")
def test_a_curve_by_tiles_runs_as_arrays_and_has_the_bytes_of_a_local_run(lab: Lab) -> None:
    lab.profile(cores=2, task_minutes=0.01)
    target = submit(lab, study_text("tiled") + "[infinite_width]\nn_train = [8, 16, 30]\ntile = 16\nredraws = 0\n")
    made = submissions.read(target)[0].intent.arrays
    assert sum(len(array.tasks) for array in made if array.phase == "kernel") == 5
    (chain,) = (array for array in made if array.phase == "factor")
    assert (len(chain.tasks), chain.workers) == (1, 1)  # one draw's columns, one after another
    wait_until_idle(target)
    assert complete(target), logs(target)
    assert_bits_are_local(lab, target)


@pytest.mark.promise("37 shards under MaxArraySize 4 run exactly once each.")
def test_37_shards_over_arrays_of_4_each_exactly_once(lab: Lab) -> None:
    lab.profile(task_minutes=0.01)
    target = submit(lab, study_text("many", members=74, shard_members=2, n_train="[8]"))
    arrays = [array for array in submissions.read(target)[0].intent.arrays if array.phase == "ensemble"]
    assert [len(array.tasks) for array in arrays] == [4] * 9 + [1]  # MaxArraySize is 4
    wait_until_idle(target, 900)
    assert complete(target), logs(target)
    done = re.findall(r"ensemble/(\S+): done in", logs(target))
    assert len(done) == len(set(done)) == 37
    assert not list((target.path / "failures").glob("*"))


def test_a_users_own_table_is_read_in_the_container(lab: Lab, far: Path) -> None:
    """The table lies neither in the run nor in the checkout; jobs copy it to the disk of their node."""
    lab.profile(scratch=f"/tmp/{lab.home.name}")
    target = submit(lab, on_table("own", far))
    wait_until_idle(target)
    assert complete(target), logs(target)

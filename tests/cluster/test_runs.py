"""Runs on a real SLURM in the real image: what they give, and that nothing runs twice."""

import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lab import (
    IMAGE,
    POSTERIOR,
    ROOT,
    Lab,
    ask,
    assert_bits_are_local,
    complete,
    copy_checkout,
    logs,
    of_phase,
    resume_until_complete,
    study_text,
    submit,
    wait,
    wait_until_idle,
)

from ntkhpc import files, run, submissions
from ntkhpc.run import Run


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


def test_two_submissions_at_once_run_no_shard_twice(lab: Lab) -> None:
    lab.profile(task_minutes=0.01)
    target = lab.study(study_text("twice"))
    outputs = [process.communicate(timeout=300)[0] for process in [lab.start("submit") for _ in range(3)]]
    said = [("submitted" in output, "under way" in output, "in the queue already" in output) for output in outputs]
    assert sum(submitted for submitted, _, _ in said) == 1, outputs
    assert all(any(one) for one in said), outputs
    wait_until_idle(target)
    assert complete(target), logs(target)
    done = re.findall(r"(\S+/\S+): done in", logs(target))
    assert len(done) == len(set(done)) == len(run.load(target.path).plan.shards)


@pytest.mark.parametrize("stage", ["intent-written:1", "sbatch-called:1", "sbatch-called:3"])
def test_a_submission_that_dies_is_found_again_and_runs_no_shard_twice(lab: Lab, stage: str) -> None:
    target = lab.study(study_text("dies"))
    code, _ = lab.make("submit", NTKHPC_FAILPOINT=stage)
    assert code != 0
    code, output = lab.make("resume", f"RUN={target.path}")
    assert code == 0, output
    assert ("found job" in output) == stage.startswith("sbatch-called")
    resume_until_complete(lab, target, times=2)
    done = re.findall(r"(\S+/\S+): done in", logs(target))
    assert len(done) == len(set(done)) == len(run.load(target.path).plan.shards)


def test_ctrl_c_of_a_submission_leaves_nothing_half_known(lab: Lab) -> None:
    target = lab.study(study_text("stopped"))
    process = lab.start("submit")
    wait("intent", lambda: list(target.path.glob("submissions/*/intent.json")), 60)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    time.sleep(1)
    resume_until_complete(lab, target, times=2)
    done = re.findall(r"(\S+/\S+): done in", logs(target))
    assert len(done) == len(set(done))


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """A folder that Apptainer binds neither by itself nor as part of a home or a checkout."""
    with tempfile.TemporaryDirectory(dir="/srv") as folder:
        yield Path(folder)


def test_without_a_python_on_path_the_image_plans_and_the_shell_submits(tmp_path: Path, far: Path) -> None:
    lab = Lab(tmp_path, copy_checkout(tmp_path / "checkout"))
    (lab.checkout / ".venv").unlink()
    image = far / Path(IMAGE).name
    shutil.copy(IMAGE, image)
    lab.profile(image=image)
    images = lab.checkout / "containers" / "images"
    images.mkdir()
    (images / image.name).symlink_to(image)
    stub = tmp_path / "stub"
    stub.mkdir()
    for name in ("python", "python3", *(f"python3.{minor}" for minor in range(11, 16))):
        (stub / name).write_text("#!/bin/sh\nexit 127\n")
        (stub / name).chmod(0o755)
    path = f"{stub}:{os.environ['PATH']}"
    target = lab.study(on_table("pythonless", far))
    code, output = lab.make("submit", PATH=path)
    assert code == 0, output
    assert "running in" in output
    wait_until_idle(target)
    code, output = lab.make("status", PATH=path)
    assert code == 0, output
    assert complete(target), logs(target)
    assert not (lab.checkout / ".venv").exists()


def on_table(name: str, folder: Path) -> str:
    """A study of a table that lies in `folder`."""
    x = np.random.default_rng(1).normal(size=(200, 3))
    np.savez(folder / "table.npz", x=x, y=x[:, 0] + x[:, 1] ** 2)
    source = f'source = "file"\npath = "{folder / "table.npz"}"\nx = ["x"]\ny = ["y"]'
    return study_text(name).replace('source = "calorimeter"', source)


def test_a_users_own_table_is_read_in_the_container(lab: Lab, far: Path) -> None:
    """It lies neither in the run nor in the checkout; jobs copy it to the disk of their node."""
    lab.profile(scratch=f"/tmp/{lab.home.name}")
    target = submit(lab, on_table("own", far))
    wait_until_idle(target)
    assert complete(target), logs(target)


def test_an_analysis_by_dask_workers_in_jobs_of_their_own(lab: Lab) -> None:
    """The analysis in the Python of the login node, its workers in the image by dask-jobqueue."""
    path = lab.home / "config" / "ntkhpc" / "profiles" / "test.toml"
    path.write_text(path.read_text() + '[analysis]\ndask = "slurm"\nworkers = 2\ninterface = "lo"\n')
    target = submit(lab, study_text("dask"))
    wait("workers of Dask", lambda: "-dask" in ask("squeue", "-h", "-o", "%j"), 300)
    wait_until_idle(target)
    assert complete(target), logs(target)
    (receipt,) = of_phase(target, "analysis")
    assert receipt.image is None

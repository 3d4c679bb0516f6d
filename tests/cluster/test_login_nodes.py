"""Login nodes without a Python, and analyses that start on one."""

import os
import shutil
from pathlib import Path

import pytest
from support.lab import (
    IMAGE,
    Lab,
    ask,
    complete,
    copy_checkout,
    logs,
    of_phase,
    on_table,
    study_text,
    submit,
    wait,
    wait_until_idle,
)


@pytest.mark.promise("A login node without Python submits a study: the image plans and the shell calls sbatch.")
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

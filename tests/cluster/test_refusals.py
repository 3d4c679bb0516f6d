"""What a real cluster must not be given, or must say: bugs, no GPU, a silent SLURM, hostile names, other images."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lab import (
    IMAGE,
    ROOT,
    Lab,
    accounted,
    ask,
    complete,
    edit,
    job_of,
    logs,
    of_phase,
    study_text,
    submit,
    wait,
    wait_until_idle,
)

from ntkhpc.engine import exits
from ntkhpc.launch import submissions


@pytest.mark.promise("A bug fails its job, is named, is not tried again by itself, and goes on with the mended code.")
def test_a_bug_is_failed_stops_and_goes_on_once_mended(edited: Callable[[], Lab], tmp_path: Path) -> None:
    lab = edited()
    law = lab.checkout / "ntkhpc" / "studies" / "ensemble" / "law.py"
    edit(law, "    study, inputs =", "    raise KeyError('no such thing')\n    study, inputs =")
    target = submit(lab, study_text("buggy"))
    wait_until_idle(target)
    assert accounted(f"{job_of(target, 'law')}_0").startswith("FAILED|1:0")
    assert accounted(f"{job_of(target, 'analysis')}_0").startswith(f"FAILED|{exits.INCOMPLETE}:0")
    assert "PARTIAL" in (target.path / "analysis" / "summary.txt").read_text()
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "sacct").write_text("#!/bin/sh\necho 'accounting is off' >&2; exit 1\n")
    (stub / "sacct").chmod(0o755)
    for path in (os.environ["PATH"], f"{stub}:{os.environ['PATH']}"):
        code, output = lab.make("status", PATH=path)
        assert code != 0
        assert "KeyError" in output
        assert "an earlier phase was incomplete" in output
    code, output = lab.make("resume")
    assert code != 0
    assert "failed by a bug" in output
    edit(law, "    raise KeyError('no such thing')\n", "")
    code, output = lab.make("resume", "ACCEPT_CHANGE=1")
    assert code == 0, output
    wait_until_idle(target)
    assert complete(target), logs(target)


@pytest.mark.promise("A task that asked for a GPU which JAX does not see fails before any work.")
def test_tasks_that_ask_for_a_gpu_are_given_one_and_fail_before_any_work_where_jax_sees_none(lab: Lab) -> None:
    lab.profile(task_minutes=0.01)
    path = lab.home / "config" / "ntkhpc" / "profiles" / "test.toml"
    text = path.read_text().replace('gpu = ""\n', "")
    gpu = text.partition("[container]")[0].replace("partitions.main", "partitions.gpu") + 'gpu = "--gres=gpu:1"\n'
    path.write_text(f'[phases]\ndefault = "main"\nensemble = "gpu"\n{gpu}{text}')
    target = submit(lab, study_text("gpus"))
    wait_until_idle(target)
    records = [json.loads(one.read_text()) for one in (target.path / "failures").glob("*.json")]
    assert len(records) == 4
    assert {record["kind"] for record in records} == {"device"}
    assert all(re.search(r"CUDA_VISIBLE_DEVICES='[01]'", record["message"]) for record in records), records
    assert not list((target.path / "partial").glob("ensemble/*/*"))
    assert accounted(f"{job_of(target, 'ensemble')}_0").startswith("FAILED")
    _, output = lab.make("status")
    assert "a GPU was asked for and JAX sees none" in output


@pytest.mark.promise("If squeue fails or talks nonsense, status says unknown and resume submits nothing.")
def test_a_silent_or_confused_squeue_makes_the_status_unknown(lab: Lab, tmp_path: Path) -> None:
    target = submit(lab, study_text("silent"))
    for text in ("exit 1", "echo nonsense", "echo '123_[1-3,...]|PENDING|name|node|reason'"):
        stub = tmp_path / "stub"
        stub.mkdir(exist_ok=True)
        (stub / "squeue").write_text(f"#!/bin/sh\n{text}\n")
        (stub / "squeue").chmod(0o755)
        code, output = lab.make("status", PATH=f"{stub}:{os.environ['PATH']}")
        assert code != 0
        assert "unknown" in output, output
        code, output = lab.make("resume", PATH=f"{stub}:{os.environ['PATH']}")
        assert code != 0
        assert "submitted" not in output
    assert len(submissions.read(target)) == 1
    ask(
        "scancel",
        *{
            job_of(target, phase)
            for phase in ("data", "ensemble", "law", "curve", "redraws", "finalise", "recheck", "analysis")
        },
    )


@pytest.mark.promise("On a cluster hostile names, paths and profile fields are refused or literal, never executed.")
def test_hostile_names_are_refused_or_literal(tmp_path: Path) -> None:
    expanding = Lab(tmp_path / "$(touch owned)")  # which Apptainer's --env would run
    expanding.home.mkdir()
    expanding.profile()
    expanding.study(study_text())
    code, output = expanding.make("submit")
    assert code != 0
    assert "cannot be given" in output
    lab = Lab(tmp_path / "it's a grün; touch owned")
    lab.home.mkdir()
    lab.profile()
    for bad in ('name = "a\\nb"', "name = 'a;b'", "name = '$(touch owned)'"):
        lab.study(study_text())
        (lab.home / "study.toml").write_text(study_text().replace('name = "tiny"', bad))
        code, output = lab.make("submit")
        assert code != 0
        assert "name" in output
    profile = lab.home / "config" / "ntkhpc" / "profiles" / "test.toml"
    good = profile.read_text()
    for field in ("partition", "account", "qos", "constraint"):
        for value in ("main\\n#SBATCH --wrap=id", "main; id", "$(id)", "main\\n"):
            profile.write_text(good.replace('partition = "main"', f'{field} = "{value}"'))
            lab.study(study_text())
            code, output = lab.make("submit")
            assert code != 0, (field, value, output)
            assert field in output
    profile.write_text(good)
    target = submit(lab, study_text("literal"))
    wait_until_idle(target)
    assert complete(target), logs(target)
    assert not list(tmp_path.rglob("owned"))
    assert not (ROOT / "owned").exists()


def test_the_doctor_looks_at_a_node_and_times_it(lab: Lab) -> None:
    lab.study(study_text())
    code, output = lab.make("doctor")
    assert code == 0, output
    assert "nothing is wrong" in output
    assert re.search(r"node node\d \(partition main\): trains at", output)
    code, output = lab.make("plan")
    assert "by make doctor" in output
    lab.profile(partition="nowhere")
    code, output = lab.make("doctor")
    assert code != 0
    assert "WRONG" in output


def test_another_image_is_refused_unless_it_is_accepted(lab: Lab, tmp_path: Path) -> None:
    target = submit(lab, study_text("images"))
    wait("end of the data phase", lambda: of_phase(target, "data"), 120)
    ask(
        "scancel",
        *{
            job_of(target, phase)
            for phase in ("ensemble", "law", "curve", "redraws", "finalise", "recheck", "analysis")
        },
    )
    wait_until_idle(target)
    other = tmp_path / "other.sif"
    shutil.copy(IMAGE, other)
    with other.open("ab") as file:
        file.write(b"\0")
    profile = lab.home / "config" / "ntkhpc" / "profiles" / "test.toml"
    profile.write_text(profile.read_text().replace(IMAGE, str(other)))
    code, output = lab.make("resume")
    assert code != 0
    assert "was begun with image" in output
    code, output = lab.make("resume", "ACCEPT_CHANGE=1")
    assert code == 0, output
    wait_until_idle(target)
    assert complete(target), logs(target)
    assert len({receipt.image for phase in ("data", "law") for receipt in of_phase(target, phase)}) == 2

"""Submissions at once, killed or interrupted: no shard runs twice."""

import os
import re
import signal
import time

import pytest
from support.lab import Lab, complete, logs, resume_until_complete, study_text, wait, wait_until_idle

from ntkhpc.engine import run


@pytest.mark.promise("Of three submissions at once, one submits, and no shard runs twice.")
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


@pytest.mark.promise("A submission that died around sbatch is found again, and no shard runs twice.")
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

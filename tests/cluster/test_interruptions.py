"""Whatever stops a task on a real SLURM, its run is complete in the end, and has the bytes of an uninterrupted one."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lab import (
    ROOT,
    SLOW,
    Lab,
    ask,
    assert_bits_are_local,
    complete,
    copy_checkout,
    edit,
    job_of,
    logs,
    of_phase,
    queued,
    resume_until_complete,
    study_text,
    submit,
    wait,
)

from ntkhpc.engine import exits
from ntkhpc.engine.run import Run
from ntkhpc.launch import submissions


def first_tile(target: Run) -> None:
    wait(f"first tile of {target.path.name}", lambda: list(target.path.glob("partial/ensemble/*/*.npz")), 300)


def running_node(target: Run) -> tuple[str, str]:
    """(element, node) of a task of the ensemble that is at work."""
    name = [array.name for array in submissions.read(target)[-1].intent.arrays if array.phase == "ensemble"][-1]
    element, _, node = ask("squeue", "-h", "-r", "-t", "R", "-n", name, "-o", "%i %N").splitlines()[-1].partition(" ")
    return element, node


def waiting(home: Path, seconds: int) -> Lab:
    """A user each of whose tiles also waits on the cluster: a long task that leaves the machine to other tests, and
    that takes about as long on a busy one as on an idle one."""
    lab = Lab(home, copy_checkout(home / "checkout"))
    needed = "    def train(number: int) -> dict[str, np.ndarray]:\n"
    wait = f"        __import__('time').sleep({seconds} * ('SLURM_JOB_ID' in __import__('os').environ))\n"
    edit(lab.checkout / "ntkhpc/studies/ensemble/train.py", needed, needed + wait)
    return lab


def limited(home: Path) -> tuple[Lab, Run]:
    """A run whose one task of the ensemble needs 48 s at least and is stopped after 40."""
    lab = waiting(home, 4)
    lab.profile(partition="rough", task_minutes=60, ensemble_minutes=1, stop_seconds=20)
    return lab, submit(lab, study_text("limit", n_train="[8]", members=48, tile=4, shard_members=48))


Scenarios = dict[str, tuple[Lab, Run]]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    """Four runs, each interrupted once. SLURM holds a requeued job back for a while: so all wait together.

    They have nodes of their own, as other tests may use the cluster beside these.
    """

    def begin(name: str, **settings: float) -> tuple[Lab, Run]:
        lab = waiting(tmp_path_factory.mktemp(name), 3)
        lab.profile(partition="rough", **{"task_minutes": 60, **settings})
        return lab, submit(lab, study_text(name, n_train="[64]", members=96, tile=4, shard_members=32))

    found = {"limit": limited(tmp_path_factory.mktemp("limit"))}

    lab = Lab(tmp_path_factory.mktemp("preempted"))  # its tiles compute all the time, as they do for a user
    lab.profile(partition="rough", task_minutes=60)
    found["preempted"] = (lab, submit(lab, study_text("preempted", **SLOW, members=48, shard_members=16)))
    first_tile(found["preempted"][1])
    _, node = running_node(found["preempted"][1])
    urgent = ask(
        "sbatch", "--parsable", "-p", "urgent", "-w", node, "-c2", "--mem=2900M", "-o/dev/null", "--wrap=sleep 5"
    )
    wait("preemption", lambda: not ask("squeue", "-h", "-j", urgent.strip()), 120)

    found["requeued"] = begin("requeued", task_minutes=0.01)
    first_tile(found["requeued"][1])
    wait("all three elements at work", lambda: len([x for x in queued(found["requeued"][1]) if "RUNNING" in x]) == 3)
    array = job_of(found["requeued"][1], "ensemble")
    ask("scancel", "--signal=USR2", f"{array}_2")  # the last element, whose job id is the array's

    siblings = [found["requeued"][1].path / "receipts" / "ensemble" / f"w4-n64-d0-m{m}.json" for m in (0, 32)]
    wait("its siblings", lambda: all(path.exists() for path in siblings))

    found["node"] = begin("node")
    first_tile(found["node"][1])
    element, node = running_node(found["node"][1])
    control = str(ROOT / "tests" / "cluster" / "slurm_cluster.sh")
    job = ask("squeue", "-h", "-j", element, "-o", "%A").strip()
    # The node loses its power: all of the job is frozen before anything of it, or its slurmd, ends. A srun that
    # outlived one of them would ask for the end of the step, and slurmctld would pass that on to the next attempt.
    # The node stays down while these runs last: slurmctld would send a slurmd that is back the end of the first
    # attempt, late, and that can meet the second.
    pattern = rf"slurmstepd: \[{job}\.|/job0*{job}/slurm_script|{found['node'][1].path.name}"
    subprocess.run(["pkill", "-STOP", "-f", pattern], check=True, timeout=60)
    subprocess.run([control, "kill-node", node.removeprefix("node")], check=True, timeout=60)
    subprocess.run(["pkill", "-KILL", "-f", pattern], check=True, timeout=60)
    wait("node down", lambda: "down" in ask("sinfo", "-h", "-n", node, "-o", "%T"), 120)
    yield found
    subprocess.run([control, "restart-node", node.removeprefix("node")], check=True, timeout=60)


@pytest.mark.promise("A job that reaches its time limit keeps its finished tiles and is completed.")
def test_a_job_at_its_time_limit_keeps_its_tiles_and_goes_on(interrupted: Scenarios) -> None:
    lab, target = interrupted["limit"]
    resume_until_complete(lab, target)
    stopped = [end for end in submissions.read(target)[0].ends() if end.code == exits.STOPPED]
    assert stopped, logs(target)
    assert sum(receipt.tiles_reused for receipt in of_phase(target, "ensemble")) > 0


@pytest.mark.promise("A preempted job is requeued and uses the tiles of its first attempt.")
def test_a_preempted_job_loses_at_most_one_tile_a_worker(interrupted: Scenarios) -> None:
    lab, target = interrupted["preempted"]
    resume_until_complete(lab, target)
    assert any(receipt.restart_count > 0 for receipt in of_phase(target, "ensemble")), logs(target)
    assert sum(receipt.tiles_reused for receipt in of_phase(target, "ensemble")) > 0


@pytest.mark.promise("An element of a job array that is requeued leaves its siblings alone.")
def test_a_requeued_element_leaves_its_siblings_alone(interrupted: Scenarios) -> None:
    lab, target = interrupted["requeued"]
    resume_until_complete(lab, target)
    assert len(submissions.read(target)) == 1  # the host side of the task requeued it, nobody else
    ends = {(end.task, end.restart): end.code for end in submissions.read(target)[0].ends() if "ensemble" in end.array}
    assert ends == {(0, 0): 0, (1, 0): 0, (2, 0): exits.STOPPED, (2, 1): 0}, logs(target)


@pytest.mark.promise("A run whose node died is completed.")
def test_a_run_whose_node_died_is_complete_in_the_end(interrupted: Scenarios) -> None:
    lab, target = interrupted["node"]
    resume_until_complete(lab, target)
    assert any(receipt.restart_count > 0 for receipt in of_phase(target, "ensemble")), logs(target)


@pytest.mark.promise("A run that was preempted has the stored bytes of a local run that nothing interrupted.")
def test_interrupted_runs_have_the_bits_of_an_uninterrupted_one(interrupted: Scenarios) -> None:
    lab, target = interrupted["preempted"]
    assert complete(target)
    assert_bits_are_local(lab, target)


@pytest.mark.promise("A task that was killed for memory asks for more, until it is done.")
def test_a_task_over_its_memory_gets_more(edited: Callable[[], Lab]) -> None:
    lab = edited()
    # 862 MiB that no projection knows of: far more than the first two attempts ask for, so that they are killed at
    # once instead of crawling at their limit, and well within the third.
    ensemble = lab.checkout / "ntkhpc" / "studies" / "ensemble" / "train.py"
    edit(
        ensemble,
        "    study, inputs = work.study, work.inputs\n",
        "    study, inputs, ballast = work.study, work.inputs, np.ones(113_000_000)\n    assert ballast.all()\n",
    )
    target = submit(lab, study_text("hungry", n_train="[8]"))
    resume_until_complete(lab, target, times=4)
    asked = [a.memory_mb for one in submissions.read(target) for a in one.intent.arrays if a.phase == "ensemble"]
    assert len(asked) > 1
    assert asked == sorted(set(asked)), "each attempt asks for more"

"""Runs on a real SLURM in the real image: what they give, what interrupts them, and that nothing runs twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import (
    IMAGE,
    ROOT,
    SLOW,
    Lab,
    accounted,
    ask,
    complete,
    copy_checkout,
    edit,
    logs,
    queued,
    store_bytes,
    study_text,
    wait,
    wait_until_idle,
)

from ntkhpc import files, receipts, run, submissions
from ntkhpc.run import Run


def of_phase(target: Run, phase: str) -> list[receipts.Receipt]:
    found = [receipts.read(run.load(target.path), shard) for shard in run.load(target.path).plan.of_phase(phase)]
    return [one for one in found if one is not None]


def job_of(target: Run, phase: str) -> str:
    """The id of the last array of a phase."""
    made = submissions.read(target)[-1]
    return [made.job(array) for array in made.intent.arrays if array.phase == phase][-1] or ""


def submit(lab: Lab, text: str) -> Run:
    target = lab.study(text)
    code, output = lab.make("submit")
    assert code == 0, output
    return target


def resume_until_complete(lab: Lab, target: Run, times: int = 5) -> None:
    wait_until_idle(target)
    for _ in range(times):
        if complete(target):
            break
        code, output = lab.make("resume", f"RUN={target.path}")
        assert code == 0, output
        wait_until_idle(target)
    assert complete(target), lab.make("status", f"RUN={target.path}")[1] + logs(target)


def assert_bits_are_local(lab: Lab, target: Run) -> None:
    """The same study on this machine, without image or SLURM, gives the same store, byte for byte."""
    here = Lab(lab.home / "local", lab.checkout)
    here.home.mkdir()
    other = here.study((lab.home / "study.toml").read_text())
    code, output = here.make("submit", profile="local")
    assert code == 0, output
    prints = {receipt.fingerprint["id"] for one in (target, other) for receipt in of_phase(one, "ensemble")}
    assert len(prints) == 1
    assert store_bytes(target) == store_bytes(other)


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


def first_tile(target: Run) -> None:
    wait(f"first tile of {target.path.name}", lambda: list(target.path.glob("partial/ensemble/*/*.npz")), 300)


def running_node(target: Run) -> tuple[str, str]:
    """(element, node) of a task of the ensemble that is at work."""
    name = [array.name for array in submissions.read(target)[-1].intent.arrays if array.phase == "ensemble"][-1]
    element, _, node = ask("squeue", "-h", "-r", "-t", "R", "-n", name, "-o", "%i %N").splitlines()[-1].partition(" ")
    return element, node


Scenarios = dict[str, tuple[Lab, Run]]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Scenarios:
    """Four runs, each interrupted once. SLURM holds a requeued job back for two minutes: so all wait together."""
    slow = dict(SLOW, members=96, shard_members=32)

    def begin(name: str, seed: int, **settings: float) -> tuple[Lab, Run]:
        lab = Lab(tmp_path_factory.mktemp(name))
        lab.profile(**{"task_minutes": 60, **settings})
        return lab, submit(lab, study_text(name, seed=seed, **slow))

    found = {"limit": begin("limit", 1, minutes=1, stop_seconds=20)}

    found["preempted"] = begin("preempted", 2)
    first_tile(found["preempted"][1])
    _, node = running_node(found["preempted"][1])
    urgent = ask(
        "sbatch", "--parsable", "-p", "urgent", "-w", node, "-c2", "--mem=2900M", "-o/dev/null", "--wrap=sleep 5"
    )
    wait("preemption", lambda: not ask("squeue", "-h", "-j", urgent.strip()), 120)

    found["requeued"] = begin("requeued", 3, task_minutes=0.01)
    first_tile(found["requeued"][1])
    wait("all three elements at work", lambda: len([x for x in queued(found["requeued"][1]) if "RUNNING" in x]) == 3)
    array = job_of(found["requeued"][1], "ensemble")
    ask("scancel", "--signal=USR2", f"{array}_2")  # the last element, whose job id is the array's

    siblings = [found["requeued"][1].path / "receipts" / "ensemble" / f"w64-n64-d0-m{m}.json" for m in (0, 32)]
    wait("its siblings", lambda: all(path.exists() for path in siblings))

    found["node"] = begin("node", 4)
    first_tile(found["node"][1])
    element, node = running_node(found["node"][1])
    control = str(ROOT / "tests" / "cluster" / "slurm_cluster.sh")
    subprocess.run([control, "kill-node", node.removeprefix("node")], check=True, timeout=60)
    job = ask("squeue", "-h", "-j", element, "-o", "%A").strip()
    for pattern in (rf"slurmstepd: \[{job}\.", found["node"][1].path.name):  # the node loses its power
        subprocess.run(["pkill", "-9", "-f", pattern], check=False, timeout=60)
    wait("node down", lambda: "down" in ask("sinfo", "-h", "-n", node, "-o", "%T"), 120)
    subprocess.run([control, "restart-node", node.removeprefix("node")], check=True, timeout=60)
    return found


def test_the_calorimeter_study_has_the_bytes_of_a_local_run(
    calorimeter: tuple[Lab, Run], interrupted: Scenarios
) -> None:
    """The interrupted runs wait meanwhile."""
    assert_bits_are_local(*calorimeter)


def test_a_job_at_its_time_limit_keeps_its_tiles_and_goes_on(interrupted: Scenarios) -> None:
    lab, target = interrupted["limit"]
    resume_until_complete(lab, target)
    stopped = [end for end in submissions.read(target)[0].ends() if end.code == submissions.STOPPED]
    assert stopped, logs(target)
    assert sum(receipt.tiles_reused for receipt in of_phase(target, "ensemble")) > 0


def test_a_preempted_job_loses_at_most_one_tile_a_worker(interrupted: Scenarios) -> None:
    lab, target = interrupted["preempted"]
    resume_until_complete(lab, target)
    assert any(receipt.restart_count > 0 for receipt in of_phase(target, "ensemble")), logs(target)
    assert sum(receipt.tiles_reused for receipt in of_phase(target, "ensemble")) > 0


def test_a_requeued_element_leaves_its_siblings_alone(interrupted: Scenarios) -> None:
    lab, target = interrupted["requeued"]
    resume_until_complete(lab, target)
    assert len(submissions.read(target)) == 1  # the host side of the task requeued it, nobody else
    ends = {(end.task, end.restart): end.code for end in submissions.read(target)[0].ends() if "ensemble" in end.array}
    assert ends == {(0, 0): 0, (1, 0): 0, (2, 0): submissions.STOPPED, (2, 1): 0}, logs(target)


def test_a_run_whose_node_died_is_complete_in_the_end(interrupted: Scenarios) -> None:
    lab, target = interrupted["node"]
    resume_until_complete(lab, target)
    assert any(receipt.restart_count > 0 for receipt in of_phase(target, "ensemble")), logs(target)


def test_interrupted_runs_have_the_bits_of_an_uninterrupted_one(interrupted: Scenarios) -> None:
    lab, target = interrupted["preempted"]
    assert complete(target)
    assert_bits_are_local(lab, target)


def test_a_task_over_its_memory_gets_more(edited: Callable[[], Lab]) -> None:
    lab = edited()
    # 800 MB that no projection knows of.
    ensemble = lab.checkout / "ntkhpc" / "phases" / "ensemble.py"
    edit(
        ensemble,
        "    study = run.study\n",
        "    study, ballast = run.study, np.ones(10**8)\n    assert ballast.all()\n",
    )
    target = submit(lab, study_text("hungry", n_train="[8]"))
    resume_until_complete(lab, target, times=4)
    asked = [a.memory_mb for one in submissions.read(target) for a in one.intent.arrays if a.phase == "ensemble"]
    assert len(asked) > 1
    assert asked == sorted(set(asked)), "each attempt asks for more"


def test_a_bug_is_failed_stops_and_goes_on_once_mended(edited: Callable[[], Lab], tmp_path: Path) -> None:
    lab = edited()
    law = lab.checkout / "ntkhpc" / "phases" / "law.py"
    edit(law, "    study, inputs =", "    raise KeyError('no such thing')\n    study, inputs =")
    target = submit(lab, study_text("buggy"))
    wait_until_idle(target)
    assert accounted(f"{job_of(target, 'law')}_0").startswith("FAILED|1:0")
    assert accounted(f"{job_of(target, 'analysis')}_0").startswith(f"FAILED|{submissions.INCOMPLETE}:0")
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
    ask("scancel", *{job_of(target, phase) for phase in ("data", "ensemble", "law", "curve", "finalise", "analysis")})


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


def test_without_a_python_on_path_the_image_plans_and_the_shell_submits(tmp_path: Path) -> None:
    lab = Lab(tmp_path, copy_checkout(tmp_path / "checkout"))
    (lab.checkout / ".venv").unlink()
    lab.profile()
    images = lab.checkout / "containers" / "images"
    images.mkdir()
    (images / Path(IMAGE).name).symlink_to(IMAGE)
    stub = tmp_path / "stub"
    stub.mkdir()
    for name in ("python", "python3", *(f"python3.{minor}" for minor in range(11, 16))):
        (stub / name).write_text("#!/bin/sh\nexit 127\n")
        (stub / name).chmod(0o755)
    path = f"{stub}:{os.environ['PATH']}"
    target = lab.study(study_text("pythonless"))
    code, output = lab.make("submit", PATH=path)
    assert code == 0, output
    assert "running in" in output
    wait_until_idle(target)
    code, output = lab.make("status", PATH=path)
    assert code == 0, output
    assert complete(target), logs(target)
    assert not (lab.checkout / ".venv").exists()


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
    ask("scancel", *{job_of(target, phase) for phase in ("ensemble", "law", "curve", "finalise", "analysis")})
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

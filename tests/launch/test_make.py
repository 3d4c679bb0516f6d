"""The commands a user types."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.runs import ROOT, make_run, ntkhpc, run_shards, store_bytes, tiny_text

from ntkhpc import files
from ntkhpc.engine import claims, packages
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError
from ntkhpc.launch import local, prepare
from ntkhpc.options import SWITCHES


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project under a path with a space, a quote and an umlaut, with this environment's .venv."""
    copy = tmp_path / "it's a grün checkout"
    wanted = ("Makefile", "requirements.lock", "analysis", "containers", "jobs", "ntkhpc")
    copy.mkdir()
    for name in wanted:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("images"))
        else:
            shutil.copy(source, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    if not (ROOT / ".venv").exists():
        pytest.skip("the tests do not run from .venv: make would build one")
    return copy


def make(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "NTKHPC", "PYTHON"))}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env={**kept, "PROFILE": "local", **environment},
        start_new_session=True, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.promise(
    "A second submit runs no shard again, also in paths with spaces, quotes, umlauts and dollar signs."
)
def test_submit_status_verify_and_a_second_submit_in_a_hostile_path(checkout: Path, finished: Run) -> None:
    task = checkout / "my study; touch owned.toml"
    task.write_text(tiny_text())
    which = (f"TASK={task}", "RUNS=some runs/$HOME 'x'", "CORES=2")
    submitted = make(checkout, "submit", *which)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "complete. Its values" in submitted.stdout
    target = Run(checkout / "some runs" / "OME 'x'" / finished.path.name)  # make reads $H as a variable of its own
    if not target.path.exists():
        target = Run(checkout / "some runs" / "$HOME 'x'" / finished.path.name)
    assert store_bytes(target) == store_bytes(finished)
    receipts = {path: path.stat().st_mtime_ns for path in (target.path / "receipts").rglob("*.json")}
    again = make(checkout, "submit", *which)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (target.path / "receipts").rglob("*.json")} == receipts
    assert "to run" not in again.stdout
    assert make(checkout, "status", *which).returncode == 0
    assert "intact" in make(checkout, "verify", *which).stdout
    assert not list(checkout.rglob("owned*"))


HOSTILE = [
    "a; touch owned", "$(touch owned)", "`touch owned`", "'; touch owned; '", "x\ntouch owned", "$(shell touch owned)",
    "--help", '"quoted"', "grün",
]  # fmt: skip


@pytest.mark.promise("Hostile values of TASK are text, never executed.")
@pytest.mark.parametrize("task", HOSTILE)
def test_hostile_task_names_are_text(task: str, checkout: Path) -> None:
    said = make(checkout, "plan", f"TASK={task}")
    assert said.returncode == 2
    assert "no study is called" in said.stderr, said.stderr
    assert not list(checkout.rglob("owned"))


def test_make_without_a_target_lists_targets_variables_and_studies(checkout: Path) -> None:
    said = make(checkout).stdout
    for target in ("submit", "plan", "status", "resume", "verify", "test", "check"):
        assert f"make {target}" in said
    for name in ("TASK", "RUN", "RUNS", "CORES", "PROFILE", *map(str.upper, SWITCHES)):
        assert f"\n  {name}=" in said
    for study in (ROOT / "jobs").glob("*.toml"):
        assert f"\n  {study.stem} " in said


def test_set_up_runs_python_candidates_and_says_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".venv").unlink()
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("python3.11", "python3.12", "python3.13", "python3.14", "python3", "python"):
        (stubs / name).write_text("#!/bin/sh\nexit 127\n")
        (stubs / name).chmod(0o755)
    none = make(checkout, "venv", PATH=f"{stubs}:/usr/bin:/bin")
    assert none.returncode == 2
    assert "no Python 3.11 or newer was found on PATH" in none.stderr
    (stubs / "python3.12").write_text('#!/bin/sh\n[ "$1" = -m ] && exit 1\nexec ' + sys.executable + ' "$@"\n')
    no_venv = make(checkout, "venv", PATH=f"{stubs}:/usr/bin:/bin")
    assert "no working venv module" in no_venv.stderr
    assert "python3-venv" in no_venv.stderr
    assert "PYTHON=/nowhere does not run" in make(checkout, "venv", "PYTHON=/nowhere").stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.promise("An edit of the checkout does not change a run that exists: it goes on with its frozen code.")
def test_an_edit_of_the_checkout_never_changes_a_running_study(checkout: Path, finished: Run) -> None:
    task = checkout / "tiny.toml"
    task.write_text(tiny_text())
    which = ("TASK=tiny.toml", "CORES=1")
    environment = {"NTKHPC_FAILPOINT": "tile-saved:2"}
    assert make(checkout, "submit", *which, **environment).returncode != 0
    module = checkout / "ntkhpc" / "training.py"
    module.write_text(module.read_text().replace("0.5 * jnp.mean", "0.7 * jnp.mean"))
    resumed = make(checkout, "resume", *which)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "the run goes on with its frozen code" in resumed.stdout
    assert store_bytes(Run(checkout / "runs" / finished.path.name)) == store_bytes(finished)


@pytest.mark.promise("A change of code that was accepted is recorded, and every receipt names the code that made it.")
def test_an_accepted_change_is_recorded_and_used(checkout: Path, finished: Run) -> None:
    task = checkout / "tiny.toml"
    task.write_text(tiny_text())
    assert make(checkout, "submit", "TASK=tiny.toml", "CORES=1", NTKHPC_FAILPOINT="tile-saved:2").returncode != 0
    module = checkout / "ntkhpc" / "training.py"
    module.write_text(module.read_text() + "\n# another hash\n")
    resumed = make(checkout, "resume", "TASK=tiny.toml", "CORES=1", "ACCEPT_CHANGE=1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    target = Run(checkout / "runs" / finished.path.name)
    change = target.manifest.changes[0]
    codes = {files.read_sealed(target.receipt(shard))["code"] for shard in target.plan.shards}
    assert codes == set(change["code"])
    assert "intact" in make(checkout, "verify", "TASK=tiny.toml").stdout


@pytest.mark.promise(
    "A run does not go on with another version of a package that decides values (blackjax, jax, jaxlib, numpy, optax, "
    "scipy, zarr) until it is accepted."
)
def test_other_package_versions_are_refused_until_accepted(runs: Path) -> None:
    target = make_run(runs)
    from msgspec import structs, to_builtins

    made = target.manifest
    assert packages.DECIDING == ("blackjax", "jax", "jaxlib", "numpy", "optax", "scipy", "zarr")
    for name in packages.DECIDING:
        other = structs.replace(made, versions={**made.versions, name: "0.0.1"})
        (target.path / "manifest.json").write_bytes(files.seal(to_builtins(other)))
        with pytest.raises(RunError, match=f"{name} 0.0.1 became"):
            prepare.require_same_packages(Run(target.path))
    changed = structs.replace(target.manifest, versions={**target.manifest.versions, "jax": "0.0.1"})
    (target.path / "manifest.json").write_bytes(files.seal(to_builtins(changed)))
    refused = ntkhpc("resume", f"--run={target.path}")
    assert refused.returncode == 1
    assert "jax 0.0.1 became" in refused.stderr
    assert "ACCEPT_CHANGE=1" in refused.stderr
    assert "jax 0.0.1 -> " in run_shards(target, ["data-0"]).stderr
    assert ntkhpc("resume", f"--run={target.path}", "--accept-change", "--cores=1").returncode == 0


def test_a_failing_shard_is_named_with_its_cause_and_stops_the_phase(runs: Path) -> None:
    target = make_run(runs)
    failed = ntkhpc("resume", f"--run={target.path}", "--cores=1", NTKHPC_FAILPOINT="shard-computed:1:EIO")
    assert failed.returncode == 1
    assert "1 x SurroundingsError, last in data/data-0" in failed.stdout
    assert "input/output error" in failed.stdout
    assert ntkhpc("status", f"--run={target.path}").returncode == 1
    assert ntkhpc("resume", f"--run={target.path}", "--cores=2").returncode == 0
    assert "SurroundingsError" not in ntkhpc("status", f"--run={target.path}").stdout


@pytest.mark.promise("Two submissions at once on one machine end with the stored bytes of one, without a conflict.")
def test_two_submissions_at_once_compute_every_shard_once(runs: Path, finished: Run) -> None:
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text())
    command = [sys.executable, "-m", "ntkhpc", "submit", f"--task={task}", f"--runs={runs}", "--cores=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **piped) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert all(process.returncode in (0, 1) for process in both), said
    target = Run(runs / finished.path.name)
    for _ in range(3):  # the slower may have found the last shards claimed by the faster
        if ntkhpc("resume", f"--run={target.path}", "--cores=1").returncode == 0:
            break
        time.sleep(1)
    assert store_bytes(target) == store_bytes(finished)
    assert not (target.path / "conflicts").exists()
    assert not (target.path / "failures").exists()


@pytest.mark.promise("Ctrl-C and SIGTERM end a local submission without leaving a process or a claim behind.")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_submission_leaves_no_worker_behind(number: signal.Signals, runs: Path, finished: Run) -> None:
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text(members=4000, shard_members=2000))
    command = [sys.executable, "-m", "ntkhpc", "submit", f"--task={task}", f"--runs={runs}", "--cores=2"]
    command = ["env", "--default-signal=INT", *command]  # a shell's background jobs inherit an ignored one
    launcher = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    while not list(runs.glob("tiny-*/partial/ensemble/*/*.npz")):
        assert launcher.poll() is None
        time.sleep(0.1)
    launcher.send_signal(number)
    said = launcher.communicate(timeout=60)[0]
    assert launcher.returncode == 130
    assert "`make resume` continues" in said
    with pytest.raises(ProcessLookupError):
        os.killpg(launcher.pid, 0)
    target = Run(next(runs.glob("tiny-*")))
    assert claims.live(target, "ensemble", claims.gone_from_here) == {}
    assert not (target.path / "failures").exists()


def test_workers_that_do_not_stop_in_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Job:
        def __init__(self, code: str) -> None:
            self.process = subprocess.Popen(["sh", "-c", f"{code}; echo; exec sleep 60"], stdout=subprocess.PIPE)
            assert self.process.stdout is not None
            self.process.stdout.readline()  # from here on it is as the code has it
            self.job_id = str(self.process.pid)

        def done(self) -> bool:
            return self.process.poll() is not None

    monkeypatch.setattr(local, "STOP_SECONDS", 1.0)
    jobs = [Job("trap '' TERM"), Job(":")]
    assert local._stop(jobs[1:]) == 0
    assert local._stop(jobs) == 1
    for job in jobs:
        job.process.kill()
        job.process.communicate()


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["submit", "--task=calorimeter", "--runs=README.md"], "a file is in the way", 1),
        (["plan"], "no study was named", 2),
        (["plan", "--task=./jobs"], "Is a directory", 2),
        (["plan", "--task=nope.toml"], "No such file", 2),
        (["status", "--run=jobs"], "this is no run directory", 1),
        (["resume"], "no run was named", 1),
        (["submit", "--task=calorimeter", "--cores=0"], "not a positive whole number", 2),
    ],
)
def test_clumsy_commands_get_an_error_and_no_traceback(arguments: list[str], said: str, status: int) -> None:
    ran = ntkhpc(*arguments)
    assert ran.returncode == status
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.promise("Networks that diverge are counted, and submit says so.")
def test_a_study_whose_networks_diverge_says_so(runs: Path) -> None:
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text().replace("widths = [4]", "widths = [4]\nweight_variance = 1e30"))
    ran = ntkhpc("submit", f"--task={task}", f"--runs={runs}", "--cores=1")
    assert "warning: 22 networks diverged" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.promise(
    "A study whose workers cannot fit into memory is refused before there is a run, with the field to lower."
)
def test_a_worker_that_cannot_fit_is_refused_before_anything_is_made(runs: Path) -> None:
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text(widths="[4, 100000000]"))
    assert "warning: a worker of phase recheck needs about" in ntkhpc("plan", f"--task={task}").stdout
    refused = ntkhpc("submit", f"--task={task}", f"--runs={runs}")
    assert refused.returncode == 1
    assert "lower network.widths" in refused.stderr
    assert not runs.exists()


@pytest.mark.parametrize(
    "verb", ["plan", "design", "submit", "status", "resume", "report", "verify", "doctor", "efficiency"]
)
def test_a_recipe_is_one_verb(verb: str, checkout: Path) -> None:
    said = make(checkout, "-n", verb, "TASK=calorimeter", "SET_ASIDE=1", "RETRY=1").stdout
    assert said == f"sh containers/ntkhpc.sh {verb}\n"


def test_switches_reach_the_program_and_nonsense_is_refused(checkout: Path) -> None:
    (checkout / "containers" / "ntkhpc.sh").write_text("env | grep ^NTKHPC_ | sort\n")
    said = make(checkout, "verify", "TASK=calorimeter", "SET_ASIDE=0", "PARTIAL=1", NTKHPC_RUN="old", NTKHPC_RETRY="1")
    given = dict(line.split("=", 1) for line in said.stdout.splitlines())
    assert given["NTKHPC_TASK"] == "calorimeter"
    assert given["NTKHPC_RUN"] == ""  # a task that was named hides an exported run
    assert (given["NTKHPC_SET_ASIDE"], given["NTKHPC_PARTIAL"], given["NTKHPC_RETRY"]) == ("0", "1", "1")
    given = make(checkout, "design", "ERROR=2%", "OUT=a b.toml", NTKHPC_QUANTITY="mu_L").stdout.splitlines()
    assert {"NTKHPC_ERROR=2%", "NTKHPC_OUT=a b.toml", "NTKHPC_QUANTITY=mu_L"} <= set(given)
    given = make(checkout, "verify", "RETRY=0", NTKHPC_RUN="old", NTKHPC_RETRY="1").stdout.splitlines()
    assert {"NTKHPC_RUN=old", "NTKHPC_RETRY=0"} <= set(given)
    assert "NTKHPC_SET_ASIDE: 'maybe' is neither on" in ntkhpc("verify", NTKHPC_SET_ASIDE="maybe").stderr

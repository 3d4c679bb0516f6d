"""A checkout to edit, profiles for the virtual cluster, and waiting for SLURM."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntkhpc import studies
from ntkhpc.engine import arrays, receipts, run
from ntkhpc.engine.run import Run
from ntkhpc.launch import submissions
from ntkhpc.studies import facts

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = os.environ.get("NTKHPC_TEST_IMAGE", "")

STUDY = """
name = "{name}"
seed = {seed}
[data]
source = "calorimeter"
pool = {pool}
test = 15
[network]
widths = [{width}]
[training.steps]
factor = {factor}
[ensemble]
n_train = {n_train}
members = {members}
tile = {tile}
shard_members = {shard_members}
trace_points = 4
"""

PARTITION = """
[partitions.{label}]
partition = "{partition}"
cores = {cores}
memory_gb = {memory_gb}
minutes = {minutes}
gpu = "{gpu}"
"""

PROFILE = """
[container]
image = "{image}"
[limits]
task_minutes = {task_minutes}
stop_seconds = {stop_seconds}
restarts = {restarts}
"""


def study_text(
    name: str = "tiny",
    *,
    seed: int = 5,
    pool: int = 100,
    width: int = 4,
    factor: float = 1.0,
    n_train: str = "[8, 12]",
    members: int = 11,
    tile: int = 2,
    shard_members: int = 6,
) -> str:
    return STUDY.format(**locals())


def on_table(name: str, folder: Path) -> str:
    """A study of a table that lies in `folder`."""
    x = np.random.default_rng(1).normal(size=(200, 3))
    np.savez(folder / "table.npz", x=x, y=x[:, 0] + x[:, 1] ** 2)
    source = f'source = "file"\npath = "{folder / "table.npz"}"\nx = ["x"]\ny = ["y"]'
    return study_text(name).replace('source = "calorimeter"', source)


POSTERIOR = """
kind = "bayes"
name = "posterior"
seed = 5
[data]
source = "calorimeter"
pool = 40
test = 15
[network]
widths = [4]
[posterior]
n_train = [8]
[sampling]
chains = 4
shard_chains = 2
warmup = 20
draws = 8
tile = 4
[adaptive]
populations = 2
neurons = 40
updates = 20
"""

SLOW = {"width": 64, "factor": 400.0, "n_train": "[64]", "tile": 4, "pool": 100}
"""Settings of a study each of whose tiles takes about three seconds on one core."""


@dataclass(frozen=True)
class Lab:
    """One user of the cluster: a checkout of the project, a place for runs, profiles."""

    home: Path
    checkout: Path = ROOT

    def profile(
        self,
        *,
        partition: str = "main",
        cores: int = 1,
        memory_gb: float = 2.9,
        ensemble_minutes: int | None = None,
        gpu: str = "",
        task_minutes: float = 1.0,
        stop_seconds: int = 30,
        restarts: int = 20,
        image: Path | str = IMAGE,
        scratch: str = "",
    ) -> None:
        """Write the profile `test`; with `ensemble_minutes` the ensemble has a time limit of its own."""
        path = self.home / "config" / "ntkhpc" / "profiles" / "test.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        given = locals()
        text = PARTITION.format(label="main", minutes=60, **given) + PROFILE.format(**given)
        if ensemble_minutes:
            text = '[phases]\ndefault = "main"\nensemble = "short"\n' + text
            text += PARTITION.format(label="short", minutes=ensemble_minutes, **given)
        path.write_text((f'scratch = "{scratch}"\n' if scratch else "") + text)

    def study(self, text: str) -> Run:
        """Write a study, and say where its run will be."""
        path = self.home / "study.toml"
        path.write_text(text)
        return Run(self.home / "runs" / facts.resolve(studies.load(path), self.home).run_name)

    def start(self, verb: str, *arguments: str, profile: str = "test", **environment: str) -> subprocess.Popen[str]:
        which = () if any(one.startswith("RUN=") for one in arguments) else (f"TASK={self.home / 'study.toml'}",)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "NTKHPC", "PYTHON", "JAX"))}
        return subprocess.Popen(
            [
                "make",
                "--no-print-directory",
                verb,
                f"RUNS={self.home / 'runs'}",
                f"PROFILE={profile}",
                *which,
                *arguments,
            ],
            cwd=self.checkout,
            env={**kept, "XDG_CONFIG_HOME": str(self.home / "config"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, verb: str, *arguments: str, profile: str = "test", **environment: str) -> tuple[int, str]:
        process = self.start(verb, *arguments, profile=profile, **environment)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output


def copy_checkout(where: Path) -> Path:
    """A copy of the project to edit, with this environment's .venv."""
    where.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "analysis", "containers", "jobs", "ntkhpc"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("images", "__pycache__"))
        else:
            shutil.copy(source, where / name)
    (where / ".venv").symlink_to(ROOT / ".venv")
    return where


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def queued(target: Run) -> list[str]:
    """`id|state|reason` of the elements of a run's jobs that are in the queue."""
    lines = ask("squeue", "-h", "-r", "-o", "%i|%T|%r|%j").splitlines()
    return [line.rpartition("|")[0] for line in lines if target.path.name in line]


def wait(what: str, condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} in {seconds:.0f} s\n{ask('squeue')}\n{ask('sinfo')}"
        time.sleep(0.5)


def wait_until_idle(target: Run, seconds: float = 600) -> None:
    wait(f"end of the jobs of {target.path.name}", lambda: not queued(target), seconds)


def logs(target: Run) -> str:
    return "\n".join(f"{p.name}:\n{p.read_text()}" for p in sorted(target.path.glob("submissions/*/*.log")))


def store_bytes(target: Run) -> dict[str, bytes]:
    """Every file of the store, and of kernel.zarr beside it."""
    return {
        str(path.relative_to(target.path)): path.read_bytes()
        for room in arrays.rooms(target.store)
        for path in room.rglob("*")
        if path.is_file() and not path.name.endswith(".partial")
    }


def complete(target: Run) -> bool:
    loaded = run.load(target.path)
    return all(not loaded.missing(shard.phase) for shard in loaded.plan.shards)


def accounted(job: str) -> str:
    """State and exit status of a job by accounting, once it knows."""
    return ask("sacct", "-n", "-X", "-P", "-j", job, "-o", "State,ExitCode").strip()


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
    found = [receipt for one in (target, other) for phase in target.layout.phases for receipt in of_phase(one, phase)]
    assert len({receipt.fingerprint["id"] for receipt in found}) == 1
    assert store_bytes(target) == store_bytes(other)

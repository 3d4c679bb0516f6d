"""What a phase of a study holds at its peak, measured: its shards in a worker of their own, as a job runs them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ntkhpc.engine import run
from ntkhpc.engine.run import Run
from ntkhpc.launch.container import worker_environment
from ntkhpc.studies.base import Study

ENSEMBLE = """
name = "measured"
seed = 1
[data]
source = "calorimeter"
pool = {pool}
test = {test}
[network]
widths = {widths}
[training]
steps = {{ factor = 8.0, power = 0.0 }}
[ensemble]
n_train = {n_train}
members = {members}
shard_members = {members}
leap_members = {members}
twin = true
trace_points = 8
[infinite_width]
n_train = {curve}
draws = 1
redraws = 1
times = {times}
"""

POSTERIOR = """
kind = "bayes"
name = "measured"
seed = 1
[data]
source = "calorimeter"
pool = {n_train}
test = {test}
[network]
widths = {widths}
[posterior]
n_train = [{n_train}]
temperature = 0.01
[sampling]
sampler = "{sampler}"
warmup = 4
draws = 8
tile = 8
[adaptive]
populations = {populations}
neurons = {neurons}
updates = 20
"""

# A process's own count of its largest resident size: getrusage's begins with that of the process that forked it.
_WORKER = """
import sys
from ntkhpc.worker import run_shards
run_shards(sys.argv[1], sys.argv[3:])
status = open("/proc/self/status").read()
open(sys.argv[2], "w").write(status.split("VmHWM:")[1].split()[0])
"""


@dataclass(frozen=True)
class Peak:
    """Largest resident size of a worker that ran the shards of some phases, and what was projected for it, in bytes."""

    phases: tuple[str, ...]
    projected: int
    measured: int

    @property
    def ratio(self) -> float:
        return self.projected / self.measured

    def __str__(self) -> str:
        return (
            f"{' + '.join(self.phases):40} {self.projected / 2**20:7,.0f} MiB projected, "
            f"{self.measured / 2**20:7,.0f} MiB measured, {self.ratio:4.2f}"
        )


def peak(target: Run, phases: Sequence[str]) -> Peak:
    """Run what is missing of the phases in one worker; the phases that they need must be complete."""
    shards = [shard.id for phase in phases for shard in target.missing(phase)]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "peak"
        done = subprocess.run(
            [sys.executable, "-c", _WORKER, str(target.path), str(found), *shards],
            env={**_environment(), **worker_environment(target), "JAX_PLATFORMS": "cpu"},
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        measured = int(found.read_text()) * 1024
    return Peak(tuple(phases), max(target.plan.memory_bytes[phase] for phase in phases), measured)


def _environment() -> dict[str, str]:
    """This process's, without a cache that would spare the worker its compilation."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}


def peaks(wanted: Study, *, together: bool = False) -> Iterator[Peak]:
    """Each phase in a worker of its own; or, as on one core of this machine, the phases of a stage `together`."""
    with tempfile.TemporaryDirectory() as folder:
        target = run.create(Path(folder), wanted)
        for stage in target.layout.stages:
            for phases in [stage] if together else [(phase,) for phase in stage]:
                yield peak(target, phases)

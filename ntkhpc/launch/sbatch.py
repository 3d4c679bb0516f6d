"""This writes and submits the script of a job array by submitit. The array runs our own task, not a pickle: submitit
puts its pickles in place after sbatch has answered, so a login shell that dies in between leaves an array without work.
Here a task finds its shards in the intent, which was written before.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import submitit
from submitit.core import utils

from ntkhpc import program_cache, start
from ntkhpc.engine.exits import STOPPED
from ntkhpc.errors import SchedulerError
from ntkhpc.launch import answers, container, slurm
from ntkhpc.launch.container import Place
from ntkhpc.launch.profile import Profile
from ntkhpc.launch.submissions import Intent, JobArray

START = "start.py"
"""The copy of ntkhpc/start.py in the folder of a submission: its jobs start Python by it."""

EXPORTED = "PATH,HOME,USER,LOGNAME,SHELL,LANG,MODULEPATH,MODULESHOME,LMOD_CMD,LMOD_DIR,LMOD_PKG,SLURM_CONF"
"""These variables of the login shell reach a job, and those of SLURM, and no others."""


class ArrayExecutor(submitit.SlurmExecutor):
    """submitit's executor with our command and a script that never moves."""

    def __init__(self, target: Place, intent: Intent, array: JobArray, command: str, parameters: dict[str, Any]):
        self.target, self.folder_name, self.array_name = target, f"submissions/{intent.id}", array.name
        super().__init__(folder=target.path / self.folder_name, python="")
        self.command = command
        self.update_parameters(**parameters)
        self.parameters["map_count"] = len(array.tasks)

    @classmethod
    def affinity(cls) -> int:
        """A plan shows its scripts on a laptop too."""
        return 1

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        text = string if isinstance(string, str) else string.decode(errors="replace")
        if (found := answers.job_id(text)) is None:
            raise utils.FailedSubmissionError(f"no line of its answer has a job id: {text!r}")
        return found

    @property
    def _submitit_command_str(self) -> str:
        return self.command

    @property
    def text(self) -> str:
        return self._make_submission_file_text(self.command, "") + "\n"


def executor(
    target: Place,
    intent: Intent,
    array: JobArray,
    profile: Profile,
    dependencies: list[str],
    exclude: tuple[str, ...] = (),
) -> ArrayExecutor:
    """Make the executor of one array. `dependencies` are the job ids of the arrays that it needs."""
    partition = profile.partitions[array.partition]
    sif = Path(intent.image) if intent.image else None
    target = dataclasses.replace(target, start=target.path / "submissions" / intent.id / START)
    extra = dict(start.also(os.environ))
    if extra:
        extra[start.ALSO] = ",".join(extra)
    extra |= {"NTKHPC_STOP_SECONDS": str(max(5, profile.limits.stop_seconds - 30))}
    if cache := os.environ.get(program_cache.SETTING):
        extra[program_cache.SETTING] = cache
    if intent.image_digest:
        extra["NTKHPC_IMAGE"] = intent.image_digest
    if array.gpu:
        extra["XLA_FLAGS"] = "--xla_gpu_deterministic_ops=true"
    if array.phase == "analysis":
        extra["NTKHPC_DASK"] = f"local:{array.workers}"
        if profile.analysis.dask == "slurm":
            extra["NTKHPC_DASK"] = "slurm:" + json.dumps(_dask(target, intent, profile, array, sif))
            extra.pop("NTKHPC_IMAGE", None)  # the analysis itself runs in the Python of the login node
            sif = None
    reads = array.phase == "data"
    if reads and target.reads:
        extra["NTKHPC_DATA"] = str(target.reads[0])  # for public data sets, the folder they are in
    python = container.command(target, profile.container, sif, extra, gpu=array.gpu, reads=reads)
    srun = ["srun", "--unbuffered", "--ntasks=1", f"--cpus-per-task={array.cpus}"]
    words = [*srun, *python, "-u", "-m", "ntkhpc.task", str(target.path), intent.id, array.name]
    parameters: dict[str, Any] = {
        "job_name": array.name,
        "comment": f"ntkhpc {array.phase}",
        "time": array.minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": array.cpus,
        "array_parallelism": profile.limits.throttle,
        "signal_delay_s": profile.limits.stop_seconds,
        "wckey": None,
        "use_srun": False,  # our own srun, because submitit's names its output by a path that may be hostile
        "stderr_to_stdout": True,
        "setup": _setup(profile, sif) + _bound(target, sif),
        "teardown": _teardown(intent, array, profile.limits.restarts),
    }
    if partition.memory != "none":
        parameters["mem"] = f"{array.memory_mb}M"
    for name in ("partition", "account", "qos", "constraint"):
        if value := getattr(partition, name):
            parameters[name] = value
    if dependencies:
        parameters["dependency"] = f"afterany:{':'.join(dependencies)}"
    if exclude:
        parameters["exclude"] = ",".join(exclude)
    additional: dict[str, Any] = {
        # Relative to the run directory, where sbatch is called: the path of a run never enters a directive.
        "output": f"submissions/{intent.id}/{array.name}.%a.log",
        "export": EXPORTED,
        "requeue": True,
    }
    for directive in (*partition.directives, *([partition.gpu] if partition.gpu else [])):
        name, separator, value = directive.removeprefix("--").partition("=")
        additional[name] = value if separator else True
    parameters["additional_parameters"] = additional
    return ArrayExecutor(target, intent, array, shlex.join(words), parameters)


LOOKS = (0.0, 2.0, 5.0)
"""Seconds before each look for a job of which sbatch gave no clear answer."""


def submit(made: ArrayExecutor) -> str:
    """Call sbatch in the run directory and return the job id. Raises SchedulerError with what sbatch said.

    After an unclear answer the queue is asked for the name of the array: SLURM may have taken it.
    """
    try:
        with contextlib.chdir(made.target.path), _environment():
            return str(made._submit_command(made.command).job_id)
    except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
        refusal = answers.refusal(str(error))
        if not refusal.clear and (found := _taken(made.array_name)):
            return found
        raise SchedulerError(
            f"sbatch {'refused' if refusal.clear else 'gave no job id'}: {error}",
            where=made.target.path / made.folder_name,
            cause=refusal.cause,
            todo=refusal.todo,
        ) from error


def _taken(name: str) -> str | None:
    """The id of the array of this name in the queue; None where it is not seen there, or nobody answers."""
    for pause in LOOKS:
        time.sleep(pause)
        with contextlib.suppress(SchedulerError):
            if there := slurm.queue([name], ended=True):
                return there[0].job
    return None


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Hide SBATCH_ variables, which override what a script says: submitit passes this process's environment on."""
    before, clean = dict(os.environ), slurm.environment()
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _dask(target: Place, intent: Intent, profile: Profile, array: JobArray, sif: Path | None) -> dict[str, Any]:
    """Return arguments of dask-jobqueue's SLURMCluster. Its workers run in the image, each in a job of its own."""
    partition = profile.partitions[array.partition]
    nowhere = {"HOME": os.devnull}  # Dask reads ~/.config/dask as it is imported
    python = container.command(target, profile.container, sif, nowhere, gpu=False)
    extra = [f"--{name}={value}" for name in ("qos", "constraint") if (value := getattr(partition, name))]
    return {
        "workers": profile.analysis.workers,
        "cores": 1,
        "processes": 1,
        "memory": f"{array.memory_mb}MiB",
        "walltime": f"{array.minutes // 60:02d}:{array.minutes % 60:02d}:00",
        "queue": partition.partition or None,
        "account": partition.account or None,
        "interface": profile.analysis.interface or None,
        "python": shlex.join(python),
        "job_name": f"{array.name}-dask",
        "job_extra_directives": [*extra, *partition.directives],
        "job_script_prologue": _setup(profile, sif),
        "log_directory": f"submissions/{intent.id}",
        "scheduler_options": {"dashboard_address": None},
        "job_directives_skip": ["--mem"] if partition.memory == "none" else [],
    }


def _bound(target: Place, sif: Path | None) -> list[str]:
    return [] if sif is None else [*container.bind_beside(target), *container.bind_cache()]


def _setup(profile: Profile, sif: Path | None) -> list[str]:
    lines = [f"umask {profile.umask}", "export SLURM_EXPORT_ENV=ALL"]
    lines += container.load_modules(profile).splitlines()
    if profile.scratch:
        lines += [
            f'export TMPDIR="{profile.scratch}"',  # a variable in it is the node's
            'mkdir -p "$TMPDIR" || exit 1',
            'export APPTAINER_BIND="${APPTAINER_BIND:+$APPTAINER_BIND,}$TMPDIR" APPTAINERENV_TMPDIR="$TMPDIR"',
        ]
    if sif is not None:
        quoted = shlex.quote(str(sif))
        lines += [
            f'if [ "$(stat -Lc %s-%Y {quoted})" != {container.stamp(sif)} ]; then',
            f"    echo {shlex.quote(f'not here, or not the image this run was submitted with: {sif}')} >&2",
            "    exit 2",
            "fi",
        ]
    return lines


def _teardown(intent: Intent, array: JobArray, restarts: int) -> list[str]:
    """Return lines that run on the host. They end with the task's exit status, or SLURM calls a crash COMPLETED."""
    return [
        "code=$?",
        'restart="${SLURM_RESTART_COUNT:-0}"',
        'element="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        f'end="submissions/{intent.id}/ends/{array.name}.${{SLURM_ARRAY_TASK_ID}}.$restart"',
        'printf "%s %s %s %s\\n" "$code" "$SECONDS" "${SLURMD_NODENAME:-$(hostname)}" "$element" >"$end"',
        f'if [ "$code" -eq {STOPPED} ] && [ "$restart" -lt {restarts} ]; then',
        # The element, not $SLURM_JOB_ID: in the last element that is the id of the whole array.
        '    scontrol requeue "$element"',
        "fi",
        'exit "$code"',
    ]

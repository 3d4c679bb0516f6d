"""Checks the login node and, with a profile, one compute node of each partition, before anything is submitted."""

import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ntkhpc import files, studies, surroundings
from ntkhpc.engine import frozen_code
from ntkhpc.engine.packages import versions
from ntkhpc.errors import NtkhpcError, SchedulerError
from ntkhpc.launch import container, nodecheck, room, slurm, speed
from ntkhpc.launch.container import Place
from ntkhpc.launch.profile import Partition, Profile
from ntkhpc.studies.base import Study

NODE_SECONDS = 900


@dataclass(frozen=True)
class Finding:
    """Something that was looked at. `ok` is None for what is merely worth knowing."""

    ok: bool | None
    what: str


def examine(runs: Path, profile: Profile | None, wanted: Study | None, console: Console) -> int:
    """Print findings as they come; 0 if nothing is wrong."""
    wrong = 0
    for finding in _all(runs, profile, wanted):
        mark = {True: "[green]ok[/green]   ", False: "[red]WRONG[/red]", None: "note "}[finding.ok]
        console.print(f"{mark} {escape(finding.what)}")
        wrong += finding.ok is False
    console.print("nothing is wrong" if not wrong else f"{wrong} things are wrong")
    return 1 if wrong else 0


def _all(runs: Path, profile: Profile | None, wanted: Study | None) -> Iterator[Finding]:
    yield Finding(None, f"Python {sys.version.split()[0]}, {len(os.sched_getaffinity(0))} cores here")
    runs.mkdir(parents=True, exist_ok=True)
    yield _file_system("this machine", runs, nodecheck.file_system(runs))
    for limit in room.limits(runs, profile):
        yield Finding(None, f"{runs}: {limit}")
    if profile is None:
        yield Finding(None, "no SLURM profile: studies run on this machine")
        return
    yield from _scheduler(profile)
    try:
        sif = container.image(profile)
        container.require_runtime(profile)
        if sif is not None:
            yield Finding(True, f"image {sif}, sha256 {container.digest(sif)[:12]}")
    except NtkhpcError as error:
        yield Finding(False, str(error))
        return
    if slurm.present():
        for label, partition in profile.partitions.items():
            yield from _node(runs, profile, label, partition, sif, wanted)


def _scheduler(profile: Profile) -> Iterator[Finding]:
    if not slurm.present():
        yield Finding(False, "sbatch is not on PATH: this is no login node, or a module must be loaded")
        return
    try:
        slurm.queue(["ntkhpc-doctor"])
        yield Finding(True, "squeue answers")
    except SchedulerError as error:
        yield Finding(False, str(error))
    try:
        slurm.ask(["sacct", "-n", "-X"])
        yield Finding(None, "sacct answers")
    except SchedulerError:
        yield Finding(None, "no accounting: status does without it")
    try:
        size, asked = slurm.max_array_size(), profile.limits.array_size
        said = f"MaxArraySize {size:,}" + (f", the profile's array_size {asked:,}" if asked else "")
        yield Finding(asked <= size, said)
    except SchedulerError as error:
        yield Finding(False, str(error))
    for label, partition in profile.partitions.items():
        yield _limits(label, partition)


def _limits(label: str, partition: Partition) -> Finding:
    """Compare what sinfo says of a partition with what the profile says."""
    name = partition.partition
    command = ["sinfo", "--noheader", "--exact", "--format=%m|%c|%l", *([f"--partition={name}"] if name else [])]
    try:
        lines = [line.split("|") for line in slurm.ask(command).splitlines() if line.count("|") == 2]
    except SchedulerError as error:
        return Finding(False, f"partition {label} ({name}): {error}")
    if not lines:
        return Finding(False, f"partition {label} ({name}): sinfo knows none of that name")
    memory = max(int(line[0].rstrip("+")) for line in lines) / 1024
    cores = max(int(line[1].rstrip("+")) for line in lines)
    limit = _minutes(lines[0][2])
    fits = partition.memory_gb <= memory and partition.cores <= cores and partition.minutes <= limit
    return Finding(
        fits,
        f"partition {label} ({name}): nodes of {memory:,.1f} GiB and {cores} cores, limit {lines[0][2]}; the profile's "
        f"tasks take up to {partition.memory_gb:,.1f} GiB and {partition.cores} cores, {partition.minutes} min",
    )


def _minutes(limit: str) -> float:
    """Convert a time limit of SLURM, `[days-]hours:minutes:seconds` or infinite, to minutes."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [*parts, days or "0"]):
        return math.inf
    hours, minutes, seconds = ([0, 0, *map(int, parts)])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _node(
    runs: Path, profile: Profile, label: str, partition: Partition, sif: Path | None, wanted: Study | None
) -> Iterator[Finding]:
    """Run `nodecheck` on a node of the partition, as a task would be run: in a frozen copy of the code."""
    there = runs.resolve()
    with tempfile.TemporaryDirectory(prefix=".ntkhpc-doctor-", dir=there, ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "study.toml"
        token.write_bytes(studies.dumps(wanted) if wanted else b"")
        code, start = frozen_code.freeze(Path(folder)), Path(folder) / surroundings.START.name
        start.write_bytes(surroundings.START.read_bytes())
        place = Place(there, Path(folder) / "code" / code[:12], code_hash=code, start=start)
        try:
            answer = _ask_node(place, profile, partition, sif, token, wanted is not None)
        except SchedulerError as error:
            yield Finding(False, f"partition {label}: {error}")
            return
    host = f"node {answer['host']} (partition {label})"
    yield Finding(answer["token"], f"{host}: sees {runs}" if answer["token"] else f"{host}: does not see {runs}")
    yield _file_system(host, runs, answer["file_system"])
    differing = [f"{k} {v}" for k, v in answer["versions"].items() if versions().get(k) != v]
    said = f"other versions than here: {', '.join(differing)}" if differing else "the same packages as here"
    yield Finding(not differing, f"{host}: {said}")
    gpu = answer["platform"] in ("gpu", "cuda", "rocm")
    seen = f"JAX sees {answer['platform']}, {answer['device']}, CUDA_VISIBLE_DEVICES {answer['cuda_visible_devices']}"
    yield Finding(gpu if partition.gpu else answer["platform"] != "none", f"{host}: {seen}")
    if wanted is not None and "speed" in answer:
        _keep(profile, label, wanted, answer)
        yield Finding(True, f"{host}: trains at {answer['speed']:.2f} of the reference core; make plan uses that")
    if "untimed" in answer:
        yield Finding(False, f"{host}: could not be timed: {answer['untimed']}")


def _ask_node(
    place: Place, profile: Profile, partition: Partition, sif: Path | None, token: Path, timed: bool
) -> dict[str, Any]:
    extra = {} if partition.gpu else {"JAX_PLATFORMS": "cpu"}
    python = container.command(place, profile.container, sif, extra, gpu=bool(partition.gpu))
    seen = str(token.relative_to(place.path))
    inside = [*python, "-m", "ntkhpc.launch.nodecheck", str(place.path), seen, *([str(token)] if timed else [])]
    options = {name: getattr(partition, name) for name in ("partition", "account", "qos", "constraint")}
    command = [
        "srun", "--quiet", "--ntasks=1", "--cpus-per-task=1", "--time=10", "--mem=2000M", "--job-name=ntkhpc-doctor",
        *(f"--{name}={value}" for name, value in options.items() if value),
        *partition.directives, *([partition.gpu] if partition.gpu else []),
        "bash", "-c", f"{container.load_modules(profile)}exec {shlex.join(inside)}",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=NODE_SECONDS,
            check=False,
            cwd=place.path,
            env=slurm.environment(),
        )
    except subprocess.TimeoutExpired:
        raise SchedulerError(
            f"no node answered in {NODE_SECONDS // 60} minutes", cause="the partition is full or down", todo="try later"
        ) from None
    for line in done.stdout.splitlines():
        if line.startswith(nodecheck.MARK):
            answer: dict[str, Any] = json.loads(line.removeprefix(nodecheck.MARK))
            return answer
    raise SchedulerError(
        f"the check on a node failed: {done.stderr.strip()[-800:] or done.returncode}",
        cause="apptainer or a module is missing there, or a bind does not exist on compute nodes",
        todo="mend the profile; its [container] and modules say how jobs start",
    )


def _keep(profile: Profile, label: str, wanted: Study, answer: dict[str, Any]) -> None:
    path = speed.probe_file(profile)
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    kept.setdefault(wanted.id, {})[label] = {name: answer[name] for name in ("speed", "host", "device")}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, files.canonical_json(kept))


def _file_system(where: str, runs: Path, found: dict[str, Any]) -> Finding:
    return Finding(
        bool(found["ok"]),
        f"{where}: {runs} has what runs need of a file system" if found["ok"] else f"{where}: {found['why']}",
    )

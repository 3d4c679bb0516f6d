"""This runs the missing shards on this machine, by submitit's LocalExecutor, in one process with one thread a core.

Every worker gets the whole list, longest shard first. Claims make the list a queue.
"""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console

from ntkhpc import files, filesystem, surroundings, worker
from ntkhpc.engine import claims, failures, frozen_code, plan, shortage
from ntkhpc.engine.run import Run
from ntkhpc.engine.worker import CORES
from ntkhpc.launch import container, prepare
from ntkhpc.launch.progress import Progress

POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
# submitit's local default is two minutes; here the claims and the user decide when a worker ends.
A_MONTH_IN_MINUTES = 30 * 24 * 60


def run(target: Run, console: Console, cores: int | None = None) -> None:
    """Run the phases, those that need nothing of each other side by side, until one stays incomplete.

    A worker ends with the first shard that fails. Whatever the error was, the shard is tried again when the user
    resumes the run, and only then. What came of it is in the run directory.
    """
    cores = cores or len(os.sched_getaffinity(0))
    if any(target.missing(phase) for phase in target.plan.phases):
        container.require_packages(None)
        container.require_device()
        filesystem.require(target.path, of_run=True)
        frozen_code.remove_bytecode(target.code)
        frozen_code.require_intact(target.code, target.manifest.code)
    with _interruptible(), files.explain_refusals(target.path):
        if before := {record["shard"]: record["kind"] for record in failures.open_records(target)}:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(before.values()).most_common())
            console.print(f"shards that failed before are tried again ({kinds}); make status says why they failed")
        for stage in target.layout.stages:
            missing = [shard for phase in stage for shard in target.missing(phase)]
            phases = tuple(phase for phase in stage if any(shard.phase == phase for shard in missing))
            if missing:
                # Shards of a chain wait for one another: a worker for each would take cores from the one at work.
                side_by_side = len(plan.chains(target.layout, missing))
                count = min(prepare.workers_that_fit(target.plan, phases, cores), side_by_side)
                ordered = [shard.id for shard in plan.longest_first(target.layout, missing)]
                _run_stage(target, phases, ordered, count, cores, console)
            # Also where nothing was missing: a submission may have been killed between its last receipt and this.
            complete = [phase for phase in stage if not target.missing(phase)]
            for phase in complete:
                _tidy(target, phase)
            if len(complete) < len(stage):
                return


def _run_stage(
    target: Run, phases: tuple[str, ...], shard_ids: list[str], count: int, cores: int, console: Console
) -> None:
    folder = _private_folder(target)
    executor = submitit.LocalExecutor(folder=folder, python=_python(target, max(1, cores // count)))
    executor.update_parameters(timeout_min=A_MONTH_IN_MINUTES, stderr_to_stdout=True)
    jobs: list[submitit.Job[Any]] = []
    held: dict[int, int] = {}
    before = {owner.attempt for phase in phases for _, owner in claims.every(target, phase)}
    try:
        with _stderr_to(folder / "controllers.log"):
            jobs += [executor.submit(worker.run_shards, str(target.path), shard_ids) for _ in range(count)]
        with Progress(target, phases, console) as progress:
            while not all(job.done() for job in jobs):
                with contextlib.suppress(OSError):  # who only looks can wait; what the workers meet, they say
                    progress.update()
                for pid in [one for job in jobs for one in shortage.descendants(job.job_id)]:
                    held[pid] = max(held.get(pid, 0), shortage.held(pid))
                time.sleep(POLL_SECONDS)
            progress.update()
    except BaseException as error:  # no worker goes on without a launcher that says what came of it
        busy = _stop(jobs)
        if isinstance(error, KeyboardInterrupt):
            console.print("interrupted; finished tiles are kept, `make resume` continues")
        if busy:
            console.print(f"workers that are still at a tile, and end with it: {busy}")
        raise
    target.require_there()
    if not any(target.missing(phase) for phase in phases):
        return
    _record_kills(target, phases, before, held, console)
    if not any(failures.open_records(target)):
        for job in jobs:
            _show_end(job, console)


def _record_kills(
    target: Run, phases: tuple[str, ...], before: set[str], held: dict[int, int], console: Console
) -> None:
    """Record what became of shards whose workers are gone and left a claim, which was none of those `before`.

    Whatever Python is told, it releases its claim: nothing but a kill by the system, or a crash, leaves one.
    """
    for phase in phases:
        missing = {shard.id: shard for shard in target.missing(phase)}
        for name, owner in claims.every(target, phase):
            if name in missing and owner.attempt not in before and claims.gone_from_here(owner):
                what = "the worker was killed, most likely as this machine had no more (`dmesg` says so), or crashed"
                error = shortage.explain(target, missing[name], what, held.get(owner.pid, 0))
                failures.record(target, missing[name], owner, error)
                console.print(str(error), markup=False)


def _tidy(target: Run, phase: str) -> None:
    """Remove what killed workers left of a phase that is complete now: tiles, and claims of processes that are gone."""
    shutil.rmtree(target.path / "partial" / phase, ignore_errors=True)
    claims.drop(target, [phase], claims.gone_from_here)


def _stop(jobs: list[submitit.Job[Any]]) -> int:
    """Tell workers to stop, and wait. Returns how many have not stopped.

    It sends TERM: submitit would send INT, which background jobs of a shell ignore.
    """
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(job.job_id), signal.SIGTERM)  # a local job's id is its controller's, which passes TERM on
    deadline = time.monotonic() + STOP_SECONDS
    while (busy := sum(not job.done() for job in jobs)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return busy


def _show_end(job: submitit.Job[Any], console: Console) -> None:
    """Print the last words of a worker that ended without recording why."""
    path = Path(job.paths.stdout)
    lines = path.read_text(errors="replace").splitlines() if path.exists() else ["(no output)"]
    console.print(f"a worker ended early; {path} ends with:", markup=False)
    said = _last_words(lines) if any(map(_is_traceback, lines)) else lines[-6:]
    if said and _is_traceback(said[0]):  # as on a full disk
        said = [f"(it breaks off within an error; {files.free_space(path)})"]
    console.print("\n".join(said), markup=False)


def _last_words(lines: list[str]) -> list[str]:
    """What an error says, whose message may have lines of its own: they are indented, as calls are before it."""
    said = [line for line in lines if line.strip()]
    while said and any(not line.startswith(" ") for line in said[1:]):
        said = said[1:]
    return said


def _is_traceback(line: str) -> bool:
    """Its end says what happened; what is before is for who reads the log."""
    return line.startswith("Traceback (most recent call last)")


def _python(target: Run, cores: int) -> str:
    """Of a worker that may use so many cores."""
    given = {CORES: str(cores)}
    return shlex.join(surroundings.python(sys.executable, target.code, target.manifest.code, given))


def _private_folder(target: Run) -> Path:
    """Make a folder of this submission and user that nobody else can write to: submitit keeps pickles there."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{surroundings.user()}-{uuid.uuid4().hex[:6]}"
    folder = target.path / "logs" / name
    folder.parent.mkdir(exist_ok=True)  # not its parents: a run that has vanished is not made anew by its logs
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send what submitit's controllers say when they are interrupted to a file, and not to the user's terminal."""
    if sys.stderr is not None:  # a caller may have closed it
        sys.stderr.flush()
    saved = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end a submission as Ctrl-C does: workers are told, and what is finished stays."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

"""One task of a job array: `python -m ntkhpc.task RUN SUBMISSION ARRAY`; its index is in SLURM_ARRAY_TASK_ID.

It starts the workers of its element, each a process of one core or, in wide phases, of several. It ends with 0 when all
its shards have receipts, 75 when it was told to stop (the host side requeues it), 3 when an earlier phase is
incomplete, else 1.
It never asks SLURM anything: it may run in an image.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ntkhpc import files, terminal
from ntkhpc.engine import claims, exits, failures, plan, shortage
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run, load
from ntkhpc.errors import NtkhpcError
from ntkhpc.launch.submissions import JobArray, Submission

POLL_SECONDS = 0.2
GATE_SECONDS = 20.0
TERM_SECONDS = 4.0
"""How long workers may take to stop after TERM: a preempted job may have no more than ten seconds."""


class _Stop:
    """Says until when this task may go on. USR2 comes well before a time limit, TERM just before the end."""

    def __init__(self, seconds_after_usr2: float):
        self.deadline, self.by_limit = math.inf, False
        self.seconds = {signal.SIGUSR2: seconds_after_usr2, signal.SIGTERM: TERM_SECONDS}
        for number in self.seconds:
            signal.signal(number, self._told)

    def _told(self, number: int, _: object) -> None:
        self.by_limit |= number == signal.SIGUSR2
        self.deadline = min(self.deadline, time.monotonic() + self.seconds[signal.Signals(number)])

    def told(self) -> bool:
        return self.deadline < math.inf

    def over(self) -> bool:
        return time.monotonic() > self.deadline


def main(arguments: list[str] | None = None) -> int:
    terminal.guard()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(*given)
    except NtkhpcError as error:
        _say(f"error: {error}")
        return error.exit_code
    except OSError as error:  # the log of a job too says it in a sentence
        _say(f"error: {files.said(error, Path(given[0]))}")
        return 1


def _run(run_directory: str, submission_id: str, array_name: str) -> int:
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    stop = _Stop(float(os.environ.get("NTKHPC_STOP_SECONDS", "60")))
    run = load(Path(run_directory), given=())
    intent = Submission(run.path / "submissions" / submission_id).intent
    array = next(one for one in intent.arrays if one.name == array_name)
    mine = set(array.tasks[index])
    shards = [shard for shard in run.regions(array.phase) if shard.id in mine]
    _say(f"task {index} of {array_name}: {len(shards)} shards, {array.workers} workers, on {os.uname().nodename}")
    if incomplete := _earlier_phases(run, array, stop):
        return exits.STOPPED if stop.told() else _incomplete(run, array, incomplete, stop)
    before = len(_left(run, shards))
    _supervise(run, array, shards, stop)
    left = _left(run, shards)
    if not left:
        _say("all shards of this task are done")
        return 0
    if stop.told():
        _say(f"told to stop with {len(left)} shards left; finished shards and tiles are kept")
        # Without tiles the same time would not do another time either; a preempted task gets TERM alone.
        phase = run.layout.phases[array.phase]
        again = phase.keeps_tiles or (phase.chained and len(left) < before) or not stop.by_limit
        return exits.STOPPED if again else exits.TOO_SHORT
    _say(f"{len(left)} shards are left; see {run.path / 'failures'}")
    return 1


def _earlier_phases(run: Run, array: JobArray, stop: "_Stop") -> list[str]:
    """Return the phases that this one needs and that are not complete. It looks for a while: NFS shows files late."""
    deadline = time.monotonic() + GATE_SECONDS
    while missing := [phase for phase in run.layout.closure(array.phase) if run.missing(phase)]:
        if stop.told() or time.monotonic() > deadline:
            return missing
        time.sleep(GATE_SECONDS / 10)
    return []


def _incomplete(run: Run, array: JobArray, phases: list[str], stop: _Stop) -> int:
    """Report what is there, if this is the analysis, and return the status that says that the run is incomplete.

    The report is made in a process of its own: whatever its libraries do there, run out of memory included, this task
    ends with its status, and it can be told to stop.
    """
    _say(f"phase {array.phase} needs {', '.join(phases)} complete; on the login node: make resume")
    if array.phase == "analysis":
        _wait([subprocess.Popen([sys.executable, "-m", "analysis", str(run.path), "--partial"])], stop)
    return exits.INCOMPLETE


def _supervise(run: Run, array: JobArray, shards: list[Shard], stop: _Stop) -> None:
    names = [shard.id for shard in plan.longest_first(run.layout, _left(run, shards))]
    if not names or stop.told():
        return
    environment = {**os.environ, "NTKHPC_PLATFORM": "gpu" if array.gpu else "cpu"}
    if not array.gpu:
        environment["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-u", "-m", "ntkhpc.worker", str(run.path)]
    workers = [
        subprocess.Popen([*command, *names], env=environment) for _ in range(max(1, min(array.workers, len(names))))
    ]
    held = _wait(workers, stop)
    for worker in workers:
        if worker.returncode < 0 and not stop.told():
            _record_kill(run, shards, worker.pid, -worker.returncode, held.get(worker.pid, 0))


def _wait(processes: Sequence["subprocess.Popen[bytes]"], stop: _Stop) -> dict[int, int]:
    """Wait until every process has ended. When the task is told to stop they are told too, and later killed.

    Returns the largest resident size in bytes that was seen of each, by its id.
    """
    passed_on, held = False, {process.pid: 0 for process in processes}
    while any(process.poll() is None for process in processes):
        if stop.told() and not passed_on:
            _signal(processes, signal.SIGTERM)
            passed_on = True
        if stop.over():  # nothing is lost but the tile under way: every write survives a kill
            _signal(processes, signal.SIGKILL)
        held = {pid: max(most, shortage.held(pid)) for pid, most in held.items()}
        time.sleep(POLL_SECONDS)
    return held


def _signal(processes: Sequence["subprocess.Popen[bytes]"], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _record_kill(run: Run, shards: list[Shard], pid: int, number: int, held: int) -> None:
    """Record, for the shard that a killed worker had claimed, what killed it: the worker could not say so itself.

    A worker without a claim leaves no record. `held` is its largest resident size in bytes, as it was last seen.
    """
    name = signal.Signals(number).name
    error: Exception = ChildProcessError(f"a worker was killed by {name}")
    _say(f"worker {pid}: {error}")
    by_id = {shard.id: shard for shard in _left(run, shards)}
    for shard_id, owner in claims.every(run, shards[0].phase):
        if owner.pid == pid and owner.host == os.uname().nodename and shard_id in by_id:
            if number == signal.SIGKILL:
                what = f"a worker was killed by {name}, most likely as it, or the task, had no more memory"
                error = shortage.explain(run, by_id[shard_id], what, held)
                _say(str(error))
            failures.record(run, by_id[shard_id], owner, error)


def _left(run: Run, shards: list[Shard]) -> list[Shard]:
    finished = run.finished(shards[0].phase) if shards else set()
    return [shard for shard in shards if shard.id not in finished]


def _say(text: str) -> None:
    with suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

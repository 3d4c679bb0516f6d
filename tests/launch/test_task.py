"""One task of a job array: what it starts, and how it ends."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.job_arrays import arrays, profile
from support.runs import make_run, tiny_text

from ntkhpc import studies
from ntkhpc.engine import exits, run
from ntkhpc.launch import task, tasks


class Told(task._Stop):
    """A task that was told to stop; it listens to no signal."""

    def __init__(self, *, over: bool = False, by_limit: bool = False) -> None:
        self._over, self.by_limit = over, by_limit

    def told(self) -> bool:
        return True

    def over(self) -> bool:
        return self._over


def sleeper(first: str = "") -> "subprocess.Popen[bytes]":
    script = f"{first}\nprint(flush=True)\nimport time; time.sleep(600)"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


def test_processes_are_told_to_stop_with_the_task_and_killed_when_time_is_over() -> None:
    deaf = sleeper("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    processes = [sleeper(), deaf]
    for process in processes:
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()  # it sleeps by now
    task._wait(processes[:1], Told())
    task._wait(processes, Told(over=True))
    assert [process.returncode for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]


def test_an_analysis_without_its_phases_says_incomplete_whatever_becomes_of_its_report(runs: Path) -> None:
    target = make_run(runs)
    (array,) = [one for one in arrays(target.plan, profile()) if one.phase == "analysis"]
    assert task._incomplete(target, array, ["law"], Told()) == exits.INCOMPLETE
    assert not (target.path / "analysis").exists()


@pytest.mark.promise(
    "A task whose time ended goes on with the columns that are left of its factor, unless not one was finished."
)
@pytest.mark.parametrize(
    ("phase", "finished", "by_limit", "status"),
    [
        ("factor", 1, True, exits.STOPPED),
        ("factor", 0, True, exits.TOO_SHORT),  # the same time would not do another time either
        ("factor", 0, False, exits.STOPPED),  # preempted
        ("factor", 3, True, 0),
        ("kernel", 1, True, exits.TOO_SHORT),  # no chain: its shards were a task of the wrong size
    ],
)
def test_a_chain_that_ran_into_its_time_limit_is_requeued_if_it_got_on(
    phase: str, finished: int, by_limit: bool, status: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three columns of one draw; workers that finish some of them before the task is told to stop."""
    section = '[infinite_width]\nn_train = [10, 38]\ntimes = ["infinite"]\ntile = 16\n'
    target = run.create(runs, studies.loads(tiny_text(redraws=0).replace("[infinite_width]\n", section)))
    shards = {phase: target.plan.of_phase(phase)}
    (array,) = tasks.arrays(target.layout, target.plan, shards, profile(), "ntk", 1000)
    names = array.tasks[0]

    def work(*_: object) -> None:
        for name in names[:finished]:
            (receipt,) = [target.receipt(shard) for shard in shards[phase] if shard.id == name]
            receipt.parent.mkdir(parents=True, exist_ok=True)
            receipt.touch()

    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setattr(task, "Submission", lambda _: SimpleNamespace(intent=SimpleNamespace(arrays=[array])))
    monkeypatch.setattr(task, "_Stop", lambda _: Told(by_limit=by_limit))
    monkeypatch.setattr(task, "_earlier_phases", lambda *_: [])
    monkeypatch.setattr(task, "_supervise", work)
    assert task.main([str(target.path), "any", array.name]) == status

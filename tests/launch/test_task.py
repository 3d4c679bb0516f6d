"""One task of a job array: what it starts, and how it ends."""

import signal
import subprocess
import sys
from pathlib import Path

from support.job_arrays import arrays, profile
from support.runs import make_run

from ntkhpc.engine import exits
from ntkhpc.launch import task


class Told(task._Stop):
    """A task that was told to stop; it listens to no signal."""

    def __init__(self, *, over: bool = False) -> None:
        self._over = over

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

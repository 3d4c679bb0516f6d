"""Workers on this machine: how many there are, and the cores that each has."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console
from support.runs import tiny_text

from ntkhpc import studies
from ntkhpc.engine import run, worker
from ntkhpc.engine.run import Run
from ntkhpc.launch import local


class Executor:
    """Starts no worker, and remembers those that were to be."""

    made: ClassVar[list["Executor"]] = []

    def __init__(self, *, folder: Path, python: str):
        self.python, self.workers = python, 0
        Executor.made.append(self)

    def update_parameters(self, **_: Any) -> None: ...

    def submit(self, *_: Any) -> Any:
        self.workers += 1
        return _Done()


class _Done:
    job_id = "0"

    def done(self) -> bool:
        return True


def tiled(runs: Path, draws: int) -> Run:
    section = f'[infinite_width]\nn_train = [10, 38]\ntimes = ["infinite"]\ntile = 16\ndraws = {draws}\n'
    return run.create(runs, studies.loads(tiny_text(redraws=0).replace("[infinite_width]\n", section)))


@pytest.mark.promise("Workers on one machine share its cores; of the columns of a factor one draw has one worker.")
@pytest.mark.parametrize(
    ("phase", "draws", "cores", "expected"),
    [("factor", 1, 8, (1, 8)), ("factor", 3, 8, (3, 2)), ("curve", 2, 9, (4, 2)), ("curve", 2, 3, (3, 1))],
)
def test_workers_side_by_side_share_the_cores(
    phase: str, draws: int, cores: int, expected: tuple[int, int], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three columns a draw, which wait for one another; two sizes a draw, which do not."""
    target = tiled(runs, draws)
    for other in target.plan.shards:
        if other.phase != phase:
            target.receipt(other).parent.mkdir(parents=True, exist_ok=True)
            target.receipt(other).touch()
    monkeypatch.setattr(local.submitit, "LocalExecutor", Executor)
    monkeypatch.setattr(local, "_show_end", lambda *_: None)
    monkeypatch.setattr(local.prepare, "workers_that_fit", lambda plan, phases, cores: cores)
    Executor.made.clear()
    local.run(target, Console(quiet=True), cores)
    (one,) = Executor.made
    given = next(word for word in one.python.split() if word.startswith(worker.CORES))
    assert (one.workers, given) == (expected[0], f"{worker.CORES}={expected[1]}")


@pytest.mark.parametrize(
    ("given", "slurm", "expected"),
    [("", "", 16), ("3", "", 3), ("", "5", 5), ("3", "5", 3), ("7", "5", 5), ("99", "", 16), ("none", "", 16)],
)
def test_a_worker_has_the_fewest_cores_that_anybody_gives_it(
    given: str, slurm: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setenv(worker.CORES, given)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    assert worker._cores() == expected

"""A worker that found no more memory says what was projected, what it held, and what to do."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support.runs import ROOT, make_run, ntkhpc, run_shards, tiny_text

from ntkhpc.engine import claims, failures, shortage
from ntkhpc.engine.run import Run
from ntkhpc.errors import Retry
from ntkhpc.launch import task


def with_cause() -> None:
    try:
        np.empty((2**24, 2**24))
    except MemoryError as error:
        raise RuntimeError("a chunk could not be read") from error


REFUSED: dict[str, Callable[[], object]] = {
    "NumPy": lambda: np.empty((2**24, 2**24)),
    "Python": lambda: bytearray(2**61),
    "JAX": lambda: jnp.zeros(2**45).block_until_ready(),
    "a cause": with_cause,
}


@pytest.mark.parametrize("library", REFUSED)
def test_memory_that_a_library_is_refused_is_told_apart_from_a_bug(library: str) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        REFUSED[library]()
    assert shortage.is_one(caught.value), repr(caught.value)
    assert failures.kind_of(caught.value) is Retry.MEMORY


def test_a_task_that_dask_gave_up_is_one_and_other_errors_are_not() -> None:
    killed = type("KilledWorker", (Exception,), {})("a worker died three times")
    assert failures.kind_of(killed) is Retry.MEMORY
    for other in (ValueError("memory"), type("JaxRuntimeError", (RuntimeError,), {})("INTERNAL: a bug")):
        assert not shortage.is_one(other)


@pytest.mark.promise("A shard that found no more memory says what was projected, what was held and what to do.")
def test_a_shard_without_memory_says_what_was_projected_and_held(runs: Path) -> None:
    target = make_run(runs)
    first = "import numpy; from ntkhpc.studies import data; data.permutations = lambda _: numpy.empty((2**24, 2**24))"
    done = run_shards(target, [target.plan.of_phase("data")[0].id], first=first)
    assert done.returncode, done.stdout + done.stderr
    (record,) = failures.open_records(target)
    assert record["kind"] == "memory"
    assert record["error"] == "OutOfMemoryError"
    projected = f"was projected to hold {target.plan.memory_bytes['data'] / 2**20:,.0f} MiB"
    for words in ("Unable to allocate", projected, "CORES=1", "data.pool"):
        assert words in record["message"]
    (held,) = re.findall(r"this one held (\d+) MiB at most", record["message"])
    assert 100 < int(held) < 1000


def test_a_worker_of_a_task_that_was_killed_says_what_it_held(runs: Path) -> None:
    target = make_run(runs)
    shard = target.plan.of_phase("data")[0]
    code = (
        f"import time; from pathlib import Path; from ntkhpc.engine import claims; from ntkhpc.engine.run import load; "
        f"run = load(Path({str(target.path)!r})); "
        f"claims.take(run, run.plan.of_phase('data')[0], claims.this_process('a'), lambda _: False); "
        f"held = bytearray(200 * 2**20); time.sleep(600)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code])
    while shortage.held(worker.pid) < 200 * 2**20:
        time.sleep(0.05)
    held = shortage.held(worker.pid)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    task._record_kill(target, [shard], worker.pid, signal.SIGKILL, held)
    (record,) = failures.open_records(target)
    assert record["kind"] == "memory"
    assert f"this one held {held / 2**20:,.0f} MiB" in record["message"]
    assert held > 200 * 2**20


def test_what_a_process_holds_is_seen_from_outside() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            children = shortage.descendants(parent.pid)
            if children and shortage.held(children[0]) > 2**20:  # not before it has become a Python
                break
            time.sleep(0.05)
        else:
            pytest.fail("no child that holds a Python was seen")
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
    assert shortage.held(parent.pid) == 0
    assert shortage.descendants(parent.pid) == []


def test_a_worker_of_this_machine_that_is_killed_leaves_a_sentence(runs: Path) -> None:
    task_file = runs.parent / "tiny.toml"
    task_file.write_text(tiny_text())
    arguments = (f"--task={task_file}", f"--runs={runs}", "--cores=1", "--profile=local")
    command = [sys.executable, "-m", "ntkhpc", "submit", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    submit = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (found := [owner for path in runs.glob("tiny-*") for _, owner in claims.every(Run(path), "data")]):
        assert submit.poll() is None
        time.sleep(0.005)
    os.kill(found[0].pid, signal.SIGKILL)
    said = submit.communicate(timeout=120)[0]
    assert submit.returncode == 1
    assert "Traceback" not in said
    for words in ("no more memory: the worker was killed", "was projected to hold", "or crashed", "CORES=1"):
        assert words in said, said
    again = ntkhpc("resume", *arguments)
    assert again.returncode == 0, again.stdout + again.stderr

"""Whatever kills or refuses a worker, resume ends with the bytes of an uninterrupted run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.runs import ROOT, all_shards, make_run, ntkhpc, run_shards, store_bytes, tiny_text

from ntkhpc import files
from ntkhpc.engine import failpoints, verify
from ntkhpc.engine.run import Run

IN_A_SHARD = failpoints.STAGES[failpoints.STAGES.index("claimed") :]


def assert_same_as(target: Run, finished: Run) -> None:
    assert store_bytes(target) == store_bytes(finished)
    for shard in (shard for shard in finished.plan.shards if shard.phase != "analysis"):
        ours, theirs = (files.read_sealed(run.receipt(shard)) for run in (target, finished))
        assert ours["values"] == theirs["values"]
    assert list(verify.problems(target)) == []
    assert not list((target.path / "partial").rglob("*.npz"))


@pytest.mark.promise(
    "A worker killed at any stage of a shard and run again leaves the stored bytes of an uninterrupted run."
)
@pytest.mark.parametrize("stage", IN_A_SHARD)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_a_kill_at_a_write_stage_changes_no_stored_bit(stage: str, last: bool, runs: Path, finished: Run) -> None:
    """It kills the data shard (or the first tile), or the last of all shards (or a later tile or chunk)."""
    target = make_run(runs)
    count = len(all_shards(target)) if last else 1
    killed = run_shards(target, all_shards(target), failpoint=f"{stage}:{count}")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert run_shards(target, all_shards(target)).returncode == 0
    assert_same_as(target, finished)


def submit_in_a_group(task: Path, runs: Path, failpoint: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ntkhpc", "submit", f"--task={task}", f"--runs={runs}", "--cores=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NTKHPC_FAILPOINT": failpoint}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.promise(
    "Twenty SIGKILLs of launcher and workers at random moments, and one more submit, change no stored byte."
)
@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills_of_launcher_and_workers_change_no_stored_bit(seed: int, runs: Path, finished: Run) -> None:
    """Four kills a run, at seeded moments from the first import to the last receipt."""
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text())
    moments = random.Random(seed)
    for _ in range(4):
        launcher = submit_in_a_group(task, runs)
        time.sleep(moments.uniform(0.4, 6.0))
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
    ended = ntkhpc("submit", f"--task={task}", f"--runs={runs}", "--cores=2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert_same_as(Run(runs / finished.path.name), finished)


@pytest.mark.promise("A run directory is there whole or not at all, also where its creation was killed.")
@pytest.mark.parametrize("stage", ["code-frozen", "run-staged", "run-created"])
def test_a_run_directory_is_there_whole_or_not_at_all(stage: str, runs: Path, finished: Run) -> None:
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text())
    assert submit_in_a_group(task, runs, failpoint=stage).wait() == -signal.SIGKILL
    path = runs / finished.path.name
    assert path.exists() == (stage == "run-created")
    target = make_run(runs)
    assert list(verify.problems(target)) == []


@pytest.mark.promise(
    "A write that a full disk, a quota or a read-only disk refuses is explained; the run goes on afterwards."
)
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS"])
@pytest.mark.parametrize("stage", ["tile-computed", "chunk-written", "values-compared"])
def test_a_refused_write_is_explained_and_nothing_is_lost(error: str, stage: str, runs: Path, finished: Run) -> None:
    target = make_run(runs)
    count = 2 if stage == "tile-computed" else 3
    refused = run_shards(target, all_shards(target), failpoint=f"{stage}:{count}:{error}")
    assert refused.returncode != 0
    assert "inodes free" in refused.stderr
    assert "make resume" in refused.stderr
    assert run_shards(target, all_shards(target)).returncode == 0
    assert_same_as(target, finished)


def can_mount() -> bool:
    probe = ["unshare", "--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.promise(
    "On a full or read-only file system, submit names the cause; with room again it completes the run."
)
@pytest.mark.root
@pytest.mark.skipif(not can_mount(), reason="needs root or user namespaces to mount a 12 MiB tmpfs")
def test_a_full_disk_and_a_read_only_one_are_named_and_resumed_from(tmp_path: Path, finished: Run) -> None:
    task = tmp_path / "tiny.toml"
    task.write_text(tiny_text())
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    submit = f'"{sys.executable}" -m ntkhpc submit --task="{task}" --runs="{disk}" --cores=1'
    script = f"""
        set -u
        mount -t tmpfs -o size=4m none "{disk}"
        {submit}; echo "too small: $?"
        mount -o remount,size=32m "{disk}"
        "{sys.executable}" -c "
from pathlib import Path
import sys; sys.path.insert(0, '{ROOT}/tests')
from support.runs import make_run; make_run(Path('{disk}'))"
        dd if=/dev/zero of="{disk}/ballast" bs=4096 2>/dev/null
        {submit}; echo "full: $?"
        mount -o remount,ro "{disk}"
        {submit}; echo "read-only: $?"
        mount -o remount,rw "{disk}"; rm "{disk}/ballast"
        {submit}; echo "mended: $?"
        cp -r "{disk}" "{copy}"
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    assert "too small: 1" in said, said
    assert "the file system leaves" in said
    assert "full: 1" in said
    assert "the file system is full" in said
    assert "read-only: 1" in said
    assert "mounted read-only" in said
    assert "mended: 0" in said
    assert "Traceback" not in ran.stderr, ran.stderr
    assert_same_as(Run(copy / finished.path.name), finished)


@pytest.mark.promise("A damaged checkpoint of a tile is computed again, never used.")
def test_damaged_partial_tiles_are_computed_anew(runs: Path, finished: Run) -> None:
    target = make_run(runs)
    run_shards(target, all_shards(target), failpoint="tile-saved:3")
    tiles = sorted((target.path / "partial").rglob("*.npz"))
    assert len(tiles) == 3
    damaged = bytearray(tiles[0].read_bytes())
    middle = len(damaged) // 2
    for at in range(middle, middle + 400):  # names and padding of the archive have bytes that mean nothing
        damaged[at] ^= 4
    tiles[0].write_bytes(damaged)
    tiles[1].write_bytes(tiles[1].read_bytes()[:100])
    resumed = run_shards(target, all_shards(target))
    assert ", 1 tiles from an earlier attempt" in resumed.stdout
    assert_same_as(target, finished)


def test_a_second_run_of_members_that_was_killed_goes_on_after_its_last_tile(runs: Path, finished: Run) -> None:
    """The networks of the ensemble are twelve tiles and further draws ten, before those of phase recheck."""
    target = make_run(runs)
    killed = run_shards(target, all_shards(target), failpoint="tile-saved:23")
    assert killed.returncode == -signal.SIGKILL
    assert [path.parent.parent.name for path in (target.path / "partial").rglob("*.npz")] == ["recheck"]
    resumed = run_shards(target, all_shards(target))
    assert resumed.stdout.count(", 1 tiles from an earlier attempt") == 1
    assert_same_as(target, finished)


STOPPED_IN_A_FINALISER = """
import os, signal
from ntkhpc.engine import failpoints
class Told:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
arrivals = []
def reach(stage, where=None):
    arrivals.append(stage)
    if arrivals.count("tile-computed") == 2 and stage == "tile-computed":
        Told()
failpoints.reach = reach
"""


def test_a_worker_told_to_stop_where_python_forgets_it_ends_with_its_tile(runs: Path, finished: Run) -> None:
    target = make_run(runs)
    stopped = run_shards(target, all_shards(target), first=STOPPED_IN_A_FINALISER)
    assert "Exception ignored in" in stopped.stderr
    assert stopped.returncode == -signal.SIGINT, stopped.stdout + stopped.stderr
    assert len(list((target.path / "partial").rglob("*.npz"))) == 2
    assert run_shards(target, all_shards(target)).returncode == 0
    assert_same_as(target, finished)


@pytest.mark.promise(
    "If two executions of a shard give different values, the first result stays and a conflict is recorded."
)
def test_a_twin_with_other_bytes_is_recorded_and_changes_nothing(runs: Path, finished: Run) -> None:
    """The receipt of another execution appears while ours computes; its values are not ours."""
    target = make_run(runs)
    shards = all_shards(target)
    assert run_shards(target, shards[:1]).returncode == 0
    twin = finished.plan.of_phase("ensemble")[0]
    theirs = files.read_sealed(finished.receipt(twin))
    theirs["values"]["test_loss"] = "0" * 64
    script = (
        "import sys; from pathlib import Path; from ntkhpc import worker; from ntkhpc.engine import failpoints\n"
        "def reach(stage, where=None):\n"
        "    if stage == 'shard-computed': Path(sys.argv[3]).write_bytes(Path(sys.argv[4]).read_bytes())\n"
        "failpoints.reach = reach\n"
        "worker.run_shards(sys.argv[1], [sys.argv[2]])\n"
    )
    forged = runs / "forged.json"
    forged.write_bytes(files.seal(theirs))
    from ntkhpc.launch.container import worker_environment

    ran = subprocess.run(
        [sys.executable, "-c", script, str(target.path), twin.id, str(target.receipt(twin)), str(forged)],
        env={**os.environ, **worker_environment(target)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "differ in test_loss" in ran.stderr
    assert target.receipt(twin).read_bytes() == forged.read_bytes()
    assert not list(target.store.glob("test_loss/c.*"))
    conflict = files.read_sealed(next((target.path / "conflicts").iterdir()))
    assert conflict["differing"] == ["test_loss"]


@pytest.mark.parametrize("stage", ["receipt-published", "partial-removed"])
@pytest.mark.parametrize("last", [False, True])
def test_what_a_kill_behind_a_receipt_leaves_is_tidied_up(stage: str, last: bool, runs: Path, finished: Run) -> None:
    """The shard is done, so nobody would look at its tiles and its claim again; nor at its phase after its last."""
    side_by_side = next(phases for phases in finished.layout.stages if "ensemble" in phases)
    count = sum(len(finished.plan.of_phase(phase)) for phase in side_by_side) if last else 2
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text())
    arguments = ("submit", f"--task={task}", f"--runs={runs}", "--cores=1")
    assert ntkhpc(*arguments, NTKHPC_FAILPOINT=f"{stage}:{count}").returncode == -signal.SIGKILL
    target = Run(runs / finished.path.name)
    assert sum(len(target.finished(phase)) for phase in side_by_side) == count
    assert any(list((target.path / "claims" / phase).iterdir()) for phase in side_by_side)
    assert ntkhpc(*arguments).returncode == 0
    assert_same_as(target, finished)
    assert not any(list((target.path / "claims" / phase).iterdir()) for phase in side_by_side)

"""File systems that refuse, answer late, or answer twice: a run goes on, or one sentence says why not."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import faulty_runs
from support.runs import ROOT, make_run, run_shards, store_bytes, tiny_text

from ntkhpc import files, filesystem, gates, refusals, start
from ntkhpc.engine import claims, receipts, run
from ntkhpc.engine.claims import Claim
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import SurroundingsError

NO_LINKS = ("EPERM", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EMLINK")


def fail(name: str, *, done: bool = False, times: int = 10**9, real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that fails with an error, after it did what it should if `done`; the real one after some times."""
    left = iter(range(times))

    def failing(*arguments: Any, **more: Any) -> Any:
        if next(left, None) is None:
            return real(*arguments, **more)
        if done:
            real(*arguments, **more)
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number), str(arguments[0]), None, str(arguments[-1]))

    return failing


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.promise("No hard links are needed: a file system that refuses link() holds runs too.")
@pytest.mark.parametrize("error", NO_LINKS)
def test_a_file_is_published_once_where_links_are_refused(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", fail(error, real=os.link))
    path = tmp_path / "claim"
    assert files.publish(path, b"first")
    assert not files.publish(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["claim"]


@pytest.mark.parametrize("error", ["EEXIST", "EIO", "ESTALE", "EPERM"])
def test_a_link_that_was_made_counts_whatever_the_answer(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", fail(error, done=True, real=os.link))
    assert files.publish(tmp_path / "claim", b"first")
    assert not files.publish(tmp_path / "claim", b"second")
    assert os.listdir(tmp_path) == ["claim"]


def test_a_symbolic_link_in_place_of_a_hard_one_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda old, new: os.symlink(Path(old).name, new))
    assert files.publish(tmp_path / "claim", b"first")
    assert not (tmp_path / "claim").is_symlink()
    assert not files.publish(tmp_path / "claim", b"second")
    assert (tmp_path / "claim").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["claim"]


def test_a_claim_whose_answer_was_lost_is_ones_own(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where even the number of links is not told: the record says whose it is."""
    target = make_run(runs)
    monkeypatch.setattr(os, "link", fail("EEXIST", done=True, real=os.link))
    monkeypatch.setattr(files, "_is_same", lambda one, other: False)
    us = claims.this_process("a")
    assert isinstance(claims.take(target, target.plan.shards[0], us, claims.gone_from_here), Claim)


def publish_by_gate(path: Path, data: bytes) -> bool:
    return gates.publish(path, data, files.stage)


@pytest.mark.promise("Of 16 processes that publish one file where there are no hard links, exactly one succeeds.")
def test_one_of_many_passes_a_gate(tmp_path: Path) -> None:
    for turn in range(10):
        path = tmp_path / str(turn)
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda number, path=path: publish_by_gate(path, b"%d" % number), range(16)))
        assert made.count(True) == 1
        assert path.read_bytes() == b"%d" % made.index(True)
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, range(10)))


def test_a_claim_by_gate_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """Taken and released in turn by threads that hurry: nobody is let in twice, nobody waits for ever."""
    path, held, taken = tmp_path / "lock", [0], [0] * 8

    def hurry(me: int) -> None:
        for turn in range(8):
            while not publish_by_gate(path, b"%d-%d" % (me, turn)):
                time.sleep(0.0005)
            held[0] += 1
            assert held[0] == 1
            taken[me] += 1
            held[0] -= 1
            path.unlink()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hurry, range(8)))
    assert taken == [8] * 8
    assert os.listdir(tmp_path) == []


def test_what_died_in_a_gate_is_let_through_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".claim.gate").mkdir()
    (tmp_path / ".claim.gate" / "staged.tmp").write_bytes(b"of the dead")
    assert not publish_by_gate(tmp_path / "claim", b"second")
    assert (tmp_path / "claim").read_bytes() == b"of the dead"
    (tmp_path / ".claim.gate").mkdir(exist_ok=True)
    (tmp_path / ".claim.gate" / "late.tmp").write_bytes(b"late")
    assert not publish_by_gate(tmp_path / "claim", b"third")
    (tmp_path / "claim").unlink()
    assert not publish_by_gate(tmp_path / "claim", b"fourth")
    assert (tmp_path / "claim").read_bytes() == b"late"
    assert os.listdir(tmp_path) == ["claim"]


@pytest.mark.parametrize("error", ["ENOENT", "EEXIST", "EIO"])
def test_a_rename_that_was_done_counts_whatever_the_answer(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", fail(error, done=True, real=os.replace))
    files.write_atomic(tmp_path / "record", b"content")
    assert (tmp_path / "record").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["record"]


@pytest.mark.parametrize("error", ["ESTALE", "EIO", "ETIMEDOUT", "EBUSY"])
def test_a_file_server_that_hesitates_is_waited_for(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    for call in ("replace", "link", "fsync"):
        with monkeypatch.context() as now:
            now.setattr(os, call, fail(error, times=3, real=getattr(os, call)))
            files.write_atomic(tmp_path / "record", call.encode())
            assert files.publish(tmp_path / call, b"x")
            assert (tmp_path / "record").read_text() == call
    (tmp_path / "sealed").write_bytes(files.seal({"a": 1}))
    monkeypatch.setattr(Path, "read_bytes", fail(error, times=3, real=Path.read_bytes))
    assert files.read_sealed(tmp_path / "sealed") == {"a": 1}


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_fsync_is_not_waited_for(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail(error, real=os.fsync))
    files.write_atomic(tmp_path / "record", b"x")
    assert files.publish(tmp_path / "claim", b"x")


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
def test_what_fsync_did_not_write_is_not_there(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    (tmp_path / "record").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail(error, real=os.fsync))
    for write in (files.write_atomic, files.publish):
        with pytest.raises(SurroundingsError, match="record"), files.explain_refusals(tmp_path):
            write(tmp_path / "record", b"new")
    assert (tmp_path / "record").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["record"]


@pytest.mark.parametrize("number", sorted(refusals.REFUSALS), ids=errno.errorcode.__getitem__)
def test_every_refusal_is_a_sentence_that_says_what_to_do(number: int, tmp_path: Path) -> None:
    with pytest.raises(SurroundingsError) as refused, files.explain_refusals(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))
    text = str(refused.value)
    assert refusals.REFUSALS[number].what in text
    assert f"where: {tmp_path / 'x'}" in text
    assert "inodes free" in text
    assert "do:    " in text
    assert text.endswith("nothing finished is lost: make resume")


def test_a_socket_that_does_not_answer_is_no_file_server() -> None:
    with pytest.raises(TimeoutError), files.explain_refusals(Path()):
        raise TimeoutError(errno.ETIMEDOUT, "timed out")


def test_a_directory_that_vanishes_is_said_to_have(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    with pytest.raises(FileNotFoundError), files.explain_refusals(place):
        (place / "typo").read_bytes()
    place.rename(tmp_path / "moved")
    with pytest.raises(SurroundingsError, match="has vanished: it was moved or removed"), files.explain_refusals(place):
        (place / "plan.json").read_bytes()


@pytest.mark.promise("Whether a place can hold a run is tried before anything is computed there.")
@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (("rename", "replace"), "cannot read or write"),
        (("replaces",), "was replaced by one that must not"),
    ],
)
def test_a_place_that_cannot_hold_runs_is_named_with_one_that_can(
    break_it: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in break_it:
        if name == "replaces":  # as gateways to object stores do
            monkeypatch.setattr(os, "link", os.replace)
        else:
            monkeypatch.setattr(os, name, fail("ENOSYS", real=getattr(os, name)))
    with pytest.raises(SurroundingsError, match=said) as refused:
        filesystem.require(tmp_path)
    assert "RUNS=/" in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_a_file_system_whose_rename_replaces_a_full_directory_holds_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates and the making of a run rest on the refusal."""
    real = os.rename

    def rename(old: Path, new: Path) -> None:
        if Path(new).is_dir():
            shutil.rmtree(new)
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(SurroundingsError, match="a directory that is not empty was replaced"):
        filesystem.require(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_copies_a_directory_in_place_of_a_rename_holds_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(old: Path, new: Path) -> None:
        if Path(new).exists():
            raise OSError(errno.ENOTEMPTY, "not empty", str(new))
        shutil.copytree(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(SurroundingsError, match="a directory that was renamed does not have its content"):
        filesystem.require(tmp_path)


def two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> tuple[Path, Path]:
    """A place where no file can be replaced, and SCRATCH on another file system, where all works."""
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    for place in (here, scratch):
        place.mkdir()
    monkeypatch.setenv("SCRATCH", str(scratch))
    monkeypatch.setattr(filesystem, "_device", lambda _: -1)
    real = os.replace

    def replace(old: Path, new: Path) -> None:
        if Path(new).is_relative_to(here):
            raise OSError(refusal, os.strerror(refusal), str(new))
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)
    return here, scratch


def test_a_run_on_a_full_file_system_is_told_to_move_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, scratch = two_places(tmp_path, monkeypatch, errno.ENOSPC)
    with pytest.raises(SurroundingsError) as refused:
        filesystem.require(here, of_run=True)
    text = str(refused.value)
    assert f"move the run directory to {scratch}/runs/here" in text
    assert f"make resume RUN={scratch}/runs/here; nothing finished is lost" in text
    assert "nothing was computed" not in text
    assert {"SCRATCH", "PSCRATCH", "WORK"} <= start.PASSED  # else a worker could not name the place


def test_a_place_that_works_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, scratch = two_places(tmp_path, monkeypatch, errno.EOPNOTSUPP)
    with pytest.raises(SurroundingsError, match=f"RUNS={scratch}/runs; nothing was computed"):
        filesystem.require(here)


@pytest.mark.parametrize("answer", ["refused", "twice", "symlink"])
def test_a_run_is_made_and_claimed_whatever_link_answers(
    answer: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zarr asks for links too, to make sure of what nobody else can see yet."""
    links = {
        "refused": fail("EOPNOTSUPP", real=os.link),
        "twice": fail("EEXIST", done=True, real=os.link),
        "symlink": lambda old, new: os.symlink(Path(old).name, new),
    }
    monkeypatch.setattr(os, "link", links[answer])
    target = make_run(runs)
    shard = target.plan.shards[0]
    claim = claims.take(target, shard, claims.this_process("a"), claims.gone_from_here)
    assert isinstance(claim, Claim)
    assert claims.take(target, shard, claims.this_process("b"), claims.gone_from_here) == claim.owner
    claim.release(finished=True)
    assert os.listdir(target.path / "claims" / shard.phase) == []
    assert receipts.read(target, shard) is None


def test_a_run_directory_that_is_being_made_is_left_alone_whatever_the_clock_says(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_run(runs)
    name = f".{target.path.name}"
    making, killed, old = (runs / f"{name}.{kind}.tmp" for kind in ("making", "killed", "old"))
    for staged in (making, killed, old):
        staged.mkdir()
    ours = claims.processes.this()
    (making / ".maker.json").write_bytes(files.seal({"host": ours.host, "boot": ours.boot, "pid": ours.pid,
        "started": ours.started, "namespace": ours.namespace, "machine": list(ours.machine)}))  # fmt: skip
    (killed / ".maker.json").write_bytes(files.seal({"host": ours.host, "boot": ours.boot, "pid": 2**22 + 1,
        "started": "1", "namespace": ours.namespace, "machine": list(ours.machine)}))  # fmt: skip
    os.utime(making, (0, 0))
    os.utime(old, (0, 0))
    shutil.rmtree(target.path)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    run.create(runs, target.study)
    assert making.exists()
    assert not killed.exists()
    assert not old.exists()


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of tests/support/faults.c."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: cc")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = ROOT / "tests" / "support" / "faults.c"
    made = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(made, check=True, capture_output=True)
    return library


SEEDS = (0, 3, 5, 9, 12, 14, 21, 26, 28, 37, 42, 47)
"""Every error and every call is among them."""


@pytest.mark.promise(
    "Runs whose file system refuses link, rename, fsync and open at random moments end in a sentence, lose nothing, "
    "and are completed with the stored bits of undisturbed ones."
)
def test_faults_of_a_file_system_at_random_moments_lose_nothing(preloaded: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "LD_PRELOAD": str(preloaded), "PYTHONPATH": f"{ROOT}:{ROOT}/tests", "NPROC": "1",
        "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # fmt: skip
    command = [sys.executable, "-m", "support.faulty_runs", str(tmp_path), "data,law", "undisturbed", *map(str, SEEDS)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    undisturbed, *disturbed = map(json.loads, ran.stdout.splitlines())
    bits = store_bytes(run.load(next((tmp_path / "undisturbed").glob("tiny-*"))))
    assert undisturbed["first"] == 0
    assert len(disturbed) == len(SEEDS)
    assert {one["faults_calls"] for one in disturbed} >= set(faulty_runs.EVERY)
    assert sum(one["faults"] > 0 for one in disturbed) > len(SEEDS) / 2
    for one in disturbed:
        said = one["said"] + one["after"]
        assert "Traceback" not in said, said
        assert one["first"] == 0 or (one["first"] == 1 and "error: " in one["said"]), one
        assert one["second"] == 0, said
        target = run.load(next((tmp_path / str(one["seed"])).glob("tiny-*")))
        assert store_bytes(target) == bits, one


@pytest.mark.promise("A run directory that is moved while it is worked on is said to have vanished, and goes on there.")
def test_a_run_that_is_moved_at_work_is_said_to_have_vanished(runs: Path) -> None:
    task = runs.parent / "tiny.toml"
    task.write_text(tiny_text())
    moved = runs.parent / "moved"
    start = (
        "import os, sys; from pathlib import Path; from ntkhpc import cli; from ntkhpc.launch import local\n"
        "run_stage = local._run_stage\n"
        "def moving(target, phases, *rest):\n"
        "    os.rename(target.path, sys.argv[1])\n"
        "    run_stage(target, phases, *rest)\n"
        "local._run_stage = moving\n"
        "sys.exit(cli.main(sys.argv[2:]))\n"
    )
    command = [sys.executable, "-c", start, str(moved), "submit", f"--task={task}", f"--runs={runs}", "--cores=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "has vanished" in ran.stderr
    assert "moved or removed" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    target = run.load(moved)
    assert run_shards(target, ["data-0"]).returncode == 0
    assert not target.missing("data")


def test_tiles_do_not_make_a_run_that_has_vanished_anew(runs: Path) -> None:
    target = make_run(runs)
    tiles = Tiles(target, target.plan.of_phase("ensemble")[0], {"study": "f" * 64})
    tiles.save(0, {"x": np.zeros(3)})
    target.path.rename(runs / "moved")
    with pytest.raises(SurroundingsError, match="has vanished"), files.explain_refusals(target.path):
        tiles.save(1, {"x": np.zeros(3)})
    assert os.listdir(runs) == ["moved"]


def test_an_error_is_no_answer_to_the_question_whether_a_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """Else a claim that cannot be seen for a moment would be replaced."""
    path, lstat = tmp_path / "claim", os.lstat
    assert files.publish(path, b"first")
    monkeypatch.setattr(os, "link", fail("EPERM", real=os.link))
    monkeypatch.setattr(os, "lstat", fail("ESTALE", real=lstat))
    with pytest.raises(OSError, match="Stale file handle"):
        files.publish(path, b"second")
    assert path.read_bytes() == b"first"
    monkeypatch.setattr(os, "lstat", fail("ESTALE", times=3, real=lstat))
    assert not files.publish(path, b"second")
    path.unlink()
    monkeypatch.setattr(os, "lstat", fail("ESTALE", times=3, real=lstat))
    assert files.publish(path, b"third")
    assert path.read_bytes() == b"third"


def test_a_look_whether_something_is_there_waits_for_a_server_and_takes_no_error_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    (tmp_path / "chunk").write_bytes(b"x")
    real = os.stat
    monkeypatch.setattr(os, "stat", fail("ESTALE", times=3, real=real))
    assert files.is_there(tmp_path / "chunk")
    assert not files.is_there(tmp_path / "none")
    monkeypatch.setattr(os, "stat", fail("ESTALE", real=real))
    with pytest.raises(OSError, match="Stale file handle"):
        files.is_there(tmp_path / "chunk")

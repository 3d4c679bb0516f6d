"""Claims: one owner, taken over only from the dead, and only once."""

import errno
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from support.runs import ROOT, make_run, ntkhpc, worker_settings

from ntkhpc import files
from ntkhpc.engine import claims, discrepancies, failures, processes, verify
from ntkhpc.engine.claims import Claim, Owner
from ntkhpc.engine.run import Run


@pytest.fixture
def target(runs: Path) -> Run:
    return make_run(runs)


def owner(number: int) -> Owner:
    return Owner(attempt=f"attempt-{number}", host="elsewhere", boot="b", pid=number, started="0")


def everyone_lives(_: Owner) -> bool:
    return False


def test_a_live_claim_is_respected_and_a_released_one_is_free(target: Run) -> None:
    shard = target.plan.shards[0]
    first = claims.take(target, shard, owner(1), everyone_lives)
    assert isinstance(first, Claim)
    assert claims.take(target, shard, owner(2), everyone_lives) == owner(1)
    assert claims.live(target, "data", everyone_lives) == {"data-0": owner(1)}
    first.release(finished=False)
    assert isinstance(claims.take(target, shard, owner(2), everyone_lives), Claim)


def test_a_dead_claim_is_taken_over_and_its_owner_can_tell(target: Run) -> None:
    shard = target.plan.shards[0]
    first = claims.take(target, shard, owner(1), everyone_lives)
    second = claims.take(target, shard, owner(2), lambda one: one == owner(1))
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)
    assert not first.holds()
    assert second.holds()
    first.release(finished=False)  # a late riser must not remove the other's claim
    assert second.holds()
    second.release(finished=True)
    assert not list((target.path / "claims" / "data").iterdir())


@pytest.mark.promise("Of 16 workers that find the claim of a dead one at the same time, exactly one takes it over.")
def test_of_many_that_find_a_dead_owner_one_wins(target: Run) -> None:
    shard = target.plan.shards[0]
    claims.take(target, shard, owner(0), everyone_lives)
    for _ in range(20):

        def attempt(number: int) -> Claim | Owner:
            return claims.take(target, shard, owner(number), lambda one: one == owner(0))

        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(attempt, range(1, 17)))
        winners = [result for result in results if isinstance(result, Claim)]
        assert len(winners) == 1
        assert {result for result in results if isinstance(result, Owner)} == {winners[0].owner}
        winners[0].release(finished=False)


@pytest.mark.promise("Without a scheduler, the claim of a process on another host is taken over on request only.")
def test_claims_of_another_host_are_dropped_on_request_only(target: Run) -> None:
    shard = target.plan.shards[0]
    claims.take(target, shard, owner(1), everyone_lives)
    said = ntkhpc("resume", f"--run={target.path}", "--cores=1")
    assert said.returncode == 1
    assert "at work: process 1 on elsewhere" in said.stdout
    assert "TAKE_OVER=1" in said.stdout
    assert "taken over from process 1" in ntkhpc("resume", f"--run={target.path}", "--cores=1", "--take-over").stdout
    assert not target.missing("finalise")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Owner:
    """This process, on a machine with two network cards: a container may have none."""
    monkeypatch.setattr(processes, "machine", lambda: ("card 1", "card 2"))
    return claims.this_process("a")


def test_an_owner_on_this_host_is_gone_when_its_process_is(here: Owner) -> None:
    assert not claims.gone_from_here(here)
    assert claims.gone_from_here(structs.replace(here, started="1"))  # its id is that of another process by now
    assert claims.gone_from_here(structs.replace(here, boot="another boot"))
    assert claims.gone_from_here(structs.replace(here, pid=2**22 + 1))
    assert not claims.gone_from_here(structs.replace(here, host="elsewhere", pid=2**22 + 1))


@pytest.mark.promise(
    "Jumps of the clock, process ids used again, namespaces and host names that repeat make no live claim look dead."
)
@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere"},
        {"boot": "another boot", "machine": ("card 3",)},  # a machine of the same name
        {"boot": "another boot", "machine": ()},  # which may be one
        {"namespace": "1/2", "pid": 2**22 + 1},
        {"namespace": "1/2", "started": "1"},
    ],
    ids=str,
)
def test_an_owner_who_cannot_be_seen_lives_until_somebody_takes_over(changes: dict[str, Any], here: Owner) -> None:
    hidden = structs.replace(here, **changes)
    assert not claims.gone_from_here(hidden)
    assert claims.is_foreign(hidden)
    assert not claims.is_foreign(here)


def test_a_machine_that_lost_one_network_card_is_the_same(here: Owner) -> None:
    assert claims.gone_from_here(structs.replace(here, boot="another boot", machine=("card 2", "card 3")))


def test_a_process_of_another_user_that_hides_lives(here: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount option hidepid leaves no /proc/<pid> of others; signals tell that there is a process."""

    def kill(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    other = structs.replace(here, pid=2**22 + 1)
    assert claims.gone_from_here(other)
    monkeypatch.setattr(os, "kill", kill)
    assert not claims.gone_from_here(other)
    assert claims.is_foreign(other)


@pytest.mark.parametrize("years", [-30, -0.001, 0.001, 30])
def test_no_clock_makes_an_owner_look_dead(years: float, here: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + years * 365 * 86400)
    assert not claims.gone_from_here(here)
    assert claims.this_process("a") == here


def test_a_record_of_an_older_version_is_of_this_machine(here: Owner) -> None:
    """It has neither machine nor namespace; after a restart of the machine its owner is gone, as it always was."""
    old = structs.replace(here, namespace="", machine=())
    assert not claims.gone_from_here(old)
    assert claims.gone_from_here(structs.replace(old, boot="another boot"))


def test_jobs_of_two_clusters_have_the_same_numbers(here: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_RESTART_COUNT", "1"), ("SLURM_CLUSTER_NAME", "ours")):
        monkeypatch.setenv(name, value)
    earlier = structs.replace(here, host="elsewhere", job="7", cluster="ours", restart=0)
    assert claims.gone_from_here(earlier)
    assert not claims.gone_from_here(structs.replace(earlier, cluster="theirs"))


NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--map-root-user")

TAKE = """
import sys
from pathlib import Path
from ntkhpc.engine import claims
from ntkhpc.engine.run import Run
run = Run(Path(sys.argv[1]))
shard = run.plan.shards[int(sys.argv[2])]
print(type(claims.take(run, shard, claims.this_process("b"), claims.gone_from_here)).__name__, flush=True)
sys.stdin.read()
"""


def can_make_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_make_namespaces(), reason="needs root or user namespaces for one of process ids")
def test_a_claim_from_another_namespace_is_respected(target: Run) -> None:
    """A process in a namespace claims a shard, and waits; then the same from within, of a claim from without."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(shard: int) -> subprocess.Popen[str]:
        command = [*NAMESPACE, sys.executable, "-c", TAKE, str(target.path), str(shard)]
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start(0) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "Claim\n"
        us = claims.this_process("a")
        assert isinstance(claims.take(target, target.plan.shards[0], us, claims.gone_from_here), Owner)
        assert isinstance(claims.take(target, target.plan.shards[1], us, claims.gone_from_here), Claim)
        holder.communicate()
    with start(1) as other:
        assert other.communicate()[0] == "Owner\n"


def test_a_claim_whose_directory_cannot_be_synced_is_not_left_behind(
    target: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ends at once: whoever found the claim would take it for killed, for want of memory."""

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "no space", str(path))

    monkeypatch.setattr(files, "sync_directory", refuse)
    with pytest.raises(OSError, match="no space"):
        claims.take(target, target.plan.shards[0], owner(1), everyone_lives)
    assert not list((target.path / "claims" / "data").iterdir())


@pytest.mark.parametrize("harm", ["removed", "damaged", "other"])
def test_a_claim_that_is_gone_or_damaged_is_not_said_to_be_taken_over(harm: str, target: Run) -> None:
    claim = claims.take(target, target.plan.shards[0], owner(1), everyone_lives)
    assert isinstance(claim, Claim)
    assert claim.lost() == ""
    if harm == "removed":
        claim.path.unlink()
    else:
        claim.path.write_bytes(b"{}" if harm == "damaged" else files.seal({"a": 1}))
    assert claim.lost() == claims.GONE
    if harm == "other":
        assert [(one.path, one.todo) for one in verify.problems(target)] == [(claim.path, discrepancies.DELETE)]
    assert isinstance(claims.take(target, target.plan.shards[0], owner(2), everyone_lives), Claim)
    assert claim.lost() == claims.TAKEN_OVER


LOSING = """
import sys
from pathlib import Path
from ntkhpc import worker
from ntkhpc.engine import failpoints
def reach(stage, where=None):
    if stage == "shard-computed":
        next(Path(sys.argv[1]).glob("claims/data/data-0.0")).write_bytes(b"{}")
failpoints.reach = reach
print(worker.run_shards(sys.argv[1], ["data-0"]))
"""


def test_a_worker_whose_claim_was_damaged_says_so_and_leaves_a_record(target: Run) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOSING, str(target.path)],
        env=worker_settings(target), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "the claim of this worker is gone or damaged" in ran.stdout
    assert "another job took" not in ran.stdout
    assert "'data-0': 'claim lost'" in ran.stdout
    (record,) = failures.open_records(target)
    assert "gone or damaged" in record["message"]
    assert not list(target.store.glob("x_train/c*"))

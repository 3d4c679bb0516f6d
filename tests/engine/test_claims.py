"""Claims: one owner, taken over only from the dead, and only once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs
from support.runs import make_run, ntkhpc

from ntkhpc.engine import claims
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


def test_an_owner_on_this_host_is_gone_when_its_process_is() -> None:
    here = claims.this_process("a")
    assert not claims.gone_from_here(here)
    assert claims.gone_from_here(structs.replace(here, started="1"))
    assert claims.gone_from_here(structs.replace(here, boot="another boot"))
    assert claims.gone_from_here(structs.replace(here, pid=2**22 + 1))
    assert not claims.gone_from_here(structs.replace(here, host="elsewhere", pid=2**22 + 1))

"""Run shards: the one function a job calls.

A shard's order is: claim, compute (with the finished tiles of an earlier attempt), look for a receipt and for the own
claim, write whole chunks, flush, read back and compare, publish the receipt. Whatever kills the process in between, the
next attempt ends with the same bytes.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ntkhpc import files
from ntkhpc.engine import claims, failpoints, failures, fingerprint, frozen_code, receipts, stop, store
from ntkhpc.engine.claims import Claim, Owner
from ntkhpc.engine.inputs import StoreInputs
from ntkhpc.engine.packages import changed_versions, versions
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Manifest, Run, load
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import ClaimLostError, ConflictError, DamagedError, DivergedError, RunError
from ntkhpc.phase.work import Values, Work

Computations = Mapping[str, Callable[[Run], None]]
"""Phases that a room above computes from the whole run, by name; they write no array."""


def run_shards(
    run_directory: str, shard_ids: list[str], computations: Computations, *, keep_going: bool = False
) -> dict[str, str]:
    """Run each shard that has no receipt and no live claim, in the order given; shard id -> what became of it.

    Raises NtkhpcError, or whatever a shard raised, after recording why in `failures/`: at the first shard that fails,
    or with `keep_going` after all were tried.
    """
    stop.listen()
    run = load(Path(run_directory), given=shard_ids)
    shards = {shard.id: shard for shard in run.plan.shards}
    if unknown := [shard_id for shard_id in shard_ids if shard_id not in shards]:
        raise RunError(f"the plan has no shard {unknown[0]!r}", where=run.path / "plan.json")
    try:
        fingerprint.require_pinned_threads()
        fingerprint.require_platform()
        _require_same_versions(run)
        _require_intact_code(run)
        manifest = run.manifest  # read once: an accepted change is not about code that is running
        marks = fingerprint.collect(run.study, manifest)
        bench = _Bench(run, manifest, marks, StoreInputs(run.store), computations)
    except Exception as error:  # nothing is claimed yet: the first shard bears the record of what keeps all from it
        for shard_id in shard_ids[:1]:
            failures.record(run, shards[shard_id], claims.this_process(uuid.uuid4().hex[:12]), error)
        raise
    outcomes, first = {}, None
    for shard_id in shard_ids:
        stop.check()
        try:
            outcomes[shard_id] = _attempt(bench, shards[shard_id], claims.gone_from_here)
        except Exception as error:  # recorded by _attempt once it has a claim; the first is raised after all had a turn
            if not keep_going:
                raise
            print(f"{shard_id} failed: {error}", flush=True)
            first = first or error
    if first is not None:
        raise first
    return outcomes


@dataclass(frozen=True)
class _Bench:
    """What the shards of one worker share."""

    run: Run
    manifest: Manifest
    marks: dict[str, Any]
    inputs: StoreInputs
    computations: Computations


def _attempt(bench: _Bench, shard: Shard, gone: Callable[[Owner], bool]) -> str:
    run = bench.run
    if run.receipt(shard).exists():
        Tiles(run, shard, bench.marks["id"]).remove()  # a worker that was killed after its receipt left them
        return "done before"
    _require_earlier_phases(run, shard)
    with files.explain_refusals(run.path):
        claim = claims.take(run, shard, claims.this_process(uuid.uuid4().hex[:12]), gone)
    if isinstance(claim, Owner):
        print(f"{shard.phase}/{shard.id}: left to {claim}, who claims it", flush=True)
        return f"claimed by {claim}"
    finished = False
    try:
        if run.receipt(shard).exists():  # published between the first look and the claim
            finished = True
            return "done before"
        failpoints.reach("claimed", run.path)
        print(f"{shard.phase}/{shard.id}: started", flush=True)
        with files.explain_refusals(run.path):
            outcome = _compute_and_publish(bench, shard, claim)
        finished = True
        print(f"{shard.phase}/{shard.id}: {outcome}", flush=True)
        return outcome
    except ClaimLostError as error:
        print(error, flush=True)
        return "taken over"
    except Exception as error:  # whatever it is, `make status` names it, and it goes on up
        failures.record(run, shard, claim.owner, error)
        raise
    finally:
        with contextlib.suppress(OSError):  # a claim that stays behind is taken over once this process is gone
            claim.release(finished=finished)
        failpoints.reach("claim-released", run.path)


def _compute(bench: _Bench, shard: Shard, inputs: str, tiles: Tiles) -> Values:
    """The values of a shard's block, of every array that its phase writes."""
    run = bench.run
    phase = run.layout.phases[shard.phase]
    if phase.compute is None:
        bench.computations[phase.name](load(run.path))  # it may look at every shard
        return {}
    work = Work(run.study, run.layout.block(shard.region), bench.inputs.of(phase, inputs), tiles)
    try:
        return phase.compute(work)
    except DivergedError as error:  # a computation knows its block, not the name of its shard
        where = error.where or f"shard {shard.id}"
        raise DivergedError(error.what, where=where, cause=error.cause, todo=error.todo) from error


def _compute_and_publish(bench: _Bench, shard: Shard, claim: Claim) -> str:
    run, manifest, marks = bench.run, bench.manifest, bench.marks
    started, clock = datetime.now(UTC), time.monotonic()
    tiles = Tiles(run, shard, marks["id"], sequential=run.layout.phases[shard.phase].sequential)
    inputs = receipts.inputs_hash(run, shard.phase)
    values = _compute(bench, shard, inputs, tiles)
    failpoints.reach("shard-computed", run.path)
    there = {array.name for array in store.written(run.store, run.study, shard.phase)}
    digests = store.digests({name: value for name, value in values.items() if name in there})
    if run.receipt(shard).exists():
        return _compare_with_twin(run, shard, claim, digests, marks)
    if not claim.holds():
        raise ClaimLostError(f"{shard.phase}/{shard.id}: another job took this shard over; its result is left to it")
    store.write(run.store, run.study, shard, values)
    receipt = Receipt(
        study_id=manifest.study_id,
        phase=shard.phase,
        shard=shard.id,
        values=digests,
        inputs=inputs,
        code=manifest.code,
        lock=manifest.lock,
        git=manifest.git,
        image=os.environ.get("NTKHPC_IMAGE"),
        versions=versions(),
        fingerprint=marks,
        seeds={
            "study": run.study.seed,
            "data": run.study.data.seed,
            "members": shard.region.get("member"),
            "chains": shard.region.get("chain"),
        },
        attempt=claim.owner.attempt,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        tiles_reused=tiles.reused,
        **receipts.surroundings(),
    )
    if not receipts.publish(run, shard, receipt):
        return _compare_with_twin(run, shard, claim, digests, marks)
    failpoints.reach("receipt-published", run.path)
    tiles.remove()
    failpoints.reach("partial-removed", run.path)
    return f"done in {receipt.seconds:.1f} s" + (
        f", {tiles.reused} tiles from an earlier attempt" if tiles.reused else ""
    )


def _compare_with_twin(run: Run, shard: Shard, claim: Claim, digests: dict[str, str], marks: dict[str, Any]) -> str:
    """Another execution was faster: its receipt stands. Raises ConflictError if its values are not ours."""
    theirs = receipts.read(run, shard)
    if theirs is not None and theirs.values == digests:
        return "done by a twin, with the same bytes"
    differing = sorted(name for name in digests if theirs is None or theirs.values.get(name) != digests[name])
    path = run.path / "conflicts" / f"{shard.id}-{claim.owner.attempt}.json"
    record = {
        "shard": shard.id,
        "differing": differing,
        "ours": {"values": digests, "fingerprint": marks, "owner": msgspec.to_builtins(claim.owner)},
        "theirs": msgspec.to_builtins(theirs),
    }
    path.parent.mkdir(exist_ok=True)
    files.write_atomic(path, files.seal(record))
    raise ConflictError(
        f"two executions of {shard.phase}/{shard.id} differ in {', '.join(differing)}; the first one stands",
        where=path,
        cause="they ran under different fingerprints (device, versions, code), or a computation is not deterministic",
        todo="compare the two fingerprints in that file; make verify tells whether the store agrees with the receipt",
    )


def _require_earlier_phases(run: Run, shard: Shard) -> None:
    for phase in run.layout.closure(shard.phase):
        if missing := run.missing(phase):
            raise RunError(
                f"phase {shard.phase} needs phase {phase} complete; {len(missing)} of its shards are missing",
                where=run.path,
                todo="make resume runs what is missing, in order",
            )


def _require_same_versions(run: Run) -> None:
    differing = [f"{name} {old} -> {new}" for name, old, new in changed_versions(run.manifest.versions)]
    if differing:
        raise RunError(
            f"this Python is not the one the run was made with: {', '.join(differing)}",
            where=run.path,
            cause="the virtual environment was rebuilt from another lock or Python",
            todo="go back to the old environment, or accept it for the missing shards: make resume ACCEPT_CHANGE=1",
        )


def _require_intact_code(run: Run) -> None:
    """Raises DamagedError unless this very code is the one the manifest names."""
    code = run.code
    if frozen_code.hash_of(code) != run.manifest.code or not Path(__file__).resolve().is_relative_to(code.resolve()):
        raise DamagedError(
            "the code that would run is not the code frozen in the run",
            where=code,
            cause="the frozen copy was edited or damaged, or this worker was started by hand with another PYTHONPATH",
            todo="undo the edit; to change the code of a run, edit the checkout and make resume ACCEPT_CHANGE=1",
        )

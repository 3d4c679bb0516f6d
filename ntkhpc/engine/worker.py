"""Run shards: the one function a job calls.

A shard's order is: claim, compute (with the finished tiles of an earlier attempt), look for a receipt, write whole
chunks and look for the own claim before each, flush, read back and compare, publish the receipt. Whatever kills the
process in between, the next attempt ends with the same bytes.
"""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ntkhpc import files, filesystem, large_files, program_cache, programs
from ntkhpc.engine import (
    arrays,
    claims,
    confirmed,
    conflicts,
    donors,
    failpoints,
    failures,
    fingerprint,
    frozen_code,
    receipts,
    shortage,
    stop,
    store,
    tiles,
)
from ntkhpc.engine.claims import Claim, Owner
from ntkhpc.engine.inputs import StoreInputs
from ntkhpc.engine.packages import PACKAGES, changed_versions, versions
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Manifest, Run, load
from ntkhpc.engine.staging import Staging
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import ClaimLostError, ConflictError, DamagedError, DivergedError, RunError
from ntkhpc.phase.work import Values, Work
from ntkhpc.pinned import pinned

CORES = "NTKHPC_WORKER_CORES"
"""A launcher says by it how many cores each of its workers may use."""

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
        filesystem.require(run.path, of_run=True)
        fingerprint.require_pinned_threads()
        fingerprint.require_platform()
        _require_same_versions(run)
        _require_intact_code(run)
        manifest = run.manifest  # read once: an accepted change is not about code that is running
        marks = fingerprint.collect(run.study, manifest)
        if marks["platform"] == "cpu":  # compilers of GPUs choose kernels by timing them
            program_cache.use(fingerprint.machine(marks))
        beside = donors.Donors(run, manifest.code, marks["id"])
        installed = versions((*PACKAGES, *run.study.packages))
        bench = _Bench(run, manifest, marks, installed, StoreInputs(run), beside, computations)
    except Exception as error:  # nothing is claimed yet: the first shard bears the record of what keeps all from it
        for shard_id in shard_ids[:1]:
            failures.record(run, shards[shard_id], claims.this_process(uuid.uuid4().hex[:12]), error)
        raise
    outcomes, first, layout = {}, None, run.layout
    for shard_id in shard_ids:
        stop.check()
        if before := layout.before(shards[shard_id].phase, shards[shard_id].region):
            finished = run.finished(shards[shard_id].phase)
            if missing := [one for one in before if one not in finished]:
                print(f"{shards[shard_id].phase}/{shard_id}: left, as {missing[0]} comes before it", flush=True)
                outcomes[shard_id] = f"not before {missing[0]}"
                continue
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
    versions: dict[str, str]
    inputs: StoreInputs
    beside: donors.Donors
    computations: Computations


def _attempt(bench: _Bench, shard: Shard, gone: Callable[[Owner], bool]) -> str:
    run = bench.run
    if files.is_there(run.receipt(shard)):
        shutil.rmtree(tiles.folder(run, shard), ignore_errors=True)  # of a worker killed after its receipt
        return "done before"
    _require_earlier_phases(run, shard)
    with files.explain_refusals(run.path):
        run.make_rooms(shard.phase)
        claim = claims.take(run, shard, claims.this_process(uuid.uuid4().hex[:12]), gone)
    if isinstance(claim, Owner):
        print(f"{shard.phase}/{shard.id}: left to {claim}, who claims it", flush=True)
        return f"claimed by {claim}"
    finished = False
    try:
        if files.is_there(run.receipt(shard)):  # published between the first look and the claim
            finished = True
            return "done before"
        failpoints.reach("claimed", run.path)
        print(f"{shard.phase}/{shard.id}: started", flush=True)
        with files.explain_refusals(run.path), Staging(run, shard) as staging:
            outcome = _compute_and_publish(bench, shard, claim, staging)
        finished = True
        print(f"{shard.phase}/{shard.id}: {outcome}", flush=True)
        return outcome
    except ClaimLostError as error:
        print(error, flush=True)
        if claim.lost() != claims.GONE:
            return "taken over"
        failures.record(run, shard, claim.owner, error)  # nobody else is at it who would say what became of it
        return "claim lost"
    except Exception as error:  # whatever it is, `make status` names it, and it goes on up
        if shortage.is_one(error):
            what = str(error).strip().partition("\n")[0] or type(error).__name__
            short = shortage.explain(run, shard, what, shortage.held())
            failures.record(run, shard, claim.owner, short)
            raise short from error
        failures.record(run, shard, claim.owner, error)
        raise
    finally:
        with contextlib.suppress(OSError):  # a claim that stays behind is taken over once this process is gone
            claim.release(finished=finished)
        failpoints.reach("claim-released", run.path)


def _compute(
    bench: _Bench, shard: Shard, inputs: str, kept: Tiles, others: donors.Taking | None, staging: Staging
) -> Values:
    """The values of a shard's block, of every array that its phase writes."""
    run = bench.run
    phase = run.layout.phases[shard.phase]
    programs.keep_only((phase.name, *(shard.region[dim] for dim in phase.compiled)))
    if phase.compute is None:
        bench.computations[phase.name](load(run.path))  # it may look at every shard
        return {}
    work = Work(
        run.study,
        run.layout.block(shard.region),
        bench.inputs.of(phase, inputs, shard.region),
        kept,
        threads=min(_cores(), phase.wide(run.study)),
        accelerated=fingerprint.is_accelerated(),
        lane_bytes=bench.marks.get("lane_bytes"),
        others=others,
        finished=staging,
    )
    try:
        with pinned(), large_files.reused():
            return phase.compute(work)
    except DivergedError as error:  # a computation knows its block, not the name of its shard
        where = error.where or f"shard {shard.id}"
        raise DivergedError(error.what, where=where, cause=error.cause, todo=error.todo) from error


def _cores() -> int:
    """Cores that are this worker's: as its launcher says, or SLURM; never more than the system lets it use."""
    given = [os.environ.get(name, "") for name in (CORES, "SLURM_CPUS_PER_TASK")]
    return max(1, min([len(os.sched_getaffinity(0)), *(int(one) for one in given if one.isdigit())]))


def _compute_and_publish(bench: _Bench, shard: Shard, claim: Claim, staging: Staging) -> str:
    run, manifest, marks = bench.run, bench.manifest, bench.marks
    started, clock = datetime.now(UTC), time.monotonic()
    inputs = receipts.inputs_hash(run, shard.phase)
    made_from = {"study": manifest.files["study.toml"], "inputs": inputs, "fingerprint": marks["id"]}
    kept = Tiles(run, shard, made_from, sequential=run.layout.phases[shard.phase].sequential)
    confirmed.require_metadata(run, run.layout.phases[shard.phase])
    others = bench.beside.of(shard)
    values = _compute(bench, shard, inputs, kept, others, staging)
    failpoints.reach("shard-computed", run.path)
    there = {array.name: array for array in store.written(run.store, run.study, shard.phase)}
    chunks = {
        name: store.chunk_digests(value, arrays.of(run.store, name), shard, staging.digest)
        for name, value in values.items()
        if name in there and there[name].scratch
    }
    digests = store.digests({name: value for name, value in values.items() if name in there and name not in chunks})
    digests |= {name: receipts.digests_hash(found) for name, found in chunks.items()}
    receipt = Receipt(
        study_id=manifest.study_id,
        phase=shard.phase,
        shard=shard.id,
        values=digests,
        inputs=inputs,
        study=manifest.files["study.toml"],
        read=bench.inputs.read if run.layout.phases[shard.phase].compute else {},
        chunks=chunks,
        keys=others.keys if others else {},
        taken=others.taken if others else {},
        code=manifest.code,
        lock=manifest.lock,
        git=manifest.git,
        image=os.environ.get("NTKHPC_IMAGE"),
        versions=bench.versions,
        fingerprint=marks,
        lanes=_lanes(run, shard, marks.get("lane_bytes")),
        seeds={
            "study": run.study.seed,
            "data": run.study.data.seed,
            "members": shard.region.get("member", shard.region.get("leap_member")),
            "chains": shard.region.get("chain"),
        },
        attempt=claim.owner.attempt,
        started=started.isoformat(timespec="seconds"),
        seconds=0.0,
        tiles_reused=kept.reused,
        **receipts.surroundings(),
    )

    def require_claim() -> None:
        if why := claim.lost():
            raise ClaimLostError(
                f"{shard.phase}/{shard.id}: {why}",
                where=claim.path if why == claims.GONE else None,
                todo="make resume computes it again" if why == claims.GONE else None,
            )

    try:
        if told := _compare_with_twin(run, shard, receipt):
            return told
        store.write(run.store, run.study, shard, values, before=require_claim, staged=staging.pop)
        require_claim()
    except ClaimLostError:
        # Whoever took it over may have ended while this process was stopped within a write, which came after its own.
        if told := _compare_with_twin(run, shard, receipt):
            return told
        raise
    seconds = round(time.monotonic() - clock, 3)
    receipt = msgspec.structs.replace(receipt, seconds=seconds, **receipts.surroundings())
    for _ in range(3):
        if receipts.publish(run, shard, receipt):
            break
        if told := _compare_with_twin(run, shard, receipt):
            return told
        require_claim()  # that of a twin was there, and was set aside before it was read
    else:
        raise DamagedError(
            "a receipt is there that cannot be read", where=run.receipt(shard), todo=receipts.advice(run)
        )
    failpoints.reach("receipt-published", run.path)
    kept.remove()
    failpoints.reach("partial-removed", run.path)
    reused = [f"{kept.reused} tiles from an earlier attempt"] if kept.reused else []
    return ", ".join([f"done in {receipt.seconds:.1f} s", *reused, *([str(others)] if others and str(others) else [])])


def _lanes(run: Run, shard: Shard, lane_bytes: int | None) -> int:
    """How many members the shard trains at once."""
    lanes = run.layout.phases[shard.phase].lanes
    return 0 if lanes is None else lanes(run.study, run.layout.block(shard.region), lane_bytes)


def _compare_with_twin(run: Run, shard: Shard, ours: Receipt) -> str:
    """Say that another execution was faster, whose receipt stands; nothing if there is none, or none any more.

    Raises ConflictError if its values are not ours.
    """
    theirs = receipts.read(run, shard)
    if theirs is None:
        return ""
    if theirs.values == ours.values:
        return "done by a twin, with the same bytes"
    path, differing = conflicts.record(run, shard, ours, theirs)
    raise ConflictError(
        f"two executions of {shard.phase}/{shard.id} differ in {', '.join(differing)}; the first one stands",
        where=path,
        cause="they ran under different fingerprints (device, versions, code), or a computation is not deterministic",
        todo=f"compare the two fingerprints in that file; {conflicts.ADVICE}",
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
    frozen_code.require_intact(code, run.manifest.code)
    if not Path(__file__).resolve().is_relative_to(code.resolve()):
        raise DamagedError(
            "the code that would run is not the code frozen in the run",
            where=code,
            cause="this worker was started by hand with another PYTHONPATH",
            todo="make resume; to change the code of a run, edit the checkout and make resume ACCEPT_CHANGE=1",
        )

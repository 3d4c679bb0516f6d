"""What was made of what: shards that were computed from other values than there are now, and all that came of some."""

import contextlib
from collections.abc import Mapping

from ntkhpc import gates
from ntkhpc.engine import receipts
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Run
from ntkhpc.errors import NtkhpcError
from ntkhpc.studies import analysis

_BAD = (NtkhpcError, OSError)
"""What keeps a record from being read. Whoever looks at that record itself says so."""


class Staleness:
    """Whether shards were computed from other values than the shards before them have now, by the receipts of both."""

    def __init__(self, run: Run):
        self._run = run
        self._inputs: dict[str, str | None] = {}
        self._values: dict[str, dict[str, dict[str, str]] | None] = {}

    def is_stale(self, receipt: Receipt) -> bool:
        """False where a receipt of the phases before is damaged or missing, which is reported as such."""
        needed = _needs(self._run, receipt.phase)
        if receipt.read and needed <= {one.phase for one in receipt.read.values()}:
            return any(self._differs(name, one) for name, one in receipt.read.items())
        if receipt.phase not in self._inputs:
            self._inputs[receipt.phase] = None
            with contextlib.suppress(*_BAD):
                self._inputs[receipt.phase] = receipts.inputs_hash(self._run, receipt.phase)
        return self._inputs[receipt.phase] not in (None, receipt.inputs)

    def _differs(self, name: str, one: receipts.Read) -> bool:
        if (known := self._of_phase(one.phase)) is None:
            return False
        digests = [known.get(shard, {}).get(name) for shard in one.shards or known]
        return None in digests or receipts.digests_hash(str(digest) for digest in digests) != one.values

    def _of_phase(self, phase: str) -> dict[str, dict[str, str]] | None:
        """The values of each shard of a phase; None if one has no sound receipt."""
        if phase not in self._values:
            shards, found = self._run.plan.of_phase(phase), {}
            for shard in shards:
                with contextlib.suppress(*_BAD):
                    if (receipt := receipts.read(self._run, shard)) is not None:
                        found[shard.id] = receipt.values
            self._values[phase] = found if len(found) == len(shards) else None
        return self._values[phase]


def _needs(run: Run, phase: str) -> set[str]:
    """The phases of a run whose arrays a phase reads; each of all, for one that writes none."""
    layout, planned = run.layout, set(run.plan.phases)
    if phase not in layout.phases:
        return set()
    reads = layout.phases[phase].reads
    return {layout.writers[name] for name in reads if layout.writers.get(name) in planned}


def made_of(run: Run, damaged: Mapping[str, Shard]) -> list[Shard]:
    """These shards and all that was computed from them, directly or not, in the order of the plan.

    What a shard has read is in its receipt; one that does not say it may have read all that its phase reads.
    """
    stale: dict[str, set[str]] = {}
    for shard in damaged.values():
        stale.setdefault(shard.phase, set()).add(shard.id)
    for phase in run.plan.phases:  # in an order in which they can be run
        needed = _needs(run, phase) & (stale.keys() | {phase})  # a chained phase reads what it wrote
        if phase == analysis.NAME:
            needed = set(stale)
        for shard in run.plan.of_phase(phase) if needed else ():
            if _has_read(run, shard, {one: stale[one] for one in needed if one in stale}):
                stale.setdefault(phase, set()).add(shard.id)
    return [shard for shard in run.plan.shards if shard.id in stale.get(shard.phase, ())]


def _has_read(run: Run, shard: Shard, stale: Mapping[str, set[str]]) -> bool:
    receipt = None
    with contextlib.suppress(*_BAD):
        receipt = receipts.read(run, shard)
    if receipt is None:
        return gates.exists(run.receipt(shard))  # a damaged one is in the list of damage anyway
    for phase, shards in stale.items():
        said = [one for one in receipt.read.values() if one.phase == phase]
        if (not said and phase != shard.phase) or any(not one.shards or shards & set(one.shards) for one in said):
            return True
    return False

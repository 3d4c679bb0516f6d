"""Where results come from: code, packages, machines and time, from the manifest and the receipts of a run."""

from collections import defaultdict
from typing import Any

from ntkhpc.engine import receipts
from ntkhpc.engine.frozen_code import current_hash
from ntkhpc.engine.packages import versions
from ntkhpc.engine.run import Run


def provenance(run: Run) -> dict[str, Any]:
    """Study, code, versions, hosts and devices; core seconds by phase, receipts and accepted changes."""
    manifest = run.manifest
    found = [
        receipt
        for phase in run.layout.closure("analysis")
        for shard in run.plan.of_phase(phase)
        if (receipt := receipts.own(run, shard, manifest)) is not None
    ]
    seconds: defaultdict[str, float] = defaultdict(float)
    for receipt in found:
        seconds[receipt.phase] += receipt.seconds
    return {
        "study_id": manifest.study_id,
        "code": manifest.code,
        "lock": manifest.lock,
        "git": manifest.git,
        "versions": manifest.versions,
        "shards": len(found),
        "hosts": sorted({receipt.host for receipt in found}),
        "devices": sorted({str(receipt.fingerprint.get("device")) for receipt in found}),
        "fingerprints": len({receipt.fingerprint["id"] for receipt in found}),
        "seconds_by_phase": {phase: round(seconds[phase], 1) for phase in seconds},
        "peak_memory_bytes": max((receipt.peak_memory_bytes for receipt in found), default=0),
        "started": min((receipt.started for receipt in found), default=""),
        "changes": manifest.changes,
        # A report made again is made with the code of a checkout, of which the manifest knows nothing.
        "analysis": {"code": current_hash(), "versions": versions()},
    }

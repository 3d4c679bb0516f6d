"""A test can make a process fail at named moments, as a cluster would.

NTKHPC_FAILPOINT="stage:count:action": at the count-th arrival at the stage, `kill` sends SIGKILL to the whole process
group, and the name of an errno (ENOSPC, EDQUOT, EROFS, EIO) raises that OSError. Unset, as always in production, it
costs one dictionary look-up.
"""

import errno
import os
import signal
from collections import Counter

VARIABLE = "NTKHPC_FAILPOINT"

STAGES = (
    "run-staged",
    "run-created",
    "code-frozen",
    "claimed",
    "tile-computed",
    "tile-saved",
    "shard-computed",
    "chunk-written",
    "chunks-written",
    "chunks-synced",
    "values-compared",
    "receipt-published",
    "partial-removed",
    "claim-released",
)

_arrivals: Counter[str] = Counter()


def reach(stage: str, where: object = None) -> None:
    """Mark the arrival at a stage of STAGES."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, rest = wanted.partition(":")
    if name != stage:
        return
    count, _, action = rest.partition(":")
    _arrivals[stage] += 1
    if _arrivals[stage] != int(count or 1):
        return
    if action in ("", "kill"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    number = getattr(errno, action)
    raise OSError(number, f"{os.strerror(number)} (failpoint {wanted})", str(where) if where else None)

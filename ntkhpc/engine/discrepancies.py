"""What is found not to be as it was written, and the advice for it."""

import errno
from dataclasses import dataclass
from pathlib import Path

from ntkhpc import refusals
from ntkhpc.engine.plan import Shard

SET_ASIDE = "make verify SET_ASIDE=1 sets the damaged shards aside, with all that was made of them; then make resume"
COMPUTED_AGAIN = f"{SET_ASIDE} computes them again"
MADE_AGAIN = "make verify SET_ASIDE=1 puts back the files of the making that can be made again byte for byte"
FROM_A_COPY = "what cannot be made again: restore it from a copy, or begin anew in another place (RUNS=/path)"
REPORTED_AGAIN = "make report makes the report again"
OF_NOBODY = "what belongs to nothing in the run: move it away, or delete it"
DELETE = "a record that decides no value: delete it"
SETTLE_FIRST = "a record of a conflict that is damaged: delete it only when its shard is settled, by the advice above"
TRY_AGAIN = "what could not be read for now: make verify again when the file server answers"
MEND = "what could not be read: mend that (permissions, or the file system), then make verify again"


@dataclass(frozen=True)
class Discrepancy:
    """What is not as it was written, and what to do. `shard` is set where computing that shard again mends it."""

    path: Path
    what: str
    shard: Shard | None = None
    todo: str = COMPUTED_AGAIN

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def unreadable(path: Path, error: OSError, shard: Shard | None = None, todo: str = FROM_A_COPY) -> Discrepancy:
    """A file that the system does not give. Where it may give it yet nothing is to be computed again."""
    what = f"cannot be read: {error.strerror or error}"
    if error.errno in _LATER:
        return Discrepancy(path, what, todo=TRY_AGAIN)
    if error.errno not in _BROKEN and refusals.of(error) is not None:
        return Discrepancy(path, what, todo=MEND)
    return Discrepancy(path, what, shard, todo if shard is None else COMPUTED_AGAIN)


_BROKEN = frozenset([errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO), getattr(errno, "EUCLEAN", errno.EIO)])
_LATER = (refusals.TRANSIENT | refusals.OF_NETWORKS) - _BROKEN

"""Memory that this process may have, and whether what a file says it holds fits, asked before any of it is read."""

import contextlib
import os
import resource
from pathlib import Path

from ntkhpc.errors import DataError

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def require(needed: int, where: object, what: str, todo: str) -> None:
    """Raises DataError if `needed` bytes are more than this process may have."""
    if needed > (there := at_hand()):
        raise DataError(
            f"{what} would take {amount(needed)} of memory, and {amount(there)} are there",
            where=where,
            cause="the file is larger than memory, or what it says of its size is wrong",
            todo=todo,
        )


def amount(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**29 else f"{size / 2**20:,.0f} MiB"


def at_hand() -> int:
    """Bytes of memory for this process: the machine's, or the limit of its control group or of `ulimit -v`."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            found.append(soft)
    return min([*found, *_of_groups()])


def _of_groups() -> list[int]:
    """The limits of this process's control group and of those above it."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, kinds, inside = line.split(":", 2)
            if kinds not in ("", "memory"):
                continue
            root, name = (_GROUPS / "memory", "memory.limit_in_bytes") if kinds else (_GROUPS, "memory.max")
            place = root / inside.lstrip("/")
            for folder in (place, *place.parents):
                if not folder.is_relative_to(root):
                    break
                with contextlib.suppress(OSError, ValueError):  # the group at the root has no limit: "max", or no file
                    found.append(int((folder / name).read_text()))
    return found

"""What a worker that goes from shard to shard still holds of the last one: compiled programs, and freed memory.

Each program of JAX stays for ever, with some 10 MiB of a network's training and 30 of a sampler: those of one cell are
enough. The C library keeps freed blocks below about 32 MiB, of which compilation leaves a hundred MiB.
"""

import ctypes
import sys
from collections.abc import Callable, Hashable
from functools import cache

_last: Hashable = None


def keep_only(cell: Hashable) -> None:
    """Let go of compiled programs, unless the last call was for the same `cell`; shards of one cell share theirs."""
    global _last
    if _last is not None and cell != _last and (jax := sys.modules.get("jax")):
        jax.clear_caches()
    _last = cell
    give_back()


def give_back() -> None:
    """Give the system the memory back that is free in this process, where the C library can."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim  # glibc's; musl and macOS have none
    except (OSError, AttributeError):
        return None

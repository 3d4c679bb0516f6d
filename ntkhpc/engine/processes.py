"""Which process is meant, and whether it lives, whatever clocks, process ids and names of hosts do.

A host's name may be that of several machines, and a process id is one of many processes in turn. So a process is known
by its machine, the boot of it, its namespaces, its id there, and the moment of its start in ticks since that boot. No
wall clock is in this: it may jump.
"""

import hashlib
import os
import platform
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct


class Life(Enum):
    """What can be known here about a process."""

    GONE = "gone"
    HERE = "here"
    UNKNOWN = "unknown"
    """It is on another machine, or in a namespace that cannot be looked into: it may live."""


class Process(Struct, frozen=True, kw_only=True):
    """A process. Its name cannot be mistaken for that of a later process with the same id.

    `machine` has digests of the addresses of its network cards, `namespace` those of process ids and time. Both are
    empty where the system does not tell, and in records of older versions.
    """

    host: str
    boot: str
    pid: int
    started: str
    namespace: str = ""
    machine: tuple[str, ...] = ()


def this() -> Process:
    return Process(
        host=platform.node(),
        boot=boot(),
        pid=os.getpid(),
        started=start_time(os.getpid()) or "",
        namespace=namespace(),
        machine=machine(),
    )


def life(one: Process) -> Life:
    """Say whether a process lives, as far as can be told from here."""
    if one.host != platform.node():
        return Life.UNKNOWN
    if one.boot != boot():
        # This machine was started anew since, or the process is on another machine of the same name.
        known = one.namespace != ""  # older versions recorded neither, and took the first for granted
        return Life.GONE if not known or set(one.machine) & set(machine()) else Life.UNKNOWN
    if one.namespace and one.namespace != namespace():
        return Life.UNKNOWN
    started = start_time(one.pid)
    if started == HIDDEN:
        return Life.UNKNOWN
    return Life.HERE if started == one.started else Life.GONE


HIDDEN = "hidden"
"""The start time of a process that exists, and of which another user is told nothing more (mount option hidepid)."""


def start_time(pid: int) -> str | None:
    """Return the start time that the kernel has of a process; HIDDEN; None if there is none, or only its zombie."""
    try:
        stat: Any = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            return HIDDEN
        return None if Path("/proc/self/stat").exists() else ""  # no /proc (macOS): existence alone
    except OSError as error:  # ESRCH: it ended while it was read
        return None if isinstance(error, ProcessLookupError) else HIDDEN
    return None if stat[0] in "ZX" else stat[19]


@cache
def boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def namespace() -> str:
    """Return the numbers of the namespaces that decide what a process id and a start time mean."""
    try:
        return "/".join(str(os.stat(f"/proc/self/ns/{kind}").st_ino) for kind in ("pid", "time"))
    except OSError:  # not Linux, or a kernel before 5.6
        try:
            return str(os.stat("/proc/self/ns/pid").st_ino)
        except OSError:
            return ""


@cache
def machine() -> tuple[str, ...]:
    """Return short digests of the addresses of the network cards, of which no other machine has any.

    Devices that software makes are left out: their addresses change. In a container there may be none.
    """
    try:
        cards = sorted(Path("/sys/class/net").iterdir())
    except OSError:
        return ()
    found = {_read(str(card / "address")) for card in cards if (card / "device").exists()}
    real = {address for address in found if address.strip("0:")}
    return tuple(sorted(hashlib.sha256(address.encode()).hexdigest()[:12] for address in real))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""

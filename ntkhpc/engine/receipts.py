"""A receipt says that a shard is done, what its values are, and where they came from."""

import getpass
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct, convert, to_builtins

from ntkhpc import files
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run

# The environment is never recorded whole: it holds tokens and passwords.
ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CPUS_PER_TASK", "SLURM_JOB_ID", "SLURM_JOB_PARTITION",
    "SLURM_NODELIST", "SLURM_PROCID", "SLURM_RESTART_COUNT", "SUBMITIT_LOCAL_JOB_ID", "XLA_FLAGS",
)  # fmt: skip


class Receipt(Struct, frozen=True, kw_only=True):
    """`values` maps each array to the sha256 of type, shape and values of the shard's region.

    `inputs` is the hash of the values it was computed from: those of every receipt of the phases it needs.
    """

    study_id: str
    phase: str
    shard: str
    values: dict[str, str]
    inputs: str
    code: str
    lock: str
    git: dict[str, Any] | None
    image: str | None
    versions: dict[str, str]
    fingerprint: dict[str, Any]
    seeds: dict[str, Any]
    attempt: str
    host: str
    user: str
    environment: dict[str, str]
    started: str
    seconds: float
    peak_memory_bytes: int
    tiles_reused: int
    restart_count: int


def publish(run: Run, shard: Shard, receipt: Receipt) -> bool:
    """Make the receipt unless the shard has one; True if it was this call that made it."""
    return files.publish(run.receipt(shard), files.seal(to_builtins(receipt)))


def read(run: Run, shard: Shard) -> Receipt | None:
    """The receipt of a shard, or None. Raises DamagedError if it does not match its own checksum."""
    try:
        return convert(files.read_sealed(run.receipt(shard)), Receipt)
    except FileNotFoundError:
        return None


def inputs_hash(run: Run, phase: str) -> str:
    """Hash of the values a phase reads, by the receipts of the phases it needs. Raises DamagedError for a bad one.

    Of the phases that the run has: one that newer code puts in between makes no older receipt look wrong.
    """
    planned = {shard.phase for shard in run.plan.shards}
    needed = run.layout.needed(phase, planned)
    found = [read(run, shard) for before in needed for shard in run.plan.of_phase(before)]
    return files.sha256(files.canonical_json([receipt and receipt.values for receipt in found]))


def surroundings() -> dict[str, Any]:
    """What a receipt says about the process: host, user, allowed environment variables, peak memory."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        user = str(os.getuid())
    return {
        "host": platform.node(),
        "user": user,
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "peak_memory_bytes": _peak_memory_bytes(),
        "restart_count": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }


def _peak_memory_bytes() -> int:
    """Largest resident size so far. Linux's own count: getrusage's begins with that of the process that forked us."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        kilobyte = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte

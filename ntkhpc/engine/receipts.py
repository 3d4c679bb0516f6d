"""A receipt says that a shard is done, what its values are, and where they came from."""

import os
import platform
import resource
import sys
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, ValidationError, convert, to_builtins

from ntkhpc import files
from ntkhpc.engine import shortage
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Manifest, Run
from ntkhpc.errors import DamagedError
from ntkhpc.studies import analysis
from ntkhpc.surroundings import user

# The environment is never recorded whole: it holds tokens and passwords.
ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CPUS_PER_TASK", "SLURM_JOB_ID", "SLURM_JOB_PARTITION",
    "SLURM_NODELIST", "SLURM_PROCID", "SLURM_RESTART_COUNT", "SUBMITIT_LOCAL_JOB_ID", "XLA_FLAGS",
)  # fmt: skip


class Read(Struct, frozen=True, kw_only=True):
    """What a shard was computed from: of one array the parts that these shards of a phase wrote, all of them if none is
    named. `values` is the sha256 of the list of their digests, in the order of the plan."""

    phase: str
    shards: tuple[str, ...] = ()
    values: str


class Receipt(Struct, frozen=True, kw_only=True):
    """`values` maps each array to the sha256 of type, shape and values of the shard's region.

    `inputs` is the hash of the values it was computed from: those of every receipt of the phases it needs. `study` is
    the sha256 of the study.toml that the worker had, `read` what it read of each array. Receipts of older versions have
    neither. `chunks` are the digests of the chunks of scratch arrays, in the order of their files; the sha256 of their
    list stands in `values`. `keys` are the hashes of what these chunks were made from, by which runs of other studies
    find them, and `taken` the names of the runs from which they were taken, "" of a chunk that was computed. Where no
    chunk was taken, and in receipts of older versions, `taken` says nothing; the latter have no keys either. `lanes` is
    the number of members that were trained side by side; 0 where this was not done.
    """

    study_id: str
    phase: str
    shard: str
    values: dict[str, str]
    inputs: str
    study: str = ""
    read: dict[str, Read] = {}
    chunks: dict[str, tuple[str, ...]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    taken: dict[str, tuple[str, ...]] = {}
    code: str
    lock: str
    git: dict[str, Any] | None
    image: str | None
    versions: dict[str, str]
    fingerprint: dict[str, Any]
    lanes: int = 0
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
    path = run.receipt(shard)
    try:
        return convert(files.read_sealed(path), Receipt)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise DamagedError(error.what, where=path, cause=error.cause, todo=advice(run)) from error
    except ValidationError as error:
        raise DamagedError(
            f"is no receipt: {error}", where=path, cause="another record was copied there", todo=advice(run)
        ) from error


def advice(run: Run) -> str:
    """What to do about a shard that is not as it was written."""
    return f"make verify RUN={run.path} SET_ASIDE=1, then make resume RUN={run.path}"


def own(run: Run, shard: Shard, manifest: Manifest) -> Receipt | None:
    """The same. Raises DamagedError also if it is the receipt of another shard or study."""
    receipt = read(run, shard)
    if receipt is None or is_own(receipt, shard, manifest):
        return receipt
    raise DamagedError(
        OF_ANOTHER,
        where=run.receipt(shard),
        cause="it was copied there, or the run was put together from two",
        todo=advice(run),
    )


OF_ANOTHER = "is the receipt of another shard or study"


def is_own(receipt: Receipt, shard: Shard, manifest: Manifest) -> bool:
    """Whether a receipt was written for this shard of this study."""
    named = (receipt.shard, receipt.phase, receipt.study_id) == (shard.id, shard.phase, manifest.study_id)
    return named and receipt.study in ("", manifest.files["study.toml"])


def inputs_hash(run: Run, phase: str) -> str:
    """Hash of the values a phase reads, by the receipts of the phases it needs. Raises DamagedError for a bad one.

    Of the phases that the run has: one that newer code puts in between makes no older receipt look wrong.
    """
    planned = {shard.phase for shard in run.plan.shards}
    return _values_hash(run, run.layout.needed(phase, planned))


def results_hash(run: Run) -> str:
    """Hash of every value that a report may be made from. Raises DamagedError for a bad receipt."""
    return _values_hash(run, [phase for phase in run.plan.phases if phase != analysis.NAME])


def _values_hash(run: Run, phases: Iterable[str]) -> str:
    found = [read(run, shard) for phase in phases for shard in run.plan.of_phase(phase)]
    return files.sha256(files.canonical_json([receipt and receipt.values for receipt in found]))


def digests_hash(digests: Iterable[str]) -> str:
    """The `values` of a Read."""
    return files.sha256(files.canonical_json(list(digests)))


def surroundings() -> dict[str, Any]:
    """What a receipt says about the process: host, user, allowed environment variables, peak memory."""
    return {
        "host": platform.node(),
        "user": user(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "peak_memory_bytes": _peak_memory_bytes(),
        "restart_count": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }


def _peak_memory_bytes() -> int:
    """Largest resident size so far. Linux's own count: getrusage's begins with that of the process that forked us."""
    if found := shortage.held():
        return found
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte

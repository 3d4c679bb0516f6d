"""Each attempt that failed leaves a record of why: `failures/<shard>-<attempt>.json`.

The class of an error says what a retry does (`errors.Retry`). `kind_of` says it for errors of Python and of libraries.
"""

import contextlib
import re
import socket
import ssl
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ntkhpc import files, refusals
from ntkhpc.engine import shortage
from ntkhpc.engine.claims import Owner
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError, NtkhpcError, Retry


def kind_of(error: BaseException, run: Path | None = None) -> Retry:
    """Say what a retry does after an error. Our classes say it themselves; for all others this function alone does.

    `run` is the directory of the run: a name that is missing is no bug where the run itself has vanished.
    """
    if isinstance(error, NtkhpcError):
        return error.retry
    if shortage.is_one(error):
        return Retry.MEMORY
    if isinstance(error, OSError):
        return _of_system(error, run)
    return Retry.DEVICE if _is_of_a_device(error) else Retry.BUG


_DEVICE = re.compile(
    r"\b(CUDA|CU(BLAS|DNN|SOLVER|SPARSE|FFT)|NCCL|NVML|PTX|HIP|ROCM|ROC(BLAS|SOLVER|FFT)|RCCL|MIOPEN)(_|\b)|hipError|"
    r"\bcu(Init|DriverGet|da[A-Z]|BLAS|DNN|Solver|Sparse|FFT)|^(UNAVAILABLE|DATA_LOSS|ABORTED|DEADLINE_EXCEEDED):|"
    r"Unable to initialize backend|uncorrectable|fallen off the bus",
    re.IGNORECASE,
)
"""What JAX says in words of a GPU, its driver or its libraries."""


def _is_of_a_device(error: BaseException) -> bool:
    """Whether JAX, or what an error was raised from, says that a device failed, and not the program on it."""
    if isinstance(error, RuntimeError) and _DEVICE.search(str(error)):
        return True
    return error.__cause__ is not None and _is_of_a_device(error.__cause__)


def _of_system(error: OSError, run: Path | None) -> Retry:
    vanished = isinstance(error, FileNotFoundError) and run is not None and not (run / "manifest.json").exists()
    # Numbers of names of hosts, of ssl and of herror are their own, not the system's.
    named = isinstance(error, TimeoutError | ConnectionError | socket.gaierror | socket.herror | ssl.SSLError)
    outside = named or error.errno in refusals.SURROUNDINGS or _is_of_a_library(error) or _has_no_scratch(error)
    return Retry.SURROUNDINGS if outside or vanished else Retry.BUG


def _is_of_a_library(error: OSError) -> bool:
    """Whether an error without a number is of a class that says what failed: a connection of Dask, requests, urllib.

    OSError itself says nothing. h5py raises it for a file that is truncated or not HDF5; where the system refused to
    read, h5py passes the number on. Classes of names, arguments and child processes are bugs without a number too.
    """
    return error.errno is None and type(error) is not OSError and not isinstance(error, _OF_THE_CODE)


_OF_THE_CODE = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, ProcessLookupError, ChildProcessError,
    ValueError, LookupError,  # as io.UnsupportedOperation and requests.exceptions.InvalidURL
)  # fmt: skip


def _has_no_scratch(error: OSError) -> bool:
    """Whether it is tempfile's error that no folder for temporary files can be written to: ENOENT without a name."""
    return error.filename is None and str(error.strerror).startswith("No usable temporary directory")


def record(run: Run, shard: Shard, owner: Owner, error: BaseException) -> None:
    """Write down why an attempt failed. Where that is refused too, the log says so."""
    content = {
        "phase": shard.phase,
        "shard": shard.id,
        "error": type(error).__name__,
        "kind": kind_of(error, run.path).value,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "owner": msgspec.to_builtins(owner),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        path = run.path / "failures" / f"{shard.id}-{owner.attempt}.json"
        path.parent.mkdir(exist_ok=True)
        files.write_atomic(path, files.seal(content))
    except OSError as unwritable:
        print(f"{shard.phase}/{shard.id} failed, and the failure cannot be recorded: {unwritable}", flush=True)


def paths(run: Run) -> list[Path]:
    """Return the paths of all records, oldest first."""
    return sorted((run.path / "failures").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)


def shards(run: Run) -> set[str]:
    """Return the ids of the shards of which an attempt failed."""
    return {path.name.rpartition("-")[0] for path in paths(run)}


def open_records(run: Run) -> Iterator[dict[str, Any]]:
    """Read the records of shards that still have no receipt, oldest first."""
    finished = set().union(*(run.finished(phase) for phase in run.plan.phases))
    for path in paths(run):
        if path.name.rpartition("-")[0] in finished:
            continue
        # One that is damaged, or gone since it was listed, tells nothing: its shard still counts as missing.
        with contextlib.suppress(DamagedError, FileNotFoundError):
            yield files.read_sealed(path)

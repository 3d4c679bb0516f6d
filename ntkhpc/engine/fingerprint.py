"""Runs with one numerics fingerprint have the same bytes; runs with two agree to a tolerance."""

import os
from pathlib import Path
from typing import Any

from ntkhpc.engine.packages import DECIDING, versions
from ntkhpc.engine.run import Manifest
from ntkhpc.errors import DeviceError, SurroundingsError
from ntkhpc.files import canonical_json, sha256
from ntkhpc.studies.base import Study

PINNED = {
    "NPROC": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""The launcher sets these before Python starts: the thread counts of XLA and BLAS change the last bits of sums."""


def require_pinned_threads() -> None:
    """Raises SurroundingsError unless this process was started with one thread."""
    wrong = {name: os.environ.get(name) for name, value in PINNED.items() if os.environ.get(name) != value}
    if wrong:
        raise SurroundingsError(
            f"this worker was not started with one thread: {wrong}",
            cause="thread counts must be set before Python starts, or the last bits depend on the machine",
            todo=f"start workers with make submit, or with {' '.join(f'{k}={v}' for k, v in PINNED.items())}",
        )


PLATFORM = "NTKHPC_PLATFORM"
"""A launcher that asked for a device sets this to "gpu" or "cpu"."""


def require_platform() -> None:
    """Raises DeviceError if a GPU was asked for and JAX sees none: training on the CPU would waste the allocation."""
    if os.environ.get(PLATFORM) != "gpu":
        return
    import jax

    platform = jax.devices()[0].platform
    if platform not in ("gpu", "cuda", "rocm"):
        raise DeviceError(
            f"a GPU was asked for and JAX sees none, only {platform}",
            where=f"host {os.uname().nodename}, CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')!r}",
            cause="an image for CPUs, no --nv, a driver too old for this jax, or a node whose GPU is lost",
            todo="make doctor PROFILE=... shows what a compute node sees; make image GPU=cuda12",
        )


def collect(study: Study, manifest: Manifest) -> dict[str, Any]:
    """Return the fingerprint of this process, with its `id`."""
    import jax

    device = jax.devices()[0]
    record = {
        "code": manifest.code,
        "lock": manifest.lock,
        "versions": versions(DECIDING),
        "platform": device.platform,
        "device": _cpu_model() if device.platform == "cpu" else device.device_kind,
        "threads": {name: os.environ.get(name) for name in PINNED},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **study.numerics,
    }
    return {**record, "id": sha256(canonical_json(record))[:16]}


def _cpu_model() -> str:
    """Return the model name and a hash of the instruction sets, which choose the vector kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU"
    first = dict(reversed([line.split(":", 1) for line in lines if ":" in line]))
    fields = {key.strip(): value.strip() for key, value in first.items()}
    return f"{fields.get('model name', 'CPU')} [{sha256(fields.get('flags', '').encode())[:8]}]"

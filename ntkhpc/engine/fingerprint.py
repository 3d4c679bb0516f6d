"""Runs with one numerics fingerprint have the same bytes; runs with two agree to a tolerance."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntkhpc import lanes, pinned, start
from ntkhpc.engine.packages import DECIDING, versions
from ntkhpc.engine.run import Manifest
from ntkhpc.errors import DeviceError, SurroundingsError
from ntkhpc.files import canonical_json, sha256
from ntkhpc.studies.base import Study

PINNED = {name: value for name, value in start.SETTINGS.items() if name == "NPROC" or name.endswith("_THREADS")}
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


def is_accelerated() -> bool:
    """Whether the launcher gave this process a GPU of its own."""
    return os.environ.get(PLATFORM) == "gpu"


def require_platform() -> None:
    """Raises DeviceError if a GPU was asked for and JAX sees none: training on the CPU would waste the allocation."""
    if not is_accelerated():
        return
    found = _device().platform
    if found not in ("gpu", "cuda", "rocm"):
        raise DeviceError(
            f"a GPU was asked for and JAX sees none, only {found}",
            where=f"host {os.uname().nodename}, CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')!r}",
            cause="an image for CPUs, no --nv, a driver too old for this jax, or a node whose GPU is lost",
            todo="make doctor PROFILE=... shows what a compute node sees; make image GPU=cuda12",
        )


def _device() -> Any:
    """Return the device that JAX computes on. Raises DeviceError if it finds none."""
    import jax

    try:
        return jax.devices()[0]
    except (RuntimeError, AssertionError, ImportError) as error:
        wanted = os.environ.get("JAX_PLATFORMS")
        raise DeviceError(
            f"JAX finds no device: {str(error) or type(error).__name__}",
            where=f"host {os.uname().nodename}, JAX_PLATFORMS={wanted!r}",
            cause=f"JAX_PLATFORMS={wanted} names a device that is not here" if wanted else "a driver that fails",
            todo="unset JAX_PLATFORMS, or JAX_PLATFORMS=cpu; then make resume",
        ) from error


def _libraries(device: Any) -> dict[str, Any]:
    """Return what decides bits beside the packages: the C library, what is loaded before it, the device's compiler."""
    found = {
        "libc": " ".join(platform.libc_ver()),
        "preloaded": os.environ.get("LD_PRELOAD", ""),
        "passed": start.also(os.environ),
        "backend": str(getattr(device.client, "platform_version", "")),
    }
    if device.platform != "cpu":
        names = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
        found["gpu_packages"] = {k: v for k, v in sorted(names.items()) if k.startswith(("nvidia-", "jax-", "rocm"))}
    return found


def _numerics() -> dict[str, str]:
    """Return hashes of JAX's settings and of sample values of NumPy: what nobody thought of shows here."""
    with pinned.pinned():
        settings = pinned.jax_settings()
        values = b"".join(value.tobytes() for value in pinned.sample())
    return {"jax_settings": sha256(canonical_json(settings))[:16], "numpy_values": sha256(values)[:16]}


def collect(study: Study, manifest: Manifest) -> dict[str, Any]:
    """Return the fingerprint of this process, with its `id`."""
    device = _device()
    record = {
        "code": manifest.code,
        "lock": manifest.lock,
        "versions": versions((*DECIDING, *study.packages)),
        "platform": device.platform,
        "device": _cpu_model() if device.platform == "cpu" else device.device_kind,
        "threads": {name: os.environ.get(name) for name in PINNED},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **_libraries(device),
        **_numerics(),
        **study.numerics,
    }
    if is_accelerated():  # kernels by NumPy, beside a GPU that JAX happens to see, have other bits
        record["accelerated"] = True
    if (lane_bytes := lanes.device_bytes()) is not None:  # with the sizes they decide how many members train at once
        record["lane_bytes"] = lane_bytes
    return {**record, "id": sha256(canonical_json(record))[:16]}


_OF_THE_RUN = ("code", "lock", "id")
"""Entries of a fingerprint that say what is computed, not by what. Programs that differ in these have keys of JAX."""


def machine(marks: Mapping[str, Any]) -> str:
    """A name of all that decides what a compiled program is and does on this machine, for a folder of programs.

    XLA asks for no match of instruction sets when it loads a program: the processor is in the name.
    """
    decides = {name: value for name, value in marks.items() if name not in _OF_THE_RUN}
    return f"jax-{marks['versions']['jax']}-{sha256(canonical_json(decides))[:16]}"


def _cpu_model() -> str:
    """Return the model name and a hash of the instruction sets, which choose the vector kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU"
    first = dict(reversed([line.split(":", 1) for line in lines if ":" in line]))
    fields = {key.strip(): value.strip() for key, value in first.items()}
    return f"{fields.get('model name', 'CPU')} [{sha256(fields.get('flags', '').encode())[:8]}]"

"""Settings of JAX and NumPy that decide values, pinned where values are computed that are stored.

Workers start without any setting of a user. This is for a process that somebody else configured, as a notebook.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ntkhpc.errors import SurroundingsError

JAX = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_threefry_gpu_kernel_lowering": False,
    "jax_enable_custom_prng": False,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_matmul_precision": None,
    "jax_default_device": None,
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_optimization_level": "UNKNOWN",
    "jax_enable_pgle": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_enable_checks": False,
    "jax_check_tracer_leaks": False,
    "jax_no_tracing": False,
    "jax_transfer_guard_host_to_device": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
}
"""Settings that change values or forbid what training does, as they are where nobody set them. A version of JAX may
lack some."""

_HARMLESS = (
    "jax_compilation_cache", "jax_persistent_cache", "jax_enable_compilation_cache", "jax_log", "jax_dump",
    "jax_debug_log", "jax_platform", "jax_traceback", "jax_tracer_error", "jax_send_traceback",
    "jax_include_full_tracebacks", "jax_explain", "jax_pprint", "jax_compiler_detailed_logging", "jax_hlo_source",
    "jax_raise_persistent", "jax_include_debug_info", "jax_cuda_visible_devices", "jax_rocm_visible_devices",
    "jax_oneapi_visible_devices", "jax_captured_constants", "jax_source_url",
)  # fmt: skip


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute with the settings above and NumPy's usual warnings, whatever this process has set; they come back after.

    Raises SurroundingsError where a setting cannot be changed, as inside `with jax.enable_x64(True):`.
    """
    import jax

    there = jax.config.values
    before = {name: there[name] for name, value in JAX.items() if name in there and there[name] != value}
    changed: list[str] = []
    try:
        for name in before:
            changed.append(name)
            _set(name, JAX[name])
        if left := sorted(name for name in before if jax.config.values[name] != JAX[name]):
            raise SurroundingsError(
                f"JAX is set otherwise than runs are computed: {', '.join(left)}",
                cause="this was called inside a `with jax...:` that sets them",
                todo="call it outside; or let make submit start workers",
            )
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            yield
    finally:
        for name in changed:
            _set(name, before[name])


def _set(name: str, value: Any) -> None:
    import jax

    jax.config.update(name, value)  # type: ignore[no-untyped-call]  # JAX gives it no type


def jax_settings() -> dict[str, str]:
    """Every setting of JAX but for those of caches, logs and devices: what a process computed with."""
    import jax

    return {name: str(value) for name, value in sorted(jax.config.values.items()) if not name.startswith(_HARMLESS)}


def sample() -> list[np.ndarray]:
    """Values of NumPy's functions and linear algebra, whose last bits depend on libraries and instructions."""
    x = np.linspace(0.1, 3.0, 61)
    y = x.astype(np.float32)
    matrix = np.cos(np.outer(np.arange(24.0), x[:24])) + 24 * np.eye(24)
    functions: list[Any] = [np.exp, np.log, np.sin, np.tanh, np.cbrt, np.arctan, np.expm1]
    return [
        *(function(values) for function in functions for values in (x, y)),
        np.power(x, 1.7),
        matrix @ matrix.T,
        matrix.astype(np.float32) @ matrix.astype(np.float32).T,
        np.linalg.eigvalsh(matrix + matrix.T),
        np.linalg.solve(matrix, x[:24]),
    ]

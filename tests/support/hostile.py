"""What users, sites and modules may have set, and what of it would change a process that let it in."""

import os
from pathlib import Path

VARIABLES = {
    # JAX: other keys, other precision, another device, no compiler, errors.
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_NUM_CPU_DEVICES": "3",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_CHECK_TRACER_LEAKS": "1",
    "JAX_COMPILATION_CACHE_DIR": "/proc/no-cache",
    "JAX_LOG_COMPILES": "1",
    # XLA, its thread pools and its libraries.
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_force_host_platform_device_count=2",
    "LIBTPU_INIT_ARGS": "--no_such_flag",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_XLA_FLAGS": "--no_such_flag",
    "NPROC": "7",
    # NumPy and its linear algebra.
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "NPY_PROMOTION_STATE": "legacy",
    "NUMPY_EXPERIMENTAL_ARRAY_FUNCTION": "0",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_NUM_THREADS": "5",
    "OMP_NUM_THREADS": "5",
    "OMP_DYNAMIC": "true",
    "MKL_NUM_THREADS": "5",
    "KMP_DUPLICATE_LIB_OK": "1",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    # Python.
    "PYTHONHASHSEED": "123",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "PYTHONDEVMODE": "1",
    "PYTHONMALLOC": "debug",
    "PYTHONINTMAXSTRDIGITS": "640",
    "PYTHONBREAKPOINT": "no.such.module",
    "PYTHONUTF8": "0",
    # Dask, Zarr, drawing, language.
    "DASK_SCHEDULER": "no-such-scheduler",
    "DASK_ARRAY__CHUNK_SIZE": "1 B",
    "DASK_CONFIG": "/etc/hostname",
    "ZARR_ARRAY__WRITE_EMPTY_CHUNKS": "False",
    "ZARR_ARRAY__ORDER": "F",
    "ZARR_DEFAULT_ZARR_FORMAT": "2",
    "MPLBACKEND": "no-such-backend",
    "MATPLOTLIBRC": "/etc/hostname",
    "LC_ALL": "tr_TR.ISO8859-9",
    "LANG": "C",
    "SUBMITIT_PREEMPT_SIGNAL": "USR1",
}


def home(folder: Path) -> dict[str, str]:
    """A home whose files break or change what reads them: Dask, Matplotlib, pip, a user's own packages."""
    written = {
        ".config/dask/logging.yaml": "not a mapping",
        ".config/dask/broken.yaml": "{: [",
        ".config/matplotlib/matplotlibrc": "backend: no-such\naxes.unicode_minus: what\nfont.family: none\n",
        ".config/pip/pip.conf": "[install]\nuser = true\n",
        ".local/lib/python3.11/site-packages/usercustomize.py": "raise SystemExit('usercustomize was imported')\n",
        ".local/lib/python3.11/site-packages/numpy.py": "raise SystemExit('a numpy of the user was imported')\n",
    }
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / ".config")}


def without(*names: str) -> dict[str, str]:
    """This environment without some variables."""
    return {name: value for name, value in os.environ.items() if name not in names}

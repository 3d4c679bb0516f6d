"""The environment of our processes: what of it reaches them, and what of it a process of a user is rid of.

Workers get what `start.py` lets through. The command line keeps what a user's tools need (SLURM, Apptainer, modules,
terminals) and drops what would change libraries: it makes reports itself.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ntkhpc import start, terminal

DROPPED_PREFIXES = (
    "JAX_", "XLA_", "LIBTPU_", "TPU_", "TF_", "PYTHON", "PIP_", "NPY_", "NUMPY", "SCIPY_", "OPENBLAS_", "GOTO_", "OMP_",
    "GOMP_", "KMP_", "MKL_", "BLIS_", "NUMEXPR_", "VECLIB_", "DASK_", "DISTRIBUTED_", "MPL", "MATPLOTLIB", "ZARR_",
    "XARRAY_", "PANDAS_", "ARROW_", "PYARROW_", "HDF5_", "LC_", "SUBMITIT_",
)  # fmt: skip
"""Variables that change Python, the libraries that compute, store or draw, or the language of messages."""

DROPPED = frozenset(["NPROC", "LANG", "LANGUAGE", "GLIBC_TUNABLES", "ENABLE_PJRT_COMPATIBILITY"])

_KEPT = """
    JAX_PLATFORMS XLA_PYTHON_CLIENT_PREALLOCATE XLA_PYTHON_CLIENT_MEM_FRACTION XLA_PYTHON_CLIENT_ALLOCATOR
    PYTHONPATH PYTHONSAFEPATH PYTHONNOUSERSITE PYTHONUSERBASE PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX
    PYTHONUNBUFFERED PYTHONIOENCODING PYTHONUTF8 PYTHONCOERCECLOCALE PYTHONHASHSEED PYTHONFAULTHANDLER
"""
KEPT = frozenset(_KEPT.split())
"""Those of these names that a command line may have: the device, where its own packages are, how its output looks."""

_LATE = ("PYTHON",)
"""These act as Python starts: to be rid of one, Python must start anew."""

_RESTARTED = "NTKHPC_RESTARTED"
"""The process that has started anew: once is enough, as a sitecustomize.py may set such a variable each time."""


def is_dropped(name: str) -> bool:
    return (name.startswith(DROPPED_PREFIXES) or name in DROPPED) and name not in KEPT


def prepare() -> None:
    """Rid this process of what would change it; the first thing that a command does, before libraries are loaded."""
    terminal.open_descriptors()
    wanted = start.also(os.environ)
    dropped = [name for name in os.environ if is_dropped(name) and name not in wanted]
    for name in dropped:
        del os.environ[name]
    again = os.environ.pop(_RESTARTED, "") == str(os.getpid())  # a process keeps its id when it starts anew
    if not again and any(name.startswith(_LATE) for name in dropped):
        os.environ[_RESTARTED] = str(os.getpid())
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)
    if not start.usable(os.environ.get("TMPDIR", "")):
        os.environ.pop("TMPDIR", None)
    if not _has_home():  # Path.home() and libraries would raise; below this nothing is found and nothing can be made
        os.environ["HOME"] = os.devnull
    terminal.guard()


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def user() -> str:
    """The name of the user; the number where it has no name: in a container, or while a directory service is down."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def settings(code: Path) -> dict[str, str]:
    """What a worker is given for the code of its run."""
    return {**start.SETTINGS, "PYTHONPATH": str(code)}


_CHECKED = (
    "import sys,hashlib as h;n,d=sys.argv[1:3];t=open(n,'rb').read();"
    "d==h.sha256(t).hexdigest()or sys.exit('error: changed since it was submitted: '+ascii(n));"
    "sys.argv[:3]=[n];exec(compile(t,n,'exec'))"
)
"""A job starts the copy of start.py that was written when it was submitted, and no other."""

START = Path(start.__file__)


def python(
    executable: str, code: Path | None, code_hash: str, given: Mapping[str, str], copy: Path | None = None
) -> list[str]:
    """The words that start Python by start.py; what Python is to do follows them. `copy` is a copy of start.py."""
    content = hashlib.sha256(START.read_bytes()).hexdigest()
    first = ["-c", _CHECKED, str(copy), content] if copy else [str(START)]
    words = [f"{name}={value}" for name, value in given.items()]
    return [executable, "-I", *first, "-" if code is None else str(code), code_hash, *words, "--"]


@contextlib.contextmanager
def without_files_of_the_user() -> Iterator[None]:
    """Let libraries that are loaded inside find no configuration in the user's home and none of the machine.

    A file in ~/.config/dask that cannot be read ends the import of Dask.
    """
    changed = {"HOME": os.devnull, "DASK_ROOT_CONFIG": os.devnull, "DASK_CONFIG": os.devnull}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

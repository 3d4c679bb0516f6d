"""Start Python for a run: `python -I start.py CODE HASH NAME=VALUE... -- [-u] -m MODULE ARGUMENT...`

It compares the frozen code with its hash, keeps of the environment what is named here, adds the settings, and becomes
the Python that was asked for. Python imports sitecustomize.py and whatever else it finds on PYTHONPATH as it starts, so
the comparison comes first, in a Python that was told (-I) to look at no variable and at no folder but its own.

This file stands alone: it imports nothing but the standard library, and a launcher copies it beside the jobs that it
submits. A dash for CODE starts Python without code of a run, one for HASH without the comparison.
"""

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress

_PASSED = """
    PATH HOME USER LOGNAME SHELL TMPDIR TZ LD_LIBRARY_PATH LD_PRELOAD SCRATCH PSCRATCH WORK
    CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES CUDA_HOME CUDA_PATH
    ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ROCM_PATH JAX_PLATFORMS
    XLA_PYTHON_CLIENT_PREALLOCATE XLA_PYTHON_CLIENT_MEM_FRACTION XLA_PYTHON_CLIENT_ALLOCATOR
    XDG_DATA_HOME XDG_CACHE_HOME
    http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    APPTAINER_CONTAINER SINGULARITY_CONTAINER
"""
PASSED = frozenset(_PASSED.split())
"""Variables that reach workers: who one is, where one and one's files are, which device is used and how much of its
memory, how the network is reached. None of them decides a bit but for the device, its memory and LD_PRELOAD, which are
in the fingerprint."""

PASSED_PREFIXES = ("NTKHPC_", "SLURM", "SUBMITIT_")
"""Ours, and those by which a task knows which task it is."""

_NOT_PASSED = frozenset(["SUBMITIT_PREEMPT_SIGNAL"])

ALSO = "NTKHPC_PASS"
"""Names further variables that reach workers, separated by commas. Their values are in the fingerprint."""

SETTINGS = {
    # The thread counts of XLA and BLAS change the last bits of sums.
    "NPROC": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",  # else `python -m` puts the working directory, the checkout, before the frozen code
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "LC_ALL": "C.UTF-8",
    "MPLBACKEND": "agg",
    "DASK_ROOT_CONFIG": os.devnull,
}
"""What workers are always given."""


def also(environment: Mapping[str, str]) -> dict[str, str]:
    """The further variables that a user wants passed, with their values."""
    names = [name.strip() for name in environment.get(ALSO, "").split(",")]
    return {name: environment[name] for name in names if name in environment}


def cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """What workers get of an environment, and the settings."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in PASSED or (name.startswith(PASSED_PREFIXES) and name not in _NOT_PASSED)
    }
    if not usable(kept.get("TMPDIR", "")):  # Python would look elsewhere; other programs would not
        kept.pop("TMPDIR", None)
    return {**kept, **also(environment), **SETTINGS}


def usable(folder: str) -> bool:
    """Whether files can be made in a folder."""
    return bool(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def problem(code: str, wanted: str) -> str:
    """Say why a folder is not the code of this hash, or nothing: every file in it counts, and links are none."""
    found: dict[str, str] = {}
    folders: set[str] = set()
    strange: list[str] = []
    if os.path.islink(code):
        return f"{code} is a link"
    for name, path, kind in _entries(code, ""):
        if stat.S_ISDIR(kind):
            folders.add(name)
        elif stat.S_ISREG(kind):
            with open(path, "rb") as file:
                found[name] = hashlib.sha256(file.read()).hexdigest()
        else:
            strange.append(name)
    empty = folders - {name[:end] for name in found for end in range(len(name)) if name[end] == "/"}
    text = json.dumps(found, sort_keys=True, indent=2) + "\n"  # as files.canonical_json writes it
    if not strange and not empty and hashlib.sha256(text.encode()).hexdigest() == wanted:
        return ""
    made = _made_with(code)
    unknown = sorted([*strange, *empty, *(name for name in found if made and name not in made)])
    if unknown:
        return f"{_few(unknown)} {'was' if len(unknown) == 1 else 'were'} not there when the run was made"
    changed = sorted(name for name, content in made.items() if found.get(name) != content)
    return f"{_few(changed) or 'a file'} {'is' if len(changed) < 2 else 'are'} missing or changed"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _entries(folder: str, prefix: str) -> Iterator[tuple[str, str, int]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            kind = entry.stat(follow_symlinks=False).st_mode
            yield prefix + entry.name, entry.path, kind
            if stat.S_ISDIR(kind):
                yield from _entries(entry.path, f"{prefix}{entry.name}/")


def _made_with(code: str) -> dict[str, str]:
    """Files of the code and their hashes as the manifest has them; it only helps to say what is wrong."""
    folder, name = os.path.split(os.path.abspath(code))
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        with open(os.path.join(os.path.dirname(folder), "manifest.json"), "rb") as file:
            listed = json.load(file)["files"]
        before = f"code/{name}/"
        return {path.removeprefix(before): content for path, content in listed.items() if path.startswith(before)}
    return {}


def main() -> None:
    code, wanted, *rest = sys.argv[1:]
    end = rest.index("--")
    settings = dict(word.split("=", 1) for word in rest[:end])
    if code != "-":
        try:
            wrong = problem(code, wanted) if wanted != "-" else ""
        except OSError as error:
            wrong = f"it cannot be read: {error.strerror or error}"
        if wrong:
            where, what_to_do = _plain(code), _plain(todo(code))
            sys.exit(
                f"error: {NOT_THE_CODE}: {_plain(wrong)}\n  where: {where}\n  cause: {CAUSE}\n  do:    {what_to_do}"
            )
        settings["PYTHONPATH"] = code
    environment = {**cleaned(os.environ), **settings}
    os.execve(sys.executable, [sys.executable, *rest[end + 1 :]], environment)


NOT_THE_CODE = "the code frozen in the run is not the code that the run was made with"
CAUSE = "somebody put, edited or removed files there; nothing was imported from there"


def todo(code: str) -> str:
    """What a user does about code that is not as it was; `code` is its folder in the run."""
    run = os.path.dirname(os.path.dirname(os.path.abspath(code)))
    return (
        "remove what does not belong there (make resume removes __pycache__ folders, which a Python leaves that "
        f"somebody starts in the code); make verify RUN={run} SET_ASIDE=1 names the rest and puts back what it can; or "
        f"go on with the code of the checkout: make resume RUN={run} ACCEPT_CHANGE=1; or restore the code from a copy"
    )


def _plain(text: str) -> str:
    """A name of a file may hold what moves a terminal's cursor."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text)


if __name__ == "__main__":
    main()

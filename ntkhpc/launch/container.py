"""The image of a run and the command that starts Python in it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ntkhpc import files, program_cache, surroundings
from ntkhpc.engine import packages, siblings
from ntkhpc.engine.run import Run
from ntkhpc.errors import DeviceError, RunError, SurroundingsError
from ntkhpc.launch import seen
from ntkhpc.launch.profile import Container, Profile

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_UNSAFE = ',:%\n$`"\\'
"""What a path in a job must not have: separators of --bind and PYTHONPATH, SLURM's patterns, and what shells expand."""

LAUNCH = "launch.json"

BRIDGE = "NTKHPC_BRIDGE"
"""This variable is set where containers/ntkhpc.sh started this process in an image and its shell calls SLURM."""


@dataclass(frozen=True)
class Place:
    """Where a run is, or would be, the frozen code in it, and the folders that its data phase reads.

    `code_hash` is the hash that the code must have where it is started, a dash for any. `start` is the copy of start.py
    that jobs use; without one it is this very package's. `beside` are runs from which its jobs may take tiles.
    """

    path: Path
    code: Path
    reads: tuple[Path, ...] = ()
    code_hash: str = "-"
    start: Path | None = None
    beside: tuple[Path, ...] = ()


def place(target: Run) -> Place:
    return Place(target.path, target.code, target.study.data.folders(), target.manifest.code)


def place_of_jobs(target: Run) -> Place:
    """Return the same with the runs beside it, as they are now."""
    found = place(target)
    return replace(found, beside=siblings.givers(found.path.parent, found.path, target.layout, found.code_hash))


def worker_environment(target: Place | Run) -> dict[str, str]:
    """Return what a worker is given: it imports the run's own code and has one thread from the start."""
    return surroundings.settings(target.code)


def require_packages(profile: Profile | None) -> None:
    """Start this Python once as a worker is started. Raises SurroundingsError if it lacks packages that are seen here.

    Workers of an image have the packages of the image, and nothing is asked.
    """
    if profile is not None and profile.container.runtime != "none" and profile.analysis.dask != "slurm":
        return
    names = sorted({"msgspec", "submitit", *packages.PACKAGES})
    # There is no frozen code before there is a run; it has no packages but ours.
    done = _started([seen.__file__, *names])
    try:
        there = json.loads(done.stdout)
    except ValueError:
        raise SurroundingsError(
            f"this Python does not start as workers are started: {done.stderr.strip()[-800:] or done.returncode}",
            where=sys.executable,
            todo="mend this Python, or use another one in a virtual environment",
        ) from None
    wrong = [
        name if there[name] is None else f"{name} {here} (they see {there[name]})"
        for name, here in seen.versions(names).items()
        if here not in (None, there[name])
    ]
    if wrong:
        raise SurroundingsError(
            f"workers would not see packages that are seen here: {', '.join(wrong)}",
            where=sys.executable,
            cause="they are in the user's own site-packages (pip install --user) or on PYTHONPATH, of which workers "
            "see nothing",
            todo="use a virtual environment: make venv in a checkout, or python3 -m venv ENV and ENV/bin/pip install, "
            "and start ntkhpc from there",
        )


def _started(words: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*surroundings.python(sys.executable, None, "-", {}), *words]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


_DEVICES = "import jax; print([device.platform for device in jax.devices()])"


def require_device() -> None:
    """Raises DeviceError if the user names, in JAX_PLATFORMS, a device that workers would not see."""
    if not (wanted := os.environ.get("JAX_PLATFORMS")) or wanted == "cpu":
        return
    done = _started(["-c", _DEVICES])
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise DeviceError(
            f"JAX_PLATFORMS={wanted} names a device that JAX does not find here",
            cause=words[-1] if words else f"JAX ended with status {done.returncode}",
            todo="unset JAX_PLATFORMS, or JAX_PLATFORMS=cpu; a GPU needs its driver and jax[cuda12] in this Python",
        )


def image(profile: Profile) -> Path | None:
    """Return the image of a profile, else that of this checkout's lock, or None where jobs run without one.

    Raises SurroundingsError if it is not there.
    """
    if profile.container.runtime == "none":
        return None
    kind = "cpu" if not any(one.gpu for one in profile.partitions.values()) else "cuda12"
    path = Path(profile.container.image).expanduser() if profile.container.image else _of_the_lock(kind)
    if not path.is_absolute():
        path = _CHECKOUT / path
    if not path.is_file():
        raise SurroundingsError(
            "there is no image",
            where=path,
            cause="it was never built, or it was built for another requirements lock",
            todo="make image" + ("" if kind == "cpu" else " GPU=cuda12") + ", or name one: container.image in the "
            'profile; container.runtime = "none" uses this Python on the compute nodes',
        )
    return path.resolve()


def _of_the_lock(kind: str) -> Path:
    """Where the image of this checkout's lock is, or would be. Raises SurroundingsError outside a checkout."""
    containers = _CHECKOUT / "containers"
    if not containers.is_dir():
        raise SurroundingsError(
            "the profile names no image",
            where=_CHECKOUT,
            cause="this is an installed package: images are built, and found by their lock, in a checkout",
            todo="name one: container.image in the profile",
        )
    lock = _CHECKOUT / "requirements.lock" if kind == "cpu" else containers / f"requirements-{kind}.lock"
    return containers / "images" / f"ntkhpc-{kind}-{files.sha256_file(lock)[:12]}.sif"


def stamp(path: Path) -> str:
    """Return size and time of an image: a task sees by them, without reading the image, that it is still the same.

    A plan of an image that is still to be built has words in their place.
    """
    if not path.exists():
        return "SIZE-TIME"
    status = path.stat()
    return f"{status.st_size}-{int(status.st_mtime)}"


def digest(path: Path) -> str:
    """Return the sha256 of an image."""
    return files.sha256_file(path)


def require_same(target: Run, found: str | None, *, accept: bool) -> None:
    """Record the digest of the image with which a run is computed. Raises RunError if it is not the recorded one.

    With `accept` another image is recorded beside the first.
    """
    path = target.path / LAUNCH
    record = files.read_sealed(path) if path.exists() else {"images": []}
    images = record["images"]
    if images and images[-1]["sha256"] == found:
        return
    if images and not accept:
        raise RunError(
            f"the run was begun with {_name(images[-1]['sha256'])}, this would be {_name(found)}",
            where=path,
            cause="the image was built again, or the profile names another one",
            todo="go back to that image, or accept and record the other: make resume ACCEPT_CHANGE=1",
        )
    images.append({"sha256": found, "time": datetime.now(UTC).isoformat(timespec="seconds")})
    files.write_atomic(path, files.seal(record))


def accepted(target: Run) -> str:
    """Return the time at which another image was last accepted, or nothing if none was."""
    path = target.path / LAUNCH
    images = files.read_sealed(path)["images"] if path.exists() else []
    return max((image["time"] for image in images[1:]), default="")


def _name(found: str | None) -> str:
    return f"image {found[:12]}" if found else "no image"


def require_plain_path(target: Place | Run) -> None:
    """Raises RunError for a path that cannot be given to Apptainer, which splits and expands its arguments itself."""
    named = [("run", target.path, "RUNS=/path")]
    if isinstance(target, Place):
        named += [("data", path, "data.path or NTKHPC_DATA=/path") for path in target.reads]
    for what, path, field in named:
        if found := [one for one in _UNSAFE if one in str(path)]:
            raise RunError(
                f"the path of the {what} has {' and '.join(map(repr, found))} in it, which jobs cannot be given",
                where=path,
                todo=f"use another place: {field}",
            )


def command(
    target: Place, container: Container, sif: Path | None, extra: dict[str, str], *, gpu: bool, reads: bool = False
) -> list[str]:
    """Return the words that start Python for this run, in the image or, where there is none, this very Python.

    With `reads` that Python sees what the data phase reads.
    """
    executable = sys.executable if sif is None else "python3"
    python = surroundings.python(executable, target.code, target.code_hash, extra, target.start)
    if sif is None:
        return python
    binds = (str(target.path), *(str(path) for path in target.reads if reads), *container.binds)
    flags = [f"--{container.gpu_flag}"] if gpu and container.gpu_flag else []
    return [
        "apptainer", "exec", "--no-home", *flags,
        *(word for bind in binds for word in ("--bind", bind)),
        "--pwd", str(target.path.resolve()),
        str(sif), *python,
    ]  # fmt: skip


def bind_beside(target: Place) -> list[str]:
    """Return shell lines that let a container read the runs beside a run that are still there then.

    One that went away would keep a container that names it from starting. A path that Apptainer would split is left
    out: what is there is computed.
    """
    paths = [path for path in target.beside if not any(one in str(path) for one in _UNSAFE)]
    if not paths:
        return []
    return [
        f"for one in {shlex.join(map(str, paths))}; do",
        '    [ -d "$one" ] && APPTAINER_BIND="${APPTAINER_BIND:+$APPTAINER_BIND,}$one:$one:ro"',
        "done",
        "export APPTAINER_BIND",
    ]


def bind_cache() -> list[str]:
    """Return shell lines that let a container keep compiled programs in the user's cache folder, where there is one.

    They are kept without a container too; a folder that cannot be made, or that Apptainer would split, is left out.
    """
    given = os.environ.get(program_cache.SETTING, "")
    if given == program_cache.OFF:
        return []
    usual = 'cache="${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}"; cache="${cache:+$cache/ntkhpc}"'
    return [
        f"cache={shlex.quote(given)}" if given else usual,
        'case "$cache" in',
        "    '' | *[,:%]* | [!/]*) ;;",
        '    *) mkdir -p -m 700 "$cache" 2>/dev/null && [ -w "$cache" ] &&',
        '        export APPTAINER_BIND="${APPTAINER_BIND:+$APPTAINER_BIND,}$cache" ;;',
        "esac",
    ]


def load_modules(profile: Profile) -> str:
    """Return shell lines that load the profile's modules, also where `module` is not defined yet."""
    if not profile.modules:
        return ""
    return (
        "command -v module >/dev/null 2>&1 || for init in /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do\n"
        '    [ -r "$init" ] && . "$init"\n'
        "done\n"
        f"module load {shlex.join(profile.modules)} || exit 1\n"
    )


def require_runtime(profile: Profile) -> None:
    """Raises SurroundingsError if the profile wants containers and nothing here starts them."""
    if profile.container.runtime == "none" and BRIDGE in os.environ:
        raise SurroundingsError(
            "jobs without containers need Python 3.11 on login and compute nodes, and there is none here",
            todo='load a Python module, or set container.runtime = "apptainer" in the profile',
        )
    here = shutil.which("apptainer") is not None or BRIDGE in os.environ
    if profile.container.runtime != "none" and not here:
        raise SurroundingsError(
            "apptainer is not on PATH",
            cause="a module must be loaded first, or the cluster has none",
            todo='name the module in the profile (modules = ["apptainer"]) and load it here, or set '
            'container.runtime = "none"',
        )

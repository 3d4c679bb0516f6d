"""Whether a place can hold a run: what every write relies on is tried there, before anything is computed."""

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from ntkhpc import files, gates
from ntkhpc.errors import SurroundingsError

_ELSEWHERE = ("SCRATCH", "PSCRATCH", "WORK", "HOME")
"""Variables by which clusters and systems name places of a user."""


def require(folder: Path, *, of_run: bool = False) -> None:
    """Raises SurroundingsError, naming the cause and a place that works, unless `folder` can hold runs.

    `of_run` says that it is the directory of one, which would have to move. It takes some milliseconds, on a shared
    file system some tens. Nothing stays behind.
    """
    then = "nothing finished is lost" if of_run else "nothing was computed"
    try:
        found = fault(folder)
    except OSError as error:
        raise files.explained(error, folder, elsewhere=_advice(folder, of_run), then=then) from error
    if found:
        raise SurroundingsError(
            f"this file system cannot hold a run: {found}",
            where=folder,
            cause="it does not do what POSIX promises: a mount of an object store, or a gateway to another system",
            todo=f"{_advice(folder, of_run)}; {then}",
        )


def fault(folder: Path) -> str:
    """Say which promise the file system breaks; nothing if it keeps all. Raises OSError if it refuses to."""
    path = folder / f".ntkhpc-{uuid.uuid4().hex[:12]}.tmp"  # named as what a killed process leaves
    try:
        if not files.publish(path, b"first"):
            return "a file that nobody else knows of was there before it was made"
        if files.publish(path, b"second") or path.read_bytes() != b"first":
            return "a file that was there was replaced by one that must not replace it"
        files.write_atomic(path, b"third")
        if path.read_bytes() != b"third":
            return "a file that was renamed does not have its content"
        if path.name not in os.listdir(folder):
            return "a file that was made is not listed"
        path.unlink()
        if gates.exists(path):
            return "a file that was removed is still there"
        return _fault_of_directories(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _fault_of_directories(scratch: Path) -> str:
    """The same of rename() of directories, by which runs are made, and files published where there are no links."""
    one, two, three = (scratch / name for name in ("one", "two", "three"))
    for place, name in ((one, "a"), (two, "b")):
        place.mkdir(parents=True)
        (place / name).write_bytes(b"content")
    try:
        files.patiently(lambda: os.rename(one, two))
        return "a directory that is not empty was replaced by one that was renamed"
    except OSError:  # however it is refused: some gateways say EPERM
        pass
    if os.listdir(one) != ["a"] or os.listdir(two) != ["b"]:
        return "a directory was changed by a rename that was refused"
    with contextlib.suppress(FileNotFoundError):  # it was done, its reply was lost, and it was repeated
        files.patiently(lambda: os.rename(one, three))
    there = gates.exists(one), os.listdir(three) if gates.exists(three) else []
    return "" if there == (False, ["a"]) else "a directory that was renamed does not have its content"


def _advice(folder: Path, of_run: bool) -> str:
    """Say where a run could be instead: a place of the user, on another file system, in which all of it works."""
    for name in _ELSEWHERE:
        place = Path(os.environ.get(name) or "/nowhere")
        with contextlib.suppress(OSError):
            if place.stat().st_dev != _device(folder) and not fault(place):
                if of_run:
                    moved = place / "runs" / folder.name
                    return f"move the run directory to {moved}, where it works, and make resume RUN={moved}"
                return f"begin in another place, such as {place}, where it works: RUNS={place}/runs"
    if of_run:
        return "move the run directory to a place on another file system and make resume RUN=/path"
    return "begin in a place on another file system: RUNS=/path"


def _device(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.stat().st_dev

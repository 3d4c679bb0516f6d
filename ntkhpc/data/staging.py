"""Input files as jobs read them: copied to the node's own disk, and still what they were at submission."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntkhpc import files
from ntkhpc.errors import DataError


def absolute(path: str, folder: Path) -> Path:
    """The path that a user wrote, relative to `folder`. Raises DataError if no file can have such a name.

    Links are followed, but not to a name of another ending, as of a file that is stored under its checksum.
    """
    try:
        named = folder / Path(path).expanduser()
        found = named.resolve()
        return found if found.suffix.lower() == named.suffix.lower() else named.parent.resolve() / named.name
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, too long a name, a home that nobody knows
        raise DataError(
            f"{path[:200]!r} is no path: {error}",
            where=folder,
            cause="a byte that no name of a file may have, too long a name, or ~ without a home directory",
            todo="write the path of the file in [data]",
        ) from error


@contextmanager
def staged(path: Path, sha256: str = "") -> Iterator[Path]:
    """A copy of `path` in the TMPDIR of a SLURM job, removed at the end; elsewhere, or without room, `path` itself.

    A shared file system is slow at the many small reads of some formats. Raises DataError if the file is gone, or is
    not the one with this checksum.
    """
    if not path.exists():
        raise DataError(
            "the data file is not there",
            where=path,
            cause="it was moved since the study was submitted, or this node does not see it",
            todo="put it back; or keep it on a file system of all nodes, and submit the study anew",
        )
    if sha256 and files.sha256_file(path) != sha256:
        raise DataError(
            "the data file is not the one the study was submitted with",
            where=path,
            cause="it was changed since",
            todo="put the old one back, or submit the study anew: other data give it another run directory",
        )
    copy = _copy(path)
    try:
        yield copy or path
    finally:
        if copy is not None:
            shutil.rmtree(copy.parent, ignore_errors=True)


def _copy(path: Path) -> Path | None:
    """The copy; None outside of jobs, and where the job's TMPDIR is not there (it may be the host's), or is full."""
    scratch = os.environ.get("TMPDIR") if "SLURM_JOB_ID" in os.environ else None
    if not scratch or not os.path.isdir(scratch) or shutil.disk_usage(scratch).free < 1.1 * path.stat().st_size:
        return None
    folder = None
    try:
        folder = tempfile.mkdtemp(prefix="ntkhpc-", dir=scratch)
        return Path(shutil.copy(path, folder))
    except OSError:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return None

"""Bytes on disk: atomic writes, exclusive publication, and JSON that carries its own checksum.

Only operations that POSIX promises on a shared file system are used: rename() and link() within a directory.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ntkhpc.errors import DamagedError, SurroundingsError

SEAL = "sha256"


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """One spelling for one value: sorted keys, two-space indent, final newline."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def seal(record: dict[str, Any]) -> bytes:
    """Canonical JSON of `record` with the hash of its own content under the key "sha256"."""
    return canonical_json({**record, SEAL: sha256(canonical_json(record))})


def unseal(data: bytes, where: object) -> dict[str, Any]:
    """The record of a sealed file.

    Raises DamagedError unless the bytes are exactly what `seal` wrote: a flip in white space counts too.
    """
    try:
        record = msgspec.json.decode(data)
        record.pop(SEAL)
        intact = seal(record) == data
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise DamagedError(
            "a sealed record does not match its own checksum",
            where=where,
            cause="the file was edited, truncated, or damaged on disk",
            todo="make verify lists all damage; what is no shard's own must come from a copy, or the run be made anew",
        )
    return record


def read_sealed(path: Path) -> dict[str, Any]:
    return unseal(path.read_bytes(), path)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, and survives a power cut once this returns."""
    staged = _stage(path, data)
    try:
        os.replace(staged, path)
    except BaseException:  # Ctrl-C too leaves no staged file behind; it goes on up
        staged.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def publish(path: Path, data: bytes) -> bool:
    """Create `path` with `data` unless it exists; True if it was this call that created it.

    link() is atomic on NFS and Lustre, where O_EXCL has not always been.
    """
    staged = _stage(path, data)
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    finally:
        staged.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def _stage(path: Path, data: bytes) -> Path:
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # as above; on a full disk the write failed, and its error is the one to see
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
        raise
    return staged


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def tree(root: Path) -> list[Path]:
    """Every file below `root`, sorted by name so that hashes do not depend on the file system."""
    return sorted(path for path in root.rglob("*") if path.is_file())


_REFUSALS = {
    errno.ENOSPC: "the file system is full (blocks or inodes)",
    errno.EDQUOT: "your disk quota is used up",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOTDIR: "a part of the path is a file, not a directory",
    errno.EEXIST: "a file is in the way",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there, or the file system has no hard links",
}


_OF_NAMES = (errno.ENOTDIR, errno.EEXIST)
"""Refusals of a name: elsewhere than at the place that is written to, they are a bug of whoever made up the name."""


def is_refusal(error: OSError, where: Path) -> bool:
    """Whether the operating system refuses to write; a name that is in the way counts only on the path to `where`."""
    if error.errno not in _OF_NAMES or error.filename is None or isinstance(error.filename, int):
        return error.errno in _REFUSALS
    place, named = (Path(os.path.abspath(os.fsdecode(one))) for one in (where, error.filename))
    return named.is_relative_to(place) or place.is_relative_to(named)


@contextlib.contextmanager
def explain_refusals(
    where: Path,
    *,
    elsewhere: str = "begin in another place with RUNS=/path",
    then: str = "nothing finished is lost: make resume",
) -> Iterator[None]:
    """Turn the operating system's refusal to write below `where` into a SurroundingsError with the free space.

    Its user is told to make room or to go `elsewhere`, and what is `then` to be done.
    """
    try:
        yield
    except OSError as error:
        if not is_refusal(error, where):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SurroundingsError(
            f"cannot write: {_REFUSALS[error.errno or 0]} ({free_space(where)})",
            where=error.filename or where,
            cause=str(error),
            todo=("make room" if full else f"mend that, or {elsewhere}") + f"; {then}",
        ) from error


def free_space(where: Path) -> str:
    while not where.exists() and where != where.parent:
        where = where.parent
    try:
        return f"{shutil.disk_usage(where).free / 2**20:,.1f} MiB and {os.statvfs(where).f_favail:,} inodes free"
    except OSError as error:
        return f"free space unknown: {error.strerror}"

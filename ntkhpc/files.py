"""Bytes on disk: atomic writes, exclusive publication, and JSON that carries its own checksum.

Only operations that POSIX promises on a shared file system are used: rename() and link() within a directory, and where
there is no link(), rename() of directories. What the reply says is not trusted: a request that was done may be answered
by an error.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ntkhpc import gates, refusals
from ntkhpc.errors import DamagedError, NtkhpcError, SurroundingsError, unexpected

SEAL = "sha256"

T = TypeVar("T")


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    return patiently(lambda: _sha256_file(path))


def _sha256_file(path: Path) -> str:
    require_file(path)
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
    except (msgspec.DecodeError, ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError):
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
    return unseal(read(path), path)


def read(path: Path) -> bytes:
    """The content of a file, read again where a file server hesitates. Raises DamagedError for what is no file."""
    return patiently(lambda: _read(path))


def _read(path: Path) -> bytes:
    require_file(path)
    return path.read_bytes()


A_FOLDER = "is a directory, not a file"


def require_file(path: Path) -> None:
    """Raises DamagedError for what keeps its reader waiting, as a pipe does, has no end, as a device, or no bytes."""
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    raise DamagedError(
        A_FOLDER if stat.S_ISDIR(mode) else f"is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a file",
        where=path,
        cause="somebody, or a copy of the run, put it there, or a link that leads to one",
        todo="make verify lists all damage",
    )


def is_there(path: Path) -> bool:
    """Whether a path leads to something, links followed. Raises OSError where that cannot be told.

    Path.exists() of Python 3.14 says no to whatever a file server answers.
    """
    try:
        patiently(lambda: os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


PAUSES = (0.1, 0.4, 1.6)
"""Seconds between the tries of `patiently`."""


def patiently(operation: Callable[[], T], also: Collection[int] = ()) -> T:
    """Do what may be done twice. It is tried again, for two seconds in all, where a file server hesitates.

    `also` has numbers of errors after which that helps too.
    """
    for pause in PAUSES:
        try:
            return operation()
        except OSError as error:
            if error.errno not in refusals.TRANSIENT and error.errno not in also:
                raise
        time.sleep(pause)
    return operation()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, and survives a power cut once this returns."""
    patiently(lambda: _write_atomic(path, data))


def _write_atomic(path: Path, data: bytes) -> None:
    staged = stage(path, data)
    try:
        os.replace(staged, path)
    except BaseException as error:  # Ctrl-C too leaves no staged file behind; it goes on up
        # A rename that was done, and whose reply was lost, fails when it is repeated.
        done = isinstance(error, OSError) and gates.holds(path, data)
        discard(staged)
        if not done:
            raise
    sync_directory(path.parent)


def publish(path: Path, data: bytes) -> bool:
    """Create `path` with `data` unless it exists; True if it was this call that created it.

    link() is atomic on NFS and Lustre, where O_EXCL has not always been. Where it is refused, `gates` does without.
    """
    staged = patiently(lambda: stage(path, data))
    try:
        made = patiently(lambda: _link(staged, path, data))
    finally:
        discard(staged)
    if made:
        patiently(lambda: sync_directory(path.parent))
    return made


def _link(staged: Path, path: Path, data: bytes) -> bool:
    try:
        os.link(staged, path)
    except OSError as error:
        # A reply that was lost is answered anew, by EEXIST for what the first request made.
        if _is_same(staged, path):
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno in refusals.NO_LINKS:
            return gates.publish(path, data, stage)
        raise
    if path.is_symlink():  # BeeGFS may be set up so; it would point to nothing in a moment
        path.unlink(missing_ok=True)
        return gates.publish(path, data, stage)
    return True


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return not other.is_symlink() and one.samefile(other)
    return False


def stage(path: Path, *data: bytes | memoryview) -> Path:
    """Write a file beside `path`, under a name of its own, and sync it."""
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{gates.SUFFIX}")
    try:
        with staged.open("wb") as file:
            for part in data:
                file.write(part)
            file.flush()
            _sync(file.fileno(), staged)
    except BaseException:  # Ctrl-C too; on a full disk the write failed, and its error is the one to see
        discard(staged)
        raise
    return staged


def discard(staged: Path) -> None:
    with contextlib.suppress(OSError):
        staged.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Have the names in a directory survive a power cut, where the file system can be asked for that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor, path)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        _sync(file.fileno(), path)


def _sync(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in refusals.NO_SYNC:
            raise OSError(error.errno, error.strerror, str(path)) from error


def tree(root: Path) -> list[Path]:
    """Every file below `root`, sorted by name so that hashes do not depend on the file system."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def is_refusal(error: OSError, where: Path) -> bool:
    """Whether the operating system refuses to read or write below `where`, by no fault of the code.

    A name that is in the way counts only on the path to `where`, one that is missing only where `where` itself is.
    """
    named = error.filename if isinstance(error.filename, str | bytes) else None
    if isinstance(error, FileNotFoundError):
        return named is not None and not where.exists() and Path(os.fsdecode(named)).is_relative_to(where)
    if error.errno in refusals.OF_NETWORKS and named is None:
        return False
    if error.errno not in refusals.OF_NAMES or named is None:
        return refusals.of(error) is not None
    place, there = (Path(os.path.abspath(os.fsdecode(one))) for one in (where, named))
    return there.is_relative_to(place) or place.is_relative_to(there)


@contextlib.contextmanager
def explain_refusals(
    where: Path,
    *,
    elsewhere: str = "begin in another place with RUNS=/path",
    then: str = "nothing finished is lost: make resume",
) -> Iterator[None]:
    """Turn what the operating system refuses below `where` into a SurroundingsError with the free space.

    Its user is told what to do here or to go `elsewhere`, and what is `then` to be done.
    """
    try:
        yield
    except OSError as error:
        if not is_refusal(error, where):
            raise
        raise explained(error, where, elsewhere=elsewhere, then=then) from error


def explained(
    error: OSError,
    where: Path,
    *,
    elsewhere: str = "begin in another place with RUNS=/path",
    then: str = "nothing finished is lost: make resume",
) -> SurroundingsError:
    """What `explain_refusals` raises."""
    vanished = isinstance(error, FileNotFoundError) and not where.exists()
    refusal = refusals.VANISHED if vanished else refusals.of(error)
    if refusal is None:
        return SurroundingsError(f"cannot read or write: {error.strerror or error}", where=error.filename or where)
    return SurroundingsError(
        f"cannot read or write: {refusal.what} ({free_space(where)})",
        where=error.filename2 or error.filename or where,  # of a rename, what it was to make
        cause=str(error),
        todo=refusal.todo + (f", or {elsewhere}" if refusal.elsewhere else "") + f"; {then}",
    )


def said(error: OSError, where: Path) -> NtkhpcError:
    """An error that ends a command, which works below `where`: what the system refuses, or a bug as any other."""
    return explained(error, where) if is_refusal(error, where) else unexpected(error)


def free_space(where: Path) -> str:
    try:
        while not where.exists() and where != where.parent:
            where = where.parent
        return f"{shutil.disk_usage(where).free / 2**20:,.1f} MiB and {os.statvfs(where).f_favail:,} inodes free"
    except OSError as error:
        return f"free space unknown: {error.strerror}"

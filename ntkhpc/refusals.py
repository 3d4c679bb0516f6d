"""What the operating system refuses, in words: its numbers, what they mean for a run, and what a user can do."""

import errno
from dataclasses import dataclass

_MAKE_ROOM = "make room"
_MEND = "mend that"
_AGAIN = "try again when it answers; where it stays so, ask an administrator"


@dataclass(frozen=True)
class Refusal:
    """What a number says. `elsewhere` if another place may do what this one refuses."""

    what: str
    todo: str = _MEND
    elsewhere: bool = True


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))  # not all are on macOS


TRANSIENT = _numbers("ESTALE", "EIO", "ETIMEDOUT", "EAGAIN", "EBUSY", "EINTR", "EREMOTEIO")
"""Servers that come back answer so for a moment: a file was exported anew, a reply was lost."""

ANSWERED_TWICE = _numbers("EEXIST", "ENOENT")
"""What a link or a rename that was done says when its reply was lost and the request is repeated."""

NO_LINKS = _numbers("EPERM", "EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EXDEV", "EMLINK", "EINVAL")
"""What file systems without hard links, or across whose quota trees there are none, answer to link()."""

NO_SYNC = _numbers("EINVAL", "ENOSYS", "EOPNOTSUPP", "ENOTSUP")
"""What file systems that have no fsync(), of files or of directories, answer to it: there is nothing to wait for."""

OF_NAMES = _numbers("ENOTDIR", "EISDIR", "EEXIST", "ELOOP", "ENAMETOOLONG")
"""Refusals of a name: elsewhere than at the place that is written to, they are a bug of whoever made up the name."""

OF_NETWORKS = _numbers(
    "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ENOTCONN", "ESHUTDOWN"
)
"""What sockets say too: without the name of a file nobody knows that a file system said it."""

_SILENT = Refusal("the file server does not answer", _AGAIN)
_BROKEN = Refusal("the disk or the file system is damaged, or its device is gone", _AGAIN)
_LACKS = Refusal("the file system does not have an operation that every write needs")
_FILES = Refusal("no more files can be opened", "raise the limit (ulimit -n), or end what holds files open", False)

_WORDS = {
    "ENOSPC": Refusal("the file system is full (blocks or inodes)", _MAKE_ROOM),
    "EDQUOT": Refusal("your disk quota is used up", _MAKE_ROOM),
    "EFBIG": Refusal("the file is larger than the file system, or your limit (ulimit -f), allows", "raise the limit"),
    "EROFS": Refusal("the file system is mounted read-only"),
    "ENOTDIR": Refusal("a part of the path is a file, not a directory"),
    "EISDIR": Refusal("a directory is in the way of a file", "move it away"),
    "EEXIST": Refusal("a file is in the way"),
    "ELOOP": Refusal("the path has symbolic links that lead in a circle"),
    "ENAMETOOLONG": Refusal("the path is longer than the file system allows"),
    "EACCES": Refusal("you may not read or write there"),
    "EPERM": Refusal("you may not read or write there, or the file system does not allow the operation"),
    "EIO": Refusal("the disk or the file server reports an input/output error", _AGAIN),
    "ESTALE": Refusal("the file server no longer knows the file (stale handle): it was moved or exported anew", _AGAIN),
    "EBUSY": Refusal("the file is in use, or the file server is busy", _AGAIN),
    "EAGAIN": Refusal("the system has no resources for it now", _AGAIN),
    "EINTR": Refusal("the file server was interrupted", _AGAIN),
    "ENOLCK": Refusal("the file system has no locks (its lock daemon does not run)"),
    "EMFILE": _FILES,
    "ENFILE": _FILES,
    **dict.fromkeys(("EUCLEAN", "ENODEV", "ENXIO"), _BROKEN),
    **dict.fromkeys(("ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EMLINK"), _LACKS),
    **dict.fromkeys(("EREMOTEIO", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"), _SILENT),
    **dict.fromkeys(("ENETRESET", "ENOTCONN", "ESHUTDOWN"), _SILENT),
}

REFUSALS = {getattr(errno, name): refusal for name, refusal in _WORDS.items() if hasattr(errno, name)}
"""By number: disks that are full or read-only; file systems that are damaged, gone, busy, or lack an operation; servers
that do not answer; limits that are reached. A name that is wrong (ENOENT) is none of these: it is a bug."""

SURROUNDINGS = frozenset(REFUSALS) - OF_NAMES
"""What no code can help, wherever it was refused."""

VANISHED = Refusal("the directory has vanished: it was moved or removed, or its file system is not mounted", _AGAIN)


def of(error: OSError) -> Refusal | None:
    """What an error says by its number. None for one that is the code's own fault."""
    return REFUSALS.get(error.errno or 0)

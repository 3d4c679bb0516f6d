"""Compiled programs in the user's cache folder: what was compiled once on a machine is loaded by later processes.

JAX asks for a program by a key of all that it was made from, and gets back the bytes that it stored. Its own cache of
files writes them in place, has no checksum, and needs a lock for its bound, so this one stands in its place:

    <cache folder>/ntkhpc/programs/jax-<version>-<hash of device, versions and flags>/<hash of the key>

An entry begins with the SHA-256 of what follows; one that does not fit is removed, and compiled again. Entries appear
whole (by rename), so processes and nodes may share the folder without a lock. The ones that were not used for longest
go where all of them take more than MOST_BYTES. A loaded program has the bytes of the compiled one, so the same bits.
What is loaded is executed: a folder that others can write to is not used. Nothing here raises; without a folder
programs are compiled as ever.
"""

import contextlib
import os
import stat
import sys
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import platformdirs

SETTING = "NTKHPC_CACHE"
"""The variable that names another folder in place of the user's cache folder, or is OFF."""

OFF = "off"

MOST_BYTES = 2**29
"""Of all entries, of every version of JAX and every kind of machine."""

_KEPT_SHARE = 0.75
"""Of MOST_BYTES, which stays when entries have to go."""

SHORTEST_SECONDS = 0.1
"""A program that compiles faster is not stored: to load it would save nothing."""

_DIGEST = sha256().digest_size


@dataclass(frozen=True)
class ProgramCache:
    """Entries of one kind of machine in `folder`. All folders beside it count for the bound of `most_bytes`."""

    folder: Path
    most_bytes: int = MOST_BYTES
    _stored: list[int] = field(default_factory=list, repr=False, compare=False)
    """Bytes of the entries that this process stored since it made room."""

    def get(self, key: str) -> bytes | None:
        """The bytes stored under a key; None if there are none, or not those that were stored."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        value = content[_DIGEST:]
        if sha256(value).digest() != content[:_DIGEST]:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # the time of last use; a file system may keep none by itself
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store bytes under a key, if that is possible, and let old entries go."""
        if len(value) > _KEPT_SHARE * self.most_bytes:
            return
        staged = self.folder / f"{uuid.uuid4().hex}.partial"
        try:
            with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(sha256(value).digest() + value)
            os.replace(staged, self._path(key))
            # To look at every entry is dear on a shared file system: at first, and each time that much was stored.
            first = not self._stored
            self._stored.append(len(value))
            if first or sum(self._stored) > self.most_bytes / 16:
                self._make_room()
                self._stored[:] = [0]
        except OSError:
            with contextlib.suppress(OSError):
                staged.unlink()

    def _path(self, key: str) -> Path:
        """A key begins with the name of a function, which may hold anything."""
        return self.folder / sha256(key.encode()).hexdigest()

    def _make_room(self) -> None:
        entries = []
        for path in self.folder.parent.glob("*/*"):
            with contextlib.suppress(OSError):  # another process removed it
                found = path.stat()
                entries.append((found.st_mtime, found.st_size, path))
        taken = sum(size for _, size, _ in entries)
        if taken <= self.most_bytes:
            return
        for _, size, path in sorted(entries, key=lambda entry: entry[0]):
            if taken <= _KEPT_SHARE * self.most_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            taken -= size


def folder() -> Path | None:
    """Where programs would be kept, of all versions and machines; None where there is no place, or none is wanted."""
    if (given := os.environ.get(SETTING, "")) == OFF:
        return None
    if not given and (os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")):
        given = platformdirs.user_cache_dir("ntkhpc")
    return Path(given) / "programs" if os.path.isabs(given) else None


def opened(machine: str) -> ProgramCache | None:
    """The cache of a kind of machine, a name for a folder; None if it cannot be used."""
    if (root := folder()) is None:
        return None
    try:
        for path in (*reversed(root.parents), root, root / machine):
            if not path.is_dir():
                path.mkdir(mode=0o700, exist_ok=True)
        places = [path.stat() for path in (root / machine, *(root / machine).resolve().parents)]
        theirs = any(one.st_uid != os.geteuid() or one.st_mode & _GROUP_OR_ALL for one in places[:2])
        if theirs or any(map(_is_open_to_others, places)):
            print(f"compiled programs are not kept: others can write to {root}, or above it", file=sys.stderr)
            return None
        if not os.access(root / machine, os.R_OK | os.W_OK | os.X_OK):
            return None
    except OSError:
        return None
    return ProgramCache(root / machine)


_GROUP_OR_ALL = stat.S_IWGRP | stat.S_IWOTH

_UNMAPPED = 65534
"""The owner that the system shows, within a container, for one that it has no number of: root as a rule."""


def _is_open_to_others(found: os.stat_result) -> bool:
    """Whether somebody else could put another folder there. A group of the user's own number is the user alone."""
    if found.st_mode & stat.S_ISVTX:
        return False
    mine = found.st_gid == os.getegid() == os.geteuid()
    writes = found.st_mode & (stat.S_IWOTH if mine else _GROUP_OR_ALL)
    return bool(writes) or found.st_uid not in (0, _UNMAPPED, os.geteuid())


def use(machine: str) -> ProgramCache | None:
    """Let JAX keep the programs of this process, of a kind of machine; returns the cache that it uses from now on."""
    if (cache := opened(machine)) is None:
        return None
    return cache if _hand_to_jax(cache) else None


def _hand_to_jax(cache: ProgramCache) -> bool:
    """Whether this JAX takes a cache of ours. It has no public way to hand one over."""
    import jax

    try:
        from jax._src import compilation_cache
        from jax._src.compilation_cache_interface import CacheInterface

        class Adapter(CacheInterface):
            _path = cache.folder

            def get(self, key: str) -> bytes | None:
                return cache.get(key)

            def put(self, key: str, value: bytes) -> None:
                cache.put(key, value)

        taken: Any = compilation_cache
        if not all(hasattr(taken, name) for name in ("_cache", "_cache_initialized", "reset_cache")):
            return False
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_SECONDS)  # type: ignore[no-untyped-call]  # JAX gives it no type
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)  # type: ignore[no-untyped-call]  # JAX gives it no type
        taken.reset_cache()
        taken._cache, taken._cache_initialized = Adapter(), True
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        print(f"compiled programs are not kept: this JAX is another one ({error})", file=sys.stderr)
        return False
    return True

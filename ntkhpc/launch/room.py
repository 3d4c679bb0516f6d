"""How many bytes and files a place still takes: its file system, quotas of user, group and project, and the profile.

Quotas are asked for by `quota` and `lfs quota` where these commands exist. Whatever they say that cannot be read, and
that they fail or do not answer in time, counts as no answer: a quota that nobody knows of refuses nothing. A command is
asked once for all places of a file system, and not again once it did not answer in time.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntkhpc.launch.profile import Profile

SECONDS = 10.0
"""How long a command may take; a server of quotas that is down answers never."""

PLACES = ("SCRATCH", "PSCRATCH", "WORK", "WORKDIR", "PROJECT", "TMPDIR")
"""Variables by which clusters name places that are larger than a home directory; none of them is made by us."""


@dataclass(frozen=True)
class NoRoom:
    """Which of its two numbers a limit leaves too little of, and the sentence that says so."""

    of: Literal["bytes", "files"]
    text: str


@dataclass(frozen=True)
class Room:
    """What is left by one limit, in bytes and files; None where it sets none. `whose` names the limit."""

    whose: str
    free_bytes: int | None
    files: int | None

    def refusal(self, needed_bytes: float, needed_files: float) -> NoRoom | None:
        """Why a run that needs so much does not fit; None if it does."""
        if self.free_bytes is not None and self.free_bytes < needed_bytes:
            return NoRoom(
                "bytes",
                f"the run needs about {needed_bytes / 2**20:,.0f} MiB and {self.whose} leaves "
                f"{max(0, self.free_bytes) / 2**20:,.0f} MiB",
            )
        if self.files is not None and self.files < needed_files:
            return NoRoom(
                "files",
                f"the run needs about {needed_files:,.0f} files and {self.whose} leaves {max(0, self.files):,}",
            )
        return None

    def __str__(self) -> str:
        parts = [
            f"{max(0, self.free_bytes) / 2**20:,.1f} MiB" if self.free_bytes is not None else "",
            f"{max(0, self.files):,} files" if self.files is not None else "",
        ]
        return f"{self.whose} leaves {' and '.join(part for part in parts if part) or 'all'}"


@dataclass(frozen=True)
class Commands:
    """What commands of quotas said, so that several places can be looked at without asking again."""

    said: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Commands that did not answer in time."""

    def ask(self, *command: str, place: Path | None = None, device: int = 0) -> str:
        """What a command prints about a place; an answer holds for all places of a `device`, unless that is 0."""
        told = (*command, str(place)) if place is not None else command
        key: tuple[str | int, ...] = (*command, device) if device else told
        if key not in self.said:
            found = "" if command[0] in self.silent else _output(told)
            if found is None:
                self.silent.add(command[0])
            self.said[key] = found or ""
        return self.said[key]


def limits(place: Path, profile: Profile | None = None, commands: Commands | None = None) -> list[Room]:
    """Every limit that is known of a place, which need not exist yet. What `commands` know is not asked again."""
    there, commands = existing(place), commands or Commands()
    found = [*_file_system(there), *_lustre(there, commands), *_quotas(there, commands)]
    if profile is not None and (profile.limits.max_gb or profile.limits.max_files):
        largest = int(profile.limits.max_gb * 2**30) or None
        whose = f"the profile {profile.name} (limits.max_gb, limits.max_files)"
        found.append(Room(whose, largest, profile.limits.max_files or None))
    return found


def existing(place: Path) -> Path:
    """The place itself, or the lowest folder above it that is there."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def elsewhere(place: Path, needed_bytes: float, needed_files: float, commands: Commands) -> str:
    """A place with room that this cluster names by a variable, as `RUNS=/scratch/me/runs`; empty if there is none."""
    device = _device(existing(place))
    for name in PLACES:
        other = Path(os.environ.get(name) or "/nonexistent")
        try:
            usable = other.is_absolute() and os.access(other, os.W_OK) and _device(other) != device
        except OSError:
            continue
        if usable and not any(one.refusal(needed_bytes, needed_files) for one in limits(other, None, commands)):
            return f"RUNS={other / 'runs'}"
    return ""


def _device(there: Path) -> int:
    return os.stat(there).st_dev


def _file_system(there: Path) -> Iterator[Room]:
    try:
        free, inodes = shutil.disk_usage(there).free, os.statvfs(there)
    except OSError:
        return
    # Some, such as btrfs and many of the network, have no fixed number of inodes and say 0.
    yield Room("the file system", free, inodes.f_favail if inodes.f_files else None)


def _quotas(there: Path, commands: Commands) -> Iterator[Room]:
    """By `quota` of the file system's own user and group quotas, here and on NFS servers."""
    if shutil.which("quota") is None:
        return
    names = _mount(there)
    for option, whose in (("-u", "the user's quota"), ("-g", "the group's quota")):
        for name, left in parse(commands.ask("quota", option, "-w", "-p")):
            if name in names:
                yield Room(f"{whose} on {name}", *left)


def _lustre(there: Path, commands: Commands) -> Iterator[Room]:
    """By `lfs quota` of user, group and, where the folder belongs to one, project."""
    if shutil.which("lfs") is None:
        return
    project = commands.ask("lfs", "project", "-d", place=there).split()[:1]
    device = _device(there)
    owners = [("-u", str(os.getuid()), "the user's quota"), ("-g", str(os.getgid()), "the group's quota")]
    if project and project[0].isdigit() and int(project[0]):
        owners.append(("-p", project[0], f"the quota of project {project[0]}"))
    for option, owner, whose in owners:
        for name, left in parse(commands.ask("lfs", "quota", "-q", option, owner, place=there, device=device)):
            yield Room(f"{whose} on {name}", *left)


def parse(text: str) -> Iterator[tuple[str, tuple[int | None, int | None]]]:
    """(file system, (bytes left, files left)) of the lines that `quota` and `lfs quota` print; None is no limit.

    A line has a name, then used, soft limit, hard limit and grace of kilobytes, and the same of files. A name that is
    long stands on a line of its own; what is over its limit has a star, and what Lustre is not sure of has brackets.
    """
    name, words = "", list[str]()
    for line in text.splitlines():
        found = line.split()
        if not found or "Filesystem" in line or line.startswith("Disk quotas"):
            continue
        if len(found) == 1 and not _NUMBER.fullmatch(found[0]):
            name, words = found[0], []
            continue
        name, words = (name, found) if _NUMBER.fullmatch(found[0]) and name else (found[0], found[1:])
        left = _left(words)
        if left is not None:
            yield name, left
        name = ""


_NUMBER = re.compile(r"\[?(\d{1,20})\]?\*?")


def _left(words: list[str]) -> tuple[int | None, int | None] | None:
    """Bytes and files left by the eight columns after a name; None if these are not eight, or no numbers."""
    if len(words) != 8:
        return None
    matches = [_NUMBER.fullmatch(words[i]) for i in (0, 1, 2, 4, 5, 6)]
    if not all(matches):
        return None
    used, soft, hard, files, soft_files, hard_files = (int(match[1]) for match in matches if match)
    limit, limit_files = hard or soft, hard_files or soft_files
    return 1024 * (limit - used) if limit else None, limit_files - files if limit_files else None


def _output(command: tuple[str, ...]) -> str | None:
    """What a command prints, nothing if it fails to start; None if it does not end in time. Over quota it ends with a
    status: that is said."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return None
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def _mount(there: Path) -> set[str]:
    """Names of the file system of a folder: the device or server that is mounted, and where."""
    found, longest = set[str](), -1
    try:
        path, lines = there.resolve(), Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= longest:
            found, longest = {point, after.split()[1]}, len(point)
    return found

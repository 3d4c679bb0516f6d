"""Public data files, fetched once into the user's data directory and never trusted without their checksum."""

import contextlib
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from ntkhpc import files
from ntkhpc.data import part
from ntkhpc.errors import DataError, MirrorError, SurroundingsError

VARIABLE = "NTKHPC_DATA"
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")
# pooch, requests and rich are imported where they are needed: a study is planned without them.


@dataclass(frozen=True)
class Remote:
    """A public file: "sha256:..." (or "md5:...") of its bytes, at least two mirrors, the preferred one first.

    Raises DataError if the checksum is not written so, or there is one mirror only.
    """

    name: str
    checksum: str
    urls: tuple[str, ...]
    bytes: int

    def __post_init__(self) -> None:
        if not _CHECKSUM.fullmatch(self.checksum):
            raise DataError(
                f"{self.checksum!r} is not a checksum",
                where=self.name,
                todo="write sha256: or md5: and then all of its digits, in lower case",
            )
        if len(self.urls) < 2:
            raise DataError("a public file needs two mirrors", where=self.name, todo="add the URL of another one")

    def __str__(self) -> str:
        return f"{self.name} ({self.bytes / 1e6:,.1f} MB)"


def directory() -> Path:
    """Where data files are kept: NTKHPC_DATA if it is set, else the user's data directory."""
    if named := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(named)).resolve()
    return Path(platformdirs.user_data_dir("ntkhpc"))


def find(remote: Remote, folder: str) -> Path | None:
    """The file, if it is in `folder` of the data directory or, put there by hand, in the data directory itself.

    Raises DataError if a file of that name cannot be read, or is not the file with this checksum.
    """
    for path in (directory() / folder / remote.name, directory() / remote.name):
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise DataError(f"{remote.name} is no file", where=path, todo=_by_hand(remote, path.parent))
            found = _checksum(path, remote.checksum) if path.exists() else None
        except OSError as error:
            raise DataError(
                f"{remote.name} cannot be read",
                where=path,
                cause=str(error),
                todo="ask its owner to let you read it, or fetch it again",
            ) from error
        if found == remote.checksum:
            return path
        if found:
            raise DataError(
                f"{remote.name} is not the file it should be: found {found}, expected {remote.checksum}",
                where=path,
                cause=f"truncated ({path.stat().st_size:,} of {remote.bytes:,} bytes), damaged, or another version",
                todo=f"delete it to have it fetched again, or {_by_hand(remote, path.parent)}",
            )
    return None


def require(remote: Remote, folder: str) -> Path:
    """The file as it was found or fetched at submission: jobs have no network. Raises DataError if it is not there."""
    if found := find(remote, folder):
        return found
    where = directory() / folder
    raise DataError(f"{remote.name} is not there", where=where, todo=_by_hand(remote, where))


def fetch(remote: Remote, folder: str, say: Callable[[str], object] = print) -> Path:
    """The file: found, or downloaded into `folder` of the data directory from the first mirror that has it.

    A download that was broken off is continued; of several processes one downloads and the others wait for it. The
    file appears under its name whole and with the right checksum, or not at all.

    Raises DataError if a wrong file has its name, SurroundingsError if no mirror gives it or it cannot be written.
    """
    if found := find(remote, folder):
        return found
    destination = directory() / folder / remote.name
    with files.explain_refusals(
        destination.parent,
        elsewhere=f"set {VARIABLE} to a folder you may write to",
        then="what came so far is continued when you try again",
    ):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with part.reserve(destination, say) as unfinished:
            # Whoever had the part before us may have finished.
            return find(remote, folder) or _from_mirrors(remote, destination, unfinished, say)


def _from_mirrors(remote: Remote, destination: Path, unfinished: Path, say: Callable[[str], object]) -> Path:
    from ntkhpc.data import transfer

    failures = []
    for url in remote.urls:
        held = transfer.held_by(unfinished)
        say(f"fetching {remote} from {url}" + (f", of which {held / 1e6:,.1f} MB are here" if held else ""))
        started = time.monotonic()
        try:
            _from_mirror(remote, url, destination, unfinished)
        except MirrorError as error:
            say(f"not from there: {error.what}")
            failures.append(error)
        else:
            say(f"fetched {remote} in {time.monotonic() - started:.0f} s, its checksum is right: {destination}")
            return destination
    raise SurroundingsError(
        f"no mirror gives {remote.name}",
        where="\n         ".join(f"{url}: {error.what}" for url, error in zip(remote.urls, failures, strict=True)),
        cause="no network here (compute nodes often have none), a proxy that https_proxy should name, or servers down",
        todo=f"{_by_hand(remote, destination.parent)}; or set {VARIABLE} to a folder that has it",
    ) from failures[-1]


def _from_mirror(remote: Remote, url: str, destination: Path, unfinished: Path) -> None:
    """Download, verify, rename. Raises MirrorError if this mirror does not give the file, OSError on disk trouble."""
    import pooch

    from ntkhpc.data import transfer

    pooch.get_logger().setLevel(logging.WARNING)  # what it would say, `say` says
    continued = transfer.held_by(unfinished) > 0
    with _percentage(remote) as seen:

        def download(url: str, output: str, _: object) -> None:
            Path(output).unlink()  # pooch's empty place-holder: a kill would leave one behind each time
            transfer.receive(url, unfinished, remote.bytes, seen)
            files.sync_file(unfinished)
            os.replace(unfinished, output)

        try:
            # pooch verifies what the downloader leaves and renames it, or deletes it.
            pooch.retrieve(url, remote.checksum, destination.name, destination.parent, downloader=download)
            files.sync_directory(destination.parent)
            return
        except ValueError as error:  # pooch's word for a wrong checksum
            if not continued:
                raise MirrorError("what it sends has another checksum", where=url) from error
    # The wrong bytes may be those that were here before: this mirror has its chance from the beginning.
    _from_mirror(remote, url, destination, unfinished)


@contextlib.contextmanager
def _percentage(remote: Remote) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, nothing in a log."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(remote.name, total=remote.bytes)
        yield lambda held: bar.update(task, completed=held)


def _checksum(path: Path, like: str) -> str:
    import pooch

    algorithm = like.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def _by_hand(remote: Remote, into: Path) -> str:
    url = remote.urls[0]
    # -O names the file after the URL, which at archives may end in "content" or "download".
    same = urlsplit(url).path.rpartition("/")[2] == remote.name
    curl = f"curl -LO {shlex.quote(url)}" if same else f"curl -Lo {shlex.quote(remote.name)} {shlex.quote(url)}"
    file = f"the file {remote.name} ({remote.checksum}, {remote.bytes:,} bytes)"
    return f"put {file} into {into}, from a machine with network: `{curl}`"

"""What a file is by its first bytes, whatever its name says; and the sentence for one that is something else."""

import gzip
import os
import re
import shlex
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from ntkhpc.errors import DataError

UNPACK = {"gzip": "gunzip -k", "bzip2": "bunzip2 -k", "xz": "unxz -k", "Zstandard": "unzstd", "LZ4": "unlz4 -k"}
"""By what a file is compressed with: the command that unpacks it and keeps it."""

_PACKED = {
    ".gz": "gzip", ".tgz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard", ".lz4": "LZ4", ".zip": "zip",
}  # fmt: skip

_SIGNS = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"ARROW1", "Arrow"),
    (b"\x93NUMPY", "one array of NumPy (.npy)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"SQLite format 3\x00", "an SQLite data base"),
    (b"root\x00", "a file of ROOT"),
    (b"CDF\x01", "NetCDF 3"),
    (b"CDF\x02", "NetCDF 3"),
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file that it stands for"),
    (b"<!doctype html", "a page of HTML, as a server sends where one must log in"),
    (b"<html", "a page of HTML, as a server sends where one must log in"),
)

_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
"""Of a block, and of the end of a file without one."""

_FRAMED = {b"PAR1": "Parquet", b"PARE": "encrypted Parquet"}
"""By the letters that such a file begins and ends with: those at its beginning alone may be text."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST_ENTRIES = 1_000
"""Of a directory, that are looked at for a message."""

_ONE_TABLE = (
    "import pyarrow.dataset as d, pyarrow.parquet as q; "
    "q.write_table(d.dataset({folder!r}, partitioning={how!r}).to_table(), {file!r})"
)


def is_of(path: Path) -> str | None:
    """What the first bytes of a file say that it is; None for plain text, and for what is not known."""
    with path.open("rb") as file:
        head = file.read(64)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4))
        end = file.read(4)
        if _is_hdf5(file, size):
            return "HDF5"
    if head[:4] in _FRAMED and (end == head[:4] or b"\0" in head):
        return _FRAMED[head[:4]]
    if _BZIP2.match(head):
        return "bzip2"
    for sign, name in _SIGNS:
        if head.startswith(sign) or (sign[:1] == b"<" and head.lstrip().lower().startswith(sign)):
            return name
    # Text of Latin letters in UTF-16 without its mark has a zero in every second byte.
    if len(head) >= 8 and (not any(head[1::2]) or not any(head[::2])) and any(head):
        return "UTF-16"
    return None


def _is_hdf5(file: BinaryIO, size: int) -> bool:
    """Whether the signature is at byte 0, 512, 1024, 2048...: a user's block, as MATLAB's, may precede it."""
    at = 0
    while at + len(_HDF5) <= size:
        file.seek(at)
        if file.read(len(_HDF5)) == _HDF5:
            return True
        at = 2 * at or 512
    return False


def require_file(path: Path) -> None:
    """Raises DataError unless the path is a file that can be opened and is not empty: a directory or a pipe is none."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError("there is no such file", where=path, todo="correct the path in the study") from error
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a zero byte in it
        raise DataError(f"the file cannot be looked at: {error}", where=path, todo="correct the path") from error
    if stat.S_ISDIR(mode):
        raise _directory(path)
    if not stat.S_ISREG(mode):
        raise DataError(
            "this is a pipe, a device or a socket, not a file",
            where=path,
            cause="it cannot be read twice, and nobody could tell later what came out of it",
            todo="write what it gives to a file",
        )
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(f"the file cannot be opened: {error.strerror}", where=path, todo="ask its owner") from error
    if empty:
        raise DataError(
            "the file cannot be read: it is empty",
            where=path,
            cause="an interrupted download or copy, or a disk that was full",
            todo="fetch or write it again",
        )


def require(path: Path, *wanted: str | None) -> None:
    """Raises DataError unless the first bytes of the file are of one of the kinds; None stands for text."""
    require_file(path)
    if (found := is_of(path)) not in wanted:
        expected = " or ".join(one or "text" for one in wanted)
        if found is None:
            raise DataError(
                f"this is no {expected} file",
                where=path,
                cause="it was cut off at its beginning, or its name has the wrong ending",
                todo="fetch or write it again, or give it the ending of what it is",
            )
        raise DataError(f"this is {found}, not {expected}", where=path, cause=_cause(found), todo=_todo(path, found))


def refuse_packed(path: Path) -> None:
    """Raises DataError for a name that ends as that of a compressed file."""
    if found := _PACKED.get(path.suffix.lower()):
        raise DataError(
            f"the table is compressed with {found}",
            where=path,
            cause="compressed tables are not read: nobody knows how much memory they take before they are unpacked",
            todo=f"unpack it, {UNPACK.get(found, 'unzip')} {shlex.quote(str(path))}, and name the file that this gives",
        )


def damaged(path: Path, error: Exception) -> DataError:
    """What to raise for a file of a public data set that cannot be read."""
    return DataError(
        f"cannot be read: {error}",
        where=path,
        cause="it is cut short or damaged",
        todo="fetch it again, and compare its checksum",
    )


def unpacked(path: Path, most: int) -> bytes:
    """The bytes of a file, plain or compressed by gzip. Raises DataError if there are more than `most`."""
    require_file(path)
    packed = is_of(path) == "gzip"
    try:
        with gzip.open(path) if packed else path.open("rb") as opened:
            found = opened.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error
    if len(found) > most:
        raise DataError(
            f"{path.name} has more than {most:,} bytes" + (" when it is unpacked" if packed else ""),
            where=path,
            cause="it is another file, or was made to fill memory",
            todo="fetch it again, and compare its checksum",
        )
    return found


def _cause(found: str) -> str:
    if found in UNPACK:
        return "the file is compressed, whatever its name says"
    return "its name has the ending of another format, or something else was saved under it"


def _todo(path: Path, found: str) -> str:
    if found in UNPACK:
        unpack = UNPACK[found].removesuffix(" -k")
        return f"unpack it: {unpack} -c < {shlex.quote(str(path))} > NEW, and name the new file in the study"
    if found.startswith("UTF-"):
        return f"write it as UTF-8: iconv -f {found} -t UTF-8 {shlex.quote(str(path))} > NEW, and name the new file"
    if found.startswith(("a pointer", "a page")):
        return "fetch the file itself, and compare its size or checksum with the source's"
    return "give it the ending of what it is, or write it as .csv, .parquet, .npz or .h5"


def _directory(path: Path) -> DataError:
    looked_at = list(islice(_entries(path), _MOST_ENTRIES))
    entries = [one for one, is_file in looked_at if is_file]
    inside = [one.suffix.lower() for one in entries]
    more = "at least " if len(looked_at) == _MOST_ENTRIES else ""
    if ".parquet" in inside:
        how = "hive" if any("=" in one.relative_to(path).parts[0] for one in entries) else None
        new = path.with_name(f"{path.name.removesuffix('.parquet')}-one.parquet")
        command = _ONE_TABLE.format(folder=str(path), how=how, file=str(new))
        return DataError(
            f"this is a directory of {more}{inside.count('.parquet'):,} Parquet files, not one",
            where=path,
            cause="Dask and Spark write tables in parts, and their order is nowhere written down",
            todo=f"make one file of them, python -c {shlex.quote(command)}, and name {new.name} in the study",
        )
    return DataError(
        "this is a directory, not a file",
        where=path,
        cause=f"it has {more}{len(inside):,} files in it" if inside else "it is empty, or cannot be listed",
        todo="name one file in the study; write a table that is in parts as one file first",
    )


def _entries(path: Path, levels: int = 2) -> Iterator[tuple[Path, bool]]:
    """What is in a directory and, as Parquet tables in parts have it, in its folders; and whether it is a file."""
    folders = []
    with suppress(OSError), os.scandir(path) as found:
        for one in found:
            with suppress(OSError):
                if one.is_dir(follow_symlinks=False):
                    folders.append(path / one.name)
                yield path / one.name, one.is_file()
    if levels:
        for folder in folders:
            yield from _entries(folder, levels - 1)

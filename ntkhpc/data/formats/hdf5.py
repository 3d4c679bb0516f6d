"""HDF5 files: opened, looked into and read with errors that name file, key and shape.

What is read lies in the file itself, because its checksum must stand for it: links and storage that lead into another
file are refused. Soft links and further names of the same array are followed.
"""

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ntkhpc.data.formats import capacity, content
from ntkhpc.data.formats.names import require
from ntkhpc.errors import DataError

BLOCK_BYTES = 2**25  # of cells held at once while a file is read: what a 10 GB file costs in memory

_MOST_KEYS = 2_000
_MOST_LINKS = 16

_MISSING, _PACKING = ("_FillValue", "missing_value"), {"scale_factor": 1, "add_offset": 0}
"""Attributes of the conventions of NetCDF: values that stand for a missing one; and what unpacks stored values, with
the numbers that change nothing."""

_FILTERS = {
    1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "n-bit", 6: "scale-offset", 305: "LZO", 307: "bzip2",
    32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP", 32015: "Zstandard", 32017: "SZ",
    32024: "SZ3", 32026: "Blosc2",
}  # fmt: skip
"""Numbers of registered filters."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading. DataError if it is missing, truncated or not HDF5, also when that shows later."""
    content.require_file(path)
    try:
        # Without locks: file systems of clusters refuse them, and nobody writes to these files.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        # h5py raises any of these for a damaged file
        if (found := content.is_of(path)) not in (None, "HDF5"):
            content.require(path, "HDF5")
        raise DataError(
            f"the file cannot be read: {error}",
            where=path,
            cause="an interrupted download or copy, or damage" if found else "not an HDF5 file, or its head is damaged",
            todo="fetch it again and compare its size or checksum with the source's",
        ) from error


def keys(file: Any) -> list[str]:
    """Names of the arrays in the file, those in groups as group/key, under all their names; of many the first ones."""
    found: list[str] = []
    waiting: list[tuple[str, Any, frozenset[int]]] = [("", file, frozenset())]
    looked = 0
    while waiting and len(found) < _MOST_KEYS and (looked := looked + 1) < _MOST_KEYS:
        prefix, item, above = waiting.pop()
        if isinstance(item, h5py.Dataset):
            found.append(prefix)
        elif isinstance(item, h5py.Group) and (address := h5py.h5o.get_info(item.id).addr) not in above:
            here = [name for name in item if not isinstance(item.get(name, getlink=True), h5py.ExternalLink)]
            waiting += ((f"{prefix}/{name}".lstrip("/"), item.get(name), above | {address}) for name in reversed(here))
    return found


def has(file: Any, key: str, where: Path) -> bool:
    """Whether there is something under a key. Raises DataError for a link into another file, there or not."""
    return _followed(file, key, where) is not None


def dataset(file: Any, key: str, where: Path) -> Any:
    """The array under a key, of whatever type, not read yet; "group/key" reaches into groups.

    Raises DataError if there is none, if its values are not in this file or were never written, if they need a filter
    that is not there, or if they do not fit into memory.
    """
    found = _followed(file, key, where)
    if found is None:
        require([key], keys(file), where)
    if not isinstance(found, h5py.Dataset):
        inside = keys(found) if isinstance(found, h5py.Group) else []
        require([key], [f"{key}/{name}" for name in inside], where)
    if found.shape is None:
        raise DataError(f"{key} is there, but has no values", where=where, todo="write the file again")
    if found.is_virtual:
        parts = sorted({source.file_name for source in found.virtual_sources()})
        raise _elsewhere(key, where, f"it is a virtual data set of {', '.join(parts[:4]) or 'nothing'}")
    if found.external:
        raise _elsewhere(key, where, f"its values are stored in {', '.join(str(one[0]) for one in found.external[:4])}")
    packed = [name for name, none in _PACKING.items() if name in found.attrs and not np.all(found.attrs[name] == none)]
    if packed:
        raise DataError(
            f"the values of {key} are packed: its {' and '.join(packed)} would turn them into what was measured",
            where=where,
            cause="the file was written by the conventions of NetCDF, which this reader does not apply",
            todo="write the unpacked values, as xarray.open_dataset reads them, to a new file",
        )
    _require_filters(found, key, where)
    _require_written(found, key, where)
    return found


def array(file: Any, key: str, where: Path) -> Any:
    """As `dataset`, of real numbers. DataError if they are none."""
    found = dataset(file, key, where)
    if found.dtype.kind not in "biuf":
        raise DataError(
            f"{key} holds {found.dtype}, not real numbers",
            where=where,
            todo="store numbers, one array per quantity (real and imaginary parts apart)",
        )
    return found


def values(found: Any) -> np.ndarray:
    """All values of an array. Of real numbers, those that its attributes say are missing are NaN, as in float64."""
    read = np.asarray(found[()])
    named = [found.attrs[name] for name in _MISSING if name in found.attrs]
    marks = np.concatenate([np.ravel(one) for one in named]) if named else np.empty(0)
    if read.dtype.kind not in "biuf" or marks.dtype.kind not in "biuf" or not (gone := np.isin(read, marks)).any():
        return read
    return np.where(gone, np.nan, read)


def column(file: Any, key: str, where: Path) -> np.ndarray:
    """An array of shape (n,) or (n, 1), as (n,)."""
    found = array(file, key, where)
    if found.ndim == 0 or found.size != found.shape[0]:
        raise DataError(
            f"{key} has shape {found.shape}; it needs one number per row: (n,) or (n, 1)",
            where=where,
            todo="reshape it in the file",
        )
    require_room(2 * 8 * found.size, key, where)
    return np.asarray(found[()]).reshape(-1)


def require_room(needed: int, key: str, where: Path) -> None:
    """Raises DataError if so many bytes for the values under a key are not there."""
    capacity.require(
        needed, where, key, "write a file with the rows and columns that are needed, or use a larger machine"
    )


def same_rows(where: Path, **arrays: Any) -> None:
    """Raise DataError unless all arrays have as many rows."""
    rows = {name: len(values) for name, values in arrays.items()}
    if len(set(rows.values())) > 1:
        raise DataError(
            "the arrays differ in length: " + ", ".join(f"{name} {count}" for name, count in rows.items()),
            where=where,
            cause="the file was written in parts and one is missing, or two files were mixed",
            todo="write or fetch the file again",
        )


def block_rows(row_bytes: int, chunk: int = 1) -> int:
    """Rows to read at once: BLOCK_BYTES of them, in whole chunks where that many fit."""
    rows = max(1, BLOCK_BYTES // row_bytes)
    # A compressed chunk that lies in two blocks is unpacked twice.
    return rows - rows % chunk if chunk <= rows else rows


def _followed(place: Any, key: str, where: Path, links: int = 0) -> Any:
    """What lies under a key, along soft links; None if nothing does. Raises DataError for a link to another file."""
    for part in key.split("/"):
        if part in ("", "."):
            continue
        if not isinstance(place, h5py.Group):
            return None
        link = place.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _elsewhere(key, where, f"it is a link to {link.path} in the file {link.filename}")
        if isinstance(link, h5py.SoftLink):
            if links == _MOST_LINKS:
                raise DataError(f"the soft links of {key} lead in a circle", where=where, todo="write the arrays anew")
            found = _followed(place.file if link.path.startswith("/") else place, link.path, where, links + 1)
            if found is None:
                raise DataError(
                    f"{key} is a soft link to {link.path}, and there is nothing",
                    where=where,
                    cause="the file was copied or repacked without what the link leads to",
                    todo="name the array itself, or write the file again",
                )
            place = found
        else:
            place = None if link is None else place[part]
    return place


def _elsewhere(key: str, where: Path, how: str) -> DataError:
    return DataError(
        f"the values of {key} are not in this file: {how}",
        where=where,
        cause="the checksum of a run stands for one file, and jobs may read a copy without the others",
        todo=f"put all into one file: h5repack --merge -l CONTI {shlex.quote(str(where))} NEW.h5, and name NEW.h5",
    )


def _require_filters(found: Any, key: str, where: Path) -> None:
    properties = found.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            known = _FILTERS.get(code) or name.decode(errors="replace")[:40] or "without a name"
            raise DataError(
                f"{key} is compressed by the HDF5 filter {known} (number {code}), which this HDF5 has not",
                where=where,
                cause="the file was written with a plug-in, which every machine that reads it needs",
                todo="if you have the plug-in, let its folder through: export HDF5_PLUGIN_PATH=FOLDER "
                "NTKHPC_PASS=HDF5_PLUGIN_PATH; or where the plug-in is: "
                f"h5repack -f GZIP=4 {shlex.quote(str(where))} NEW.h5, and name NEW.h5",
            )


def _require_written(found: Any, key: str, where: Path) -> None:
    """A part that was never written would be read as fill values, mostly zeros."""
    if not found.size:
        return
    chunks = (
        0 if found.chunks is None else math.prod(-(-n // c) for n, c in zip(found.shape, found.chunks, strict=True))
    )
    written = found.id.get_num_chunks() if chunks else 0
    if found.id.get_storage_size() == 0 or written < chunks:
        part = f"{chunks - written:,} of the {chunks:,} chunks of {key}" if written else f"the values of {key}"
        raise DataError(
            f"{part} were never written; it has shape {found.shape}",
            where=where,
            cause="the program that wrote the file did not end, or made arrays larger than what it filled in",
            todo="write the file again, with arrays of the rows that there are",
        )
    if found.chunks is not None:
        require_room(2 * found.dtype.itemsize * math.prod(found.chunks), f"one chunk of {key}", where)

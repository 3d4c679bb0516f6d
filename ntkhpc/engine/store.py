"""The Zarr store of a run: created whole, then only whole chunks are written, each by one shard.

Why so: two processes writing parts of one chunk, or attributes of one group, lose updates without an error.
"""

import asyncio
import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.array_spec import ArrayConfigParams
from zarr.core.buffer import Buffer
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore

from ntkhpc import files, large_files, refusals, studies
from ntkhpc.engine import arrays, failpoints
from ntkhpc.engine.arrays import Stored
from ntkhpc.engine.plan import Shard
from ntkhpc.errors import DamagedError
from ntkhpc.phase.array import Array
from ntkhpc.phase.layout import CREATE, Layout
from ntkhpc.phase.work import Values
from ntkhpc.studies.base import Study
from ntkhpc.studies.frozen import FORMAT
from ntkhpc.threads import in_order

_READERS = 4
"""Threads that read back what was written: they wait for the disk, or for memory."""

# A chunk that happens to equal the fill value must exist all the same: it was computed.
_WHOLE: ArrayConfigParams = {"write_empty_chunks": True}


class _Unshared(LocalStore):
    """A store that nobody else knows of yet. It needs no hard links, by which zarr makes sure of that."""

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)

    async def set(self, key: str, value: Buffer) -> None:
        again = refusals.TRANSIENT | refusals.ANSWERED_TWICE
        for pause in files.PAUSES:
            try:
                return await super().set(key, value)
            except OSError as error:
                if error.errno not in again:
                    raise
            await asyncio.sleep(pause)
        return await super().set(key, value)


def create(path: Path, study: Study) -> None:
    """Make every array, dimension name, unit and coordinate. Nothing but whole chunks is written afterwards.

    The metadata are consolidated here and now, which is safe because they never change again. Scratch arrays, where a
    study has some, are made in a store beside `path`.
    """
    layout = studies.layout(study)
    _create(path, layout, [array for array in layout.arrays() if not array.scratch])
    if scratch := [array for array in layout.arrays() if array.scratch]:
        _create(arrays.scratch(path), layout, scratch)
    for array in layout.arrays(CREATE):
        if array.values is not None:
            made, values = open_array(path, array.name, writable=True), np.asarray(array.values(study))
            files.patiently(partial(made.set_basic_selection, ..., values), refusals.ANSWERED_TWICE)


def _create(path: Path, layout: Layout, wanted: list[Array]) -> None:
    group = zarr.create_group(_Unshared(path), zarr_format=3, attributes=_attributes(layout))
    for array in wanted:
        group.create_array(
            array.name,
            shape=layout.shape(array),
            chunks=layout.chunks(array),
            dtype=array.dtype,
            fill_value=array.fill_value,
            dimension_names=array.dims,
            # Flat names: one directory an array instead of one a cell, which spares inodes and fsyncs.
            chunk_key_encoding={"name": "default", "separator": "."},
            filters=None,
            compressors=[Crc32cCodec()],
            attributes={"units": layout.unit(array), "long_name": array.meaning},
            config=_WHOLE,
        )
    with warnings.catch_warnings():
        # zarr says that consolidation is not in the v3 specification yet; xarray warns when it is missing.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(group.store)


def _attributes(layout: Layout) -> dict[str, Any]:
    study = layout.study
    return {
        "title": f"{layout.kind.title}: {study.run_name}",
        "study_id": study.id,
        "study_toml": studies.dumps(study).decode(),
        "format": FORMAT,
        "loss": layout.kind.loss,
        "references": "arXiv:2503.05938, arXiv:2209.04882",
    }


def written(path: Path, study: Study, phase: str) -> tuple[Array, ...]:
    """The arrays that a phase writes, of those that the store has: one that an older version made may lack some."""
    there = arrays.names(path)
    return tuple(array for array in studies.layout(study).arrays(phase) if array.name in there)


def open_array(path: Path, name: str, *, writable: bool = False) -> zarr.Array:
    """One array, by its own metadata; a chunk that is written exists even where it equals the fill value."""
    array = zarr.open_array(arrays.folder(path, name), mode="r+" if writable else "r", zarr_format=3)
    return array.with_config(_WHOLE)


def load(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Whole arrays by name. Raises DamagedError if a chunk does not match its checksum."""
    return {name: _read(path, name, ..., arrays.folder(path, name)) for name in names}


def write(
    path: Path,
    study: Study,
    shard: Shard,
    values: Values,
    *,
    before: Callable[[], None] = lambda: None,
    staged: Callable[[Path], Path | None] = lambda _: None,
) -> None:
    """Write a shard's values into its own chunks, flush them to disk, read them back and compare.

    `before` is called before each chunk is written: what it raises keeps the chunk as it is. `staged` gives the file
    that `stage` made of a chunk's values, where there is one.
    `values` maps every array of the shard's phase to the whole region of the shard, in the array's type. Arrays that
    the store of an older run has not are left out.
    Raises ValueError if that is not what it is given, DamagedError if the file system gives back other bytes.
    """
    expected = written(path, study, shard.phase)
    known = {array.name for array in studies.layout(study).arrays(shard.phase)}
    if missing := ({array.name for array in expected} - set(values)) | (set(values) - known):
        raise ValueError(f"shard {shard.id}: the arrays of phase {shard.phase} and the values differ in {missing}")
    for array in expected:
        region = _own_region(path, shard, array.name)
        shape = tuple(part.stop - part.start for part in region)
        value = values[array.name]
        if value.shape != shape or value.dtype != np.dtype(array.dtype):
            raise ValueError(
                f"shard {shard.id}: {array.name} is {value.dtype}{value.shape}, the store has {array.dtype}{shape}"
            )
        # After an fsync() that failed nobody knows what is on disk: what is tried again is the whole.
        files.patiently(partial(_write_array, path, shard, array, value, before, staged), refusals.ANSWERED_TWICE)
        failpoints.reach("chunk-written", path)
    failpoints.reach("chunks-written", path)
    for array in expected:
        files.patiently(partial(files.sync_directory, arrays.folder(path, array.name)))
    failpoints.reach("chunks-synced", path)
    for array in expected:
        stored = arrays.of(path, array.name)
        parts = _boxes(stored, shard, values[array.name])
        with in_order(partial(_reads_back, stored), parts, threads=_READERS) as same:
            if not all(same):
                raise DamagedError(
                    f"{array.name} reads back with other bytes than were written",
                    where=stored.folder,
                    cause="a failing disk or file system, or two jobs writing this shard",
                    todo="make verify shows what is damaged; then make resume",
                )
    failpoints.reach("values-compared", path)


def _reads_back(stored: Stored, written: tuple[tuple[slice, ...], np.ndarray]) -> bool:
    box, value = written
    if is_large(stored, value):
        (chunk,) = stored.chunk_files(_spans(stored, box))
        return large_files.holds(chunk, *_chunk_bytes(value))
    return _same_bytes(part(stored, box), value)


def is_large(stored: Stored, value: np.ndarray) -> bool:
    """Whether a value is a chunk that is written and compared without zarr, which copies it several times."""
    own = stored.scratch and stored.plain and stored.checksummed
    return own and value.shape == stored.chunks and value.dtype.str == np.dtype(stored.dtype).newbyteorder("<").str


def _chunk_bytes(value: np.ndarray) -> tuple[memoryview, bytes]:
    """What the file of a plain chunk has: the values, and their crc32c."""
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return data.data, google_crc32c.value(data).to_bytes(4, "little")


def _spans(stored: Stored, box: tuple[slice, ...]) -> dict[str, tuple[int, int]]:
    return {dim: (one.start, one.stop) for dim, one in zip(stored.dims, box, strict=True)}


def _same_bytes(one: np.ndarray, other: np.ndarray) -> bool:
    """Of NaN and of zeros with a sign too."""
    mine, theirs = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return bool(np.array_equal(mine, theirs))


def _boxes(stored: Stored, shard: Shard, value: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Each chunk of a shard's part of an array, as a part of the array, and the values that belong there."""
    region = stored.region(shard.region)
    for box in stored.chunks_of(shard.region):
        yield box, value[tuple(slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, region, strict=True))]


def stage(chunk: Path, value: np.ndarray) -> Path:
    """Write a large chunk beside its place, under a name of its own, and sync it."""
    return files.stage(chunk, *_chunk_bytes(value))


def _has_placed(staged: Path | None, chunk: Path) -> bool:
    """Whether a staged file has the name of its chunk now; one that another attempt took away has not."""
    if staged is None:
        return False
    try:
        large_files.place(staged, chunk)
    except FileNotFoundError:
        return False
    return True


def _write_array(
    path: Path,
    shard: Shard,
    array: Array,
    value: np.ndarray,
    before: Callable[[], None],
    staged: Callable[[Path], Path | None],
) -> None:
    opened, stored = open_array(path, array.name, writable=True), arrays.of(path, array.name)
    for box, part_of_it in _boxes(stored, shard, value):
        before()
        (chunk,) = stored.chunk_files(_spans(stored, box))
        if is_large(stored, part_of_it):
            if not _has_placed(staged(chunk), chunk):
                large_files.place(stage(chunk, part_of_it), chunk)
        else:
            opened[box] = part_of_it
            files.sync_file(chunk)


def read(path: Path, study: Study, shard: Shard, array: Array) -> np.ndarray:
    """A shard's part of one array as it is on disk.

    Raises DamagedError, naming the chunk, where one is missing or does not match its checksum.
    """
    chunks = chunk_files(path, study, shard, array)
    _require_there(chunks)
    where = chunks[0] if len(chunks) == 1 else arrays.folder(path, array.name)
    return _read(path, array.name, _own_region(path, shard, array.name), where)


def part(stored: Stored, region: tuple[slice, ...], *, hashed: bool = False) -> np.ndarray:
    """A part of an array as it is on disk, read without zarr's threads: what is small is read a thousand times faster.

    Raises DamagedError, naming the chunk, where one is missing or is not as it was written. Where the values are
    `hashed` by the caller, the checksum of a chunk that is read whole is left out.
    """
    spans = _spans(stored, region)
    chunks = stored.chunk_files(spans)
    _require_there(chunks)
    if not stored.plain:
        where = chunks[0] if len(chunks) == 1 else stored.folder
        return _read(stored.folder.parent, stored.name, region, where)
    if len(chunks) == 1 and tuple(one.stop - one.start for one in region) == stored.chunks:
        return _plain(chunks[0], stored, hashed=hashed)  # no second copy of what may be large
    found = np.empty([one.stop - one.start for one in region], stored.dtype)
    for chunk, corner in zip(chunks, stored.corners(spans), strict=True):
        values = _plain(chunk, stored)
        here, there = [], []
        for start, size, one in zip(corner, stored.chunks, region, strict=True):
            low, high = max(start, one.start), min(start + size, one.stop)
            here.append(slice(low - one.start, high - one.start))
            there.append(slice(low - start, high - start))
        found[tuple(here)] = values[tuple(there)]
    return found


def _require_there(chunks: list[Path]) -> None:
    for chunk in chunks:
        if not files.is_there(chunk):
            raise DamagedError("a chunk of a finished shard is missing", where=chunk)


def _plain(chunk: Path, stored: Stored, *, hashed: bool = False) -> np.ndarray:
    data, count = large_files.read(chunk), math.prod(stored.chunks)
    if len(data) != count * np.dtype(stored.dtype).itemsize + (4 if stored.checksummed else 0):
        raise DamagedError(f"a chunk is damaged: it has {len(data):,} bytes", where=chunk)
    if stored.checksummed and not hashed and _crc_of(data) != google_crc32c.value(data[:-4]):
        raise DamagedError("a chunk is damaged: its checksum does not match", where=chunk)
    data.flags.writeable = False
    return np.frombuffer(data, np.dtype(stored.dtype).newbyteorder("<"), count).reshape(stored.chunks)


def _crc_of(data: np.ndarray) -> int:
    return int.from_bytes(data[-4:].tobytes(), "little")


def is_intact(chunk: Path) -> bool:
    """Whether a chunk file matches the crc32c it ends with, whatever the metadata say."""
    data = large_files.read(chunk)
    return _crc_of(data) == google_crc32c.value(data[:-4])


def _read(path: Path, name: str, region: Any, where: Path) -> np.ndarray:
    try:
        return np.ascontiguousarray(files.patiently(lambda: open_array(path, name)[region]))
    except (ValueError, RuntimeError) as error:
        # zarr reports a checksum that fails, and a chunk of the wrong length, as ValueError or RuntimeError.
        raise DamagedError(f"a chunk is damaged: {error}", where=where) from error


def _own_region(path: Path, shard: Shard, name: str) -> tuple[slice, ...]:
    """The shard's part of an array as the store has it. Raises ValueError unless it is made of whole chunks."""
    stored = arrays.of(path, name)
    region = stored.region(shard.region)
    for part, chunk, size in zip(region, stored.chunks, stored.shape, strict=True):
        if part.start % chunk or (part.stop % chunk and part.stop != size):
            raise ValueError(f"shard {shard.id}: {part} of {name} does not end at chunks of {chunk}")
    return region


def chunk_files(path: Path, study: Study, shard: Shard, array: Array | None = None) -> list[Path]:
    """The files that hold a shard's values, of one array or of all that its phase writes."""
    if array is None:
        return [file for one in written(path, study, shard.phase) for file in chunk_files(path, study, shard, one)]
    _own_region(path, shard, array.name)
    return arrays.of(path, array.name).chunk_files(shard.region)


def digests(values: Values) -> dict[str, str]:
    """sha256 of each array's type, shape and values in C order."""
    return {name: digest(value) for name, value in sorted(values.items())}


def digest(value: np.ndarray) -> str:
    """sha256 of an array's type, shape and values in C order."""
    found = hashlib.sha256(f"{value.dtype.str}{value.shape}".encode())
    found.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def chunk_digests(
    value: np.ndarray, stored: Stored, shard: Shard, known: Callable[[Path], str | None] = lambda _: None
) -> tuple[str, ...]:
    """The same of each chunk of a shard's part of an array, in the order of its files; `known` ones are not hashed."""
    parts = zip(stored.chunk_files(shard.region), _boxes(stored, shard, value), strict=True)
    return tuple(known(chunk) or digest(one) for chunk, (_, one) in parts)

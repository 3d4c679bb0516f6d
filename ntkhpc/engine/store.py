"""The Zarr store of a run: created whole, then only whole chunks are written, each by one shard.

Why so: two processes writing parts of one chunk, or attributes of one group, lose updates without an error.
"""

import warnings
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.array_spec import ArrayConfigParams
from zarr.errors import ZarrUserWarning

from ntkhpc import files, studies
from ntkhpc.engine import arrays, failpoints
from ntkhpc.engine.plan import Shard
from ntkhpc.errors import DamagedError
from ntkhpc.phase.array import Array
from ntkhpc.phase.layout import CREATE, Layout
from ntkhpc.phase.work import Values
from ntkhpc.studies.base import Study
from ntkhpc.studies.frozen import FORMAT

# A chunk that happens to equal the fill value must exist all the same: it was computed.
_WHOLE: ArrayConfigParams = {"write_empty_chunks": True}


def create(path: Path, study: Study) -> None:
    """Make every array, dimension name, unit and coordinate. Nothing but whole chunks is written afterwards.

    The metadata are consolidated here and now, which is safe because they never change again.
    """

    layout = studies.layout(study)
    group = zarr.create_group(path, zarr_format=3, attributes=_attributes(layout))
    for array in layout.arrays():
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
    for array in layout.arrays(CREATE):
        if array.values is not None:
            open_array(path, array.name, writable=True)[...] = np.asarray(array.values(study))
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
    array = zarr.open_array(path / name, mode="r+" if writable else "r", zarr_format=3)
    return array.with_config(_WHOLE)


def load(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Whole arrays by name. Raises DamagedError if a chunk does not match its checksum."""
    return {name: _read(path, name, ..., path / name) for name in names}


def write(path: Path, study: Study, shard: Shard, values: Values) -> None:
    """Write a shard's values into its own chunks, flush them to disk, read them back and compare.

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
        open_array(path, array.name, writable=True)[region] = value
        failpoints.reach("chunk-written", path)
    failpoints.reach("chunks-written", path)
    for chunk in chunk_files(path, study, shard):
        files.sync_file(chunk)
    for array in expected:
        files.sync_directory(path / array.name)
    failpoints.reach("chunks-synced", path)
    for array in expected:
        if read(path, study, shard, array).tobytes() != values[array.name].tobytes():
            raise DamagedError(
                f"{array.name} reads back with other bytes than were written",
                where=path / array.name,
                cause="a failing disk or file system, or two jobs writing this shard",
                todo="make verify shows what is damaged; then make resume",
            )
    failpoints.reach("values-compared", path)


def read(path: Path, study: Study, shard: Shard, array: Array) -> np.ndarray:
    """A shard's part of one array as it is on disk.

    Raises DamagedError, naming the chunk, where one is missing or does not match its checksum.
    """
    chunks = chunk_files(path, study, shard, array)
    if missing := [chunk for chunk in chunks if not chunk.exists()]:
        raise DamagedError("a chunk of a finished shard is missing", where=missing[0])
    where = chunks[0] if len(chunks) == 1 else path / array.name
    return _read(path, array.name, _own_region(path, shard, array.name), where)


def is_intact(chunk: Path) -> bool:
    """Whether a chunk file matches the crc32c it ends with, whatever the metadata say."""
    data = chunk.read_bytes()
    return int.from_bytes(data[-4:], "little") == google_crc32c.value(data[:-4])


def _read(path: Path, name: str, region: Any, where: Path) -> np.ndarray:
    try:
        return np.ascontiguousarray(open_array(path, name)[region])
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
    return arrays.of(path, array.name).chunk_files(path, shard.region)


def digests(values: Values) -> dict[str, str]:
    """sha256 of each array's type, shape and values in C order."""
    return {
        name: files.sha256(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        for name, value in sorted(values.items())
    }

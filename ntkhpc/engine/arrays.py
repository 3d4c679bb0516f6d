"""The arrays that a run's own store has: names, dimensions, chunks and files, by the store's metadata.

A run outlives the code that made it. Today's description of a phase may name arrays that an older store lacks, and lack
some that it has: what is written, read and checked of a run are the arrays in its store. Reads JSON alone, no zarr.

Scratch arrays are in a store of their own beside it, whose chunks may be freed once nobody reads them any more.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ntkhpc import files
from ntkhpc.errors import DamagedError

METADATA = "zarr.json"

SCRATCH = "kernel.zarr"
"""The store of scratch arrays, beside that of the run."""

_BAD = (OSError, ValueError, KeyError, TypeError)
"""What keeps metadata from being read."""


@dataclass(frozen=True)
class Stored:
    """One array of a store. `checksummed` if its chunk files end with a crc32c of what is before, `plain` if besides
    that they have the values alone, little-endian in C order. `fill` is what was never written. `folder` is where its
    metadata and chunks are."""

    folder: Path
    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    separator: str
    checksummed: bool
    dtype: str
    fill: float
    plain: bool

    def region(self, part: Mapping[str, tuple[int, int]]) -> tuple[slice, ...]:
        """A shard's part of the array: half-open ranges by dimension; what is not named is meant whole."""
        return tuple(slice(*part.get(dim, (0, size))) for dim, size in zip(self.dims, self.shape, strict=True))

    @property
    def scratch(self) -> bool:
        """Whether each of its chunks is confirmed by itself, and may be freed."""
        return self.folder.parent.name == SCRATCH

    def chunk_files(self, part: Mapping[str, tuple[int, int]]) -> list[Path]:
        """The files that hold a shard's part."""
        return [self.folder / self.separator.join(["c", *map(str, key)]) for key in self._keys(part)]

    def corners(self, part: Mapping[str, tuple[int, int]]) -> list[tuple[int, ...]]:
        """Where each of these chunks begins, in their order."""
        return [tuple(n * size for n, size in zip(key, self.chunks, strict=True)) for key in self._keys(part)]

    def chunks_of(self, part: Mapping[str, tuple[int, int]]) -> Iterator[tuple[slice, ...]]:
        """The chunks that a shard's part is made of, each as a part of the array, in the same order."""
        for corner in self.corners(part):
            edges = zip(corner, self.chunks, self.shape, strict=True)
            yield tuple(slice(start, min(start + size, end)) for start, size, end in edges)

    def _keys(self, part: Mapping[str, tuple[int, int]]) -> Iterator[tuple[int, ...]]:
        numbers = [
            range(one.start // chunk, -(-one.stop // chunk))
            for one, chunk in zip(self.region(part), self.chunks, strict=True)
        ]
        return product(*numbers)


def scratch(store: Path) -> Path:
    """Where the scratch arrays of a run are, whose store is given."""
    return store.parent / SCRATCH


def rooms(store: Path) -> list[Path]:
    """The stores of a run that are there, its own first."""
    return [store, *(one for one in (scratch(store),) if files.is_there(one / METADATA))]


def folder(store: Path, name: str) -> Path:
    """Where an array is: beside the store if it is a scratch array."""
    beside = scratch(store) / name
    return beside if files.is_there(beside) else store / name


def stored(store: Path) -> dict[str, Stored]:
    """The arrays of a run by name, each by its own metadata; without those whose metadata cannot be read."""
    found = {}
    for path in (path for room in rooms(store) for path in sorted(room.glob(f"*/{METADATA}"))):
        with contextlib.suppress(DamagedError, *_BAD):
            found[path.parent.name] = _array(path.parent, json.loads(files.read(path)))
    return found


def of(store: Path, name: str) -> Stored:
    """One array of a run, by its own metadata. Raises DamagedError if these cannot be read."""
    path = folder(store, name) / METADATA
    try:
        return _array(path.parent, json.loads(files.read(path)))
    except _BAD as error:
        raise DamagedError(f"the metadata of {name} cannot be read: {error}", where=path, todo="make verify") from error


def names(store: Path) -> frozenset[str]:
    """The arrays that a run was made with, whether or not their folders are still there.

    Raises DamagedError if the metadata of a store cannot be read.
    """
    return frozenset(name for room in rooms(store) for name in _consolidated(room))


def _consolidated(store: Path) -> dict[str, Any]:
    path = store / METADATA
    try:
        return dict(json.loads(files.read(path))["consolidated_metadata"]["metadata"])
    except _BAD as error:
        raise DamagedError(
            f"the metadata of the store cannot be read: {error!r}", where=path, todo="make verify"
        ) from error


def consolidated(store: Path) -> dict[str, Stored]:
    """The same as `stored` by the copy of all metadata that one store's own holds; nothing where that is damaged."""
    found = {}
    with contextlib.suppress(DamagedError, *_BAD):
        for name, metadata in _consolidated(store).items():
            found[name] = _array(store / name, metadata)
    return found


def _array(place: Path, metadata: dict[str, Any]) -> Stored:
    codecs = [codec["name"] for codec in metadata["codecs"]]
    little = metadata["codecs"][0].get("configuration", {}).get("endian", "little") == "little"
    encoding, grid = metadata["chunk_key_encoding"], metadata["chunk_grid"]["configuration"]
    return Stored(
        folder=place,
        name=place.name,
        dims=tuple(metadata["dimension_names"]),
        shape=tuple(metadata["shape"]),
        chunks=tuple(grid["chunk_shape"]),
        separator=encoding.get("configuration", {}).get("separator", "/"),
        checksummed=codecs[-1] == "crc32c",
        dtype=str(metadata["data_type"]),
        fill=float(metadata["fill_value"]),  # "NaN" too
        plain=codecs in (["bytes"], ["bytes", "crc32c"]) and little and not metadata.get("storage_transformers"),
    )

"""Batches of CIFAR-10: archives, files of records, and pickles.

A record is one byte of label and 3 x 1024 bytes of red, green and blue, row by row.
"""

import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.data.formats import content
from ntkhpc.errors import DataError

RECORD = 3073
MOST_BYTES = 60_000 * RECORD
"""Of one file: the whole data set."""

NAMES = frozenset({*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"})


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each batch, sorted by name."""
    try:
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                batches = {
                    Path(one.name).name: one for one in archive if Path(one.name).name.removesuffix(".bin") in NAMES
                }
                for name in sorted(batches):
                    if (file := archive.extractfile(batches[name])) is not None:
                        yield name, file.read()
        else:
            yield path.name, content.unpacked(path, MOST_BYTES)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise content.damaged(path, error) from error


def decode(batch: bytes, path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3072) and labels (n,) of one batch."""
    if batch[:1] == b"\x80":
        return _unpickle(batch, path, name)
    if batch and len(batch) % RECORD == 0:
        records = np.frombuffer(batch, np.uint8).reshape(-1, RECORD)
        pixels, labels = records[:, 1:], records[:, 0]
    else:
        raise DataError(
            f"{name} has {len(batch):,} bytes, which is no number of records of {RECORD}",
            where=path,
            cause="it is cut short, or it is another format (CIFAR-100 has records of 3074)",
            todo="fetch it again, and compare its checksum",
        )
    return _whole(pixels, 255, "pixel", path, name), _whole(labels, 9, "label", path, name)


def _unpickle(batch: bytes, path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        found = _Unpickler(io.BytesIO(batch), encoding="bytes").load()
        given = {str(key, "ascii") if isinstance(key, bytes) else key: value for key, value in found.items()}
        pixels, labels = np.asarray(given["data"]), np.asarray(given["labels"])
    except Exception as error:  # an unpickler and NumPy raise whatever the bytes of a damaged batch lead them to
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:200] or type(error).__name__
        raise DataError(
            f"{name} is no batch of CIFAR-10: {said}",
            where=path,
            cause="it is cut short or damaged, or another data set: CIFAR-100 has fine_labels",
            todo="fetch it again, and compare its checksum",
        ) from error
    if pixels.ndim != 2 or labels.ndim != 1 or pixels.shape != (len(labels), RECORD - 1) or not len(labels):
        raise DataError(
            f"{name} has pixels of shape {pixels.shape} and {labels.size} labels",
            where=path,
            cause="another data set, or images that were reshaped",
            todo=f"pixels are (n, {RECORD - 1}): red, then green, then blue, row by row",
        )
    return _whole(pixels, 255, "pixel", path, name), _whole(labels, 9, "label", path, name)


def _whole(values: np.ndarray, most: int, what: str, path: Path, name: str) -> np.ndarray:
    """The values as bytes. Raises DataError unless all are whole numbers from 0 to `most`."""
    if values.dtype.kind not in "iuf":
        raise DataError(
            f"{name} has {what}s of type {values.dtype}, not whole numbers", where=path, todo="write them as integers"
        )
    bad = values > most
    if values.dtype != np.uint8:
        bad = ~((values >= 0) & (values <= most) & (values == np.floor(values)))  # true for NaN, too
    if bad.any():
        first = values[bad][0]
        raise DataError(
            f"{name} has a {what} {first:g}; they are whole numbers from 0 to {most} ({int(bad.sum()):,} are not)",
            where=path,
            cause="pixels that were divided by 255 or normalised" if most == 255 else "CIFAR-10 has 10 classes",
            todo="use the original batches: the study normalises pixels itself",
        )
    if most == 255 and values.max() <= 1:
        raise DataError(
            f"no {what} of {name} is above {values.max():g}; they are whole numbers from 0 to 255",
            where=path,
            cause="pixels that were divided by 255 and rounded, or a file of zeros",
            todo="use the original batches: the study normalises pixels itself",
        )
    return values.astype(np.uint8, copy=False)


class _Unpickler(pickle.Unpickler):
    """Arrays and nothing else: a pickle can run any code."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no batch of images needs")
        return super().find_class(module, name)

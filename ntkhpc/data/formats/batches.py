"""Batches of CIFAR-10: archives, files of records, and pickles.

A record is one byte of label and 3 x 1024 bytes of red, green and blue, row by row.
"""

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.errors import DataError

RECORD = 3073
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
            content = path.read_bytes()
            yield path.name, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"cannot be read: {error}", where=path, cause="it is cut short or damaged") from error


def decode(content: bytes, path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3072) and labels (n,) of one batch."""
    if content[:1] == b"\x80":
        pixels, labels = _unpickle(content, path, name)
    elif content and len(content) % RECORD == 0:
        records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
        pixels, labels = records[:, 1:], records[:, 0]
    else:
        raise DataError(
            f"{name} has {len(content):,} bytes, which is no number of records of {RECORD}",
            where=path,
            cause="it is cut short, or it is another format (CIFAR-100 has records of 3074)",
        )
    if labels.max() > 9:
        raise DataError(f"{name} has a label {labels.max()}; CIFAR-10 has 0 to 9", where=path)
    return pixels, labels


def _unpickle(content: bytes, path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"], np.uint8), np.asarray(batch[b"labels"], np.uint8)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{name} is no batch of CIFAR-10: {error}", where=path) from error
    if pixels.shape != (len(labels), RECORD - 1):
        raise DataError(f"{name} has pixels of shape {pixels.shape} and {len(labels)} labels", where=path)
    return pixels, labels


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

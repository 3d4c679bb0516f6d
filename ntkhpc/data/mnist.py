"""MNIST [LeCun, Cortes, Burges 1998] from its four original files, in IDX format and compressed by gzip."""

import math
import struct
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from ntkhpc.data import download, images, staging
from ntkhpc.data.download import Remote
from ntkhpc.data.formats import content
from ntkhpc.data.images import Images, Labelled
from ntkhpc.data.source import MEBIBYTE, Facts
from ntkhpc.data.split import Split
from ntkhpc.errors import DataError
from ntkhpc.references import MNIST, Reference
from ntkhpc.words import numbers

FOLDER = "mnist"
MOST_BYTES = 2 * 60_000 * 28 * 28
"""Of one file when it is unpacked."""

_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_FILES = {
    "train-images-idx3-ubyte.gz": (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz": (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz": (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz": (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}
REMOTES = tuple(
    Remote(name, f"sha256:{sha256}", tuple(mirror + name for mirror in _MIRRORS), size)
    for name, (size, sha256) in _FILES.items()
)


class Mnist(Images, frozen=True, kw_only=True, tag="mnist"):
    """Handwritten digits, 28 x 28."""

    pool: Annotated[int, Meta(ge=1, le=60_000)] = 8192
    test: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    classes: tuple[Annotated[int, Meta(ge=0, le=9)], ...] = tuple(range(10))

    @property
    def labels(self) -> tuple[int, ...]:
        return self.classes

    @property
    def references(self) -> tuple[Reference, ...]:
        return (MNIST,)

    def origin(self, facts: Facts) -> str:
        return (
            f"The data are handwritten digits of MNIST, 28 x 28 pixels, of the classes {numbers(self.classes)}; the "
            "pool is of its training images, the test set of its test images."
        )

    def facts(self) -> Facts:
        return Facts(features=28 * 28, outputs=self.outputs)

    def image(self, facts: Facts) -> tuple[int, int, int]:
        return 28, 28, 1

    def making_bytes(self, facts: Facts) -> int:
        return 30 * MEBIBYTE

    def check(self, facts: Facts) -> tuple[str, ...] | None:
        images.require_plausible(self)
        paths = [path for remote in REMOTES if (path := download.find(remote, FOLDER)) is not None]
        if len(paths) < len(REMOTES):
            return None
        images.require_enough(self, read_idx(paths[1]), read_idx(paths[3]), str(paths[0].parent))
        return ()

    def fetch(self) -> None:
        for remote in REMOTES:
            download.fetch(remote, FOLDER)

    def load(self, facts: Facts) -> Split:
        found = []
        for remote in REMOTES:
            with staging.staged(download.require(remote, FOLDER)) as path:
                found.append(read_idx(path))
        where = str(download.directory())
        train, test = (Labelled(found[i].reshape(len(found[i]), -1), found[i + 1], where) for i in (0, 2))
        return images.split(self, train, test)


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of an IDX file, plain or compressed. Raises DataError if it is none, or is cut short."""
    packed = content.unpacked(path, MOST_BYTES)
    try:
        zeros, kind, dimensions = struct.unpack_from(">HBB", packed)
        shape = struct.unpack_from(f">{dimensions}I", packed, 4)
    except struct.error as error:
        raise content.damaged(path, error) from error
    body = packed[4 + 4 * dimensions :]
    if zeros or kind != 8 or not 1 <= dimensions <= 3 or len(body) != math.prod(shape):
        raise DataError(
            f"this is no IDX file of unsigned bytes with shape {shape[:4]}: {len(body):,} bytes follow its header",
            where=path,
            cause="it is another format, or it is cut short",
            todo="fetch it again, and compare its checksum",
        )
    return np.frombuffer(body, np.uint8).reshape(shape)

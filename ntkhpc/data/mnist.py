"""MNIST [LeCun, Cortes, Burges 1998] from its four original files, in IDX format and compressed by gzip."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from ntkhpc.data import download, images, staging
from ntkhpc.data.download import Remote
from ntkhpc.data.images import Images, Labelled
from ntkhpc.data.source import MEBIBYTE, Facts
from ntkhpc.data.split import Split
from ntkhpc.errors import DataError
from ntkhpc.references import MNIST, Reference
from ntkhpc.words import numbers

FOLDER = "mnist"
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

    def making_bytes(self, facts: Facts) -> int:
        return 120 * MEBIBYTE

    def prepare(self, facts: Facts) -> None:
        """Fetch what is missing."""
        paths = [download.fetch(remote, FOLDER) for remote in REMOTES]
        images.require_enough(self, read_idx(paths[1]), read_idx(paths[3]), str(paths[0].parent))

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
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        zeros, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"cannot be read: {error}", where=path, cause="it is cut short or damaged") from error
    body = content[4 + 4 * dimensions :]
    if zeros or kind != 8 or len(body) != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"this is no IDX file of unsigned bytes with shape {shape}: {len(body):,} bytes follow its header",
            where=path,
            cause="it is another format, or it is cut short",
        )
    return np.frombuffer(body, np.uint8).reshape(shape)

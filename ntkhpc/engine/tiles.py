"""Finished tiles of an unfinished shard: `partial/<phase>/<shard>/<tile>.npz`.

A tile is used again only for the study and the inputs, and under the numerics fingerprint, that it was computed with;
anything else, and anything damaged, is computed anew. Its last bytes are the sha256 of all others.
"""

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc import files
from ntkhpc.engine import failpoints, stop, store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError
from ntkhpc.phase.work import Values

_SEAL = "seal"


class Tiles:
    """Finished tiles of one shard; `reused` counts those that were loaded.

    Of `sequential` ones, each of which goes on where the one before ended, none is loaded after one that was made.
    """

    def __init__(self, run: Run, shard: Shard, made_from: Mapping[str, str], *, sequential: bool = False):
        """`made_from` names what decides the values: the hashes of study and inputs, and the fingerprint."""
        self.directory = folder(run, shard)
        self.made_from = {**made_from, "phase": shard.phase, "shard": shard.id}
        self.reused = 0
        self._sequential, self._made = sequential, False

    def load(self, tile: int) -> dict[str, np.ndarray] | None:
        """The values of a tile, or None if it must be computed."""
        if self._sequential and self._made:
            return None
        path = self._path(tile)
        try:
            content = files.read(path)
            if not _is_whole(content):
                return None
            with np.load(io.BytesIO(content[:-_HASH_BYTES]), allow_pickle=False) as archive:
                values = {name: archive[name] for name in archive.files}
        except (DamagedError, zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, NotImplementedError):
            return None
        seal = values.pop(_SEAL, None)
        if seal is None or str(seal) != self._seal(tile, values):
            return None
        self.reused += 1
        return values

    def save(self, tile: int, values: Values) -> None:
        """Keep a tile. Raises KeyboardInterrupt afterwards if this process was told to stop."""
        self._made = True
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {**values, _SEAL: np.array(self._seal(tile, values))}
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        content += bytes.fromhex(files.sha256(content))
        failpoints.reach("tile-computed", self.directory)
        for again in (True, False):
            try:
                # Not those above: a run that has vanished is not made anew by its tiles.
                for place in (*reversed(self.directory.parents[:2]), self.directory):
                    place.mkdir(exist_ok=True)
                files.write_atomic(self._path(tile), content)
                break
            except FileNotFoundError:  # a twin that finished the shard has removed its tiles, with the folder
                if not again:
                    raise
        failpoints.reach("tile-saved", self.directory)
        stop.check()

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, tile: int) -> Path:
        return self.directory / f"{tile}.npz"

    def _seal(self, tile: int, values: Values) -> str:
        content = {**self.made_from, "tile": tile, "values": store.digests(values)}
        return files.sha256(files.canonical_json(content))


_HASH_BYTES = 32


def folder(run: Run, shard: Shard) -> Path:
    """Where the tiles of a shard are."""
    return run.path / "partial" / shard.phase / shard.id


def is_intact(path: Path) -> bool:
    """Whether a tile is as it was written; one that vanished is."""
    try:
        return _is_whole(files.read(path))
    except FileNotFoundError:
        return True


def is_of_older_code(path: Path) -> bool:
    """Whether a tile is whole, and has the seal of the values alone that older versions wrote.

    It ends with its archive. A later one ends with a hash, be that damaged.
    """
    try:
        content = files.read(path)
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            readable = all(archive[name] is not None for name in archive.files)
            return readable and _SEAL in archive.files and content[-22:].startswith(b"PK\5\6")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return False


def _is_whole(content: bytes) -> bool:
    return content[-_HASH_BYTES:].hex() == files.sha256(content[:-_HASH_BYTES])

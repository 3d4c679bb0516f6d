"""Finished tiles of an unfinished shard: `partial/<phase>/<shard>/<tile>.npz`.

A tile is used again only under the numerics fingerprint it was computed with; anything else, and anything damaged, is
computed anew.
"""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc import files
from ntkhpc.engine import failpoints, stop, store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.phase.work import Values

_SEAL = "seal"


class Tiles:
    """Finished tiles of one shard; `reused` counts those that were loaded.

    Of `sequential` ones, each of which goes on where the one before ended, none is loaded after one that was made.
    """

    def __init__(self, run: Run, shard: Shard, fingerprint: str, *, sequential: bool = False):
        self.directory = run.path / "partial" / shard.phase / shard.id
        self.fingerprint = fingerprint
        self.reused = 0
        self._sequential, self._made = sequential, False

    def load(self, tile: int) -> dict[str, np.ndarray] | None:
        """The values of a tile, or None if it must be computed."""
        if self._sequential and self._made:
            return None
        path = self._path(tile)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                values = {name: archive[name] for name in archive.files}
        except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, NotImplementedError):
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
        failpoints.reach("tile-computed", self.directory)
        for again in (True, False):
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                files.write_atomic(self._path(tile), buffer.getvalue())
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
        content = {"fingerprint": self.fingerprint, "tile": tile, "values": store.digests(values)}
        return files.sha256(files.canonical_json(content))

"""Chunks that are final before their shard is: a thread hashes them and writes them beside their places.

They get their names where all chunks of a shard do, once its claim was looked for. What a killed process left of them
is removed by the next one that has the claim of the shard, before it begins.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc import files
from ntkhpc.engine import arrays, store
from ntkhpc.engine.arrays import Stored
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run


class Staging:
    """The chunks of one shard. As a context, it takes away those that never got their names."""

    def __init__(self, run: Run, shard: Shard):
        self._run, self._shard = run, shard
        self._worker = ThreadPoolExecutor(1)
        self._coming: dict[Path, Future[tuple[str, Path | None]]] = {}

    def __enter__(self) -> "Staging":
        for array in store.written(self._run.store, self._run.study, self._shard.phase):
            if array.scratch:
                self._sweep(arrays.of(self._run.store, array.name))
        return self

    def _sweep(self, stored: Stored) -> None:
        own = {file.name for file in stored.chunk_files(self._shard.region)}
        for left in stored.folder.glob(".*.tmp"):
            if left.name[1:].rsplit(".", 2)[0] in own:
                files.discard(left)

    def __exit__(self, *_: Any) -> None:
        self._worker.shutdown(cancel_futures=True)
        for coming in self._coming.values():
            if not coming.cancelled() and coming.exception() is None and (staged := coming.result()[1]) is not None:
                files.discard(staged)

    def take(self, array: str, number: int, values: np.ndarray) -> None:
        """Chunk `number` of those of the shard; its values do not change any more."""
        stored = arrays.of(self._run.store, array)
        if store.is_large(stored, values):
            chunk = stored.chunk_files(self._shard.region)[number]
            self._coming[chunk] = self._worker.submit(_stage, chunk, values)

    def digest(self, chunk: Path) -> str | None:
        """The digest of a chunk's values; None if they were not taken."""
        return self._coming[chunk].result()[0] if chunk in self._coming else None

    def pop(self, chunk: Path) -> Path | None:
        """The file that has what belongs there, once; None if there is none."""
        return self._coming.pop(chunk).result()[1] if chunk in self._coming else None


def _stage(chunk: Path, values: np.ndarray) -> tuple[str, Path | None]:
    staged = None
    with suppress(OSError):  # written once more with the others, whose errors are explained
        staged = store.stage(chunk, values)
    return store.digest(values), staged

"""Arrays of the store, as the phases that read them are given them."""

from pathlib import Path
from typing import Any

import numpy as np

from ntkhpc.engine import arrays, store
from ntkhpc.errors import RunError
from ntkhpc.phase.phase import Phase


class StoreInputs:
    """The arrays that a phase reads, by name, each read once for all shards of the phase that one worker runs.

    Raises KeyError for an array that the phase does not name in `reads`: what it needs follows from these.
    """

    def __init__(self, path: Path, reads: tuple[str, ...] = ()):
        self.path, self.reads = path, reads
        self._read: dict[str, np.ndarray] = {}
        self._hash = ""

    def of(self, phase: Phase, inputs_hash: str) -> "StoreInputs":
        """Itself, for a phase whose inputs have this hash. What was read for another phase or hash is let go."""
        if (phase.reads, inputs_hash) != (self.reads, self._hash):
            self._read, self.reads, self._hash = {}, phase.reads, inputs_hash
        return self

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            self._read[name] = store.load(self.path, self._require(name))[name]
            self._read[name].setflags(write=False)  # the next shard is given the same
        return self._read[name]

    def open(self, name: str) -> Any:
        return store.open_array(self.path, self._require(name))

    def _require(self, name: str) -> str:
        if name not in self.reads:
            raise KeyError(f"{name} is none of the arrays that this phase says it reads: {', '.join(self.reads)}")
        if name not in arrays.names(self.path):
            raise RunError(
                f"the store has no array {name}, which the code that runs now reads",
                where=self.path,
                cause="an older version made the run, and the code was changed since (ACCEPT_CHANGE)",
                todo="go on with the code of the run's first version, or submit the study anew in another RUNS",
            )
        return name

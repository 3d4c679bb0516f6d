"""Arrays of the store, as the phases that read them are given them: as their receipts confirm them, and remembered."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from ntkhpc.engine import arrays, confirmed
from ntkhpc.engine.confirmed import BeyondBlockError, Confirmations, Confirmed
from ntkhpc.engine.receipts import Read
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError
from ntkhpc.phase.phase import Phase

Block = Mapping[str, tuple[int, int]]

T = TypeVar("T")


class StoreInputs:
    """The arrays that a phase reads, by name, each read whole once for all shards of the phase that one worker runs.

    Raises KeyError for an array that the phase does not name in `reads`: what it needs follows from these. Raises
    DamagedError for values that are not those of the receipt of the shard that wrote them.
    """

    def __init__(self, run: Run):
        self.run = run
        self.reads: tuple[str, ...] = ()
        self._hash = ""
        self._block: Block = {}
        self._whole: dict[str, np.ndarray] = {}
        self._of_whole: dict[str, tuple[str, dict[str, str]]] = {}
        self._seen: dict[str, tuple[str, dict[str, str]]] = {}
        self._confirmations: Confirmations | None = None
        self._all: Confirmations | None = None
        self._there: frozenset[str] | None = None

    def of(self, phase: Phase, inputs_hash: str, block: Block) -> "StoreInputs":
        """Itself, for a shard of this region. What was read for another phase, or inputs of another hash, is let go."""
        if (phase.reads, inputs_hash) != (self.reads, self._hash):
            self._whole, self._of_whole, self.reads, self._hash = {}, {}, phase.reads, inputs_hash
        self._block, self._seen, self._confirmations, self._all, self._there = block, {}, None, None, None
        return self

    def __getitem__(self, name: str) -> np.ndarray:
        self._require(name)
        if name not in self._whole:
            digests: dict[str, str] = {}
            array = self._confirmed().array(name, lambda _, shard, digest: digests.update({shard: digest}), needed=True)
            self._whole[name], self._of_whole[name] = array[...], (array.parts.phase, digests)
            self._whole[name].setflags(write=False)  # the next shard is given the same
        self._seen[name] = self._of_whole[name]
        return self._whole[name]

    def open(self, name: str) -> "Opened":
        self._require(name)
        if self._confirmations is None:
            self._confirmations = Confirmations(self.run, self._block)
        return Opened(self, name, self._confirmations.array(name, self._remember(name), needed=True))

    @property
    def read(self) -> dict[str, Read]:
        """What the shard at work has read, for its receipt."""
        return {name: confirmed.read_of(self.run, *self._seen[name]) for name in sorted(self._seen)}

    def everywhere(self, name: str) -> Confirmed:
        """An array with the parts that shards of other blocks wrote too."""
        return self._confirmed().array(name, self._remember(name), needed=True)

    def _confirmed(self) -> Confirmations:
        """What all receipts say: each is read once for all arrays of a shard."""
        if self._all is None:
            self._all = Confirmations(self.run)
        return self._all

    def _remember(self, name: str) -> Any:
        def seen(phase: str, shard: str, digest: str) -> None:
            self._seen.setdefault(name, (phase, {}))[1][shard] = digest

        return seen

    def _require(self, name: str) -> None:
        if name not in self.reads:
            raise KeyError(f"{name} is none of the arrays that this phase says it reads: {', '.join(self.reads)}")
        if self._there is None:  # once a shard, which asks for each array tile by tile
            self._there = arrays.names(self.run.store)
        if name not in self._there:
            raise RunError(
                f"the store has no array {name}, which the code that runs now reads",
                where=self.run.store,
                cause="an older version made the run, and the code was changed since (ACCEPT_CHANGE)",
                todo="go on with the code of the run's first version, or submit the study anew in another RUNS",
            )


class Opened:
    """An array whose parts are read as they are indexed: most are asked for the block of their shard alone."""

    def __init__(self, inputs: StoreInputs, name: str, array: Confirmed):
        self._inputs, self._name, self._array = inputs, name, array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def __getitem__(self, key: Any) -> np.ndarray:
        return self._of_all(lambda array: array[key])

    def digest(self, *index: int) -> str:
        """The digest of the chunk of a scratch array that has this first element; it is not read."""
        return self._of_all(lambda array: array.digest(*index))

    def _of_all(self, ask: Callable[[Confirmed], T]) -> T:
        try:
            return ask(self._array)
        except BeyondBlockError:
            self._array = self._inputs.everywhere(self._name)
            return ask(self._array)

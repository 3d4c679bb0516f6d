"""One dimension of the store: how long it is, what stands along it, and how shards cut it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ntkhpc.phase.array import Array


def one(study: Any) -> int:
    return 1


@dataclass(frozen=True)
class Dim:
    """One dimension.

    `values` gives what stands along it, `size` the length of a dimension along which nothing stands: one of the two.
    A dimension with a `meaning` has a coordinate array of its own name. `label` is its letter in the names of shards.
    A phase that is cut along it takes `every` indices a shard. One that `follows` another is cut with it: its index i
    belongs to the indices of the other from i * `every` on. With `span` index i of the other has those in the half-open
    range span(study, i) instead, which follow one another.
    """

    name: str
    values: Callable[[Any], Sequence[Any]] | None = None
    meaning: str = ""
    dtype: str = "i8"
    size: Callable[[Any], int] | None = None
    every: Callable[[Any], int] = one
    follows: str = ""
    span: Callable[[Any, int], tuple[int, int]] | None = None
    label: str = ""

    def length(self, study: Any) -> int:
        if self.size is not None:
            return self.size(study)
        values = () if self.values is None else self.values(study)
        # len() of a range ends where an index of memory does; a plan must count further, to refuse it.
        return values.stop - values.start if isinstance(values, range) else len(values)

    @property
    def coordinate(self) -> Array | None:
        if not self.meaning:
            return None
        return Array(self.name, (self.name,), self.dtype, "1", self.meaning, values=self.values)

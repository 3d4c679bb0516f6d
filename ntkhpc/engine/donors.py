"""Chunks that a shard takes from runs of other studies instead of computing them.

A chunk is a pure function of what it was made from, under one numerics fingerprint. The hash of both is its key, which
stands in the receipt of the shard that wrote it. It is taken where a receipt beside has the same key, and what is read
has the digest of that receipt: nothing is taken for its place, and another run's values are read, never linked. What is
damaged, freed or gone is computed, as if it had never been.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ntkhpc import files
from ntkhpc.engine import arrays, siblings, store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.receipts import Receipt
from ntkhpc.engine.run import Run
from ntkhpc.engine.siblings import Offer
from ntkhpc.errors import DamagedError
from ntkhpc.phase.phase import Phase


class Donors:
    """Runs beside a run, as the shards of one worker find them. Each phase's are looked for once."""

    def __init__(self, run: Run, code: str, fingerprint: str):
        """`code` is the hash of the code that computes, which the fingerprint has too."""
        self.run, self.code, self.fingerprint = run, code, fingerprint
        self._offers: dict[str, dict[str, list[Offer]]] = {}

    def of(self, shard: Shard) -> "Taking | None":
        """For a shard of a phase that is shared; None for all others."""
        layout = self.run.layout
        phase = layout.phases[shard.phase]
        if phase.shared is None:
            return None
        if phase.name not in self._offers:
            path, study = self.run.path, self.run.study
            self._offers[phase.name] = siblings.offers(path.parent, path, study, phase, self.code)
        names = phase.shared.names(self.run.study, layout.block(shard.region))
        there = [self._offers[phase.name].get(name, []) for name in names]
        return Taking(self._made_from(phase), there)

    def _made_from(self, phase: Phase) -> dict[str, Any]:
        assert phase.shared is not None
        decides = phase.shared.decides(self.run.study)
        return {"fingerprint": self.fingerprint, "phase": phase.name, "study": decides}


class Taking:
    """What one shard takes: `keys` of its chunks and the runs that they were `taken` from, for its receipt."""

    def __init__(self, made_from: Mapping[str, Any], there: Sequence[Sequence[Offer]]):
        """`there` is, for each chunk of an array, where it may lie."""
        self._made_from, self._there = made_from, there
        self._keys: dict[str, list[str]] = {}
        self._taken: dict[str, list[str]] = {}
        self._receipts: dict[tuple[str, str], Receipt | None] = {}

    def find(self, array: str, number: int, made_from: Sequence[str]) -> np.ndarray | None:
        """A chunk of this array that was made from the same; None if no run beside has it."""
        key = files.sha256(files.canonical_json({**self._made_from, "array": array, "made_from": list(made_from)}))
        self._keys.setdefault(array, [""] * len(self._there))[number] = key
        for offer in self._there[number]:
            try:
                receipt = self._receipt(offer)
                if receipt is None or receipt.keys.get(array, ())[offer.number : offer.number + 1] != (key,):
                    continue
                chunk = _read(offer, receipt, array)
            except Exception as error:  # noqa: BLE001  whatever is wrong with another run, this one computes
                print(f"{offer.shard.phase}/{offer.shard.id} of {offer.run.path.name} is not used: {error}", flush=True)
                continue
            self._taken.setdefault(array, [""] * len(self._there))[number] = offer.run.path.name
            return chunk
        return None

    def _receipt(self, offer: Offer) -> Receipt | None:
        at = (offer.run.path.name, offer.shard.id)
        if at not in self._receipts:
            self._receipts[at] = None  # one that cannot be read is named once
            self._receipts[at] = siblings.receipt(offer)
        return self._receipts[at]

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        return {array: tuple(keys) for array, keys in self._keys.items()}

    @property
    def taken(self) -> dict[str, tuple[str, ...]]:
        return {array: tuple(names) for array, names in self._taken.items()}

    def __str__(self) -> str:
        """ "5 of 12 chunks from smaller-0123456789"; nothing if none was taken."""
        names = [name for found in self._taken.values() for name in found if name]
        chunks = len(self._there) * len(self._keys)
        return f"{len(names)} of {chunks} chunks from {', '.join(sorted({*names}))}" if names else ""


def _read(offer: Offer, receipt: Receipt, array: str) -> np.ndarray:
    stored = arrays.of(offer.run.store, array)
    box = list(stored.chunks_of(offer.shard.region))[offer.number]
    chunk = store.part(stored, box, hashed=True)
    if store.digest(chunk) != receipt.chunks[array][offer.number]:
        raise DamagedError(f"the values of chunk {offer.number} of {array} are not those of its receipt")
    return chunk

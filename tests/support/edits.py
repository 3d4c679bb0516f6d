"""Single-digit and single-bit edits of the files of a run, and what becomes of each."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analysis.opened import opened
from ntkhpc import files
from ntkhpc.engine import published, receipts, run, verify
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import NtkhpcError

DIGITS = b"0123456789"


def files_by_kind(target: Run) -> dict[str, list[Path]]:
    """The files of a run that are edited, by what they are; kinds that it has none of are left out."""
    found = {
        "study": [target.path / "study.toml"],
        "plan": [target.path / "plan.json"],
        "manifest": [target.path / "manifest.json"],
        "receipt": sorted(target.path.glob("receipts/*/*.json")),
        "chunk": sorted(target.store.glob("*/c*")),
        "metadata": sorted(target.store.rglob("zarr.json")),
        "tile": sorted(target.path.glob("partial/*/*/*.npz")),
        "report": sorted(path for path in (target.path / "analysis").glob("*") if path.is_file()),
    }
    return {kind: paths for kind, paths in found.items() if paths}


def edited(content: bytes, dice: random.Random) -> bytes:
    """One digit is another one, or one bit is: half of all edits each, as far as there are digits."""
    places = [at for at, byte in enumerate(content) if byte in DIGITS]
    data = bytearray(content)
    if places and dice.random() < 0.5:
        at = dice.choice(places)
        data[at] = dice.choice([digit for digit in DIGITS if digit != data[at]])
    else:
        bit = dice.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def edits(target: Run, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """Kind and path of `count` edits, one after another: each file is as it was again when the next one is edited.

    Kinds take turns, so that the many chunks leave something for the one study.
    """
    dice = random.Random(seed)
    kinds = files_by_kind(target)
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        path = dice.choice(kinds[kind])
        intact = path.read_bytes()
        path.write_bytes(edited(intact, dice))
        try:
            yield kind, path
        finally:
            path.write_bytes(intact)


class Judge:
    """What a run gave before anything was edited, and whether it gives anything else now."""

    def __init__(self, target: Run):
        self.target = target
        there = opened(target).load(scheduler="synchronous")
        self.values = {str(name): one.values for name, one in there.variables.items()}
        self.shown = {path.name: path.read_bytes() for path in (target.path / "analysis").glob("*")}

    def outcome(self, kind: str, path: Path) -> str:
        """How an edit ended: "found" by verify, "refused" where it would have been used, both, or "silent".

        Anything that is given after an edit, a value of the store or a file of the report, must be what it was before.
        """
        found = any(_is_at(one.path, path) for one in verify.problems(Run(self.target.path)))
        refused = self._refused(kind, path)
        return " and ".join(["found"] * found + ["refused"] * refused) or "silent"

    def _refused(self, kind: str, path: Path) -> bool:
        if kind == "tile":
            number, shard = int(path.stem), self._shard(path.parent.name)
            return Tiles(self.target, shard, made_from(self.target, shard)).load(number) is None
        try:
            there = run.load(self.target.path)
            if kind == "report":
                assert published.content(there, path.name) == self.shown[path.name]
                return False
            now = {n: one.values for n, one in opened(there).load(scheduler="synchronous").variables.items()}
        except NtkhpcError:
            return True
        assert now.keys() == self.values.keys()
        for name, values in now.items():
            np.testing.assert_array_equal(values, self.values[name], err_msg=f"{name} after an edit of {path}")
        return False

    def _shard(self, shard_id: str) -> Shard:
        return next(shard for shard in self.target.plan.shards if shard.id == shard_id)


def made_from(target: Run, shard: Shard) -> dict[str, str]:
    """What the seal of a tile names, but for the fingerprint of its worker, which is read from a receipt beside."""
    some = files.read_sealed(target.receipt(target.plan.of_phase("data")[0]))
    inputs = receipts.inputs_hash(target, shard.phase)
    return {"study": target.manifest.files["study.toml"], "inputs": inputs, "fingerprint": some["fingerprint"]["id"]}


def _is_at(named: Path, edited: Path) -> bool:
    """Whether a problem names the file that was edited, or the array that it is a part of."""
    return named in (edited, edited.parent)

"""Set damaged shards aside, and put back what can be made again: what `make verify SET_ASIDE=1` does."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntkhpc import files, gates
from ntkhpc.engine import lineage, remake
from ntkhpc.engine.discrepancies import COMPUTED_AGAIN, MADE_AGAIN, Discrepancy
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run


@dataclass(frozen=True)
class Mended:
    """What `set_aside` did: shards whose receipts were moved, and files of the making that were put back."""

    shards: tuple[Shard, ...]
    files: tuple[str, ...]


def set_aside(run: Run, found: Sequence[Discrepancy]) -> Mended:
    """Move the receipts of damaged shards, and of all that was made of them, to `quarantine/`: resume computes them.

    Files of the making that can be made again byte for byte are put back.
    """
    quarantine = run.path / "quarantine"
    for problem in found:
        if problem.what == files.A_FOLDER and problem.todo in (COMPUTED_AGAIN, MADE_AGAIN):
            _move_folder(run, problem.path, quarantine)
    of_making = [str(problem.path.relative_to(run.path)) for problem in found if problem.todo == MADE_AGAIN]
    put_back = remake.restore(run, of_making) if of_making else []
    damaged = {problem.shard.id: problem.shard for problem in found if problem.shard is not None}
    shards = lineage.made_of(run, damaged) if damaged else []
    for shard in reversed(shards):  # whatever ends this leaves nothing that was computed from what is missing
        quarantine.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it never had a receipt, or another hand set it aside
            run.receipt(shard).rename(_free(quarantine, f"{shard.phase}-{shard.id}"))
    return Mended(tuple(shards), tuple(put_back))


def _move_folder(run: Run, path: Path, quarantine: Path) -> None:
    """Move what keeps a file from being written again. In place of a receipt it is moved as that is, in due order."""
    if not path.is_relative_to(run.path / "receipts"):
        quarantine.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.rename(_free(quarantine, f"{path.parent.name}-{path.name}"))


def _free(folder: Path, name: str) -> Path:
    """A name that no file has: what was set aside before stays."""
    path, number = folder / f"{name}.json", 1
    while gates.exists(path):
        path, number = folder / f"{name}.{number}.json", number + 1
    return path

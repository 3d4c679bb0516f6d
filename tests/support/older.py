"""Finished runs that older versions made (tests/fixtures/README.md), and what is done to copies of them."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import made_once, reseal

from ntkhpc.engine.run import Run

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
ARCHIVES = sorted(FIXTURES.glob("runs-*.tar.xz"))


def unpacked(factory: pytest.TempPathFactory, archive: Path) -> Path:
    """The folder of an archive; tests only read it."""

    def unpack(folder: Path) -> Run:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        return Run(folder)

    return made_once(factory, archive.name.partition(".")[0], unpack).path


def copy(folder: Path, kind: str, runs: Path) -> Run:
    """A copy, which a test may spoil, of the run of a kind."""
    (run,) = folder.glob(f"older-{kind}-*")
    return Run(shutil.copytree(run, runs / run.name))


def set_back(target: Run, phase: str) -> str:
    """Take away the last shard of a phase, receipt and chunks, and the receipts of all that was made of it; its id."""
    shard = target.plan.of_phase(phase)[-1]
    target.receipt(shard).unlink()
    for room in ("finalise", "analysis"):
        for path in (target.path / "receipts" / room).glob("*.json"):
            path.unlink()
    for path in chunks(target, shard.id):
        path.unlink()
    return shard.id


def chunks(target: Run, shard_id: str) -> list[Path]:
    """The chunk files of a shard, by the store's own metadata."""
    from ntkhpc.engine import receipts
    from ntkhpc.engine.arrays import stored

    (shard,) = (shard for shard in target.plan.shards if shard.id == shard_id)
    there = stored(target.store)
    receipt = receipts.read(target, shard)
    twin = receipts.read(target, target.plan.of_phase(shard.phase)[0])
    names = (receipt or twin).values  # type: ignore[union-attr]  # one of the two is there
    return [path for name in names for path in there[name].chunk_files(shard.region)]


def content(path: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder."""
    return {str(one.relative_to(path)): one.read_bytes() if one.is_file() else b"" for one in path.rglob("*")}


def with_a_new_field(target: Run) -> None:
    path = target.path / "study.toml"
    path.write_text(path.read_text().replace("[network]", "[network]\nresidual = true", 1))
    reseal(target)


def with_a_new_phase(target: Run) -> None:
    path = target.path / "plan.json"
    path.write_text(path.read_text().replace('"phase":"data"', '"phase":"sketch"', 1))
    reseal(target)


def of_format(number: int) -> Callable[[Run], None]:
    return lambda target: reseal(target, format=number)

"""A tiny study, and ways to run its shards as a cluster would: in processes of their own, which may be killed."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntkhpc import files, studies
from ntkhpc.engine import plan, run
from ntkhpc.engine.run import Run
from ntkhpc.launch.container import worker_environment
from ntkhpc.phase.layout import CREATE
from ntkhpc.studies.base import Study

ROOT = Path(__file__).resolve().parents[2]

TINY = """
name = "tiny"
seed = {seed}
[data]
source = "calorimeter"
pool = 40
test = 15
[network]
widths = {widths}
[training.steps]
factor = 1.0
[ensemble]
n_train = [8, 12]
members = {members}
tile = {tile}
shard_members = {shard_members}
trace_points = 4
predictions = {predictions}
[infinite_width]
redraws = {redraws}
"""

SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real MNIST, a part of CIFAR-10 and a few Geant4 showers, beside a developer's checkout."""

RUN_SHARDS = "import sys; from ntkhpc.worker import run_shards; run_shards(sys.argv[1], sys.argv[2:])"


def tiny_text(
    *,
    seed: int = 5,
    widths: str = "[4]",
    members: int = 11,
    tile: int = 2,
    shard_members: int = 6,
    predictions: str = "true",
    redraws: int = 10,
) -> str:
    return TINY.format(
        seed=seed,
        widths=widths,
        members=members,
        tile=tile,
        shard_members=shard_members,
        predictions=predictions,
        redraws=redraws,
    )


def make_run(runs: Path, **changes: Any) -> Run:
    return run.create(runs, studies.loads(tiny_text(**changes)))


def all_shards(target: Run) -> list[str]:
    """Every shard that writes to the store, in an order in which they can be run; the analysis only reads it."""
    return [shard.id for shard in target.plan.shards if shard.phase != "analysis"]


def assert_every_array_is_covered_once(wanted: Study) -> None:
    """Every value that is not written with the run belongs to one shard, in whole chunks."""
    planned = plan.make(wanted)
    layout = studies.layout(wanted)
    for array in layout.arrays():
        if (phase := layout.writers[array.name]) == CREATE:
            continue
        written = np.zeros(layout.shape(array), int)
        for shard in planned.of_phase(phase):
            region = layout.region(array, shard.region)
            written[region] += 1
            for part, chunk, size in zip(region, layout.chunks(array), written.shape, strict=True):
                assert part.start % chunk == 0
                assert part.stop % chunk == 0 or part.stop == size
        assert (written == 1).all(), array.name
    assert len({shard.id for shard in planned.shards}) == len(planned.shards)


def run_shards(
    target: Run,
    shards: Iterable[str],
    *,
    failpoint: str = "",
    first: str = "",
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run shards in one worker process, in a process group of its own; it executes the code `first` before anything.

    Not as preexec_fn, whose fork() JAX objects to where another test has started it in this process.
    """
    settings = {**worker_settings(target), **(environment or {}), "NTKHPC_FAILPOINT": failpoint}
    return subprocess.run(
        [sys.executable, "-c", f"{first}\n{RUN_SHARDS}", str(target.path), *shards],
        env=settings,
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def worker_settings(target: Run) -> dict[str, str]:
    """The environment of a worker process."""
    return {**os.environ, **worker_environment(target)}


def store_bytes(target: Run) -> dict[str, bytes]:
    """Every file of the store by its relative name, without what killed atomic writes left behind."""
    return {
        str(path.relative_to(target.store)): path.read_bytes()
        for path in target.store.rglob("*")
        if path.is_file() and not path.name.endswith(".partial")
    }


def ntkhpc(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user calls it."""
    return subprocess.run(
        [sys.executable, "-m", "ntkhpc", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Run]) -> Run:
    """The run that `make` makes in a folder shared by all processes of this test session; the first one makes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder.with_suffix(".path")
        if not path.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            path.write_text(str(make(folder).path))
    return Run(Path(path.read_text()))


def make_finished(folder: Path) -> Run:
    target = make_run(folder)
    for stage in target.layout.stages:  # each in processes of its own, as the launcher does
        done = run_shards(target, [shard.id for phase in stage for shard in target.plan.of_phase(phase)])
        assert done.returncode == 0, done.stdout + done.stderr
    return target


def make_compared(folder: Path) -> Run:
    from support.comparison import TEXT

    target = run.create(folder, studies.loads(TEXT))
    done = run_shards(target, all_shards(target))
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def make_posterior(folder: Path) -> Run:
    from support.bayes_run import make, sample

    from analysis import report

    target = make(folder)
    sample(target)
    report.make(target)
    return target


def reseal(target: Run, **fields: Any) -> None:
    """Write the manifest anew for its files as they are now, without those that are gone, and with other fields.

    Receipts are of the study as it is now.
    """
    record = files.read_sealed(target.path / "manifest.json")
    now = {name: files.sha256_file(target.path / name) for name in record["files"] if (target.path / name).is_file()}
    changed = {**record, "files": now, **fields}
    (target.path / "manifest.json").write_bytes(files.seal(changed))
    for path in target.path.glob("receipts/*/*.json"):
        if (receipt := files.read_sealed(path)).get("study"):
            path.write_bytes(files.seal({**receipt, "study": now["study.toml"]}))

"""Memory is projected within a fifth of the measured peak of each phase, alone in a worker of its own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import memory

from ntkhpc import studies
from ntkhpc.engine import run
from ntkhpc.engine.run import Run
from ntkhpc.studies import facts

SIZES = {
    "small ensemble": memory.ENSEMBLE.format(
        pool=512, test=200, widths=[16], n_train=[16, 32], members=20, curve=[32, 64], times=["steps", "infinite"]
    ),
    "middle ensemble": memory.ENSEMBLE.format(
        pool=4096, test=1500, widths=[16, 256], n_train=[32, 512], members=60, curve=[512, 1024],
        times=["steps", "infinite"],
    ),
    "tiled ensemble": memory.ENSEMBLE.format(
        pool=4096, test=600, widths=[16], n_train=[16], members=20, curve=[512, 3000], times=["infinite"]
    ) + "tile = 2100\n",
    "tiled ensemble of both laws": memory.ENSEMBLE.format(
        pool=4096, test=600, widths=[16], n_train=[16], members=20, curve=[512, 3000], times=["infinite", "posterior"]
    ) + "tile = 2100\nnoise = 0.1\n",
    "iterated ensemble": memory.ENSEMBLE.format(
        pool=4096, test=1100, widths=[16], n_train=[16], members=20, curve=[512, 2500], times=["infinite"]
    ) + 'method = "iterative"\n',
    "iterated ensemble of few test points": memory.ENSEMBLE.format(
        pool=4096, test=300, widths=[16], n_train=[16], members=20, curve=[512, 2500], times=["infinite"]
    ) + 'method = "iterative"\n',
    "small posterior": memory.POSTERIOR.format(
        n_train=32, test=100, widths=[16], sampler="hmc", neurons=200, populations=2
    ),
    "middle posterior": memory.POSTERIOR.format(
        n_train=400, test=800, widths=[300], sampler="hmc", neurons=1000, populations=2
    ),
}  # fmt: skip

CASES = [
    (size, phase)
    for size, text in SIZES.items()
    for phase in studies.layout(studies.loads(text)).phases
    if phase in ("curve", "nngp_factor") or not size.startswith(("iterated", "tiled ensemble of"))  # measured above
]


@pytest.fixture(scope="module")
def runs_by_size(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder: Path = tmp_path_factory.mktemp("memory")
    return {size: run.create(folder, studies.loads(text)) for size, text in SIZES.items()}


@pytest.mark.promise("Memory is projected within a fifth of the measured peak, for every phase of both kinds of study.")
@pytest.mark.parametrize(("size", "phase"), CASES)
def test_a_phase_holds_at_its_peak_what_was_projected(size: str, phase: str, runs_by_size: dict[str, Run]) -> None:
    """In the order of the phases, each of which needs the ones before."""
    target = runs_by_size[size]
    missing = [one for one in target.layout.closure(phase) if target.missing(one)]
    for one in missing:  # this test was chosen alone
        memory.peak(target, [one])
    found = memory.peak(target, [phase])
    assert 0.8 < found.ratio < 1.2, str(found)


DATA = """
name = "measured"
[data]
{data}
[network]
widths = [16]
[ensemble]
n_train = [16]
members = 20
shard_members = 20
"""

TABLE = 'source = "file"\npath = "{name}"\nx = {x}\ny = ["y"]\nscaling = "feature"\npool = {pool}\ntest = 2000'


def write_table(path: Path, rows: int, columns: int) -> None:
    x = np.random.default_rng(1).standard_normal((rows, columns))
    y = x[:, 0] + x[:, 1] ** 2
    if path.suffix == ".npz":
        np.savez(path, x=x, y=y)
        return
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(columns)]).assign(y=y)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)


@pytest.mark.promise(
    "Memory is projected within a fifth of the measured peak, for tables of few and of many used rows."
)
@pytest.mark.parametrize("pool", [2_000, 70_000])
@pytest.mark.parametrize("name", ["t.npz", "t.csv", "t.parquet"])
def test_a_table_is_read_in_what_was_projected(name: str, pool: int, tmp_path: Path) -> None:
    write_table(tmp_path / name, 80_000, 30)
    text = DATA.format(data=TABLE.format(name=name, x='["x"]' if name == "t.npz" else '["*"]', pool=pool))
    found = memory.peak(run.create(tmp_path / "runs", facts.resolve(studies.loads(text), tmp_path)), ["data"])
    assert 0.8 < found.ratio < 1.2, str(found)


@pytest.mark.promise("Memory is projected within a fifth of the measured peak, for rings and cells of calorimeters.")
@pytest.mark.parametrize("data", ['inputs = "rings"\npool = 4000', 'inputs = "cells"\npool = 400', "cells = 41"])
def test_showers_are_made_in_what_was_projected(data: str, tmp_path: Path) -> None:
    more = 'inputs = "rings"\npool = 1000\n' if data.startswith("cells") else ""
    text = DATA.format(data=f'source = "calorimeter"\n{more}{data}')
    found = memory.peak(run.create(tmp_path, studies.loads(text)), ["data"])
    assert 0.8 < found.ratio < 1.2, str(found)


@pytest.mark.parametrize("images", [600, 30_000])
def test_parts_of_cifar10_are_read_in_what_was_projected(
    images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "data" / "cifar10"
    here.mkdir(parents=True)
    records = np.random.default_rng(1).integers(0, 256, (images, 3073), np.uint8)
    records[:, 0] %= 10
    (here / "train.bin").write_bytes(records[100:].tobytes())
    (here / "test.bin").write_bytes(records[:100].tobytes())
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path / "data"))
    text = DATA.format(data='source = "cifar10"\npool = 400\ntest = 100')
    found = memory.peak(run.create(tmp_path, facts.resolve(studies.loads(text), tmp_path)), ["data"])
    assert 0.8 < found.ratio < 1.2, str(found)

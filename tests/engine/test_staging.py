"""Chunks that are final before their shard is: written beside their places meanwhile, named only at last."""

import errno
from pathlib import Path

import numpy as np
import pytest
from support.runs import run_shards, tiny_text

from ntkhpc import studies
from ntkhpc.engine import arrays, run, store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.engine.staging import Staging

NAME = "kernel_factor"


@pytest.fixture
def target(runs: Path) -> Run:
    tiles = "[infinite_width]\nn_train = [10, 30]\ntimes = ['infinite']\ntile = 16\n"
    return run.create(runs, studies.loads(tiny_text(redraws=0).replace("[infinite_width]\n", tiles)))


@pytest.fixture
def shard(target: Run) -> Shard:
    return target.plan.of_phase("factor")[0]


def column(target: Run, shard: Shard) -> tuple[list[Path], np.ndarray]:
    """The files of a column's chunks, and values for them."""
    stored = arrays.of(target.store, NAME)
    files = stored.chunk_files(shard.region)
    return files, np.random.default_rng(0).standard_normal((1, len(files), *stored.chunks[2:]))


def hidden(target: Run) -> list[str]:
    return [path.name for path in arrays.folder(target.store, NAME).glob(".*")]


def test_a_chunk_is_whole_beside_its_place_and_has_the_digest_of_its_values(target: Run, shard: Shard) -> None:
    files, values = column(target, shard)
    with Staging(target, shard) as staging:
        staging.take(NAME, 1, values[:, 1:2])
        assert staging.digest(files[0]) is None
        assert staging.digest(files[1]) == store.digest(values[:, 1:2])
        (path,) = arrays.folder(target.store, NAME).glob(".*")
        assert path.read_bytes()[:-4] == values[:, 1:2].tobytes()
        assert not files[1].exists()
        stored = arrays.of(target.store, NAME)
        known = store.chunk_digests(values, stored, shard, lambda file: "known" if file == files[0] else None)
        assert known == ("known", *(store.digest(values[:, i : i + 1]) for i in range(1, len(files))))
        store.write(target.store, target.study, shard, {NAME: values}, staged=staging.pop)
        assert not hidden(target)
        assert staging.pop(files[1]) is None  # it has its name
    (array,) = target.layout.arrays("factor")
    np.testing.assert_array_equal(store.read(target.store, target.study, shard, array), values)


def test_what_never_got_its_name_is_taken_away(target: Run, shard: Shard) -> None:
    files, values = column(target, shard)
    with Staging(target, shard) as staging:
        for number in range(len(files)):
            staging.take(NAME, number, values[:, number : number + 1])
    assert not hidden(target)
    assert not any(file.exists() for file in files)


def test_what_a_killed_process_left_is_taken_away_by_the_next_one(target: Run, shard: Shard) -> None:
    files, values = column(target, shard)
    other, _ = column(target, target.plan.of_phase("factor")[1])
    for file in (files[0], files[1], other[0]):
        store.stage(file, values[:, :1])
    with Staging(target, shard) as staging:
        (left,) = hidden(target)
        assert left.startswith(f".{other[0].name}.")  # of another shard, which may be at work
        staging.take(NAME, 0, values[:, :1])


def test_a_staged_chunk_that_another_attempt_took_away_is_written_again(target: Run, shard: Shard) -> None:
    files, values = column(target, shard)
    with Staging(target, shard) as staging:
        for number in range(len(files)):
            staging.take(NAME, number, values[:, number : number + 1])
            assert staging.digest(files[number])
        with Staging(target, shard):  # of whoever was suspended, or has the claim now
            assert not hidden(target)
        store.write(target.store, target.study, shard, {NAME: values}, staged=staging.pop)
    (array,) = target.layout.arrays("factor")
    np.testing.assert_array_equal(store.read(target.store, target.study, shard, array), values)


def test_a_full_disk_is_met_again_where_it_is_explained(
    target: Run, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, values = column(target, shard)

    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, Staging(target, shard) as staging:
        patch.setattr(store, "stage", full)
        staging.take(NAME, 0, values[:, :1])
        assert staging.digest(files[0]) == store.digest(values[:, :1])
        assert staging.pop(files[0]) is None


def test_a_worker_hashes_and_writes_tiles_as_they_come(target: Run) -> None:
    names = [shard.id for phase in ("data", "kernel", "factor") for shard in target.plan.of_phase(phase)]
    counted = (
        "from ntkhpc.engine import staging\n"
        "take = staging.Staging.take\n"
        "staging.Staging.take = lambda *given: print('taken', given[2]) or take(*given)\n"
    )
    done = run_shards(target, names, first=counted)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("taken 0") == len(target.plan.of_phase("factor"))
    assert not hidden(target)

"""`verify` finds every flipped bit, and what it finds can be mended."""

import random
import shutil
from pathlib import Path

import pytest
from support.runs import all_shards, make_run, ntkhpc, run_shards, store_bytes

from ntkhpc import files
from ntkhpc.engine import mend, store, verify
from ntkhpc.engine.run import Run


def verified_files(target: Run) -> list[Path]:
    rooms = [target.path / name for name in ("store.zarr", "receipts", "code")]
    files = [path for room in rooms for path in room.rglob("*") if path.is_file()]
    return sorted([*files, *(target.path / name for name in ("study.toml", "plan.json", "manifest.json"))])


@pytest.mark.promise(
    "Of 1,000 single bits flipped in store, receipts and frozen code, verify finds and names every one."
)
@pytest.mark.parametrize("seed", range(25))
def test_every_one_of_forty_flipped_bits_is_found_and_named(seed: int, tmp_path: Path, finished: Run) -> None:
    """25 seeds of 40 files: 1,000 single-bit flips in store, receipts and code."""
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    assert list(verify.problems(copy)) == []
    dice = random.Random(seed)
    # A damaged manifest, plan or study ends the check with itself, so those three are flipped one by one below.
    files = [path for path in verified_files(copy) if path.parent != copy.path]
    chosen = dice.sample(files, 40)
    for path in chosen:
        flip(path, dice)
    named = {problem.path for problem in verify.problems(Run(copy.path))}
    assert named == set(chosen)


@pytest.mark.promise(
    "Of 50 single bits flipped in each of study.toml, plan.json and manifest.json, verify finds every one."
)
@pytest.mark.parametrize("name", ["study.toml", "plan.json", "manifest.json"])
def test_every_flipped_bit_of_the_frozen_records_is_found(name: str, tmp_path: Path, finished: Run) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    dice, intact = random.Random(name), (copy.path / name).read_bytes()
    for _ in range(50):
        flip(copy.path / name, dice)
        assert next(verify.problems(Run(copy.path))).path == copy.path / name
        (copy.path / name).write_bytes(intact)


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = dice.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_run_under_way_verifies_and_a_foreign_file_is_named(runs: Path) -> None:
    target = make_run(runs)
    assert run_shards(target, all_shards(target)[:2]).returncode == 0
    run_shards(target, all_shards(target)[2:3], failpoint="chunk-written:4")
    assert list(verify.problems(target)) == []
    stranger = target.store / "test_loss" / "c.9.9.9.9"
    stranger.write_bytes(b"?")
    assert [problem.path for problem in verify.problems(target)] == [stranger]


@pytest.mark.promise("verify finds a chunk that is intact but is a copy of another one.")
def test_values_that_are_intact_but_not_those_of_the_receipt_are_found(tmp_path: Path, finished: Run) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    one, other = sorted((copy.store / "test_loss").glob("c.*"))[:2]
    shutil.copy(one, other)
    assert ["the values of" in problem.what for problem in verify.problems(copy)] == [True]


@pytest.mark.promise("Shards that verify set aside are computed again by resume, to the same stored bytes.")
def test_damaged_shards_can_be_set_aside_and_are_computed_again(tmp_path: Path, finished: Run) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    flip(sorted((copy.store / "test_loss").glob("c.*"))[1], random.Random(1))
    assert ntkhpc("verify", f"--run={copy.path}").returncode == 1
    assert "4 shards set aside" in ntkhpc("verify", f"--run={copy.path}", "--set-aside").stdout
    resumed = ntkhpc("resume", f"--run={copy.path}", "--cores=1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert store_bytes(copy) == store_bytes(finished)
    count = len(copy.plan.shards)
    assert f"intact; {count} of {count} shards" in ntkhpc("verify", f"--run={copy.path}").stdout


@pytest.mark.promise(
    "verify finds second runs and reports that were made from other networks than the store holds now."
)
def test_values_computed_from_other_inputs_are_found(tmp_path: Path, finished: Run) -> None:
    """The ensemble was computed again with other losses, which recheck had read for one cell, and finalise had not."""
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    shard = copy.plan.of_phase("ensemble")[0]
    values = {a.name: store.read(copy.store, copy.study, shard, a) for a in copy.layout.arrays("ensemble")}
    values["test_loss"] = values["test_loss"] + 1
    store.write(copy.store, copy.study, shard, values)
    receipt = files.read_sealed(copy.receipt(shard))
    copy.receipt(shard).write_bytes(files.seal({**receipt, "values": store.digests(values)}))
    found = list(verify.problems(copy))
    cell = {dim: shard.region[dim] for dim in ("width", "n_train", "draw")}
    later = [one for one in copy.plan.of_phase("recheck") if one.region.items() >= cell.items()]
    stale = {copy.receipt(one) for one in later} | {copy.path / "analysis" / "provenance.json"}
    assert {problem.path for problem in found} == stale
    assert "other values than the phases before" in found[0].what


def test_recomputing_an_ensemble_shard_recomputes_the_moments(tmp_path: Path, finished: Run) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    flip(next((copy.store / "status").glob("c.*")), random.Random(1))
    mend.set_aside(copy, list(verify.problems(copy)))
    assert len(copy.missing("ensemble")) == 1
    assert len(copy.missing("finalise")) == 1


@pytest.mark.promise("A worker refuses to compute if the run's frozen code was edited.")
def test_an_edit_of_the_frozen_code_is_refused_by_the_worker(runs: Path) -> None:
    target = make_run(runs)
    module = target.code / "ntkhpc" / "training.py"
    module.write_text(module.read_text() + "\n")
    refused = run_shards(target, ["data-0"])
    assert refused.returncode != 0
    assert "not the code that the run was made with" in refused.stderr
    assert len(target.missing("data")) == 1

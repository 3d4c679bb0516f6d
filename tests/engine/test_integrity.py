"""What is used is what was promised: inputs, reports, tiles, claims and conflicts, and what verify advises."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray
from support.edits import made_from
from support.runs import all_shards, make_run, ntkhpc, run_shards, store_bytes, worker_settings

import ntkhpc as package
from analysis import report
from analysis.ensemble import results
from analysis.opened import opened
from ntkhpc import cli, files
from ntkhpc.engine import conflicts, lineage, mend, published, receipts, status, store, verify
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import DamagedError


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run that a test may spoil."""
    return Run(shutil.copytree(finished.path, tmp_path / "copy"))


def chunks(target: Run, name: str) -> list[Path]:
    return sorted((target.store / name).glob("c*"))


def remove_a_chunk(target: Run) -> Path:
    chunk = chunks(target, "test_point_loss")[1]
    chunk.unlink()
    return chunk


def exchange_a_chunk(target: Run) -> Path:
    one, other = chunks(target, "test_point_loss")[:2]
    shutil.copy(one, other)
    return other


def damage_a_chunk(target: Run) -> Path:
    chunk = chunks(target, "prediction_mean")[0]
    chunk.write_bytes(chunk.read_bytes()[:-9])
    return chunk


def damage_metadata(target: Run) -> Path:
    path = target.store / "test_point_loss" / "zarr.json"
    path.write_text(path.read_text().replace("float32", "float64"))
    return path


def damage_the_metadata_of_all(target: Run) -> Path:
    path = target.store / "zarr.json"
    path.write_text(path.read_text()[:-200])
    return path


def change_a_coordinate(target: Run) -> Path:
    (path,) = chunks(target, "n_train")
    store.open_array(target.store, "n_train", writable=True)[0] = 9
    return path


def exchange_a_receipt(target: Run) -> Path:
    one, other = (target.receipt(shard) for shard in target.plan.of_phase("ensemble")[:2])
    shutil.copy(one, other)
    return other


HARMS = [
    remove_a_chunk, exchange_a_chunk, damage_a_chunk, damage_metadata, damage_the_metadata_of_all, change_a_coordinate,
    exchange_a_receipt,
]  # fmt: skip


@pytest.mark.promise(
    "A report is not made from a chunk that is missing, another one's or damaged, nor from damaged metadata, "
    "coordinates or another shard's receipt: it names the file and what to do."
)
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_report_reads_nothing_that_contradicts_its_receipt(harm: Callable[[Run], Path], copy: Run) -> None:
    before = {path.name: path.read_bytes() for path in published.folder(copy).iterdir()}
    path = harm(copy)
    with pytest.raises(DamagedError) as refused:
        report.make(copy, partial=True)
    assert str(path) in str(refused.value)
    assert "make verify" in str(refused.value)
    assert {one.name: one.read_bytes() for one in published.folder(copy).iterdir()} == before
    with pytest.raises(DamagedError):
        package.open_run(copy.path).moments()
    with pytest.raises(DamagedError):
        package.open_run(copy.path).store.load()
    assert path in {problem.path for problem in verify.problems(Run(copy.path))} | {
        chunk for problem in verify.problems(Run(copy.path)) for chunk in problem.path.glob("c*")
    }


def test_the_command_refuses_such_a_report_without_a_traceback(copy: Run) -> None:
    exchange_a_chunk(copy)
    done = ntkhpc("report", f"--run={copy.path}")
    assert done.returncode == 1
    assert "error: the values of ensemble/w4-n8-d0-m6 in test_point_loss are not those of its receipt" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.promise("What verify advises about a damaged chunk, metadata, study or plan leads to an intact run.")
@pytest.mark.parametrize("harm", [*HARMS, "study.toml", "plan.json"], ids=lambda harm: getattr(harm, "__name__", harm))
def test_what_verify_advises_leads_to_a_right_run(
    harm: Callable[[Run], Path] | str, copy: Run, finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the shards' computation, which is tested once below: here the finished run's values stand in for it."""
    if isinstance(harm, str):
        path = copy.path / harm
        path.write_text(path.read_text().replace("1", "2", 1))
    else:
        harm(copy)
    assert cli.main(["verify", f"--run={copy.path}"]) == 1
    assert "do: make verify SET_ASIDE=1" in capsys.readouterr().out
    assert cli.main(["verify", f"--run={copy.path}", "--set-aside"]) == 1
    again = Run(copy.path)
    for shard in (shard for phase in again.plan.phases for shard in again.missing(phase)):
        if shard.phase != "analysis":
            values = {
                a.name: store.read(finished.store, finished.study, shard, a) for a in again.layout.arrays(shard.phase)
            }
            store.write(again.store, again.study, shard, values)
        shutil.copy(finished.receipt(shard), again.receipt(shard))
    assert list(verify.problems(again)) == []
    assert store_bytes(again) == store_bytes(finished)


@pytest.mark.promise("What has no receipt reads as missing in open_run, moments and partial reports.")
def test_values_without_a_receipt_read_as_missing(copy: Run) -> None:
    shard = copy.plan.of_phase("ensemble")[1]
    copy.receipt(shard).unlink()
    there = package.open_run(copy.path).store
    members = slice(*shard.region["member"])
    gone = there.isel(width=0, n_train=0, draw=0, member=members)
    assert np.isnan(gone.test_point_loss.values).all()
    assert (gone.status.values == -1).all()
    on_disk = xarray.open_zarr(copy.store)
    kept = there.isel(n_train=1).test_loss.values
    np.testing.assert_array_equal(kept, on_disk.isel(n_train=1).test_loss.values)


def test_any_index_gives_what_the_store_has(finished: Run) -> None:
    there, on_disk = opened(finished), xarray.open_zarr(finished.store, chunks=None)
    for name in ("test_point_loss", "bias2", "x_train", "recheck_reason", "law_quantile"):
        np.testing.assert_array_equal(there[name].values, on_disk[name].values)
    for key in ((0, 1, 0, slice(3, 9)), (slice(None), 0, 0, slice(None, None, 4)), (0, 0, 0, -1), (..., slice(2, 5))):
        values = there.test_point_loss.data[key].compute()
        np.testing.assert_array_equal(values, on_disk.test_point_loss.values[key])


@pytest.mark.promise("A worker refuses inputs whose values are not those of the receipt of the shard that wrote them.")
@pytest.mark.parametrize(
    ("name", "shard"), [("y_train", "w4-n8-d0-m0"), ("permutation", "law-n8-d0"), ("y_test", "finalise-0")]
)
def test_changed_inputs_are_refused(name: str, shard: str, copy: Run) -> None:
    (found,) = (one for one in copy.plan.shards if one.id == shard)
    copy.receipt(found).unlink()
    values = store.load(copy.store, name)[name]
    store.open_array(copy.store, name, writable=True)[...] = values + 1
    refused = run_shards(copy, [shard])
    assert refused.returncode != 0
    assert f"the values of data/data-0 in {name} are not those of its receipt" in refused.stderr
    assert not copy.receipt(found).exists()


def test_another_cells_networks_are_refused_as_inputs(copy: Run) -> None:
    """A phase that reads the part of an array that belongs to its block compares that part."""
    shard = copy.plan.of_phase("recheck")[0]
    copy.receipt(shard).unlink()
    one, other = chunks(copy, "test_loss")[:2]
    assert one.name != other.name
    shutil.copy(other, one)
    refused = run_shards(copy, [shard.id])
    assert refused.returncode != 0
    assert "in test_loss are not those of its receipt" in refused.stderr


def test_a_receipt_says_what_its_shard_has_read(finished: Run) -> None:
    first, second = finished.plan.of_phase("recheck")
    mine = {shard.id for shard in finished.plan.of_phase("ensemble") if shard.region.items() >= first.region.items()}
    said = receipts.read(finished, first)
    assert said is not None
    assert said.study == finished.manifest.files["study.toml"]
    assert set(said.read["status"].shards) == mine
    assert len(mine) == 2
    moments = receipts.read(finished, finished.plan.of_phase("finalise")[0])
    assert moments is not None
    assert moments.read["status"].shards == ()
    assert lineage.made_of(
        finished, {shard.id: shard for shard in finished.plan.of_phase("ensemble") if shard.id in mine}
    )[-3:] == [finished.plan.of_phase("finalise")[0], first, finished.plan.of_phase("analysis")[0]]
    assert second not in lineage.made_of(finished, {shard.id: shard for shard in finished.plan.of_phase("law")})


@pytest.mark.promise("Whatever was computed from a shard that verify set aside is set aside with it, and no more.")
@pytest.mark.parametrize(
    ("phase", "with_it"),
    [
        ("data", {"data", "ensemble", "law", "curve", "redraws", "finalise", "recheck", "analysis"}),
        ("ensemble", {"ensemble", "finalise", "recheck", "analysis"}),
        ("law", {"law", "analysis"}),
        ("recheck", {"recheck", "analysis"}),
    ],
)
def test_what_was_made_of_a_shard_is_set_aside_with_it(phase: str, with_it: set[str], copy: Run) -> None:
    array = copy.layout.arrays(phase)[0]
    shard = copy.plan.of_phase(phase)[0]
    chunk = store.chunk_files(copy.store, copy.study, shard, array)[0]
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"??")
    mended = mend.set_aside(copy, list(verify.problems(copy)))
    assert {one.phase for one in mended.shards} == with_it
    assert {name for name in copy.plan.phases if copy.missing(name)} == with_it
    if phase == "ensemble":
        assert len(copy.missing("ensemble")) == len(copy.missing("recheck")) == 1


@pytest.mark.promise("A finished tile of another study, of other inputs or under another fingerprint is not used.")
@pytest.mark.parametrize("other", ["study", "inputs", "fingerprint"])
def test_a_tile_made_from_anything_else_is_computed_again(other: str, copy: Run) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    mine = made_from(copy, shard)
    Tiles(copy, shard, {**mine, other: "0" * 64}).save(0, {"x": np.arange(3.0)})
    assert Tiles(copy, shard, {**mine, other: "0" * 64}).load(0) is not None
    assert Tiles(copy, shard, mine).load(0) is None


def test_tiles_of_another_shard_are_computed_again(copy: Run) -> None:
    one, other = copy.plan.of_phase("ensemble")[:2]
    Tiles(copy, one, made_from(copy, one)).save(0, {"x": np.arange(3.0)})
    theirs = Tiles(copy, other, made_from(copy, other))
    shutil.copytree(Tiles(copy, one, {}).directory, theirs.directory)
    assert theirs.load(0) is None


WOKEN = """
import sys
from pathlib import Path
from ntkhpc import files, worker
from ntkhpc.engine import failpoints
ours, theirs, shard, chunks = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4].split(":")
def reach(stage, where=None):
    if stage == "chunk-written" and not done:
        done.append(stage)  # here it is stopped; its shard is taken over, computed and given its receipt elsewhere
        claim = next((ours / "claims" / "ensemble").glob(f"{shard}.0"))
        claim.with_name(f"{shard}.1").write_bytes(claim.read_bytes())
        for name in chunks:
            (ours / "store.zarr" / name).write_bytes((theirs / "store.zarr" / name).read_bytes())
        name = f"receipts/ensemble/{shard}.json"
        (ours / name).write_bytes((theirs / name).read_bytes())
done = []
failpoints.reach = reach
print(worker.run_shards(sys.argv[1], [shard]))
"""


@pytest.mark.promise("A worker that was stopped while its shard was taken over writes no further chunk when it wakes.")
@pytest.mark.parametrize("differs", [False, True], ids=["same-values", "other-values"])
def test_a_worker_that_wakes_after_its_shard_was_taken_over_writes_nothing(
    differs: bool, copy: Run, tmp_path: Path
) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    twin = Run(shutil.copytree(copy.path, tmp_path / "twin"))
    if differs:  # as from another device
        rewrite(twin, shard, "train_loss")
    for path in store.chunk_files(copy.store, copy.study, shard):
        path.unlink()
    copy.receipt(shard).unlink()
    names = [str(path.relative_to(twin.store)) for path in store.chunk_files(twin.store, twin.study, shard)]
    ran = subprocess.run(
        [sys.executable, "-c", WOKEN, str(copy.path), str(twin.path), shard.id, ":".join(names)],
        env=worker_settings(copy), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert store_bytes(copy) == store_bytes(twin)
    assert copy.receipt(shard).read_bytes() == twin.receipt(shard).read_bytes()
    assert (ran.returncode == 0) == (not differs)
    if differs:
        assert "differ in train_loss" in ran.stderr
        assert [one.shard for one in conflicts.unsettled(copy)] == [shard]
    else:
        assert "done by a twin, with the same bytes" in ran.stdout


def rewrite(target: Run, shard: Shard, name: str, by: float = 1.0) -> None:
    """Give a shard other values of an array, and the receipt of an execution of its own."""
    values = {a.name: store.read(target.store, target.study, shard, a) for a in target.layout.arrays(shard.phase)}
    values[name] = values[name] + by
    store.write(target.store, target.study, shard, values)
    receipt = files.read_sealed(target.receipt(shard))
    attempt = {"attempt": f"attempt{by:g}", "values": store.digests(values)}
    target.receipt(shard).write_bytes(files.seal({**receipt, **attempt}))


@pytest.mark.promise(
    "status, report and verify tell of a conflict until a further execution repeats one of its results."
)
def test_a_conflict_is_shown_until_a_third_execution_settles_it(
    copy: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    other = Run(shutil.copytree(copy.path, tmp_path / "other"))
    rewrite(other, shard, "train_loss")
    ours, theirs = receipts.read(other, shard), receipts.read(copy, shard)
    assert ours is not None
    conflicts.record(copy, shard, ours, theirs)
    said = f"2 executions of ensemble/{shard.id} gave 2 results: they differ in train_loss"
    assert cli.main(["status", f"--run={copy.path}"]) == 0
    assert said in capsys.readouterr().out
    assert f"CONFLICT: {said}" in results.collect(copy).conflicts
    assert [(one.shard, one.what) for one in verify.problems(copy)] == [(shard, said)]
    assert cli.main(["verify", f"--run={copy.path}", "--set-aside"]) == 1
    assert list(conflicts.unsettled(copy)) == []  # it is missing now
    assert not status.is_complete(copy)
    computed = run_shards(copy, [shard.id])
    assert computed.returncode == 0, computed.stderr
    assert list(conflicts.unsettled(copy)) == []
    assert not [one for one in verify.problems(copy) if one.path.parent.name != "analysis"]


def test_a_third_result_settles_nothing(copy: Run, tmp_path: Path) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    other = Run(shutil.copytree(copy.path, tmp_path / "other"))
    rewrite(other, shard, "train_loss")
    ours = receipts.read(other, shard)
    assert ours is not None
    conflicts.record(copy, shard, ours, receipts.read(copy, shard))
    mend.set_aside(copy, list(verify.problems(copy)))
    shutil.copy(other.receipt(shard), copy.receipt(shard))
    rewrite(copy, shard, "train_loss", by=3.0)
    (conflict,) = conflicts.unsettled(copy)
    assert "3 executions" in conflict.what


ANALYSIS_HARMS: dict[str, Callable[[Path], None]] = {
    "digit": lambda folder: (folder / "moments.csv").write_text(
        (folder / "moments.csv").read_text().replace("4", "5", 1)
    ),
    "removed": lambda folder: (folder / "answer.png").unlink(),
    "emptied": lambda folder: [path.unlink() for path in folder.iterdir()] and None,
    "record": lambda folder: (folder / "provenance.json").write_text("{}"),
    "summary": lambda folder: (folder / "summary.txt").write_text("eps_L is 7"),
}


@pytest.mark.promise("verify names files of a report that were changed, removed or added; make report makes it right.")
@pytest.mark.parametrize("harm", ANALYSIS_HARMS)
def test_a_report_that_was_touched_is_named_and_made_again(
    harm: str, copy: Run, finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = published.folder(copy)
    ANALYSIS_HARMS[harm](folder)
    assert cli.main(["verify", f"--run={copy.path}"]) == 1
    said = capsys.readouterr().out
    assert str(folder) in said
    assert "do: make report makes the report again" in said
    report.make(Run(copy.path))
    assert list(verify.problems(Run(copy.path))) == []
    for path in published.folder(finished).iterdir():
        if path.name not in ("provenance.json", "report.html"):  # they tell of the code of the report
            assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_file_beside_the_report_is_named(copy: Run) -> None:
    (published.folder(copy) / "mine.csv").write_text("1,2")
    (problem,) = verify.problems(copy)
    assert problem.path.name == "mine.csv"
    assert problem.shard is None


@pytest.mark.promise("No edited file of a report is shown: not by submit, nor by tables and figures of open_run.")
def test_an_edited_file_of_a_report_is_not_shown(copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published.folder(copy)
    for name in ("moments.csv", "answer.png", "summary.txt"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-2])
    there = package.open_run(copy.path)
    with pytest.raises(DamagedError, match="is not the file that the report wrote"):
        there.table("moments")
    with pytest.raises(DamagedError, match="is not the file that the report wrote"):
        there.figure("answer")
    assert "is not the file that the report wrote" in there._repr_html_()
    capsys.readouterr()
    assert cli.main(["resume", f"--run={copy.path}"]) == 1
    text = capsys.readouterr()
    assert "is not the file that the report wrote" in text.err
    assert "make report" in text.err


@pytest.mark.promise("The making of a report that is interrupted between two files is found by verify.")
def test_a_report_whose_making_was_interrupted_is_found(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy.store.parent / "analysis" / "fits.json"
    record = (path.parent / "provenance.json").read_bytes()
    written, write_atomic = [], files.write_atomic

    def interrupted(path: Path, data: bytes) -> None:
        if len(written) == 6:
            raise KeyboardInterrupt
        written.append(path.name)
        write_atomic(path, data + b" ")

    monkeypatch.setattr(files, "write_atomic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.make(copy)
    assert (path.parent / "provenance.json").read_bytes() == record
    assert {problem.path.name for problem in verify.problems(copy)} == set(written)


def test_a_report_of_other_values_is_stale(copy: Run) -> None:
    """test_point_loss decides most of a report, and nothing of what else is computed from it."""
    rewrite(copy, copy.plan.of_phase("ensemble")[0], "test_point_loss")
    assert {problem.path.name for problem in verify.problems(copy)} == {"provenance.json"}


def test_records_that_are_damaged_are_named(copy: Run) -> None:
    for name in ("failures/w4-a.json", "conflicts/w4-n8-d0-m0-a.json", "claims/law/law-n8-d0.0"):
        path = copy.path / name
        path.parent.mkdir(exist_ok=True)
        content = bytearray(files.seal({"message": "a" * 20}))
        content[random.Random(name).randrange(len(content) - 4)] ^= 1
        path.write_bytes(content)
    found = {str(problem.path.relative_to(copy.path)): problem for problem in verify.problems(copy)}
    assert found.keys() == {"failures/w4-a.json", "conflicts/w4-n8-d0-m0-a.json", "claims/law/law-n8-d0.0"}
    assert all(problem.shard is None and "delete it" in problem.todo for problem in found.values())


def test_a_run_that_goes_on_after_its_report_was_partial_is_intact(runs: Path) -> None:
    target = make_run(runs)
    assert run_shards(target, all_shards(target)[:3]).returncode == 0
    report.make(target, partial=True)
    assert run_shards(target, all_shards(target)[3:5]).returncode == 0
    assert list(verify.problems(Run(target.path))) == []
    assert "make report" not in str(verify.notes(target))
    assert json.loads((target.path / "analysis" / "provenance.json").read_text())["missing"]

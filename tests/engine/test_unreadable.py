"""What cannot be read, or changes while it is read: each is named, and nothing wrong is shown or advised."""

import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.edits import made_from
from support.runs import make_run, store_bytes, worker_settings

import ntkhpc as package
from analysis import report
from ntkhpc import cli, files
from ntkhpc.engine import conflicts, discrepancies, lineage, mend, published, receipts, store, tiles, verify
from ntkhpc.engine.confirmed import Confirmations
from ntkhpc.engine.inputs import StoreInputs
from ntkhpc.engine.run import Run
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import DamagedError, RunError


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run that a test may spoil."""
    return Run(shutil.copytree(finished.path, tmp_path / "copy"))


@pytest.mark.promise("No file of a report is shown whose record is missing.")
@pytest.mark.parametrize("complete", [True, False])
def test_a_report_whose_record_was_removed_is_not_shown(
    complete: bool, copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    if not complete:
        copy.receipt(copy.plan.of_phase("analysis")[0]).unlink()
    folder = published.folder(copy)
    (folder / "summary.txt").write_text("eps_L is 7")
    (folder / published.RECORD).unlink()
    there = package.open_run(copy.path)
    with pytest.raises(DamagedError, match="the record of the report is missing"):
        there.table("moments")
    with pytest.raises(DamagedError, match="the record of the report is missing"):
        there.figure("answer")
    assert "eps_L is 7" not in there._repr_html_()
    if complete:
        assert cli.main(["resume", f"--run={copy.path}"]) == 1
        said = capsys.readouterr()
        assert "eps_L is 7" not in said.out + said.err
        assert "do:    make report" in said.err
        assert [problem.what for problem in verify.problems(copy)] == [published.NO_RECORD]
    else:
        assert any("none of them is shown" in note for note in verify.notes(copy))


def unreadable(monkeypatch: pytest.MonkeyPatch, number: int, *which: Path) -> None:
    """Let the system answer so whenever one of these files is opened."""
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))
    real = Path.open

    def opened(path: Path, *arguments: Any, **more: Any) -> Any:
        if path in which:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.promise("A file that cannot be read ends no verify: it is named, and everything else is looked at.")
@pytest.mark.parametrize(
    ("number", "todo"),
    [
        (errno.EIO, discrepancies.COMPUTED_AGAIN),
        (errno.ESTALE, discrepancies.TRY_AGAIN),
        (errno.ETIMEDOUT, discrepancies.TRY_AGAIN),
        (errno.EACCES, discrepancies.MEND),
    ],
    ids=lambda one: errno.errorcode[one] if isinstance(one, int) else "",
)
def test_what_cannot_be_read_is_named_and_the_rest_is_looked_at(
    number: int, todo: str, copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = sorted((copy.store / "test_loss").glob("c.*"))
    first, second = copy.plan.of_phase("ensemble")[:2]
    chunks[-1].write_bytes(chunks[-1].read_bytes()[:-1] + b"?")
    which = [
        copy.store / "x_test" / "zarr.json",
        copy.receipt(second),
        store.chunk_files(copy.store, copy.study, first)[0],
        published.folder(copy) / "fits.json",
    ]
    unreadable(monkeypatch, number, *which)
    found = {problem.path: problem for problem in verify.problems(copy)}
    assert found.keys() >= {*which, chunks[-1]}
    assert found[chunks[-1]].what == verify.DAMAGED_CHUNK
    for path, shard in ((which[1], second), (which[2], first)):
        assert found[path].what.startswith("cannot be read: ")
        assert found[path].todo == todo
        assert found[path].shard == (shard if todo == discrepancies.COMPUTED_AGAIN else None)


def test_a_link_that_leads_nowhere_in_place_of_a_receipt_is_found_and_set_aside(copy: Run) -> None:
    """A listing of receipts counts it."""
    shard = copy.plan.of_phase("law")[0]
    copy.receipt(shard).unlink()
    copy.receipt(shard).symlink_to("nowhere")
    (problem,) = [one for one in verify.problems(copy) if one.shard == shard]
    assert problem.path == copy.receipt(shard)
    mend.set_aside(copy, [problem])
    assert copy.missing("law") == [shard]


def test_receipts_are_opened_once_and_only_those_that_are_there(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, *others = copy.plan.of_phase("ensemble")
    for shard in others:
        copy.receipt(shard).unlink()
    opened: Counter[str] = Counter()
    real = receipts.read

    def read(run: Run, shard: Any) -> receipts.Receipt | None:
        opened[shard.id] += 1
        return real(run, shard)

    monkeypatch.setattr(receipts, "read", read)
    Confirmations(copy).array("test_loss")
    assert opened.keys().isdisjoint({shard.id for shard in others})
    assert kept.id in opened
    opened.clear()
    law = copy.layout.phases["law"]
    inputs = StoreInputs(copy).of(law, "hash", copy.plan.of_phase("law")[0].region)
    for name in law.reads:
        inputs[name]
    assert len(law.reads) > 2
    assert max(opened.values()) <= 2  # who writes what, and the digests


def damaged_conflict(copy: Run) -> Path:
    shard = copy.plan.of_phase("ensemble")[0]
    path = conflicts.folder(copy) / f"{shard.id}-abc.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(files.seal({"shard": shard.id})[:-9])
    return path


@pytest.mark.promise(
    "A record of a conflict that is damaged counts as a conflict until a further execution settles it."
)
def test_a_damaged_record_of_a_conflict_is_deleted_only_once_its_shard_is_settled(copy: Run) -> None:
    shard, path = copy.plan.of_phase("ensemble")[0], damaged_conflict(copy)
    (conflict,) = conflicts.unsettled(copy)
    assert conflict.what == f"the record of a conflict of ensemble/{shard.id} is damaged: {conflicts.LOST}"
    assert {one.todo for one in verify.problems(copy)} == {conflicts.ADVICE, discrepancies.SETTLE_FIRST}
    before = files.read_sealed(copy.receipt(shard))
    mend.set_aside(copy, list(verify.problems(copy)))
    assert discrepancies.SETTLE_FIRST in {one.todo for one in verify.problems(copy)}
    copy.receipt(shard).write_bytes(files.seal({**before, "attempt": "another"}))
    assert list(conflicts.unsettled(copy)) == []
    assert [one.todo for one in verify.problems(copy) if one.path == path] == [discrepancies.DELETE]


@pytest.mark.parametrize("content", [{"ours": {"values": {"a": "b"}}, "theirs": {"values": {"a": "b"}, "owner": 3}},
    {"ours": {"values": 3}, "theirs": []}, {"ours": {"values": {"a": "b"}, "owner": {}}}], ids=str)  # fmt: skip
def test_a_record_of_a_conflict_that_says_something_else_ends_nothing(content: dict[str, Any], copy: Run) -> None:
    path = damaged_conflict(copy)
    path.write_bytes(files.seal(content))
    assert len(list(conflicts.unsettled(copy))) == 1
    assert {one.path for one in verify.problems(copy)} == {path}


@pytest.mark.promise("Wherever verify is ended while it sets shards aside, nothing stays that was computed from them.")
@pytest.mark.parametrize("after", range(1, 4))
def test_setting_aside_begins_with_what_was_computed_last(
    after: int, copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    left, real = iter(range(after)), Path.rename

    def rename(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    if len(lineage.made_of(copy, {shard.id: shard})) > after:
        with pytest.raises(KeyboardInterrupt):
            mend.set_aside(copy, [discrepancies.Discrepancy(copy.store, "", shard)])
    missing = {one.id: one for phase in copy.plan.phases for one in copy.missing(phase)}
    assert len(missing) == after
    assert set(missing) >= {one.id for one in lineage.made_of(copy, missing)}


def test_only_shards_that_were_set_aside_are_said_to_be(copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy.store / "x_test" / "zarr.json"
    path.write_text(path.read_text() + " ")
    assert cli.main(["verify", f"--run={copy.path}", "--set-aside"]) == 1
    said = capsys.readouterr().out
    assert "1 files put back" in said
    assert "shards set aside" not in said.replace("sets the damaged shards aside", "")


GONE_BETWEEN = """
import sys
from pathlib import Path
from ntkhpc import files, worker
from ntkhpc.engine import receipts
name = f"receipts/data/data-0.json"
path, theirs = Path(sys.argv[1]) / name, Path(sys.argv[2]) / name
publish, read = receipts.publish, receipts.read
times = []
def published(run, shard, receipt):
    times.append(shard.id)
    if len(times) == 1:
        path.write_bytes(theirs.read_bytes())  # a twin's
    return publish(run, shard, receipt)
def reading(run, shard):
    if len(times) == 1:
        path.unlink(missing_ok=True)  # and somebody sets it aside
    return read(run, shard)
receipts.publish, receipts.read = published, reading
print(worker.run_shards(sys.argv[1], ["data-0"]), len(times))
"""


def test_a_receipt_that_is_set_aside_as_a_twin_reads_it_is_published_anew(runs: Path, finished: Run) -> None:
    target = make_run(runs)
    ran = subprocess.run(
        [sys.executable, "-c", GONE_BETWEEN, str(target.path), str(finished.path)],
        env=worker_settings(target), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "done in" in ran.stdout
    assert ran.stdout.rstrip().endswith(" 2")
    assert not conflicts.folder(target).exists()
    assert not target.missing("data")
    assert (
        store_bytes(target).items()
        >= {name: data for name, data in store_bytes(finished).items() if name.startswith("x_train/c")}.items()
    )


@pytest.mark.promise("A report is not written whose results changed while it was made.")
def test_results_that_change_while_a_report_is_made_of_them_are_noticed(
    copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in published.folder(copy).iterdir()}
    shard = copy.plan.of_phase("ensemble")[0]

    def write(run: Run, results: str) -> Path:
        published.write(run, {"summary.txt": b"eps_L is 7"}, {"study_id": run.study.id}, missing="", results=results)
        return run.path

    def publication(run: Run, *, partial: bool = False) -> Any:
        receipt = files.read_sealed(copy.receipt(shard))
        copy.receipt(shard).write_bytes(files.seal({**receipt, "values": {**receipt["values"], "test_loss": "0" * 64}}))
        return SimpleNamespace(write=write)

    monkeypatch.setattr(report, "publication", publication)
    with pytest.raises(RunError, match="changed while its report was made"):
        report.make(copy)
    assert {path.name: path.read_bytes() for path in published.folder(copy).iterdir()} == before


def test_a_tile_whose_hash_is_damaged_is_none_of_an_older_version(copy: Run) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    kept = Tiles(copy, shard, made_from(copy, shard))
    kept.save(0, {"x": np.arange(3.0)})
    (path,) = kept.directory.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert kept.load(0) is None
    assert [problem.path for problem in verify.problems(copy)] == [path]
    np.savez(path, x=np.arange(3.0), seal=np.array("0" * 64))
    assert tiles.is_of_older_code(path)
    assert list(verify.problems(copy)) == []


def test_what_a_look_at_the_file_system_left_is_no_file_of_a_stranger(copy: Run) -> None:
    for name in (".ntkhpc-0123456789ab", ".ntkhpc-0123456789ab.tmp"):
        (copy.path / name).write_text("first")
    assert not [note for note in verify.notes(copy) if "beside the run" in note]
    (copy.path / "mine").write_text("")
    assert [note for note in verify.notes(copy) if "mine" in note]

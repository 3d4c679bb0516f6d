"""What lies in the place of a file, or of the folder of files, and is none: it is named, and keeps nobody waiting."""

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.edits import made_from
from support.runs import make_run, run_shards, store_bytes

from analysis import report
from ntkhpc import cli, files
from ntkhpc.engine import mend, published, verify
from ntkhpc.engine.discrepancies import COMPUTED_AGAIN, MADE_AGAIN, MEND, OF_NOBODY, REPORTED_AGAIN, Discrepancy
from ntkhpc.engine.run import Run
from ntkhpc.engine.tiles import Tiles
from ntkhpc.errors import DamagedError, RunError, SurroundingsError


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run that a test may spoil."""
    return Run(shutil.copytree(finished.path, tmp_path / "copy"))


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{folder}/{path.name}")  # a name of a socket has about a hundred characters
    os.close(folder)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inner").touch()


KINDS: dict[str, Callable[[Path], None]] = {
    "is a pipe": os.mkfifo,
    "is a socket": _socket,
    "is a device": lambda path: path.symlink_to("/dev/zero"),
    "is a directory": _folder,
}

PLACES = (
    "study.toml", "plan.json", "store.zarr/zarr.json", "store.zarr/test_loss/zarr.json",
    "store.zarr/test_loss/c.0.0.0.0", "store.zarr/width/c.0", "receipts/law/law-n8-d0.json",
    "analysis/provenance.json", "analysis/fits.json",
)  # fmt: skip


@pytest.mark.promise(
    "A pipe, a socket, a device or a directory in place of a file is named by verify; nobody reads it."
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_named(place: str, kind: str, copy: Run) -> None:
    path = copy.path / place
    path.unlink()
    KINDS[kind](path)
    found = [one for one in verify.problems(copy) if one.path == path]
    assert [one.what for one in found] == [f"{kind}, not a file"]
    assert {one.todo for one in found} <= {
        COMPUTED_AGAIN,
        MADE_AGAIN,
        REPORTED_AGAIN,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_says_so_of_the_manifest(kind: str, copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy.path / "manifest.json"
    path.unlink()
    KINDS[kind](path)
    for verb in ("status", "verify"):
        assert cli.main([verb, f"--run={copy.path}"]) == 1
        said = capsys.readouterr()
        assert f"{kind}, not a file" in said.out + said.err


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("store.zarr/test_loss/c.0.0.0.0", "is a directory"),
        ("receipts/law/law-n8-d0.json", "is a pipe"),
        ("study.toml", "is a directory"),
        ("study.toml", "is a device"),
    ],
)
def test_what_verify_advises_puts_a_file_in_its_place(place: str, kind: str, copy: Run, finished: Run) -> None:
    path = copy.path / place
    path.unlink()
    KINDS[kind](path)
    mend.set_aside(copy, list(verify.problems(copy)))
    for phase in [] if place == "study.toml" else Run(copy.path).plan.phases:
        done = run_shards(copy, [shard.id for shard in copy.missing(phase)])
        assert done.returncode == 0, done.stdout + done.stderr
    assert path.is_file()
    assert store_bytes(copy) == store_bytes(finished)
    assert list(verify.problems(Run(copy.path))) == []


def test_a_directory_in_place_of_a_file_of_the_report_is_moved_or_named(copy: Run) -> None:
    path = published.folder(copy) / "fits.json"
    path.unlink()
    _folder(path)
    with (
        pytest.raises(SurroundingsError, match="a directory is in the way of a file") as refused,
        files.explain_refusals(copy.path),
    ):
        report.make(copy)
    assert refused.value.where == str(path)
    mend.set_aside(copy, list(verify.problems(copy)))
    assert not path.exists()
    assert (copy.path / "quarantine" / "analysis-fits.json.json" / "inner").is_file()


def test_a_report_is_not_written_into_another_run(copy: Run, tmp_path: Path) -> None:
    other = Run(shutil.copytree(copy.path, tmp_path / "other"))
    before = published.content(other, "fits.json")
    shutil.rmtree(copy.path / "analysis")
    (copy.path / "analysis").symlink_to(other.path / "analysis")
    with pytest.raises(RunError, match="is a link to the report of other"):
        published.write(copy, {"fits.json": b"{}"}, {}, missing="all", results="")
    assert published.content(other, "fits.json") == before


def test_a_pipe_in_place_of_a_tile_is_computed_again(copy: Run) -> None:
    shard = copy.plan.of_phase("ensemble")[0]
    kept = Tiles(copy, shard, made_from(copy, shard))
    kept.directory.mkdir(parents=True)
    os.mkfifo(kept.directory / "0.npz")
    assert kept.load(0) is None


def test_a_file_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"content")
    (tmp_path / "link").symlink_to("there")
    assert files.read(tmp_path / "link") == b"content"
    with pytest.raises(DamagedError, match="is a directory"):
        files.sha256_file(tmp_path)


@pytest.mark.parametrize("room", ["analysis", "claims", "conflicts", "failures", "logs", "partial", "quarantine"])
def test_a_file_where_a_folder_belongs_is_named(room: str, copy: Run) -> None:
    path = copy.path / room
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("")
    assert Discrepancy(path, "is no directory", todo=OF_NOBODY) in list(verify.problems(copy))
    path.unlink()
    path.symlink_to("nowhere")
    assert Discrepancy(path, "is no directory", todo=OF_NOBODY) in list(verify.problems(copy))


@pytest.mark.promise("A run whose empty folders a copy left out goes on.")
def test_a_copy_without_empty_folders_goes_on(runs: Path, finished: Run) -> None:
    target = make_run(runs)
    for folder in sorted(target.path.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    assert not (target.path / "claims").exists()
    done = run_shards(target, [shard.id for shard in target.plan.of_phase("data")])
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.missing("data") == []


@pytest.mark.promise(
    "A folder of conflicts that cannot be listed is no run without conflicts: status and report say so."
)
def test_a_folder_that_cannot_be_listed_is_named(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    place = copy.path / "conflicts"
    place.mkdir()
    real = os.listdir

    def listed(path: Path) -> list[str]:
        if Path(path) == place:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listed)
    assert [(one.path, one.todo) for one in verify.problems(copy)] == [(place, MEND)]
    for verb in ("status", "report"):
        assert cli.main([verb, f"--run={copy.path}"]) == 1


def test_every_file_of_an_array_that_the_store_has_not_is_named(copy: Run) -> None:
    added = Path(shutil.copytree(copy.store / "test_loss", copy.store / "test_loss2"))
    found = {one.path: one.what for one in verify.problems(copy)}
    assert found == dict.fromkeys(added.iterdir(), verify.OF_NO_PLAN)

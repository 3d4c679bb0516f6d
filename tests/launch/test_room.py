"""What a run will write is compared with what quotas, file systems and profiles leave, before anything is made."""

import os
import time
from pathlib import Path

import msgspec
import pytest
from support.job_arrays import profile
from support.runs import tiny_text

from ntkhpc import studies
from ntkhpc.engine import plan
from ntkhpc.errors import SurroundingsError
from ntkhpc.launch import prepare, room
from ntkhpc.launch.profile import Limits

HEAD = (
    "Disk quotas for user me (uid 1000): \n"
    "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n"
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def command(folder: Path, name: str, says: str, *, status: int = 0, first: str = "") -> None:
    (folder / f"{name}.txt").write_text(says)
    (folder / name).write_text(f'#!/bin/sh\n{first}\ncat "$0.txt"\nexit {status}\n')
    (folder / name).chmod(0o755)


def refused(runs: Path, name: str = "mine", **given: Limits) -> str:
    wanted = msgspec.structs.replace(profile(), name=name, **given) if given else None
    made = studies.loads(tiny_text())
    found = prepare.no_room(runs, made, plan.make(made), wanted)
    return " | ".join(found) if found else ""


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("/dev/sda1 100 0 300 0 10 0 50 0", (200 * 1024, 40)),
        ("/dev/sda1 100 200 300 0 10 20 50 0", (200 * 1024, 40)),
        ("/dev/sda1 100 200 0 0 10 20 0 0", (100 * 1024, 10)),
        ("/dev/sda1 400* 200 300 6days 60* 20 50 6days", (-100 * 1024, -10)),
        ("/lustre 100 0 0 - 10 0 0 -", (None, None)),
        ("/lustre [100] 0 [300] - 10 0 50 -", (200 * 1024, 40)),
        ("server.example.org:/a/very/long/name/of/an/export\n   100 0 300 0 10 0 50 0", (200 * 1024, 40)),
    ],
)
def test_lines_of_quotas_are_read(line: str, left: tuple[int | None, int | None]) -> None:
    assert [found for _, found in room.parse(f"{HEAD}{line}\n")] == [left]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "quota: Cannot open quotafile /aquota.user: Permission denied",
        "/dev/sda1 100 0 300 10 0 50",
        "/dev/sda1 a b c d e f g h",
        "/dev/sda1 -100 0 300 0 10 0 50 0",
        "Some errors happened when getting quota info. Some devices may be not working.",
        "\x1b[31m\x00 9" * 300,
        "/dev/sda1 " + "9" * 5000 + " 0 300 0 10 0 50 0",
    ],
)
def test_what_is_no_quota_counts_as_none(text: str) -> None:
    assert list(room.parse(text)) == []


@pytest.mark.promise("A quota of bytes or files that a run would exceed is named before anything is computed.")
@pytest.mark.parametrize("tool", ["quota", "lfs"])
@pytest.mark.parametrize(("columns", "word"), [("100 0 300 0 10 0 0 0", "MiB"), ("100 0 0 0 10 0 50 0", " files ")])
def test_a_quota_that_a_run_exceeds_refuses_it(tool: str, columns: str, word: str, tools: Path, tmp_path: Path) -> None:
    (name, *_) = sorted(room._mount(tmp_path))
    command(tools, tool, f"{HEAD}{name} {columns}\n", status=1)
    said = refused(tmp_path / "runs")
    assert word in said
    assert f"the user's quota on {name} leaves" in said
    assert "RUNS=/path" in said
    with pytest.raises(SurroundingsError, match="the user's quota"):
        prepare.open_run(tmp_path / "runs", studies.loads(tiny_text()))
    assert not (tmp_path / "runs").exists()


def test_a_quota_of_another_file_system_refuses_nothing(tools: Path, tmp_path: Path) -> None:
    command(tools, "quota", f"{HEAD}another:/home 100 0 100 0 10 0 10 0\n")
    assert not refused(tmp_path)


def test_a_quota_of_a_lustre_project_is_asked_for(tools: Path, tmp_path: Path) -> None:
    (tools / "lfs").write_text(
        '#!/bin/sh\n[ "$1" = project ] && echo " 1001 P /lustre" && exit\n'
        '[ "$3" = -p ] && [ "$4" = 1001 ] && echo "/lustre 100 0 200 - 10 0 0 -"\nexit 0\n'
    )
    (tools / "lfs").chmod(0o755)
    assert "the quota of project 1001 on /lustre leaves 0 MiB" in refused(tmp_path)


@pytest.mark.parametrize("tool", ["quota", "lfs"])
@pytest.mark.parametrize(
    "first", ["exec sleep 60", "kill -9 $$", "head -c 3000 /dev/urandom; exit 3", "echo broken >&2; exit 127"]
)
def test_a_command_that_fails_or_hangs_refuses_nothing(
    tool: str, first: str, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SECONDS", 0.3)
    command(tools, tool, "", first=first)
    started = time.monotonic()
    assert not refused(tmp_path)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("limits", "word"), [({"max_files": 100}, " files "), ({"max_gb": 1e-4}, "MiB")])
def test_a_profile_tells_a_quota_that_no_command_does(limits: dict[str, float], word: str, tmp_path: Path) -> None:
    assert not refused(tmp_path, limits=Limits())
    said = refused(tmp_path, limits=Limits(**limits))  # type: ignore[arg-type]  # of a dict
    assert word in said
    assert "profile mine (limits.max_gb, limits.max_files)" in said


def test_a_place_with_room_is_named(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name, *_) = sorted(room._mount(tmp_path))
    command(tools, "quota", f"{HEAD}{name} 100 0 300 0 10 0 0 0\n")
    for variable in room.PLACES:
        monkeypatch.delenv(variable, raising=False)
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    monkeypatch.setenv("SCRATCH", str(shared))
    assert f"RUNS={shared / 'runs'}" in refused(tmp_path)
    monkeypatch.setenv("SCRATCH", str(tmp_path))  # of the same file system
    assert "RUNS=/path" in refused(tmp_path)


@pytest.mark.parametrize(
    ("limits", "cause"), [({"max_files": 100}, "a file for each chunk"), ({"max_gb": 1e-4}, "MiB")]
)
def test_the_cause_is_that_of_the_limit_whatever_its_name(limits: dict[str, float], cause: str, tmp_path: Path) -> None:
    said = refused(tmp_path, name="my files here", limits=Limits(**limits))  # type: ignore[arg-type]  # of a dict
    assert cause in said.split(" | ")[1]


QUOTA = "100 0 300 0 10 0 0 0"


@pytest.mark.parametrize(
    ("tool", "says", "most"),
    [
        ("quota", "echo {name} " + QUOTA, 2),  # of user and group, for all places
        # Of user and group once for each of two file systems; and of each of five folders, whose project it is.
        ("lfs", '[ "$1" = project ] || echo /lustre ' + QUOTA, 2 * 2 + 5),
        ("quota", "exec sleep 60", 1),
        ("lfs", "exec sleep 60", 1),
    ],
)
def test_commands_are_asked_once_for_a_file_system_and_not_again_without_an_answer(
    tool: str, says: str, most: int, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four other places, of one other file system; none has room, as far as there is an answer."""
    monkeypatch.setattr(room, "SECONDS", 0.3)
    (name, *_) = sorted(room._mount(tmp_path))
    command(tools, tool, "", first=f'echo "$@" >> {tmp_path / "asked"}\n{says.format(name=name)}')
    for variable in room.PLACES:
        monkeypatch.delenv(variable, raising=False)
    for variable in room.PLACES[:4]:
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(room, "_device", lambda path: 7 if path.name in room.PLACES else 8)
    assert ("RUNS=/path" in refused(tmp_path / "runs", limits=Limits(max_files=100))) == ("echo" in says)
    assert len((tmp_path / "asked").read_text().splitlines()) == most

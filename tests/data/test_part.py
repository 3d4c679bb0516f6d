"""The part of a public file that is on its way is continued and never corrupted, whatever ends or joins a download."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.mirrors import BODY, HALF, WRONG, Mirror, Server, assert_arrived, part, remote, visible
from support.runs import ROOT

from ntkhpc import files
from ntkhpc.data import download, transfer
from ntkhpc.errors import SurroundingsError

pytestmark = pytest.mark.usefixtures("data")


@pytest.mark.promise("A download that was killed is continued from the bytes that came.")
def test_a_killed_process_is_continued(server: Server, data: Path) -> None:
    slow = Mirror(stall=True)
    wanted = remote(server.urls(one=slow))
    code = f"from ntkhpc.data.download import Remote, fetch; fetch({wanted!r}, 'muons')".replace("\n", " ")
    process = subprocess.Popen(
        [sys.executable, "-c", f"from ntkhpc.data import transfer; transfer.STALL_SECONDS = 30; {code}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    with process:
        wait_for(lambda: transfer.held_by(data / "muons" / "hits.h5.part") > 0 or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    held = transfer.held_by(data / "muons" / "hits.h5.part")
    assert 0 < held <= HALF
    assert visible(data / "muons") == ["hits.h5.part"]
    slow.stall = False
    assert_arrived(download.fetch(wanted, "muons"), data)
    assert server.seen[1:] == [("one", f"bytes={held}-", None)]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (BODY[:1000], ["bytes=1000-"]),
        (BODY, []),  # killed before the checksum: nothing to ask for
        (BODY + b"more", [None]),  # not of this file
        (WRONG[:1000], ["bytes=1000-", None]),  # continued in good faith, then fetched from the beginning
        (WRONG, [None]),
    ],
)
def test_what_was_left_is_used_as_far_as_it_is_right(
    server: Server, data: Path, left: bytes, asked: list[str | None]
) -> None:
    part(data, left)
    assert_arrived(download.fetch(remote(server.urls(one=Mirror())), "muons"), data)
    assert [given for _, given, _ in server.seen] == asked


def test_a_mirror_with_a_shorter_file_is_left_and_costs_nothing(server: Server, data: Path) -> None:
    part(data, BODY[:1000])
    urls = server.urls(one=Mirror(BODY[:500]), two=Mirror())
    assert_arrived(download.fetch(remote(urls), "muons"), data)
    assert server.seen == [("one", "bytes=1000-", None), ("one", None, None), ("two", "bytes=1000-", None)]


@pytest.mark.promise("Of two downloads of one file at the same time, one fetches it and the other waits.")
def test_of_two_at_once_one_downloads_and_the_other_waits(server: Server, data: Path) -> None:
    wanted, said, waits = remote(server.urls(one=Mirror())), [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("waiting for"):
            waits.set()
        elif text.startswith("fetching"):
            assert waits.wait(60), "nobody waits for this download"

    with ThreadPoolExecutor(2) as pool:
        for path in pool.map(lambda _: download.fetch(wanted, "muons", say), range(2)):
            assert_arrived(path, data)
    assert server.seen == [("one", None, None)]
    assert f"waiting for another process that fetches {data / 'muons' / 'hits.h5'}" in said


def test_without_locks_two_at_once_have_a_part_each(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    part(data, WRONG[:1000]).unlink()
    wanted, both = remote(server.urls(one=Mirror())), threading.Barrier(2, timeout=60)

    def say(text: str) -> None:
        if text.startswith("fetching"):
            both.wait()

    with ThreadPoolExecutor(2) as pool:  # each has its part before either begins to fill it
        list(pool.map(lambda _: download.fetch(wanted, "muons", say), range(2)))
    assert_arrived(data / "muons" / "hits.h5", data)
    wanted = remote(server.urls(one=Mirror(cut=9)), WRONG)
    (data / "muons" / "hits.h5").unlink()
    with pytest.raises(SurroundingsError, match="no mirror"):
        download.fetch(wanted, "muons")
    assert visible(data / "muons") == []


def test_a_full_disk_ends_it_at_once_and_keeps_the_part(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    wanted = remote(server.urls(one=Mirror(), two=Mirror()))
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_file", full)
        with pytest.raises(SurroundingsError, match="the file system is full") as caught:
            download.fetch(wanted, "muons")
    assert "make room" in str(caught.value)
    assert "what came so far is continued" in str(caught.value)
    assert visible(data / "muons") == ["hits.h5.part"]
    assert_arrived(download.fetch(wanted, "muons"), data)
    assert server.seen == [("one", None, None)]

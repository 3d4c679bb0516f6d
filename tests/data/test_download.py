"""A public file arrives whole or not at all, whatever the network and the mirrors do."""

import errno
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mirrors import BODY, HALF, WRONG, Handler, Mirror, Server, assert_arrived, remote

from ntkhpc.data import download, transfer
from ntkhpc.data.download import Remote
from ntkhpc.errors import DataError, SurroundingsError

pytestmark = pytest.mark.usefixtures("data")


def test_a_file_is_fetched_once_and_found_afterwards(server: Server, data: Path) -> None:
    wanted, said = remote(server.urls(one=Mirror())), []
    assert download.find(wanted, "muons") is None
    assert_arrived(download.fetch(wanted, "muons", said.append), data)
    assert_arrived(download.fetch(wanted, "muons", said.append), data)
    assert download.find(wanted, "muons") == data / "muons" / "hits.h5"
    assert server.seen == [("one", None, None)]
    assert len(said) == 2
    assert said[0] == f"fetching hits.h5 (0.3 MB) from {wanted.urls[0]}"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_gets_a_line_at_the_start_and_one_at_the_end(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    for name in ("NO_COLOR", "TERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    download.fetch(remote(server.urls(one=Mirror())), "muons")
    said = capsys.readouterr()
    assert ("%" in said.out) == terminal
    assert terminal or [line.split()[0] for line in said.out.splitlines()] == ["fetching", "fetched"]
    assert not said.err


def test_a_body_that_ends_too_early_is_continued(server: Server, data: Path) -> None:
    assert_arrived(download.fetch(remote(server.urls(one=Mirror(cut=1))), "muons"), data)
    assert server.seen == [("one", None, None), ("one", f"bytes={HALF}-", '"1"')]


@pytest.mark.parametrize(
    ("bad", "asked", "said"),
    [(Mirror(cut=9), 2, "the connection broke: IncompleteRead"), (Mirror(stall=True), 1, "not a byte in 0.5 s")],
)
def test_a_server_that_breaks_off_or_stalls_is_left_and_what_it_sent_is_kept(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch, bad: Mirror, asked: int, said: str
) -> None:
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.5)
    lines: list[str] = []
    assert_arrived(download.fetch(remote(server.urls(one=bad, two=Mirror())), "muons", lines.append), data)
    assert said in lines[1]
    assert [name for name, *_ in server.seen] == [*asked * ["one"], "two"]
    assert server.seen[-1] == ("two", f"bytes={HALF}-", None)


def test_a_file_that_changed_in_between_is_sent_from_its_beginning(server: Server, data: Path) -> None:
    """The first answer promised another version than the one that If-Range meets."""
    mirror = Mirror(cut=1)
    urls = server.urls(one=mirror)
    answer = Handler.end_headers

    def then_change(handler: Handler) -> None:
        answer(handler)
        mirror.etag = '"2"'

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "end_headers", then_change)
        assert_arrived(download.fetch(remote(urls), "muons"), data)
    assert server.seen[1] == ("one", f"bytes={HALF}-", '"1"')


@pytest.mark.parametrize("mirror", [Mirror(ranges=False, cut=1), Mirror(ranges=False, cut=1, etag='W/"1"')])
def test_a_server_without_ranges_starts_again(server: Server, data: Path, mirror: Mirror) -> None:
    assert_arrived(download.fetch(remote(server.urls(one=mirror)), "muons"), data)
    assert server.seen[1][:2] == ("one", f"bytes={HALF}-")


def test_a_body_of_unknown_length_is_measured(server: Server, data: Path) -> None:
    assert_arrived(download.fetch(remote(server.urls(one=Mirror(unmeasured=True, cut=1))), "muons"), data)
    assert server.seen[1][1] == f"bytes={HALF}-"


@pytest.mark.promise("A mirror that sends another file, a cut one, a page or an error is left for the next.")
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Mirror(WRONG), "what it sends has another checksum"),
        (Mirror(BODY + b"more"), "sends 300004 bytes where the file has 300000"),
        (Mirror(BODY[:-1], unmeasured=True), "1 bytes are missing"),
        (Mirror(b"<html>please log in", unmeasured=True, kind="text/html"), "sends a page instead of the file"),
        (Mirror(BODY + b"more", unmeasured=True), "sends more than the 300000 bytes"),
        (Mirror(b"", 404), "HTTP status 404 Not Found"),
        (Mirror(b"", 503), "HTTP status 503 Service Unavailable"),
    ],
)
def test_the_second_mirror_is_asked_when_the_first_gives_not_the_file(
    server: Server, data: Path, bad: Mirror, said: str
) -> None:
    lines: list[str] = []
    assert_arrived(download.fetch(remote(server.urls(one=bad, two=Mirror())), "muons", lines.append), data)
    assert said in lines[1]
    assert server.seen[-1][0] == "two"


@pytest.mark.promise("Without network the message says which file to put where, and how to fetch it.")
def test_when_all_mirrors_are_down_the_message_says_what_to_bring_where(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, *rest: object, known: Callable = socket.getaddrinfo, **named: object) -> object:
        if host == "no-such-host.invalid":  # without a network a real resolver may take its time
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.socket() as closed:  # bound and not listening: refused, and nobody else gets the port
        closed.bind(("127.0.0.1", 0))
        here = f"http://127.0.0.1:{closed.getsockname()[1]}/files/hits.h5?download=1"
        wanted = remote((here, "http://no-such-host.invalid/hits.h5", "nonsense"))
        with pytest.raises(SurroundingsError) as caught:
            download.fetch(wanted, "muons")
    message = str(caught.value)
    assert f"{here}: no connection: [Errno {errno.ECONNREFUSED}] " in message
    assert "http://no-such-host.invalid/hits.h5: no connection: [Errno -" in message
    assert "nonsense: MissingSchema" in message
    bring = (
        f"put the file hits.h5 ({wanted.checksum}, 300,000 bytes) into {data / 'muons'}, from a machine with network"
    )
    assert f"{bring}: `curl -LO '{here}'`; or set NTKHPC_DATA to a folder that has it" in message


def test_curl_is_told_the_name_where_the_url_does_not_end_in_it() -> None:
    with pytest.raises(SurroundingsError, match=r"`curl -Lo hits.h5 http://127.0.0.1:1/content`"):
        download.fetch(remote(("http://127.0.0.1:1/content", "http://127.0.0.1:1/b")), "muons")


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("http://127.0.0.1:1", r"the proxy is not reached or refuses: \[Errno"), ("", r"no secure connection: \[SSL")],
)
def test_a_proxy_or_tls_that_fails_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    url = server.urls()[0].replace("http:", "https:")
    with pytest.raises(SurroundingsError, match=said):
        download.fetch(remote((url, url)), "muons")


@pytest.mark.promise("A public file with a wrong checksum is refused with the found and the expected one, and kept.")
@pytest.mark.parametrize("place", ["muons", "."])
def test_a_wrong_file_that_is_there_already_is_reported_and_kept(server: Server, data: Path, place: str) -> None:
    wanted = remote(server.urls(one=Mirror()))
    wrong = data / place / "hits.h5"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(BODY[:10])
    found = hashlib.sha256(BODY[:10]).hexdigest()
    with pytest.raises(DataError, match=rf"found sha256:{found}, expected {wanted.checksum}") as caught:
        download.fetch(wanted, "muons")
    assert f"where: {wrong}" in str(caught.value)
    assert "truncated (10 of 300,000 bytes)" in str(caught.value)
    assert "delete it" in str(caught.value)
    assert not server.seen
    assert wrong.exists()


def test_a_folder_in_the_place_of_the_file_is_reported(data: Path) -> None:
    (data / "hits.h5").mkdir(parents=True)
    with pytest.raises(DataError, match="is no file"):
        download.find(remote(("a", "b")), "muons")


@pytest.mark.parametrize("place", ["muons", "."])
def test_a_file_brought_by_hand_needs_no_network_and_no_writing(data: Path, place: str) -> None:
    path = data / place / "hits.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert download.fetch(remote(("http://no-such-host.invalid/a", "b")), "muons") == path
    assert os.listdir(path.parent) == ["hits.h5"]
    by_md5 = Remote("hits.h5", "md5:" + hashlib.md5(BODY).hexdigest(), ("a", "b"), len(BODY))
    assert download.find(by_md5, "muons") == path


def test_the_data_directory_is_that_of_the_variable_or_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NTKHPC_DATA", "here/../there")
    assert download.directory() == tmp_path / "there"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NTKHPC_DATA", "~/scratch")
    assert download.directory() == tmp_path / "scratch"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("NTKHPC_DATA", "")
    assert download.directory() == tmp_path / "share" / "ntkhpc"
    monkeypatch.delenv("NTKHPC_DATA")
    assert download.directory() == tmp_path / "share" / "ntkhpc"


def test_a_place_that_cannot_be_written_is_named_with_a_way_out(server: Server, data: Path) -> None:
    data.write_text("a file in the way")
    with pytest.raises(SurroundingsError, match="not a directory") as caught:
        download.fetch(remote(server.urls(one=Mirror())), "muons")
    assert "set NTKHPC_DATA to a folder you may write to" in str(caught.value)
    assert not server.seen


@pytest.mark.parametrize(
    ("checksum", "urls", "said"),
    [
        ("sha256:12", ("a", "b"), "is not a checksum"),
        ("crc32:" + 32 * "0", ("a", "b"), "is not a checksum"),
        ("md5:" + 32 * "0", ("a",), "two mirrors"),
    ],
)
def test_a_remote_that_could_not_be_verified_or_replaced_is_refused(
    checksum: str, urls: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        Remote("hits.h5", checksum, urls, 1)

"""A server on this machine whose mirrors of one file fail in every way that is asked of them."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from ntkhpc.data.download import Remote

BODY = np.random.default_rng(1).bytes(300_000)
HALF = len(BODY) // 2
WRONG = bytes(len(BODY))


@dataclass
class Mirror:
    """One path of the server, and the way it fails."""

    body: bytes = BODY
    status: int = 200
    ranges: bool = True
    cut: int = 0  # so many answers end at HALF
    stall: bool = False  # sends nothing after HALF until the test is over
    unmeasured: bool = False  # no Content-Length: the body ends with the connection
    kind: str = "application/octet-stream"
    etag: str = '"1"'


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them, so that no socket outlives the test

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mirrors: dict[str, Mirror] = {}
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.over = threading.Event()

    def urls(self, **mirrors: Mirror) -> tuple[str, ...]:
        """A URL for each of these mirrors, and a last one that has nothing."""
        self.mirrors |= mirrors
        base = f"http://127.0.0.1:{self.server_port}"
        return tuple(f"{base}/{name}/hits.h5" for name in (*mirrors, "none"))

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what many of these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.split("/")[1]
        mirror = self.server.mirrors.get(name, Mirror(b"gone", 404))
        asked = self.headers["Range"]
        self.server.seen.append((name, asked, self.headers["If-Range"]))
        first, status = 0, mirror.status
        if asked and mirror.ranges and self.headers["If-Range"] in (None, mirror.etag):
            first, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        if first and first >= len(mirror.body):
            first, status = len(mirror.body), 416
        self.send_response(status)
        self.send_header("ETag", mirror.etag)
        self.send_header("Content-Type", mirror.kind)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(mirror.body) - 1}/{len(mirror.body)}")
        if not mirror.unmeasured:
            self.send_header("Content-Length", str(len(mirror.body) - first))
        self.end_headers()
        cut = mirror.cut > 0
        mirror.cut -= cut
        self.wfile.write(mirror.body[first : HALF if cut or mirror.stall else None])
        if mirror.stall:
            self.server.over.wait(30)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server of mirrors until the block ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def remote(urls: tuple[str, ...], body: bytes = BODY) -> Remote:
    return Remote("hits.h5", "sha256:" + hashlib.sha256(body).hexdigest(), urls, len(body))


def part(data: Path, content: bytes) -> Path:
    """Write the part of a file that an interrupted download left."""
    path = data / "muons" / "hits.h5.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def visible(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != ".hits.h5.lock")


def assert_arrived(path: Path, data: Path) -> None:
    assert path == data / "muons" / "hits.h5"
    assert path.read_bytes() == BODY
    assert visible(path.parent) == ["hits.h5"]

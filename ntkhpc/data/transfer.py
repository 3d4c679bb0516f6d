"""One file over HTTP, written into a part: what came before a failure is continued, from this server or another."""

import re
from collections.abc import Callable
from pathlib import Path

import requests
from urllib3 import exceptions as body_errors

from ntkhpc.errors import MirrorError

CONNECT_SECONDS = 15.0
STALL_SECONDS = 30.0  # without a single byte; a slow server may take as long as it likes
ATTEMPTS = 2  # at one server, when its connection breaks before the end
CHUNK = 2**18

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_WORDS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits, so subclasses stand before their bases
    (requests.exceptions.ProxyError, "the proxy is not reached or refuses"),
    (requests.exceptions.SSLError, "no secure connection"),
    (requests.exceptions.ConnectionError, "no connection"),
    (body_errors.ProtocolError, "the connection broke"),
)


def receive(url: str, part: Path, size: int, seen: Callable[[int], object]) -> None:
    """Bring `part` to `size` bytes of the file at `url`, after the bytes it has; `seen` is told how many it holds.

    Whether they are the right bytes is for a checksum to say, which is why a part begun at one server may be continued
    at another. A part longer than the file is begun again.

    Raises MirrorError if the server is not reached, has no such file or one of another size, stalls, or breaks off
    ATTEMPTS times; what came stays in the part. Raises OSError if the part cannot be written.
    """
    version: str | None = None
    for attempt in range(1, ATTEMPTS + 1):
        held = held_by(part)
        if held == size:
            return
        try:
            with _ask(url, held if held < size else 0, version) as response:
                first = _first_byte(response, size)
                version = _version(response)
                _write(response, part, first, size, seen)
            return
        except requests.ConnectTimeout as error:
            raise MirrorError(f"no connection in {CONNECT_SECONDS:g} s", where=url) from error
        except (requests.Timeout, body_errors.TimeoutError) as error:
            raise MirrorError(f"not a byte in {STALL_SECONDS:g} s", where=url) from error
        except body_errors.ProtocolError as error:
            if attempt == ATTEMPTS:
                raise MirrorError(_cause(error), where=url) from error
        except (requests.RequestException, body_errors.HTTPError) as error:
            raise MirrorError(_cause(error), where=url) from error


def held_by(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _ask(url: str, first: int, version: str | None) -> requests.Response:
    """Ask for the file from byte `first` on, or for all of it if it is no longer the version we have a part of."""
    # The bytes as they are stored: a server that compresses on the way would make sizes and ranges meaningless.
    headers = {"Accept-Encoding": "identity"}
    if first:
        headers["Range"] = f"bytes={first}-"
    if first and version:
        headers["If-Range"] = version
    response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS))
    if first and response.status_code == requests.codes.requested_range_not_satisfiable:
        response.close()
        return _ask(url, 0, None)
    return response


def _first_byte(response: requests.Response, size: int) -> int:
    """Where in the file the body begins: at 0 if the server ignores ranges. Raises MirrorError if it is not ours."""
    if response.status_code == requests.codes.partial_content:
        asked = response.request.headers.get("Range", "")
        given = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if given and asked == f"bytes={given[1]}-" and given[2] in ("*", str(size)):
            return int(given[1])
        raise MirrorError(f"answers {asked!r} with {response.headers.get('Content-Range')!r}", where=response.url)
    if response.status_code != requests.codes.ok:
        raise MirrorError(f"HTTP status {response.status_code} {response.reason}", where=response.url)
    length = response.headers.get("Content-Length")
    if length not in (None, str(size)):
        raise MirrorError(f"sends {length} bytes where the file has {size}", where=response.url)
    if length is None and "html" in response.headers.get("Content-Type", ""):
        # The log-in page of a network, say. It must not take the place of what the part holds.
        raise MirrorError("sends a page instead of the file", where=response.url)
    return 0


def _version(response: requests.Response) -> str | None:
    """What If-Range may name: a strong ETag, else the date. A weak ETag does not promise the same bytes."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if etag.startswith("W/") else etag


def _write(response: requests.Response, part: Path, first: int, size: int, seen: Callable[[int], object]) -> None:
    """Write the body at byte `first`. Raises MirrorError, ProtocolError if it is too long, too short."""
    part.touch()
    with part.open("r+b") as file:
        file.truncate(first)
        file.seek(first)
        held = first
        # read1 gives what has come; read would wait for a whole chunk, and lose its beginning when the server stalls.
        while data := response.raw.read1(CHUNK, decode_content=False):
            held += len(data)
            if held > size:
                file.truncate(0)
                raise MirrorError(f"sends more than the {size} bytes the file has", where=response.url)
            file.write(data)
            seen(held)
    if held < size:  # only without Content-Length: otherwise read1 has noticed
        raise body_errors.ProtocolError(f"{size - held} bytes are missing")


def _cause(error: BaseException) -> str:
    """In a line: requests and urllib3 wrap the operating system's error up to four times."""
    words = next((words for kind, words in _WORDS if isinstance(error, kind)), type(error).__name__)
    while isinstance(inner := _inner(error), BaseException):
        error = inner
    return f"{words}: {error}"


def _inner(error: BaseException) -> object:
    return getattr(error, "reason", None) or error.__cause__ or (error.args[-1] if error.args else None)

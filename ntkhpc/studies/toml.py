"""TOML from people's hands: what it says, or one sentence on what is wrong with it, whatever is in it."""

import re
import reprlib
import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 2**20
MOST_DEPTH = 16
"""Tables and lists in one another; studies and profiles have three."""

_DEEP_KEY = re.compile(
    rf"(?:^[ \t]*\[{{0,2}}|[,{{])[ \t]*(?:[\w\"'-]+[ \t]*\.[ \t]*){{{MOST_DEPTH + 1}}}", re.MULTILINE
)

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = (
    3,
    6,
    12,
    120,
    60,
    120,
)


def read(path: Path) -> str:
    """The text of a file. Raises ValueError unless it is a small file of UTF-8 text, OSError if it cannot be read."""
    found = path.stat()
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        raise ValueError("it is a pipe or a device, not a file")
    if found.st_size > MOST_BYTES:
        raise ValueError(f"it has {found.st_size:,} bytes; no study or profile has more than {MOST_BYTES:,}")
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")  # some editors write the mark of UTF-8
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"not UTF-8 text: byte 0x{data[error.start]:02x} in line {line}; save it as UTF-8") from error


def parse(text: str) -> dict[str, Any]:
    """The table that a text says. Raises ValueError for text that is no TOML, or says what no field can be."""
    if _DEEP_KEY.search(text):  # tomllib takes minutes for very long ones
        raise ValueError(f"a key is nested more than {MOST_DEPTH} levels deep")
    try:
        found = tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("lists or tables are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; dates that are none, and numbers of thousands of digits
        raise ValueError(str(error)[:300]) from error
    _require_modest(found)
    return found


def shown(value: object) -> str:
    """A value in a message: in full if it is short."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__} too long to show"


def _require_modest(table: dict[str, Any]) -> None:
    """Raises ValueError for nesting and whole numbers beyond anything that has a meaning; without recursion."""
    waiting: list[tuple[str, Any, int]] = [("", table, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise ValueError(f"{name[:80]}... is nested more than {MOST_DEPTH} levels deep")
        if isinstance(value, dict):
            waiting += ((f"{name}.{key[:80]}".lstrip("."), one, depth + 1) for key, one in value.items())
        elif isinstance(value, list):
            waiting += ((name, one, depth + 1) for one in value)
        elif isinstance(value, int) and value.bit_length() > 63:
            raise ValueError(f"{name} is a whole number of {value.bit_length():,} binary digits; there are 63 at most")

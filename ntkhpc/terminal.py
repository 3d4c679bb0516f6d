r"""Text that people see: no character of it commands their terminal, and no refusal to print ends a computation.

Names of files, studies and hosts, and whatever SLURM and libraries say, may hold escape sequences. `guard` puts
a writer in front of sys.stdout and sys.stderr that shows them as \x1b; the console of `launch/console.py` does too.
"""

import codecs
import errno
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

_COMMANDS = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad"  # controls: ESC, CR, C1 and others, but for the ends of lines and tabs
    "\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, other directions, other ends of lines
    "\ud800-\udfff"  # halves of characters, as of names that are not UTF-8
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""Unicode's categories Cc, Cf, Cs, Zl and Zp, but for the two that join letters of Persian, Hindi and others."""


def plain(text: str) -> str:
    r"""The text with every character that commands a terminal, or turns the order of others, as \x1b or \u202e."""
    return _COMMANDS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    known = {"\r": "\\r", "\b": "\\b", "\0": "\\0"}
    return known.get(match[0]) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def one_line(text: str) -> str:
    """As `plain`, for what is one line: a name, a path."""
    return plain(text).replace("\n", "\\n")


_SUBSTITUTES = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "·": ".", "×": "x", "…": "...", "≤": "<=", "≥": ">=", "≈": "~", "→": "->",
    "µ": "u", "μ": "mu", "σ": "sigma", "ε": "eps", "χ": "chi", "λ": "lambda", "η": "eta", "√": "sqrt",
    "‘": "'", "’": "'", "“": '"', "”": '"', "━": "-", "─": "-", "│": "|",
}  # fmt: skip
"""What stands for a character on a terminal that cannot show it."""


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_substituted, error.object[error.start : error.end])), error.end


def _substituted(character: str) -> str:
    if character in _SUBSTITUTES:
        return _SUBSTITUTES[character]
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or "?"


codecs.register_error("ntkhpc", _substitute)


class Stream:
    """A stream whose reader may go away and whose disk may be full: what cannot be printed is dropped.

    `lost` is then the reason, None if the reader went away, who wanted no more.
    """

    def __init__(self, inner: TextIO):
        self._inner, self._dead = inner, False
        self.lost: OSError | None = None
        if reconfigure := getattr(inner, "reconfigure", None):
            reconfigure(errors="ntkhpc")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        if not self._dead:
            try:
                self._inner.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self._dead:
            try:
                self._inner.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._dead = True
        if error.errno != errno.EPIPE:
            self.lost = error
        try:  # what is left in its buffer, and what our processes print, goes nowhere too
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._inner.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass


class _Plain:
    """What prints text as `plain` does; rich, which sends commands of its own, prints by `rich_proxied_file`."""

    def __init__(self, stream: Stream):
        self.rich_proxied_file = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(plain(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def open_descriptors() -> None:
    """Open 0, 1 and 2 where a caller closed them: else the next file that is opened is what somebody prints into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one


def guard() -> None:
    """Put the writer in front of sys.stdout and sys.stderr, once."""
    for name in ("stdout", "stderr"):
        inner = getattr(sys, name)
        if inner is not None and not isinstance(inner, _Plain):
            setattr(sys, name, _Plain(Stream(inner)))


def lost() -> OSError | None:
    """Flush what was printed on standard output. Returns why some of it could not be, if its reader still wanted it."""
    stream = getattr(sys.stdout, "rich_proxied_file", None)
    for one in (sys.stdout, sys.stderr):
        if one is not None:
            one.flush()
    return stream.lost if isinstance(stream, Stream) else None

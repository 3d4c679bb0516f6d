"""The fonts of figures: those that matplotlib brings with it, so that equal results give equal files on every machine.

matplotlib chooses among all fonts of a machine, by a list in the user's cache that every program with a matplotlib of
its version reads and writes. A list without matplotlib's own fonts draws other letters and warns at each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import FontEntry, fontManager


@contextmanager
def bundled() -> Iterator[None]:
    """Within it matplotlib finds its own fonts alone; afterwards what it found before. For one thread of a process."""
    before = fontManager.ttflist
    try:
        _choose(_entries())
        yield
    finally:
        _choose(before)


def _choose(entries: list[FontEntry]) -> None:
    fontManager.ttflist = []
    fontManager.addfont(_files()[0])  # by which matplotlib forgets the choices that it remembers
    fontManager.ttflist = entries


def _files() -> list[Path]:
    return sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf"))


@cache
def _entries() -> list[FontEntry]:
    fontManager.ttflist = []
    for path in _files():
        fontManager.addfont(path)
    return fontManager.ttflist

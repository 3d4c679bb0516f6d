"""A section of a report: one thing that a run says, in every form in which it is said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import pandas as pd
import xarray
from matplotlib.figure import Figure

from ntkhpc.studies.base import Study

Rows = Sequence[Sequence[str]]
Part = Literal["figure", "tables", "sentences"]


class Collected(Protocol):
    """What is read from a run for its report: its study, the store, and in words which shards are missing or differ."""

    @property
    def study(self) -> Study: ...

    @property
    def store(self) -> xarray.Dataset: ...

    @property
    def missing(self) -> str: ...

    @property
    def conflicts(self) -> str: ...


R = TypeVar("R", bound=Collected)


@dataclass(frozen=True)
class Table:
    """A table of the page: its first row is the heading. `note` stands below it."""

    rows: Rows
    note: str = ""


def _no_text(_: object) -> str:
    return ""


def _no_figure(_: object) -> Figure | None:
    return None


def _nothing(_: object) -> tuple[()]:
    return ()


def _no_entries(_: object) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Section(Generic[R]):
    """One section, made from the results of its kind of study. Every form is optional.

    On the page: `title` is the heading, and a section without one goes on under the heading before it. `claim` stands
    at the top of the page. `figure` is drawn into files with the name of its function, `caption` is below it, and None
    draws nothing. A caption is made from the results where these decide what is drawn. `tables` are followed by their
    notes. Of `sentences` a text is a paragraph, a list its bullet points; `led` makes those that introduce a list.
    `order` is that of the three on the page. `cautions` of all sections stand together at the end of the first chapter.

    Beside the page: `summary` are lines of summary.txt, which the claim follows; `fits` are entries of fits.json;
    `files` are CSV tables by name.

    `needs` are arrays of the store: a section is left out of a report where one of them is not there.
    """

    title: str = ""
    needs: tuple[str, ...] = ()
    claim: Callable[[R], str] = _no_text
    figure: Callable[[R], Figure | None] = _no_figure
    caption: str | Callable[[R], str] = ""
    tables: Callable[[R], Sequence[Table]] = _nothing
    sentences: Callable[[R], Sequence[str | list[str]]] = _nothing
    cautions: Callable[[R], Sequence[str]] = _nothing
    summary: Callable[[R], Sequence[str]] = _nothing
    fits: Callable[[R], Mapping[str, Any]] = _no_entries
    files: Callable[[R], Mapping[str, pd.DataFrame]] = _no_entries
    order: tuple[Part, ...] = ("figure", "tables", "sentences")

    @property
    def figure_name(self) -> str:
        """The name of the figure's files."""
        return str(getattr(self.figure, "__name__", ""))

    def caption_of(self, results: R) -> str:
        """The words below the figure of these results."""
        return self.caption if isinstance(self.caption, str) else self.caption(results)

    def is_possible(self, store: xarray.Dataset) -> bool:
        """Whether the store has every array that the section needs."""
        return all(name in store for name in self.needs)


def led(lead: str, items: Sequence[str], alone: str = "") -> list[str | list[str]]:
    """A paragraph and the list that it introduces; without items the paragraph `alone`, or nothing."""
    if kept := [one for one in items if one]:
        return [lead, kept]
    return [alone] if alone else []


def aligned(rows: Rows) -> list[str]:
    """A table as lines of text, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

"""A report on disk: one HTML file that needs no other, figures, tables, and a few lines for the terminal."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.report import plotting
from analysis.report.provenance import provenance
from ntkhpc.engine import published
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError
from ntkhpc.terminal import plain

SUMMARY = "summary.txt"

PAGE = "report.html"


def _figures(names: Iterable[str]) -> set[str]:
    return {f"{name}.{ending}" for name in names for ending in ("pdf", "png")}


def _tables(names: Iterable[str]) -> set[str]:
    return {f"{name}.csv" for name in names}


_UNLISTED = _figures(
    ("bias_and_variance", "chains", "distribution", "flattening", "learning_curves", "loss", "order_parameter",
     "residuals", "scaling", "scans", "width_dependence")
) | _tables(
    ("chains", "coverage", "curve", "exponents", "losses", "moments", "scan_readout", "scan_temperature")
)  # fmt: skip
"""What reports wrote that did not list their files in provenance.json yet. Later names need not be added."""


def _earlier(run: Run) -> set[str]:
    """Names of figures and tables that the last report of a run wrote; none where there was no report."""
    try:
        known = published.record(run)
    except DamagedError:  # what it listed cannot be told
        return set(_UNLISTED)
    if known is None:
        return set()
    listed = known.get("files", _UNLISTED)
    return {name for name in listed if Path(name).name == name and name.endswith((".csv", ".pdf", ".png"))}


@dataclass(frozen=True)
class Publication:
    """What a report consists of. `page` makes the HTML from the provenance and the figures as SVG, by their names."""

    figures: dict[str, Figure]
    fits: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    summary: str
    page: Callable[[dict[str, Any], dict[str, bytes]], str]

    def write(self, run: Run, results: str) -> Path:
        """Everything into the `analysis/` of the run; the path of report.html. Equal results give equal bytes.

        `results` is the hash of the run's results before any was read. Raises RunError if they changed since.
        Nothing is written before all is made, and each file whole.
        Figures and tables of an earlier report that this one has not are removed; other files stay.
        """
        contents = plotting.drawn(self.figures)
        contents["fits.json"] = _text(json.dumps(self.fits, indent=1, allow_nan=False) + "\n")
        for name, frame in self.tables.items():
            contents[f"{name}.csv"] = _text(frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
        contents[SUMMARY] = _text(plain(self.summary))
        made_from = provenance(run)
        drawings = {name: plotting.svg(figure) for name, figure in self.figures.items()}
        contents[PAGE] = _text(plain(self.page(made_from, drawings)))
        earlier = _earlier(run) - set(contents)
        published.write(run, contents, made_from, missing=str(self.fits.get("missing") or ""), results=results)
        for name in earlier:
            (published.folder(run) / name).unlink(missing_ok=True)
        return published.folder(run) / PAGE


def _text(words: str) -> bytes:
    return words.encode("utf-8")

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
from ntkhpc.engine.run import Run

SUMMARY = "summary.txt"


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


def _earlier(folder: Path) -> set[str]:
    """Names of figures and tables that the last report wrote into a folder; none where there was no report."""
    try:
        listed = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return set()
    except (KeyError, ValueError):  # of an older version, or of a report that was killed
        return set(_UNLISTED)
    return {name for name in listed if Path(name).name == name and name.endswith((".csv", ".pdf", ".png"))}


@dataclass(frozen=True)
class Publication:
    """What a report consists of. `page` makes the HTML from the provenance and the figures as SVG, by their names."""

    figures: dict[str, Figure]
    fits: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    summary: str
    page: Callable[[dict[str, Any], dict[str, bytes]], str]

    def write(self, run: Run) -> Path:
        """Everything into the `analysis/` of the run; the path of report.html. Equal results give equal bytes.

        Figures and tables of an earlier report that this one has not are removed; other files stay.
        """
        target = run.path / "analysis"
        target.mkdir(exist_ok=True)
        made = sorted(_figures(self.figures) | _tables(self.tables))
        plotting.save(self.figures, target)
        text = json.dumps(self.fits, indent=1, allow_nan=False)
        (target / "fits.json").write_text(text + "\n", encoding="utf-8")
        for name, frame in self.tables.items():
            frame.to_csv(target / f"{name}.csv", index=False, float_format="%.10g", lineterminator="\n")
        for name in _earlier(target) - set(made):
            (target / name).unlink(missing_ok=True)
        made_from = {**provenance(run), "files": made}
        (target / "provenance.json").write_text(json.dumps(made_from, indent=1) + "\n", encoding="utf-8")
        (target / SUMMARY).write_text(self.summary, encoding="utf-8")
        report = target / "report.html"
        drawn = {name: plotting.svg(figure) for name, figure in self.figures.items()}
        report.write_text(self.page(made_from, drawn), encoding="utf-8")
        return report

"""A report on disk: one HTML file that needs no other, figures, tables, and a few lines for the terminal."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.report import plotting
from analysis.report.provenance import provenance
from ntkhpc.engine.run import Run

SUMMARY = "summary.txt"


@dataclass(frozen=True)
class Publication:
    """What a report consists of. `page` makes the HTML from the provenance and the folder with the figures."""

    figures: dict[str, Figure]
    fits: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    summary: str
    page: Callable[[dict[str, Any], Path], str]

    def write(self, run: Run) -> Path:
        """Everything into the `analysis/` of the run; the path of report.html. Equal results give equal bytes."""
        target = run.path / "analysis"
        target.mkdir(exist_ok=True)
        plotting.save(self.figures, target)
        text = json.dumps(self.fits, indent=1, allow_nan=False)
        (target / "fits.json").write_text(text + "\n", encoding="utf-8")
        for name, frame in self.tables.items():
            frame.to_csv(target / f"{name}.csv", index=False, float_format="%.10g", lineterminator="\n")
        made_from = provenance(run)
        (target / "provenance.json").write_text(json.dumps(made_from, indent=1) + "\n", encoding="utf-8")
        (target / SUMMARY).write_text(self.summary, encoding="utf-8")
        report = target / "report.html"
        report.write_text(self.page(made_from, target), encoding="utf-8")
        return report

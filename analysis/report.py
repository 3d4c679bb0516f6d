"""The report of a run, by the kind of its study."""

from pathlib import Path

from analysis import ensemble_report
from ntkhpc.run import Run


def make(run: Run, *, partial: bool = False) -> Path:
    """Analyse a run and write everything into its `analysis/`; the path of report.html.

    Raises RunError for an incomplete run unless `partial`.
    """
    return ensemble_report.compose(run, partial=partial).write(run)

"""The report of a run, by the kind of its study."""

from importlib import import_module
from pathlib import Path

from ntkhpc.bayes_study import BayesStudy
from ntkhpc.run import Run


def make(run: Run, *, partial: bool = False) -> Path:
    """Analyse a run and write everything into its `analysis/`; the path of report.html.

    Raises RunError for an incomplete run unless `partial`.
    """
    # Not at the top: a report imports what it needs, and not what the other kind does.
    report = import_module("analysis.bayes.report" if isinstance(run.study, BayesStudy) else "analysis.ensemble_report")
    return report.compose(run, partial=partial).write(run)

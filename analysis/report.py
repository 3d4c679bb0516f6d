"""The report of a run, by the kind of its study."""

from pathlib import Path

from analysis import ensemble_report
from analysis.bayes import report as bayes_report
from ntkhpc.bayes_study import BayesStudy
from ntkhpc.run import Run


def make(run: Run, *, partial: bool = False) -> Path:
    """Analyse a run and write everything into its `analysis/`; the path of report.html.

    Raises RunError for an incomplete run unless `partial`.
    """
    compose = bayes_report.compose if isinstance(run.study, BayesStudy) else ensemble_report.compose
    return compose(run, partial=partial).write(run)

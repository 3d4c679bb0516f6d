"""The report of a run, by the kind of its study."""

from pathlib import Path

from ntkhpc.engine.run import Run
from ntkhpc.studies.posterior.study import BayesStudy


def make(run: Run, *, partial: bool = False) -> Path:
    """Analyse a run and write everything into its `analysis/`; the path of report.html.

    Raises RunError for an incomplete run unless `partial`.
    """
    # Not at the top: a report imports what it needs, and not what the other kind does.
    if isinstance(run.study, BayesStudy):
        from analysis.bayes.report import compose
    else:
        from analysis.ensemble_report import compose
    return compose(run, partial=partial).write(run)

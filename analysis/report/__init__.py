"""The report of a run, and what the reports of all kinds of studies share."""

from pathlib import Path

from analysis.report.publication import Publication
from ntkhpc.engine import receipts
from ntkhpc.engine.run import Run


def publication(run: Run, *, partial: bool = False) -> Publication:
    """Analyse a run. Raises RunError for an incomplete one unless `partial`."""
    return REPORTS[run.layout.kind.name](run, partial)


def make(run: Run, *, partial: bool = False) -> Path:
    """Analyse a run and write everything into its `analysis/`; the path of report.html.

    Raises RunError for an incomplete run unless `partial`.
    """
    results = receipts.results_hash(run)  # before anything is read: what changes meanwhile is noticed
    return publication(run, partial=partial).write(run, results)


# Imports inside: a report imports the sections of its own kind, and those of no other.
def _ensemble(run: Run, partial: bool) -> Publication:
    from analysis import ensemble

    return ensemble.compose(run, partial=partial)


def _posterior(run: Run, partial: bool) -> Publication:
    from analysis import posterior

    return posterior.compose(run, partial=partial)


def _comparison(run: Run, partial: bool) -> Publication:
    from analysis import comparison

    return comparison.compose(run, partial=partial)


REPORTS = {"ensemble": _ensemble, "bayes": _posterior, "comparison": _comparison}
"""What makes the report of a run, by the field `kind` of its study."""

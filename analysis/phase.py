"""The phase `analysis`: what a worker runs when every other phase is complete."""

from analysis import report
from analysis.workers import workers
from ntkhpc.engine.run import Run


def compute(run: Run) -> None:
    """Write the report; the phase owns no array of the store."""
    with workers():
        report.make(run)

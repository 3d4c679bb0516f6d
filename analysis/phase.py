"""The phase `analysis`: what a worker runs when every other phase is complete."""

import numpy as np

from analysis import report
from analysis.workers import workers
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    """Write the report; the phase owns no array of the store."""
    with workers():
        report.make(run)
    return {}, 0

"""What of a run is missing."""

from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError


def require(run: Run, *, partial: bool) -> str:
    """What `missing` says. Raises RunError for a run with missing shards unless `partial` allows it."""
    found = missing(run)
    if found and not partial:
        raise RunError(
            f"the run is not complete: {found}",
            where=run.path,
            cause="shards are missing, and figures without them could mislead",
            todo="make resume runs them; make report PARTIAL=1, in Python partial=True, uses what is there",
        )
    return found


def missing(run: Run) -> str:
    """In words, which shards that the analysis needs have no receipt; empty if none."""
    lacking = {phase: len(run.missing(phase)) for phase in run.layout.closure("analysis")}
    return ", ".join(
        f"{count} of {len(run.plan.of_phase(phase))} {phase} shards missing"
        for phase, count in lacking.items()
        if count
    )

"""What of a run is missing, and its store without it."""

from collections.abc import Iterable

import xarray

from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError
from ntkhpc.phase.array import Array


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


def with_receipts(run: Run, store: xarray.Dataset, arrays: Iterable[Array]) -> xarray.Dataset:
    """The store without those arrays' values of shards that have no receipt: half written, or set aside as damaged.

    Arrays that the store lacks are passed over.
    """
    masked = {}
    for array in arrays:
        if array.name not in store:
            continue
        values = store[array.name]
        there = xarray.ones_like(values, bool).compute()
        for shard in run.missing(run.layout.writers[array.name]):
            there[{dim: slice(*span) for dim, span in shard.region.items() if dim in there.dims}] = False
        masked[array.name] = values.where(there, array.fill_value)
    return store.assign(masked)

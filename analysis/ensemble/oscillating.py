"""Networks whose training loss went up and down to the end, though they did not diverge. And oscillating.csv."""

from typing import Any

import numpy as np
import pandas as pd
import xarray

from analysis.ensemble import rounding
from analysis.ensemble.members import records, training_set
from analysis.ensemble.results import EnsembleResults
from analysis.report.page import count
from analysis.report.section import Section
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import OK

ARRAYS = ("last_rise", "n_steps", "train_loss_trace")

LAST = 0.1
"""Part of all steps, the last one, in which a sound training loss does not rise any more."""

TOLD = 3


def oscillating(store: xarray.Dataset, floors: np.ndarray | None = None) -> pd.DataFrame:
    """One row for each cell with networks whose training loss rose in the last tenth of the steps, most of them first.

    width, n_train, draw; oscillating, how many of the networks that did not diverge, and trained, how many these are;
    members, their numbers, the latest rise first; last_rise, that of the first, and n_steps. A rise is one that no
    stable linear model has (`last_rise`). Networks whose training loss ends below the part `floors` (width,) of what it
    began with are left out: rounding alone makes it rise there (`rounding`).
    """
    one = store[["status", "last_rise", "n_steps"]].transpose(*CELL, "member").load()
    steps, rows = one.n_steps.values, []
    lowest = np.zeros(one.sizes["width"]) if floors is None else floors
    for cell in np.ndindex(one.status.shape[:3]):
        trained, rose = one.status.values[cell] == OK, one.last_rise.values[cell]
        late = np.flatnonzero(trained & (rose > (1 - LAST) * steps[cell[1]]))
        if len(late):
            first, last = _ends(store, cell)
            late = late[last[late] > lowest[cell[0]] * first[late]]
        if len(late):
            late = late[np.argsort(-rose[late], kind="stable")]
            rows.append(
                {
                    **{dim: int(store[dim].values[i]) for dim, i in zip(CELL, cell, strict=True)},
                    "oscillating": len(late),
                    "trained": int(trained.sum()),
                    "members": " ".join(str(int(store.member.values[i])) for i in late),
                    "last_rise": int(rose[late[0]]),
                    "n_steps": int(steps[cell[1]]),
                }
            )
    columns = [*CELL, "oscillating", "trained", "members", "last_rise", "n_steps"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "oscillating", ascending=False, ignore_index=True, kind="stable"
    )


def _ends(store: xarray.Dataset, cell: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The training losses (member,) of a cell before and after training."""
    trace = store.train_loss_trace.isel(dict(zip(CELL, cell, strict=True))).isel(trace_point=[0, -1])
    first, last = trace.transpose("trace_point", "member").values.astype(float)
    return first, last


def found_in(results: EnsembleResults) -> pd.DataFrame:
    return oscillating(results.store, rounding.floors(results))


def cautions(results: EnsembleResults) -> list[str]:
    """One sentence a cell, of those with the most networks."""
    found = found_in(results)
    said = [_caution(one) for one in found.head(TOLD).itertuples()]
    if more := len(found) - len(said):
        said.append(
            f"{count(more, 'more cell')} {'has' if more == 1 else 'have'} networks that oscillate to the end "
            "(oscillating.csv)"
        )
    return said


def _caution(one: Any) -> str:
    first = one.members.split()
    named = f"network{'s' if len(first) > 1 else ''} {', '.join(first[:TOLD])}{', ...' if len(first) > TOLD else ''}"
    return (
        f"{one.oscillating:,} of {count(one.trained, 'network')} of width {one.width:,} at {training_set(one)} "
        f"{'oscillates' if one.oscillating == 1 else 'oscillate'} without diverging ({named}): the training loss rose "
        f"in the last tenth of the {one.n_steps:,} steps, last at step {one.last_rise:,}; lower "
        "training.learning_rate_fraction"
    )


SECTION: Section[EnsembleResults] = Section(
    needs=ARRAYS,
    cautions=cautions,
    fits=lambda results: {"oscillating": records(found_in(results))},
    files=lambda results: {"oscillating": found_in(results)},
)

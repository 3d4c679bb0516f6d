"""What the second run of suspicious members says: whose loss it confirms, and whose it does not."""

import numpy as np
import pandas as pd
import xarray

from analysis.dominance import eps_without
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import DIVERGED, OK

ARRAYS = ("recheck_reason", "recheck_loss", "last_rise")
"""The arrays that are read here, besides those of every ensemble."""

DIFFERENT = 0.01
"""A member whose two losses differ by more than this share of the first is on the edge of instability."""

COLUMNS = (*CELL, "member", "reason", "last_rise", "loss", "second_loss", "difference", "unstable")


def members(store: xarray.Dataset) -> pd.DataFrame:
    """One row for each member that was trained again, the largest differences first.

    width, n_train, draw, member; reason, the bits of `recheck_reason`; last_rise; loss and second_loss, infinite where
    it diverged; difference, second_loss over loss less 1 (infinite where one run alone diverged, 0 where both did);
    unstable, whether that is more than 1 %.
    """
    one = store[["status", "test_loss", *ARRAYS]].transpose(*CELL, "member").load()
    ran = np.argwhere(~np.isnan(one.recheck_loss.values))
    rows = []
    for at in map(tuple, ran):
        first = np.inf if one.status.values[at] == DIVERGED else float(one.test_loss.values[at])
        second = float(one.recheck_loss.values[at])
        both = np.isfinite(first) == np.isfinite(second)
        difference = (second / first - 1 if np.isfinite(first) else 0.0) if both else np.inf
        rows.append(
            {
                **{dim: int(store[dim].values[i]) for dim, i in zip((*CELL, "member"), at, strict=True)},
                "reason": int(one.recheck_reason.values[at]),
                "last_rise": int(one.last_rise.values[at]),
                "loss": first,
                "second_loss": second,
                "difference": difference,
                "unstable": abs(difference) > DIFFERENT,
            }
        )
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.sort_values("difference", key=abs, ascending=False, ignore_index=True, kind="stable")


def cells(store: xarray.Dataset, again: pd.DataFrame) -> pd.DataFrame:
    """One row for each cell with unstable members, the largest change of eps_L first; `again` is what `members` says.

    width, n_train, draw; unstable, trained_again, how many; eps_L and eps_L_without the unstable ones; worst, the
    number of the member whose losses differ most, with its loss and second_loss.
    """
    rows = []
    for cell, rerun in again.groupby(list(CELL)):
        bad = rerun[rerun.unstable]
        if bad.empty:
            continue
        here = store.sel(dict(zip(CELL, cell, strict=True)))
        loss = here.test_loss.where(here.status == OK).values
        worst = bad.iloc[0]
        rows.append(
            {
                **dict(zip(CELL, cell, strict=True)),
                "unstable": len(bad),
                "trained_again": len(rerun),
                "eps_L": eps_without(loss, np.zeros(len(loss), bool)),
                "eps_L_without": eps_without(loss, np.isin(here.member.values, bad.member)),
                "worst": int(worst.member),
                "loss": float(worst.loss),
                "second_loss": float(worst.second_loss),
            }
        )
    columns = [*CELL, "unstable", "trained_again", "eps_L", "eps_L_without", "worst", "loss", "second_loss"]
    found = pd.DataFrame(rows, columns=columns)
    moved = (np.log(found.eps_L_without.astype(float)) - np.log(found.eps_L.astype(float))).abs()
    return found.loc[moved.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)

"""What the networks of a pilot that were trained and leapt say of its leaps: whether they are accepted, and their bias.

Leaps are judged as in a report (two_level.Accuracy), in each cell. A study with leaps that a report would refuse is not
worth its hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.two_level import FEWEST, Accuracy


@dataclass(frozen=True)
class Judged:
    """`pairs` is the number of networks trained and leapt, of the cell with the fewest.

    `bias` is the mean of L_leap/L - 1 in the cell where it is largest, NaN where no cell has FEWEST pairs. `refusal`
    says where and why a report would refuse leaps, of the worst cell; empty where none with FEWEST pairs is refused.
    """

    pairs: int = 0
    bias: float = np.nan
    refusal: str = ""

    @classmethod
    def of(cls, trained: np.ndarray, leapt: np.ndarray, widths: Sequence[int], n_train: Sequence[int]) -> "Judged":
        """From losses (width, draw, size, member) of the same networks, NaN where one of the two is not there."""
        both = np.isfinite(trained) & np.isfinite(leapt)
        cells = [
            (Accuracy.of(trained[cell][both[cell]], leapt[cell][both[cell]]), cell)
            for cell in np.ndindex(both.shape[:3])
        ]
        known = [(one, cell) for one, cell in cells if one.networks >= FEWEST]
        refused = [(one, cell) for one, cell in known if one.refusal]
        bias, refusal = np.nan, ""
        if known:
            bias = max((one.bias.value for one, _ in known), key=abs)
        if refused:
            one, (w, draw, i) = max(refused, key=lambda pair: pair[0].rms)
            refusal = f"{one.refusal} (width {widths[w]:,}, N_D {n_train[i]:,}, draw {draw})"
        return cls(int(both.sum(axis=-1).min()), bias, refusal)

    @property
    def accepted(self) -> bool:
        """Whether leaps were judged in every cell, and refused in none."""
        return self.pairs >= FEWEST and not self.refusal

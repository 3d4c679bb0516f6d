"""Values that look like marks of a missing measurement: -999, 1e20, the fill value of NetCDF, the largest float.

Marks are the few least or greatest values of a column, and a gap lies between them and all others. They may be several
and close together, at one end or at both. The gap is compared with the range of the others:

- If programs write them as marks, the gap is a fifth of the range, and wider than any between the others.
- If one of them comes again exactly, the gap is ten times the range.
- Whatever they are, the gap is a million times the range.

No mark is what goes on with a grid of equal ratios, such as decades, and a value of most rows that no program writes.
"""

from dataclasses import dataclass

import numpy as np

KNOWN = np.array(
    [
        *(sign * value for value in (999, 9999, 99999, 999999, 999.25, 9999.99, 1e20, 1e30, 1e35) for sign in (-1, 1)),
        *(-1e10, -2e30, 9.969209968386869e36, 9.96921e36, 3.4028234663852886e38, -3.4028234663852886e38),
        *(float(np.finfo(float).max), -float(np.finfo(float).max)),
        *(float(sign * 2**bits - (sign > 0)) for bits in (15, 31, 63) for sign in (-1, 1)),
        *(-32767.0, -2147483647.0, 65535.0, 4294967295.0, float(2**63), float(2**64)),
    ]
)
"""What programs write for a missing value."""

HUGE = 1e30
"""Nothing that is measured is so large in a unit that fits it."""

FAR_OF_KNOWN, FAR_OF_MIXED, FAR, WILD = 0.2, 1.0, 10.0, 1e6
"""Width of the gap, in the range of the others, from which on values are marks: known ones of several rows, such ones
with others among them, others that repeat and known ones of a single row, any."""

FEWEST_OTHERS, FEWEST_OF_KNOWN = 3, 2
"""Different values that the others must have: of a column of two values nobody knows which is the mark."""

MOST = 8
"""Different marks at one end of a column."""

LIKE_THE_GRID = 1.5
"""Times the usual ratio of neighbours, as logarithms: what is so near goes on with their grid."""


@dataclass(frozen=True)
class Mark:
    """column: its number; value; count: rows that have it; low, high: the range of all values that are no marks."""

    column: int
    value: float
    count: int
    low: float
    high: float


def find(values: np.ndarray, meant: tuple[float, ...] = ()) -> list[Mark]:
    """The marks among finite values (n, columns), by column, from the farthest inwards; values in `meant` are none."""
    meant = (*meant, *(float(np.float32(value)) for value in meant if abs(value) < 1e38))
    found = []
    with np.errstate(over="ignore", invalid="ignore"):  # of differences; what is infinite is far, or no gap
        for number in range(values.shape[1]):
            column = values[:, number]
            marked = _of_column(column[~np.isin(column, meant)] if meant else column)
            if marked:
                others = column[~np.isin(column, [value for value, _ in marked])]
                low, high = float(others.min()), float(others.max())
                found += [Mark(number, value, count, low, high) for value, count in marked]
    return found


def _of_column(column: np.ndarray) -> list[tuple[float, int]]:
    """(value, rows) of the marks. Those of the widest gaps are taken out, and what is left is looked at again."""
    different, counts = np.unique(column, return_counts=True)
    found = []
    while cut := _cut(different, counts):
        low, high = cut
        outer = [*range(low), *range(len(different) - 1, len(different) - 1 - high, -1)]
        found += [(float(different[i]), int(counts[i])) for i in outer]
        inside = slice(low, len(different) - high)
        different, counts = different[inside], counts[inside]
    return found


def _cut(different: np.ndarray, counts: np.ndarray) -> tuple[int, int] | None:
    """How many of the least and of the greatest values are marks, as few as possible; None if none are."""
    size = len(different)
    # A column turned round is looked at from its other end.
    ends = (_End(different, counts), _End(-different[::-1], counts[::-1], turned=True))
    pairs = [(low, high) for low in (0, *ends[0].candidates) for high in (0, *ends[1].candidates)]
    for low, high in sorted(pairs, key=sum)[1:]:
        if low + high >= size:
            continue
        # Marks at the other end are left out; what only repeats there is none for certain.
        if (not low or ends[0].is_cut(low, high if ends[1].is_certain(high) else 0)) and (
            not high or ends[1].is_cut(high, low if ends[0].is_certain(low) else 0)
        ):
            return low, high
    return None


class _End:
    """Different values of a column in rising order, with the rows of each, of which the first may be marks."""

    def __init__(self, different: np.ndarray, counts: np.ndarray, *, turned: bool = False):
        self.values, self.counts = different, counts
        most = min(MOST, len(different) - 1)
        gaps = different[1 : most + 1] - different[:most]
        middle = different[most : len(different) - most]
        extent = middle[-1] - middle[0] if len(middle) else 0.0  # the others' is no less
        known = _are_known(-different[:most] if turned else different[:most])
        self.known, self.all_known = np.logical_or.accumulate(known), np.logical_and.accumulate(known)
        self.repeats = np.logical_or.accumulate(counts[:most] > 1)
        factor = np.where(self.known, FAR_OF_KNOWN, np.where(self.repeats, FAR, WILD))
        self.candidates = [int(i) + 1 for i in np.flatnonzero(gaps > factor * extent)]

    def is_certain(self, number: int) -> bool:
        return bool(number and (self.known[number - 1] or not self.repeats[number - 1]))

    def is_cut(self, number: int, beyond: int) -> bool:
        """Whether the first values are marks beside all others but the last `beyond`."""
        others = self.values[number : len(self.values) - beyond]
        known, repeats = self.known[number - 1], self.repeats[number - 1]
        if len(others) < (FEWEST_OF_KNOWN if known else FEWEST_OTHERS):
            return False
        rows = self.counts[:number].sum()
        gap, extent = others[0] - self.values[number - 1], others[-1] - others[0]
        if not known and repeats and 2 * rows > self.counts.sum():
            return False
        factor = WILD
        if known:
            near = FAR_OF_KNOWN if self.all_known[number - 1] else FAR_OF_MIXED
            factor = near if rows > 1 and len(others) >= FEWEST_OTHERS else FAR
        elif repeats:
            factor = FAR
        if not gap > factor * extent or (known and not gap > np.diff(others).max()):
            return False
        return not self._goes_on(self.values[number - 1], others, whole=factor == WILD)

    @staticmethod
    def _goes_on(mark: float, others: np.ndarray, *, whole: bool) -> bool:
        """Whether the mark's ratio to values of one sign is such as theirs; or, with `whole`, less than that of all."""
        if others[0] * others[-1] < 0 or mark * (others[0] + others[-1]) <= 0:
            return False
        logs = np.log10(np.abs(others[others != 0]))
        if len(logs) < FEWEST_OF_KNOWN:
            return False
        away = min(abs(np.log10(abs(mark)) - logs[0]), abs(np.log10(abs(mark)) - logs[-1]))
        usual = LIKE_THE_GRID * float(np.median(np.abs(np.diff(logs))))
        return bool(away <= max(usual, np.ptp(logs) if whole else 0.0))


def _are_known(values: np.ndarray) -> np.ndarray:
    # Marks are often stored in float32.
    near = np.abs(values[:, None] - KNOWN) <= 1e-7 * np.abs(values[:, None])
    return (np.abs(values) >= HUGE) | near.any(axis=1)

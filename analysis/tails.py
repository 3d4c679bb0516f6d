"""The upper end of a curve: does it go on falling there, or level off?

The exponent over the last two octaves is a linear contrast of logarithms (`analysis.contrasts`), and so is its change
from the two octaves before: both have the errors of the curve's sources, correlations between sizes included.
"""

from dataclasses import dataclass

import numpy as np

from analysis import floor
from analysis.contrasts import LEVEL, Curve, Estimate, slope_weights
from analysis.floor import End

OCTAVES = 2.0

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Tail:
    """Of a curve of at least 3 sizes: its last two octaves, 3 sizes at least."""

    curve: Curve

    @property
    def n(self) -> tuple[float, float]:
        """The smallest and the largest size of the tail."""
        return self.curve.upper(OCTAVES)[0], float(self.curve.n[-1])

    @property
    def slope(self) -> Estimate:
        """The exponent: of least squares through the logarithms, every size with the same weight."""
        return self.curve.upper(OCTAVES)[1]

    @property
    def before_n(self) -> float | None:
        """The smallest size of the two octaves before the tail, which end where it begins.

        A larger step takes the place of both octaves. None where the tail is all of the curve.
        """
        return None if (there := self._before) is None else float(self.curve.n[there][0])

    @property
    def before(self) -> Estimate | None:
        """The exponent over the two octaves before the tail."""
        return None if (there := self._before) is None else self.curve.contrast(self._weights(there))

    @property
    def change(self) -> Estimate | None:
        """The exponent of the tail less that before it; above zero where a falling curve falls more slowly."""
        if (there := self._before) is None:
            return None
        return self.curve.contrast(self._weights(self.curve.n >= self.n[0]) - self._weights(there))

    @property
    def end(self) -> End:
        """What the tail does, as `floor.Levelling.end` tells it; "unknown" without a source of error."""
        return floor.levelling(self.curve, floors=False).end

    @property
    def slows(self) -> bool:
        """Whether it falls, but more slowly than before."""
        return self.end == "falls" and self.change is not None and self.change.value > 0 and _differs(self.change)

    @property
    def steepens(self) -> bool:
        """Whether it falls, and faster than before."""
        return self.end == "falls" and self.change is not None and self.change.value < 0 and _differs(self.change)

    def of(self, *names: str) -> "Tail":
        """With the errors of these sources only."""
        return Tail(self.curve.of(*names))

    def knows(self, *names: str) -> bool:
        """Whether the curve has errors of all these sources."""
        return set(names) <= {source.name for source in self.curve.sources}

    @property
    def _before(self) -> np.ndarray | None:
        """Which sizes (k,) are those of the two octaves before the tail."""
        n, first = self.curve.n, self.n[0]
        if not (n < first).any():
            return None
        low = min(first / 2**OCTAVES * (1 - _ROUNDING), n[n < first][-1])
        return np.asarray((n >= low) & (n <= first))

    def _weights(self, there: np.ndarray) -> np.ndarray:
        weights = np.zeros(len(self.curve.n))
        weights[there] = slope_weights(self.curve.n[there])
        return weights


def _differs(one: Estimate) -> bool:
    return one.p_value() < LEVEL

"""One look for all figures: what colours, markers and lines mean, in colour, in grey and to the colour-blind.

A series (widths, sizes) is ordered: the larger, the darker. Each of its members differs from the others by lightness,
marker and dashes. Lines of theory differ by dashes and thickness; solid black is exact and infinitely wide.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap

EXACT: dict[str, Any] = {"color": "black", "lw": 1.9, "ls": "-"}
"""Infinite width, exact, for the very question that is asked."""

EXACT_OTHER: dict[str, Any] = {"color": "black", "lw": 0.9, "ls": "-"}
"""The same for other samples: the mean over draws of the training set."""

END: dict[str, Any] = {"color": "0.5", "lw": 1.6, "ls": (0, (5, 2.2))}
"""Infinite width at the end of training: another question."""

FIXED: dict[str, Any] = {"color": "0.3", "lw": 1.8, "ls": (0, (1, 1.4))}
"""Infinite width after the same number of steps at every size."""

POSTERIOR: dict[str, Any] = {"color": "0.4", "lw": 1.6, "ls": (0, (6, 1.5, 1.2, 1.5))}
"""The posterior of the Gaussian process at infinite width, which is no training."""

UNIT: dict[str, Any] = {"color": "black", "lw": 0.8}
"""A line that data are compared with, where it is no result: zero, or one."""

THEORY: dict[str, Any] = {"color": "#0b5394", "lw": 1.6, "ls": "-"}
MIXTURE: dict[str, Any] = {"color": "#0b5394", "lw": 1.1, "ls": (0, (1, 1.4))}
"""Theory of a posterior at finite width: at the saddle point, and with the order parameter integrated over."""

SAMPLED: dict[str, Any] = {"color": "#e08214", "fmt": "o", "mec": "#3d2200", "mew": 0.6, "zorder": 3}
"""Networks that were sampled."""

ADAPTIVE_KERNEL: dict[str, Any] = {"color": "#7a0177", "fmt": "D", "mfc": "none", "ms": 8, "zorder": 2.5}
"""Theory of a kernel that changes its shape: hollow, and larger than the points that it often surrounds."""

MARKERS = {"o": 5.6, "s": 5.4, "D": 5.4, "^": 6.2, "v": 6.2, "P": 7.0, "X": 7.0, "*": 8.5}
"""With the sizes that make them look alike in weight."""

DASHES: tuple[Any, ...] = (
    (0, (7, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (3, 1.2)), (0, (1.2, 1.2)), (0, (7, 1.2, 1, 1.2, 1, 1.2)),
)  # fmt: skip
"""Of the lines of a series: none is solid, as exact lines are."""

LIGHT, DARK = 0.78, 0.15
"""Ends of the colour maps that are used: lighter is lost on white, darker is taken for black."""

_KINDS = ("#1f3470", "#8a3d8f", "#2fa08a", "#e2b23c")

PALETTES: dict[str, str | Colormap] = {
    "width": "viridis", "size": "plasma",
    "variant": LinearSegmentedColormap.from_list("kinds", list(zip(
        (0, DARK, *np.linspace(DARK, LIGHT, 4)[1:3], LIGHT, 1), (_KINDS[0], *_KINDS, _KINDS[-1]), strict=True,
    ))),
}  # fmt: skip
"""Widths have one palette, numbers of samples or test points another, in every figure. Variants of a study are in no
order, and have a third, of more hues."""

SPAN, CLOSE = 0.6, 0.08
"""Part of the distance between neighbours over which the points of a series at one place are spread: where they stand
alone, and where they stand beside curves that they are compared with."""


@dataclass(frozen=True)
class Look:
    """How one member of a series is drawn. `place` from -1 to 1 says where among the others it is."""

    color: str
    marker: str
    dashes: Any
    place: float

    @property
    def points(self) -> dict[str, Any]:
        """For `errorbar`: points with thin bars, edged in white so that they stand out where they overlap."""
        return {
            "fmt": self.marker,
            "color": self.color,
            "ms": MARKERS[self.marker],
            "mec": "white",
            "mew": 0.5,
            "elinewidth": 1.1,
        }

    @property
    def line(self) -> dict[str, Any]:
        """For `plot`: a line."""
        return {"color": self.color, "ls": self.dashes, "lw": 1.3}

    def apart(self, x: Any, share: float = SPAN) -> np.ndarray:
        """Positive positions, moved from those of the others by a part of the ratio of neighbours."""
        at = np.asarray(x, float)
        known = np.unique(at[np.isfinite(at) & (at > 0)])
        ratio = (known[1:] / known[:-1]).min() if len(known) > 1 else 1.5
        return np.asarray(at * min(ratio, 4.0) ** (share * self.place / 2))


def series(count: int, of: str = "width") -> list[Look]:
    """The looks of an ordered series, the smallest first; `of` is a key of PALETTES."""
    if count < 1:
        return []
    ends = np.linspace(LIGHT, DARK, count) if count > 1 else np.array([0.45])
    places = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    return [
        Look(mpl.colors.to_hex(color), list(MARKERS)[i % len(MARKERS)], DASHES[i % len(DASHES)], float(places[i]))
        for i, color in enumerate(mpl.colormaps.get_cmap(PALETTES[of])(ends))
    ]

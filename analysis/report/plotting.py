"""What figures share: their style, their files, and axes that a reader can read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
    "figure.dpi": 160,
    "errorbar.capsize": 2.0,
    "lines.markersize": 4.5,
    "svg.hashsalt": "ntkhpc",
}
EXACT: dict[str, Any] = {"color": "black", "lw": 1.6}
END: dict[str, Any] = {"color": "0.55", "lw": 1.4, "ls": "--"}


@contextmanager
def style() -> Iterator[None]:
    """Ours, whatever the user's own matplotlibrc says: equal results give equal files."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def save(figures: dict[str, Figure], folder: Path) -> None:
    """PDF and PNG of each, without the time of day: equal results give equal files."""
    # The layout is found once: a figure that has an engine, even one that does nothing, is drawn twice for each format.
    with style(), mpl.rc_context({"figure.constrained_layout.use": False}):
        for name, figure in figures.items():
            if engine := figure.get_layout_engine():
                engine.execute(figure)
                figure.set_layout_engine(None)
            figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})


def mark_partial(figure: Figure, missing: str) -> None:
    """Say on a figure which shards it lacks, if any."""
    if missing:
        figure.suptitle(f"PARTIAL: {missing}", color="firebrick", fontsize=10, weight="bold")


def log_x(axis: Axes) -> None:
    if (points_of(axis)[:, 0] > 0).any():
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def log_y(axis: Axes) -> None:
    if (points_of(axis)[:, 1] > 0).any():
        axis.set_yscale("log")
        plain_log(axis.yaxis)


def points_of(axis: Axes) -> np.ndarray:
    """Finite points (count, 2) that are drawn: of a partial run there may be none, and no logarithm of them."""
    drawn = [np.asarray(line.get_xydata(), float) for line in axis.lines if line.get_transform() == axis.transData]
    points = np.concatenate([np.empty((0, 2)), *drawn])
    return points[np.isfinite(points).all(axis=1)]


def legend(axis: Axes, **settings: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(**settings)


def plain_log(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())

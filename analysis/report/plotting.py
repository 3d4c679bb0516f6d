"""What figures share: their style, their files, and axes that a reader can read."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.report import fonts
from analysis.report.ticks import at_values, logarithmic

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


@contextmanager
def style() -> Iterator[None]:
    """Ours, whatever the user's own matplotlibrc says and fonts are: equal results give equal files."""
    with mpl.rc_context(), fonts.bundled():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def save(figures: dict[str, Figure], folder: Path) -> None:
    """PDF and PNG of each as files of a folder."""
    for name, content in drawn(figures).items():
        (folder / name).write_bytes(content)


_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def drawn(figures: dict[str, Figure]) -> dict[str, bytes]:
    """PDF and PNG of each by the names of their files, without the time of day: equal results give equal files."""
    found: dict[str, bytes] = {}
    # The layout is found once: a figure that has an engine, even one that does nothing, is drawn twice for each format.
    with style(), mpl.rc_context({"figure.constrained_layout.use": False}):
        for name, figure in figures.items():
            if engine := figure.get_layout_engine():
                engine.execute(figure)
                figure.set_layout_engine(None)
            for ending, metadata in _METADATA.items():
                written = io.BytesIO()
                figure.savefig(written, format=ending, metadata=metadata)
                found[f"{name}.{ending}"] = written.getvalue()
    return found


_COORDINATES = re.compile(r'\b(?:d|x|y)="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")


def svg(figure: Figure) -> bytes:
    """A figure that was drawn, as SVG for a page: without the time of day, coordinates to a hundredth of a point."""
    written = io.StringIO()
    with style(), mpl.rc_context({"figure.constrained_layout.use": False}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _COORDINATES.sub(lambda path: _DIGITS.sub(r"\1", path[0]), written.getvalue()).encode()


def mark_partial(figure: Figure, missing: str) -> None:
    """Say on a figure which shards it lacks, if any."""
    if missing:
        figure.suptitle(f"PARTIAL: {missing}", color="firebrick", fontsize=10, weight="bold")


def log_x(axis: Axes) -> None:
    if (points_of(axis)[:, 0] > 0).any():
        axis.set_xscale("log", base=2)
        logarithmic(axis.xaxis, powers_of_two=True)


def log_axis(axis: Axes, values: np.ndarray, margin: float = 0.0) -> None:
    """A logarithmic x axis of these positive values, which may be one; `margin` is a factor beside the outer ones."""
    low, high = float(np.min(values)), float(np.max(values))
    margin = margin or ((high / low) ** 0.08 if high > low else 2.0)
    axis.set_xscale("log")
    axis.set_xlim(low / margin, high * margin)
    at_values(axis, values)


def log_y(axis: Axes) -> None:
    if (points_of(axis)[:, 1] > 0).any():
        axis.set_yscale("log")
        logarithmic(axis.yaxis)


def points_of(axis: Axes) -> np.ndarray:
    """Finite points (count, 2) that are drawn: of a partial run there may be none, and no logarithm of them."""
    drawn = [np.asarray(line.get_xydata(), float) for line in axis.lines if line.get_transform() == axis.transData]
    points = np.concatenate([np.empty((0, 2)), *drawn])
    return points[np.isfinite(points).all(axis=1)]


def legend_below(figure: Figure, axes: Iterable[Axes], ncols: int) -> None:
    """One legend of all these axes, below them, where it can hide no point; each name once."""
    known = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if known:
        figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=min(ncols, len(known)))


def legend_under(axis: Axes, ncols: int) -> None:
    """The legend of a panel below it, where it can hide no point."""
    legend(axis, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=ncols)


def legend(axis: Axes, **settings: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(**settings)

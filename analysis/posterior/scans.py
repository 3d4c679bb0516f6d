"""Temperature and read-out precision: theory at other settings, where a study scans them. And scan_*.csv."""

import numpy as np
from matplotlib.figure import Figure

from analysis.posterior.drawing import LOSS, NORMALISATION, widths, y_axis
from analysis.posterior.results import PosteriorResults, frame
from analysis.report.plotting import legend, log_axis
from analysis.report.section import Section

CAPTION = (
    f"{NORMALISATION} Theory at other temperatures, and at other precisions of the read-out's prior, at the largest P; "
    "rings mark the study's own. Below: the order parameter there. Black is infinite width."
)


def scans(results: PosteriorResults) -> Figure | None:
    """Loss and Qb against temperature and against the read-out's precision, at the largest P."""
    if not results.scans:
        return None
    labels = {
        "temperature": ("temperature", "temperature T"),
        "readout": ("readout_factor", "factor on the precision of the read-out"),
    }
    figure = Figure(figsize=(5 * len(results.scans), 5.6))
    axes = figure.subplots(2, len(results.scans), squeeze=False, sharex="col", sharey="row", height_ratios=[1.6, 1])
    own = results.theory.isel(n_train=-1).mean("draw")
    for column, (name, scan) in zip(axes.T, results.scans.items(), strict=True):
        dim, label = labels[name]
        here = results.study.posterior.temperature if name == "temperature" else 1.0
        one = scan.isel(n_train=-1).mean("draw")
        # The study's own setting belongs to the line, though it is no point of the scan.
        x = np.append(one[dim].values, here)
        order = np.argsort(x)
        for width, _, line, name_of in widths(one.theory_width.values):
            for axis, quantity in zip(column, ("loss", "q_bar"), strict=True):
                mine = float(own[quantity].sel(theory_width=width))
                y = np.append(one[quantity].sel(theory_width=width).values, mine)
                axis.plot(x[order], y[order], **line, marker=".", label=name_of)
                axis.plot(here, mine, "o", color=line["color"], mfc="none", ms=8)
        for axis in column:
            log_axis(axis, x)
        y_axis(column[0])
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel(LOSS)
    axes[1, 0].set_ylabel("order parameter $\\bar Q$")
    axes[0, 0].set_title(f"P = {int(results.theory.n_train[-1]):,}", loc="left")
    legend(axes[0, -1], fontsize=8)
    return figure


SECTION: Section[PosteriorResults] = Section(
    title="Temperature and read-out precision",
    figure=scans,
    caption=CAPTION,
    files=lambda results: {f"scan_{name}": frame(scan) for name, scan in results.scans.items()},
)

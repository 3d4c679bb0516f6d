"""Loss against width: samples, theory at finite and infinite width, and an adaptive kernel. And losses.csv."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.posterior.comparison import ComparedCell
from analysis.posterior.drawing import LOSS, NORMALISATION, y_axis
from analysis.posterior.results import PosteriorResults
from analysis.posterior.text import convergence_text, loss_text, number, per_cent
from analysis.report.look import ADAPTIVE_KERNEL, EXACT, MIXTURE, SAMPLED, THEORY
from analysis.report.numbers import pm
from analysis.report.plotting import legend_below, log_axis
from analysis.report.section import Section, Table, aligned

COLUMNS = 3
ADAPTIVE = ("adaptive kernel", "deviation from it")
NETWORK = {"finite": "finite width", "infinite": "infinite width", "": "undecided"}

CAPTION = (
    f"{NORMALISATION} For each number P of training samples: what theory says at the saddle point of the order "
    "parameter (line), with the order parameter integrated over (dots), at infinite width (black), with a kernel that "
    "changes its shape (diamonds, with the error of the mean over populations of neurons; where it was computed), "
    "and networks sampled from the posterior (points, with the Monte Carlo error of the mean over chains). Below: "
    "points and diamonds over the line; without samples, infinite width over it (black)."
)

LOSS_NOTE = (
    "Errors are Monte Carlo standard errors of the mean over all chains, for the training sets of this study. "
    "Deviation: from the finite-width theory; s.e.: in units of that error. Theory is exact arithmetic but an "
    "approximation, the better the smaller P/N1: a few per cent at 1, a third at 4 on digits; so deviations need not "
    "be statistical. Closer: of theory and infinite width; undecided within two errors of the middle between them. "
    "With several draws of the training set, R-hat is the largest and ESS the smallest."
)

ADAPTIVE_NOTE = (
    "Theory knows only the scale of the kernel; that its shape changes too is what the adaptive kernel mends. Its "
    "errors are those of the mean over populations of neurons, rough if these are few; the deviation from it is in "
    "units of its error and that of the samples together."
)


def loss(results: PosteriorResults) -> Figure:
    """Loss against N1 for each P, and its ratio to theory."""
    sizes = results.theory.n_train.values
    columns = min(COLUMNS, len(sizes))
    rows = math.ceil(len(sizes) / columns)
    figure = Figure(figsize=(max(3.4 * columns, 4.6), 4.4 * rows + 0.5))
    axes = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, height_ratios=[2.3, 1] * rows)
    for axis in axes.ravel():
        axis.set_visible(False)
    for i, n in enumerate(sizes):
        top, bottom = axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]
        _loss_panel(results, int(n), top, bottom)
        top.set_title(f"P = {n:,}")
        if i % columns == 0:
            top.set_ylabel(LOSS)
            bottom.set_ylabel("ratio to theory")
    legend_below(figure, axes.ravel(), 2 * columns)  # not every P need have samples
    return figure


def _loss_panel(results: PosteriorResults, n: int, top: Axes, bottom: Axes) -> None:
    cells = results.of_size(n)
    width = np.array([cell.width for cell in cells], float)
    top.plot(width, [cell.theory for cell in cells], **THEORY, marker=".", label="theory, saddle point")
    top.plot(width, [cell.mixture for cell in cells], **MIXTURE, label="theory, $\\bar Q$ integrated over")
    infinite = next((cell.infinite for cell in cells if math.isfinite(cell.infinite)), math.nan)
    top.axhline(infinite, **EXACT, label="infinite width")
    bottom.axhline(1, **THEORY)
    _adaptive_points([cell for cell in cells if cell.is_adaptive], top, bottom)
    if there := [cell for cell in cells if cell.is_sampled]:
        at = [cell.width for cell in there]
        top.errorbar(at, [c.sampled for c in there], [c.stderr for c in there], label="sampled posterior", **SAMPLED)
        ratios, errors = [c.sampled / c.theory for c in there], [c.stderr / c.theory for c in there]
        bottom.errorbar(at, ratios, errors, **SAMPLED)
        ratios += [c.adaptive / c.theory for c in cells if c.is_adaptive]
        errors += [c.adaptive_stderr / c.theory for c in cells if c.is_adaptive]
        reach = max(float(np.max(np.abs(np.array(ratios) - 1) + errors)) * 1.4, 0.04)
        bottom.set_ylim(1 - reach, 1 + reach)
    else:
        bottom.plot(width, [cell.infinite / cell.theory for cell in cells], **EXACT)
    for axis in (top, bottom):
        axis.set_visible(True)
        log_axis(axis, width)
    y_axis(top)
    top.tick_params(labelbottom=False)
    bottom.tick_params(labelbottom=True)
    bottom.set_xlabel("width $N_1$")


def _adaptive_points(cells: list[ComparedCell], top: Axes, bottom: Axes) -> None:
    """Hollow and larger than the points of the samples, which they often surround."""
    width = [cell.width for cell in cells]
    if cells:
        top.errorbar(width, [c.adaptive for c in cells], [c.adaptive_stderr for c in cells],
                     label="theory, adaptive kernel", **ADAPTIVE_KERNEL)  # fmt: skip
        bottom.errorbar(width, [c.adaptive / c.theory for c in cells], [c.adaptive_stderr / c.theory for c in cells],
                        **ADAPTIVE_KERNEL)  # fmt: skip


def rows(results: PosteriorResults) -> list[Sequence[str]]:
    """One row a (P, N1), its heading first."""
    several = results.study.posterior.draws > 1
    adaptive = bool(results.adaptive_cells)
    also = (*(ADAPTIVE if adaptive else ()), *(("sd over draws",) if several else ()))
    return [
        ("P", "N1", "theory", "infinite width", "sampled", "deviation", "closer", *also, "s", "R-hat", "ESS"),
        *(_row(cell, adaptive=adaptive, several=several) for cell in results.cells),
    ]


def _row(cell: ComparedCell, *, adaptive: bool, several: bool) -> Sequence[str]:
    return (
        f"{cell.n_train:,}",
        f"{cell.width:,}",
        loss_text(cell.theory),
        loss_text(cell.infinite),
        pm(cell.sampled, cell.stderr),
        _deviation(cell.deviation, cell.pull),
        (cell.closer or "undecided") if cell.is_sampled else "",
        *(_adaptive(cell) if adaptive else ()),
        *([number(cell.spread, ".2g")] if several else []),
        number(cell.s, ".3g"),
        *convergence_text(cell.r_hat, cell.ess),
    )


def _adaptive(cell: ComparedCell) -> tuple[str, str]:
    return pm(cell.adaptive, cell.adaptive_stderr), _deviation(cell.adaptive_deviation, cell.adaptive_pull)


def _deviation(fraction: float, pull: float) -> str:
    return f"{per_cent(fraction)} ({pull:+.1f} s.e.)" if math.isfinite(fraction) else ""


def summary(results: PosteriorResults) -> list[str]:
    shown = 8 if results.adaptive_cells else 7
    lines = aligned([row[:shown] for row in rows(results)])
    return [*lines, "test loss: mean of (f - y)^2, twice that of kind ensemble"]


def entries(results: PosteriorResults) -> pd.DataFrame:
    """One row a (P, N1)."""
    return pd.DataFrame([_entry(cell) for cell in results.cells])


def _entry(cell: ComparedCell) -> dict[str, Any]:
    return {
        "n_train": cell.n_train, "width": cell.width, "theory": cell.theory, "infinite_width": cell.infinite,
        "mixture": cell.mixture, "adaptive": cell.adaptive, "adaptive_stderr": cell.adaptive_stderr,
        "sampled": cell.sampled, "sampled_stderr": cell.stderr,
        "draw_spread": cell.spread, "deviation": cell.deviation, "pull": cell.pull,
        "infinite_width_deviation": cell.infinite_deviation, "infinite_width_pull": cell.infinite_pull,
        "adaptive_deviation": cell.adaptive_deviation, "adaptive_pull": cell.adaptive_pull,
        "closer": NETWORK[cell.closer] if cell.is_sampled else "", "q_bar": cell.q_bar,
        "sampled_q_bar": cell.sampled_q_bar, "sampled_q_bar_stderr": cell.q_bar_stderr, "s": cell.s,
        "r_hat": cell.r_hat, "ess": cell.ess, "draws": cell.draws,
    }  # fmt: skip


def _note(results: PosteriorResults) -> str:
    return f"{LOSS_NOTE} {ADAPTIVE_NOTE}" if results.adaptive_cells else LOSS_NOTE


SECTION: Section[PosteriorResults] = Section(
    title="Loss against width",
    figure=loss,
    caption=CAPTION,
    tables=lambda results: [Table(rows(results), _note(results))],
    summary=summary,
    files=lambda results: {"losses": entries(results)},
)

"""The figures of the report of a posterior. Each function draws one from results; nothing is computed.

Colour means width, or the number of training samples where widths are on the axis; black is infinite width, grey
dashes the ensemble trained to the end.
"""

import math
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from analysis.bayes.comparison import Cell
from analysis.bayes.coverage import LAWS
from analysis.bayes.results import Results
from analysis.plotting import END, EXACT, legend, log_y, mark_partial, points_of, style

LOSS = "test loss, mean of $(f-y)^2$"
NAMES = {
    "mu_L": "$\\mu_L$, mean of $(f-y)^2$",
    "sigma_L": "$\\sigma_L$, $L$ = mean of $(f-y)^2$",
    "eps_L": "$\\epsilon_L = \\sigma_L/\\mu_L$",
    "eps_pop": "$\\epsilon_\\mathrm{pop}$ of an endless test set",
}
COLUMNS = 3
WIDE = 3.0
"""Ratio of values from which an axis is logarithmic."""

SHOWN = 3
"""Training-set sizes whose distributions are shown."""


def draw_all(results: Results) -> dict[str, Figure]:
    """Every figure that has something to show by the name of its files; a banner on each if shards are missing."""
    functions = [loss, order_parameter, distribution, scaling]
    if results.scans:
        functions.append(scans)
    if results.sampled_cells:
        functions.append(chains)
    drawn = {}
    with style():
        for function in functions:
            drawn[function.__name__] = function(results)
            mark_partial(drawn[function.__name__], results.missing)
    return drawn


def loss(results: Results) -> Figure:
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
    # Not every P need have samples.
    known = {
        label: handle for axis in axes.ravel() for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=min(len(known), 2 * columns))
    return figure


def _loss_panel(results: Results, n: int, top: Axes, bottom: Axes) -> None:
    cells = results.of_size(n)
    width = np.array([cell.width for cell in cells], float)
    color = "tab:blue"
    top.plot(width, [cell.theory for cell in cells], color=color, marker=".", label="theory, saddle point")
    top.plot(width, [cell.mixture for cell in cells], color=color, lw=0.7, ls=":", label="theory, Qb integrated over")
    infinite = next((cell.infinite for cell in cells if math.isfinite(cell.infinite)), math.nan)
    top.axhline(infinite, **{**EXACT, "ls": "--"}, label="infinite width")
    bottom.axhline(1, color=color, lw=1.5)
    _adaptive_points([cell for cell in cells if cell.is_adaptive], top, bottom)
    if there := [cell for cell in cells if cell.is_sampled]:
        at = [cell.width for cell in there]
        look: dict[str, Any] = {"fmt": "o", "color": "tab:red", "zorder": 3}
        top.errorbar(at, [c.sampled for c in there], [c.stderr for c in there], label="sampled posterior", **look)
        ratios, errors = [c.sampled / c.theory for c in there], [c.stderr / c.theory for c in there]
        bottom.errorbar(at, ratios, errors, **look)
        ratios += [c.adaptive / c.theory for c in cells if c.is_adaptive]
        errors += [c.adaptive_stderr / c.theory for c in cells if c.is_adaptive]
        reach = max(float(np.max(np.abs(np.array(ratios) - 1) + errors)) * 1.4, 0.04)
        bottom.set_ylim(1 - reach, 1 + reach)
    else:
        bottom.plot(width, [cell.infinite / cell.theory for cell in cells], **{**EXACT, "ls": "--"})
    for axis in (top, bottom):
        axis.set_visible(True)
        _log_axis(axis, width)
    _y_axis(top)
    top.tick_params(labelbottom=False)
    bottom.tick_params(labelbottom=True)
    bottom.set_xlabel("width $N_1$")


def _adaptive_points(cells: list[Cell], top: Axes, bottom: Axes) -> None:
    """Hollow and larger than the points of the samples, which they often surround."""
    look: dict[str, Any] = {"fmt": "D", "color": "tab:purple", "mfc": "none", "ms": 8, "zorder": 2.5}
    width = [cell.width for cell in cells]
    if cells:
        top.errorbar(width, [c.adaptive for c in cells], [c.adaptive_stderr for c in cells],
                     label="theory, adaptive kernel", **look)  # fmt: skip
        bottom.errorbar(width, [c.adaptive / c.theory for c in cells], [c.adaptive_stderr / c.theory for c in cells],
                        **look)  # fmt: skip


def order_parameter(results: Results) -> Figure:
    """Qb against N1 for each P, and s against P."""
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    sizes = results.theory.n_train.values
    colours = mpl.colormaps["plasma"](np.linspace(0.05, 0.8, len(sizes)))
    shifts = _shifts(len(sizes))
    for n, colour, shift in zip(sizes, colours, shifts, strict=True):
        cells = results.of_size(int(n))
        width = np.array([cell.width for cell in cells], float)
        left.plot(width, [cell.q_bar for cell in cells], color=colour, marker=".", ms=3, label=f"P = {n:,}")
        there = [cell for cell in cells if cell.is_sampled]
        left.errorbar([c.width * shift for c in there], [c.sampled_q_bar for c in there],
                      [c.q_bar_stderr for c in there], fmt="o", color=colour)  # fmt: skip
        right.plot(n, cells[0].s, "o", color=colour)
    left.axhline(1, **{**EXACT, "ls": "--"}, label="infinite width")
    _log_axis(left, np.array([cell.width for cell in results.cells], float))
    left.set_xlabel("width $N_1$")
    left.set_ylabel("order parameter $\\bar Q$")
    left.set_title("lines theory, points sampled networks" if results.sampled_cells else "theory")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(sizes) + 1, 8))
    right.axhline(1, color="black", lw=0.8)
    _log_axis(right, sizes)
    right.set_ylim(0, max(1.25, 1.1 * float(np.nanmax([c.s for c in results.cells if math.isfinite(c.s)] or [1]))))
    for y, text, side in ((1, "infinite width is best", "bottom"), (0.99, "finite width helps", "top")):
        right.annotate(text, (0.98, y), xycoords=("axes fraction", "data"), ha="right", va=side, color="0.35")
    right.set_xlabel("training samples P")
    right.set_ylabel("s of the sign rule")
    return figure


def scans(results: Results) -> Figure:
    """Loss and Qb against temperature and against the read-out's precision, at the largest P."""
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
        for width, look in _widths(one.theory_width.values):
            for axis, quantity in zip(column, ("loss", "q_bar"), strict=True):
                mine = float(own[quantity].sel(theory_width=width))
                y = np.append(one[quantity].sel(theory_width=width).values, mine)
                axis.plot(x[order], y[order], color=look["color"], lw=1.4, marker=".", label=look["label"])
                axis.plot(here, mine, "o", color=look["color"], mfc="none", ms=8)
        for axis in column:
            axis.set_xscale("log")
        _y_axis(column[0])
        column[1].set_xlabel(label)
        if name == "readout":
            _own_ticks(column[1], x[order], "{:g}")
    axes[0, 0].set_ylabel(LOSS)
    axes[1, 0].set_ylabel("order parameter $\\bar Q$")
    axes[0, 0].set_title(f"P = {int(results.theory.n_train[-1]):,}", loc="left")
    legend(axes[0, -1], fontsize=8)
    return figure


def distribution(results: Results) -> Figure:
    """L of sampled networks against theory's distribution; coverage of credible intervals below."""
    sampled = results.coverage is not None
    known = results.sampled.n_train.values if results.sampled is not None else results.theory.n_train.values
    chosen = [int(known[i]) for i in sorted({0, len(known) // 2, len(known) - 1})][:SHOWN]
    figure = Figure(figsize=(max(3.6 * len(chosen), 5), 7 if sampled else 3.8))
    axes = figure.subplots(2 if sampled else 1, len(chosen), squeeze=False, sharey="row")
    probability = results.theory["quantile"].values
    for column, n in zip(axes.T, chosen, strict=True):
        law = results.theory.quantiles.sel(n_train=n).isel(draw=0)
        for width, look in _widths(results.theory.theory_width.values):
            if math.isinf(width):
                column[0].plot(law.sel(theory_width=width), probability, **EXACT, label="infinite width")
                continue
            column[0].plot(law.sel(theory_width=width), probability, color=look["color"], lw=1, label=look["label"])
            if sampled and width in results.store.sampled_width:
                _empirical(results, column, width, n, look)
        column[0].set_title(f"P = {n:,}")
        column[0].set_xlabel("$L$ of one network, mean of $(f-y)^2$")
        column[0].xaxis.set_major_locator(MaxNLocator(5))
        if sampled:
            column[1].plot([0, 1], [0, 1], color="0.4", lw=1, ls=":")
            column[1].set_xlabel("credible interval")
            column[1].set_xlim(0.45, 0.99)
            column[1].set_ylim(-0.03, 1.03)
            column[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
            column[1].yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    axes[0, 0].set_ylabel("share of networks with a smaller loss")
    if sampled:
        axes[0, -1].step([], [], color="0.4", lw=1, alpha=0.55, label="steps: sampled")
    legend(axes[0, -1], fontsize=8, loc="lower right")
    if sampled:
        axes[1, 0].set_ylabel("share of sampled networks inside")
        for law_name, fill in zip(LAWS, ("black", "none"), strict=True):
            axes[1, 0].plot([], [], "o", color="black", mfc=fill, label=f"interval of {law_name}")
        legend(axes[1, 0], fontsize=8)
    return figure


def _empirical(results: Results, column: Any, width: float, n: int, look: dict[str, Any]) -> None:
    losses = results.store.sample_loss.sel(sampled_width=int(width), sampled_n_train=n).isel(draw=0).values.ravel()
    losses = np.sort(losses[np.isfinite(losses)])
    if len(losses):
        share = np.arange(1, len(losses) + 1) / len(losses)
        column[0].step(losses, share, where="post", color=look["color"], lw=1, ls="-", alpha=0.55)
    if results.coverage is None:
        return
    for law, fill in zip(LAWS, (look["color"], "none"), strict=True):
        one = results.coverage.sel(law=law, width=int(width), n_train=n)
        error = np.sqrt((one.stderr**2).sum("draw")) / np.isfinite(one.stderr).sum("draw").clip(1)
        column[1].errorbar(one["level"] * look["shift"], one.share.mean("draw"), error, fmt="o", color=look["color"],
                           mfc=fill)  # fmt: skip


def scaling(results: Results) -> Figure:
    """mu_L, sigma_L, eps_L and eps_pop against N_D: posterior, samples of it, and gradient descent."""
    figure = Figure(figsize=(10, 7))
    axes = figure.subplots(2, 2, sharex=True)
    for axis, name in zip(axes.ravel(), NAMES, strict=True):
        for width, look in _widths(results.theory.theory_width.values):
            curve = results.theory[name].sel(theory_width=width)
            line = EXACT if math.isinf(width) else {"color": look["color"], "lw": 1.1}
            _line(axis, curve, line, f"posterior, {look['label']}", band=math.isinf(width))
            if results.sampled is not None and name in results.sampled and width in results.sampled.width:
                one = results.sampled.sel(width=int(width))
                axis.errorbar(one.n_train * look["shift"], one[name], one[f"{name}_stderr"], fmt=look["fmt"],
                              color=look["color"])  # fmt: skip
        _line(axis, results.descent[name], END, "trained to the end, infinite width", band=True)
        axis.set_ylabel(NAMES[name])
        _y_axis(axis)
        _log_axis(axis, results.theory.n_train.values)
    for axis in axes[1]:
        axis.set_xlabel("training samples $N_D$ = P")
    if results.sampled_cells:
        axes[0, 0].plot([], [], "o", color="0.4", label="points: sampled networks of that width")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def chains(results: Results) -> Figure:
    """Traces of the cell with the largest R-hat."""
    figure = Figure(figsize=(10, 3.4))
    axes = figure.subplots(1, 2)
    if results.chains is None:
        return figure
    ranked = results.chains.r_hat.fillna(-math.inf)
    worst = ranked.isel({dim: int(i) for dim, i in ranked.argmax(...).items()})
    cell = results.store.sel(sampled_width=int(worst.width), sampled_n_train=int(worst.n_train), draw=int(worst.draw))
    for axis, name, label in zip(
        axes, ("sample_expected_loss", "sample_q_bar"), (LOSS, "order parameter $\\bar Q$"), strict=True
    ):
        for chain in cell[name].values:
            axis.plot(cell["sample"].values, chain, lw=0.6, alpha=0.8)
        axis.set_xlabel("kept sample")
        axis.set_ylabel(label)
    axes[0].set_title(
        f"P = {int(worst.n_train):,}, $N_1$ = {int(worst.width):,}, draw {int(worst.draw)}: "
        f"R-hat {float(worst):.3f}", loc="left",
    )  # fmt: skip
    return figure


def _line(axis: Axes, curve: xarray.DataArray, line: dict[str, Any], label: str, *, band: bool) -> None:
    """Mean over draws, and the spread between them."""
    mean, n = curve.mean("draw"), curve.n_train.values
    axis.plot(n, mean, **line, marker=".", ms=3, label=label)
    if band and curve.sizes["draw"] > 1:
        spread = curve.std("draw", ddof=1)
        axis.fill_between(n, mean - spread, mean + spread, color=line["color"], alpha=0.1, lw=0)


def _widths(widths: np.ndarray) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each width with its look; the last is infinity, and black."""
    finite = len(widths) - 1
    colours = mpl.colormaps["viridis"](np.linspace(0.85, 0.15, finite))
    for i, width in enumerate(widths[:-1]):
        yield float(width), {
            "color": mpl.colors.to_hex(colours[i]), "fmt": "osD^vP*X"[i % 8], "shift": _shifts(finite)[i],
            "label": f"width {int(width):,}",
        }  # fmt: skip
    yield math.inf, {"color": "black", "fmt": "o", "shift": 1.0, "label": "infinite width"}


def _shifts(count: int) -> np.ndarray:
    """Factors that move points apart a little, so that error bars can be read."""
    return np.geomspace(0.985, 1.015, count) if count > 1 else np.ones(1)


def _log_axis(axis: Axes, values: np.ndarray) -> None:
    """A logarithmic x axis of these values, which may be one."""
    axis.set_xscale("log")
    _own_ticks(axis, values)
    low, high = float(np.min(values)), float(np.max(values))
    margin = (high / low) ** 0.06 if high > low else 2.0
    axis.set_xlim(low / margin, high * margin)


def _y_axis(axis: Axes) -> None:
    """Logarithmic where values span so much that its ticks can be read."""
    y = points_of(axis)[:, 1]
    if (y > 0).all() and len(y) and y.max() > WIDE * y.min():
        log_y(axis)


def _own_ticks(axis: Axes, values: np.ndarray, form: str = "{:,.0f}") -> None:
    """The values themselves on a logarithmic axis, without those that would touch."""
    kept: list[float] = []
    for value in np.unique(values):
        if not kept or value / kept[-1] > (np.max(values) / np.min(values)) ** 0.07:
            kept.append(float(value))
    axis.set_xticks(kept, [form.format(value) for value in kept])
    axis.xaxis.set_minor_locator(NullLocator())

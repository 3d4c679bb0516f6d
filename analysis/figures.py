"""The figures of the report. Each function draws one from results and returns a matplotlib Figure; nothing is computed.

Colour means width everywhere; black is infinite width with the ensemble's own steps, grey dashes the end of training.
"""

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plotting import END, EXACT, legend, log_x, log_y, mark_partial, style
from analysis.results import Results

NAMES = {
    "mu_L": "mean test loss $\\mu_L$",
    "sigma_L": "standard deviation $\\sigma_L$",
    "eps_L": "relative spread $\\epsilon_L = \\sigma_L/\\mu_L$",
    "eps_pop": "$\\epsilon_L$ of an endless test set, $\\epsilon_\\mathrm{pop}$",
}


def draw_all(results: Results) -> dict[str, Figure]:
    """Every figure by the name of its files; a banner on each if shards are missing."""
    drawn = {}
    with style():
        for function in (learning_curves, residuals, flattening, distribution, width_dependence, bias_and_variance):
            figure = function(results)
            mark_partial(figure, results.missing)
            drawn[function.__name__] = figure
    return drawn


def learning_curves(results: Results) -> Figure:
    """mu_L and eps_L against n_train for every width, with fits; below, their ratio to the law of the same steps."""
    figure = Figure(figsize=(10, 6.2))
    axes = figure.subplots(2, 2, sharex="col", height_ratios=[2.4, 1])
    for column, name in enumerate(("mu_L", "eps_L")):
        top, bottom = axes[:, column]
        _exact_lines(top, results, name)
        for width, look in _widths(results):
            cell = results.mean.sel(width=width)
            _points(top, cell, name, **look, label=f"width {width:,}")
            fit = results.fits.get((name, width))
            if fit is not None:
                n = np.geomspace(results.sizes[0], results.sizes[-1], 100)
                top.plot(n, fit.any_draw.none(n), color=look["color"], lw=0.9, alpha=0.8)
            ratio = results.agreement[f"{name}_ratio"].sel(width=width).mean("draw")
            stderr = cell[f"{name}_stderr"] / results.law_mean[name]
            bottom.errorbar(results.sizes * look["shift"], ratio, stderr, fmt=look["fmt"], color=look["color"])
        bottom.axhline(1, **EXACT)
        top.set_ylabel(NAMES[name])
        bottom.set_ylabel("ratio to\ninfinite width")
        bottom.set_xlabel("training samples $N_D$")
        log_y(top)
        log_x(bottom)
        legend(top, fontsize=8)
    return figure


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-3 else "p < 0.001"


def residuals(results: Results) -> Figure:
    """What the fitted power laws leave: pulls of the ensembles, and per cent of the exact curves."""
    names = ("mu_L", "sigma_L", "eps_L")
    figure = Figure(figsize=(10, 5.2))
    axes = figure.subplots(2, 3, sharey="row")
    for column, name in enumerate(names):
        top, bottom = axes[:, column]
        for width, look in _widths(results):
            fit = results.fits.get((name, width))
            if fit is not None:
                one = fit.any_draw
                top.plot(np.asarray(one.n) * look["shift"], one.none.pulls, look["fmt"], color=look["color"],
                         label=f"width {width:,}: {_p(one.none.p_value)}")  # fmt: skip
        top.axhspan(-1, 1, color="0.9", zorder=0)
        top.axhline(0, color="black", lw=0.8)
        top.set_title(NAMES[name])
        legend(top, fontsize=7.5)
        for time, label, line in _times(results):
            left = results.curve_fits.get((name, time))
            if left is not None:
                bottom.plot(results.curve.n_train, 100 * left.residual, marker=".", **line, label=label)
        bottom.axhline(0, color="black", lw=0.8)
        for axis in (top, bottom):
            log_x(axis)
        bottom.set_xlabel("training samples $N_D$")
        legend(bottom, fontsize=7.5)
    axes[0, 0].set_ylabel("pull of the fit (data - fit)/error")
    axes[1, 0].set_ylabel("exact curve over its\npower law - 1 [%]")
    return figure


def flattening(results: Results) -> Figure:
    """Why eps_L flattens: few test points, or few steps. Infinite width, and the widest ensemble beside it."""
    figure = Figure(figsize=(10, 4.4))
    left, right = figure.subplots(1, 2, sharey=True)
    curve, own = results.curve.mean("draw"), results.law_mean  # on the left the samples of the ensemble itself
    sizes = own.test_size.values
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, len(sizes)))
    widest = results.mean.isel(width=-1)
    for size, colour in zip(sizes, colours, strict=True):
        left.plot(own.n_train, own.size_sigma.sel(test_size=size) / own.mu_L, color=colour, lw=1.4,
                  label=f"$N_T$ = {size:,}")  # fmt: skip
        left.plot(widest.n_train, widest.size_sigma.sel(test_size=size) / widest.mu_L, "o", color=colour, ms=3.2,
                  label=f"the same, width {int(widest.width):,}" if size == sizes[0] else None)  # fmt: skip
    left.plot(own.n_train, own.eps_pop, **EXACT, label="endless test set")
    left.errorbar(widest.n_train, widest.eps_pop, widest.eps_pop_stderr, fmt="s", color="black", ms=3.5,
                  label=f"endless test set, width {int(widest.width):,}")  # fmt: skip
    left.set_title("test points: lines infinite width, dots the ensemble")
    left.set_ylabel("$\\epsilon_L$")
    for time, label, line in _times(results):
        one = curve.sel(time=time)
        right.plot(one.n_train, one.eps_L, **line, label=f"{label}, $N_T$ = {sizes[-1]:,}")
        right.plot(one.n_train, one.eps_pop, **{**line, "lw": 0.8}, marker=".", ms=4, label=f"{label}, endless")
    right.set_title("training time, at infinite width")
    for axis in (left, right):
        log_y(axis)
        log_x(axis)
        axis.set_xlabel("training samples $N_D$")
        legend(axis, fontsize=8)
    return figure


def distribution(results: Results) -> Figure:
    """The losses of all members against the exact distribution of the same steps at infinite width."""
    chosen = sorted({0, len(results.sizes) // 2, len(results.sizes) - 1})
    figure = Figure(figsize=(3.6 * len(chosen), 3.8))
    axes = np.atleast_1d(figure.subplots(1, len(chosen), sharey=True))
    probability = results.store["quantile"].values
    for axis, i in zip(axes, chosen, strict=True):
        exact = results.law.loss.isel(draw=0, n_train=i).values
        for width, look in _widths(results):
            losses = np.sort(results.losses(width, i))
            if len(losses):
                p = float(results.agreement.ks_p_value.sel(width=width).isel(n_train=i, draw=0))
                axis.step(losses, np.arange(1, len(losses) + 1) / len(losses), where="post", color=look["color"],
                          lw=1.2, label=f"width {width:,}: {_p(p)}")  # fmt: skip
        axis.plot(exact, probability, **EXACT, label="infinite width, exact")
        axis.set_title(f"$N_D$ = {results.sizes[i]:,}")
        axis.set_xlabel("test loss $L$ of one network")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        legend(axis, fontsize=7.5, loc="lower right")
    axes[0].set_ylabel("share of networks with a smaller loss")
    return figure


def width_dependence(results: Results) -> Figure:
    """mu_L and eps_L over their infinite-width values, against 1/width, with the lines 1 + a/width."""
    figure = Figure(figsize=(10, 4))
    axes = figure.subplots(1, 2)
    colours = mpl.colormaps["plasma"](np.linspace(0.05, 0.85, len(results.sizes)))
    widths = results.mean.width.values
    apart = (np.arange(len(results.sizes)) - (len(results.sizes) - 1) / 2) * 0.006 / widths[0]
    for axis, name in zip(axes, ("mu_L", "eps_L"), strict=True):
        for i, colour in enumerate(colours):
            exact = float(results.law_mean[name].isel(n_train=i))
            cell = results.mean.isel(n_train=i)
            axis.errorbar(1 / widths + apart[i], cell[name] / exact, cell[f"{name}_stderr"] / exact, fmt="o",
                          color=colour, label=f"$N_D$ = {results.sizes[i]:,}")  # fmt: skip
            fit = results.width_fits.get((name, int(results.sizes[i])))
            if fit is not None:
                x = np.array([0, 1.05 / widths[0]])
                axis.plot(x, 1 + fit.relative * x, color=colour, lw=0.8, alpha=0.7)
        axis.axhline(1, **EXACT)
        axis.set_xticks(1 / widths, [f"1/{w:,}" for w in widths])
        axis.set_xlabel("1/width")
        axis.set_ylabel(f"{NAMES[name].split('=')[0].strip()}{'$' if '=' in NAMES[name] else ''} / infinite width")
    legend(axes[0], fontsize=8, ncols=2)
    return figure


def bias_and_variance(results: Results) -> Figure:
    """The two parts of mu_L: what the mean prediction gets wrong, and what the initialisation adds."""
    figure = Figure(figsize=(10, 3.9))
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, name, title in ((left, "bias2", "bias$^2$ of the mean prediction"),
                              (right, "variance", "variance over initialisations")):  # fmt: skip
        _exact_lines(axis, results, name)
        for width, look in _widths(results):
            _points(axis, results.mean.sel(width=width), name, **look, label=f"width {width:,}")
        axis.set_title(f"{title} (in units of the loss)")
        log_y(axis)
        log_x(axis)
        axis.set_xlabel("training samples $N_D$")
    legend(left, fontsize=8)
    return figure


def _widths(results: Results) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each width with its colour and marker; points are moved apart a little so that error bars can be read."""
    widths = [int(width) for width in results.mean.width.values]
    colours = mpl.colormaps["viridis"](np.linspace(0.8, 0.15, len(widths)))
    shifts = np.geomspace(0.985, 1.015, len(widths)) if len(widths) > 1 else [1.0]
    for i, width in enumerate(widths):
        yield width, {"color": mpl.colors.to_hex(colours[i]), "fmt": "osD^vP*X"[i % 8], "shift": float(shifts[i])}


def _points(axis: Axes, cell: xarray.Dataset, name: str, *, color: str, fmt: str, shift: float, label: str) -> None:
    n = cell.n_train.values * shift
    axis.errorbar(n, cell[name], cell[f"{name}_stderr"], fmt=fmt, color=color, label=label, lw=1)


def _times(results: Results) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Training times of the curve, with their names for a reader and their lines."""
    steps = results.study.training.steps
    rule = f"{steps.factor:g} $N_D$ steps" if steps.power == 1 else f"{steps.factor:g} $N_D^{{{steps.power:g}}}$ steps"
    looks = {
        "steps": (rule, EXACT),
        "fixed": (f"{results.study.infinite_width.fixed_steps:,} steps", {"color": "tab:red", "lw": 1.4}),
        "infinite": ("end of training", END),
    }
    for time in results.curve.time.values:
        yield str(time), *looks[str(time)]


def _exact_lines(axis: Axes, results: Results, name: str) -> None:
    """The law of the ensemble's own cells, the curve of the same steps beyond them, and the end of training."""
    law = results.law_mean[name]
    axis.plot(law.n_train, law, **EXACT, label="infinite width, same steps and data", zorder=1.5)
    for time, label, line in _times(results):
        if time == "fixed":
            continue
        mean, spread = results.curve[name].sel(time=time).mean("draw"), results.curve[name].sel(time=time).std("draw")
        band = {**line, "lw": 0.9} if time == "steps" else line
        draws = results.curve.sizes["draw"]
        axis.plot(mean.n_train, mean, **band, label=f"infinite width, {label}, {draws} draws", zorder=1.4)
        axis.fill_between(mean.n_train, mean - spread, mean + spread, color=line["color"], alpha=0.12, lw=0)

"""What the figures of an ensemble share: widths, training times, points and exact lines.

A width has one colour, marker and kind of dashes everywhere. Solid black is infinite width with the ensemble's own
steps, grey dashes the end of training, dots a fixed number of steps, dashes and dots the posterior of the NNGP.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from analysis.contrasts import Curve
from analysis.ensemble.results import EnsembleResults
from analysis.report.look import CLOSE, END, EXACT, EXACT_OTHER, FIXED, POSTERIOR, Look, series

NAMES = {
    "mu_L": "mean test loss $\\mu_L$",
    "sigma_L": "standard deviation $\\sigma_L$",
    "eps_L": "relative spread $\\epsilon_L = \\sigma_L/\\mu_L$",
    "eps_pop": "$\\epsilon_L$ of an endless test set, $\\epsilon_\\mathrm{pop}$",
}


TIMES = {
    "steps": "same rule of steps",
    "fixed": "fixed steps",
    "infinite": "end of training",
    "posterior": "NNGP posterior",
}
"""Training times of exact curves, in words."""


def chance_label(p: float) -> str:
    """A probability in the legend of a figure."""
    return f"p = {p:.2g}" if p >= 1e-3 else "p < 0.001"


def widths(results: EnsembleResults) -> Iterator[tuple[int, Look]]:
    """Each width with its look."""
    found = [int(width) for width in results.mean.width.values]
    yield from zip(found, series(len(found)), strict=True)


def points(axis: Axes, cell: xarray.Dataset, name: str, look: Look, label: str, *, share: float = CLOSE) -> None:
    """An ensemble's values with 68 % intervals; those of other widths are moved apart, so that bars can be read."""
    n = look.apart(cell.n_train.values, share)
    axis.errorbar(n, cell[name], cell[f"{name}_half"], **look.points, label=label)


def shown(axis: Axes, results: EnsembleResults, name: str, width: int, look: Look, *, share: float = CLOSE) -> None:
    """The points of a width as the first chapters have them."""
    label = f"width {width:,}{results.headline.mark(width, name)}"
    points(axis, shown_values(results, name).sel(width=width), name, look, label, share=share)


def shown_values(results: EnsembleResults, name: str) -> xarray.Dataset:
    """Over (width, n_train), `<name>` and half of its 68 % interval, `<name>_half`, as the first chapters have them:
    two-level estimates, or the ensemble's values."""
    found = results.mean[[name, f"{name}_half"]].copy(deep=True)
    for quantity, width in results.headline.gains:
        for i, n in enumerate(results.sizes):
            if quantity == name and (one := results.headline.value(name, width, i)) is not None:
                cell = {"width": width, "n_train": n}
                found[name].loc[cell], found[f"{name}_half"].loc[cell] = one.value, one.half()
    return found


def times(results: EnsembleResults) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Training times of the curve, with their names for a reader and their lines; none without a curve."""
    if not results.has_curve:
        return
    steps, section = results.study.training.steps, results.study.infinite_width
    rule = f"{steps.factor:g} $N_D$ steps" if steps.power == 1 else f"{steps.factor:g} $N_D^{{{steps.power:g}}}$ steps"
    looks = {
        "steps": (rule, EXACT),
        "fixed": (f"{section.fixed_steps:,} steps", FIXED),
        "infinite": (TIMES["infinite"] + _added("ridge", section.ridge), END),
        "posterior": (TIMES["posterior"] + _added("noise variance", section.noise), POSTERIOR),
    }
    for time in results.curve.time.values:
        yield str(time), *looks[str(time)]


def _added(name: str, value: float) -> str:
    """What is added to the kernel, behind the name of a time."""
    return f", {name} {value:g}" if value else ""


def exact_lines(axis: Axes, results: EnsembleResults, name: str) -> None:
    """The law of the ensemble's own cells, the curve of the same steps beyond them, and the end of training."""
    if results.has_law:
        law = results.law_mean[name]
        axis.plot(law.n_train, law, **EXACT, label="infinite width, same steps and data", zorder=1.5)
    for time, label, line in times(results):
        if time in ("fixed", "posterior"):
            continue
        mean, spread = results.curve[name].sel(time=time).mean("draw"), results.curve[name].sel(time=time).std("draw")
        shown = EXACT_OTHER if time == "steps" else line
        if results.is_iterated:
            error = results.curve[f"{name}_error"].sel(time=time).mean("draw")
            spread = xarray.apply_ufunc(np.hypot, spread, error)
        draws = results.curve.sizes["draw"]
        axis.plot(mean.n_train, mean, **shown, label=f"infinite width, {label}, {draws} draws", zorder=1.4)
        axis.fill_between(mean.n_train, mean - spread, mean + spread, color=line["color"], alpha=0.15, lw=0)


def local_exponents(axis: Axes, exact: Curve, look: dict[str, Any], label: str) -> None:
    """Local exponents of an exact curve between neighbours, with the errors that it has."""
    steps = [exact.local_slope(i) for i in range(len(exact.n) - 1)]
    value, half = np.array([one.value for one in steps]), np.array([one.half() for one in steps])
    middle = np.sqrt(exact.n[1:] * exact.n[:-1])
    axis.plot(middle, value, **look, label=label)
    axis.fill_between(middle, value - half, value + half, color=look["color"], alpha=0.15, lw=0)

"""What the power laws leave, below the exponents."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.contrasts import Curve
from analysis.ensemble.curves import ITERATION, MEMBERS
from analysis.ensemble.drawing import NAMES, chance_label, times, widths
from analysis.ensemble.results import EnsembleResults
from analysis.report.look import UNIT
from analysis.report.plotting import legend, log_x
from analysis.report.section import Section

SHOWN = ("mu_L", "sigma_L", "eps_L")

TITLE = "What the power laws leave, in per cent of them."

ENSEMBLES = (
    "the ensembles, with 68 % intervals for their members; p is the probability of such a bend of a pure power law, "
    "for {draw} of the training set. Networks trained on the same samples share their pattern."
)

EXACT = "exact curves, means over draws: this is how far they are from being power laws"

BANDS = "; bands are 68 % intervals for the iteration"


def caption(results: EnsembleResults) -> str:
    """What is drawn of these results."""
    draw = "any draw" if results.knows_draws else "this draw"
    said = [ENSEMBLES.format(draw=draw)] if _has_ensembles(results) else []
    if _has_exact(results):
        said.append(EXACT + (BANDS if results.is_iterated else "") + ".")
    places = ("Above: ", "Below: ") if len(said) > 1 else ("Shown: ",)
    return " ".join([TITLE, *(place + one for place, one in zip(places, said, strict=False))])


def residuals(results: EnsembleResults) -> Figure | None:
    """Ensembles and exact curves over their own power laws, less 1, in per cent; None without either."""
    drawn = [draw for there, draw in ((_has_ensembles, _ensembles), (_has_exact, _exact)) if there(results)]
    if not drawn:
        return None
    figure = Figure(figsize=(10, 2.6 * len(drawn)))
    rows = figure.subplots(len(drawn), len(SHOWN), sharey="row", squeeze=False)
    for row, draw in zip(rows, drawn, strict=True):
        for axis, name in zip(row, SHOWN, strict=True):
            draw(axis, results, name)
            axis.axhline(0, **UNIT)
            legend(axis, fontsize=7.5)
            log_x(axis)
        row[0].margins(y=0.35 if draw is _ensembles else 0.2)  # room for the legends
        row[0].set_ylabel(f"{'ensemble' if draw is _ensembles else 'exact curve'} over its\npower law - 1 [%]")
    for axis, name in zip(rows[0], SHOWN, strict=True):
        axis.set_title(NAMES[name])
    for axis in rows[-1]:
        axis.set_xlabel("training samples $N_D$")
    return figure


def _has_ensembles(results: EnsembleResults) -> bool:
    return any(name in SHOWN for name, _ in results.curves)


def _has_exact(results: EnsembleResults) -> bool:
    return any(name in SHOWN for name, _ in results.exact_curves)


def _ensembles(axis: Axes, results: EnsembleResults, name: str) -> None:
    for width, look in widths(results):
        curve, fit = results.curves.get((name, width)), results.fits.get((name, width))
        if curve is not None and fit is not None:
            label = f"width {width:,}: {chance_label(fit.p_power)}"
            axis.errorbar(look.apart(curve.n), _left(curve), _half(curve.of(MEMBERS)), **look.points, label=label)


def _exact(axis: Axes, results: EnsembleResults, name: str) -> None:
    for time, label, line in times(results):
        if (exact := results.exact_curves.get((name, time))) is not None:
            left, error = _left(exact), _half(exact.of(ITERATION))
            axis.plot(exact.n, left, marker=".", **line, label=label)
            axis.fill_between(exact.n, left - error, left + error, color=line["color"], alpha=0.15, lw=0)


def _left(curve: Curve) -> np.ndarray:
    return 100 * (curve.value / curve.line(curve.n) - 1)


def _half(curve: Curve) -> np.ndarray:
    return np.array([100 * curve.log_value(i).half() for i in range(len(curve.n))])


SECTION: Section[EnsembleResults] = Section(figure=residuals, caption=caption)

"""The question of arXiv:2503.05938, answered: does eps_L become independent of the number of training samples?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.contrasts import LEVEL, Curve, Estimate
from analysis.ensemble import contained
from analysis.ensemble.curves import CONTAINED, SOURCES
from analysis.ensemble.drawing import NAMES, TIMES, exact_lines, local_exponents, shown, times, widths
from analysis.ensemble.headline import MARK
from analysis.ensemble.results import EnsembleResults
from analysis.floor import INDEPENDENT, Levelling, line
from analysis.report.look import SPAN, UNIT, Look
from analysis.report.numbers import chance, interval, probability, slope
from analysis.report.plotting import legend_below, log_x, log_y
from analysis.report.section import Section, Table, led
from ntkhpc.words import joined

ASKED = ("eps_L", "eps_pop")

NOTE = (
    "Exponent: of the power law{contained}. Upper: over the upper two octaves, three sizes at least. p "
    "slope, p power: probabilities of an exponent as far from zero, and of a bend as far from none, were there none; "
    "a constant has neither. Preferred: "
    "of constant, power law and power law with a floor c >= 0 the one of lowest AICc; none where that is a power law "
    "and p power is below 0.01. Floor: the 95 % interval of c in a N_D^b + c, of either sign; open where these sizes "
    "do not bound it."
)


@dataclass(frozen=True)
class Asked:
    """One curve of which the question is asked."""

    quantity: str
    network: str
    curve: Curve
    fit: Levelling


def asked(results: EnsembleResults) -> Iterator[Asked]:
    for name in ASKED:
        for width in results.mean.width.values:
            key = name, int(width)
            if (fit := results.headline.fits.get(key)) is not None:
                network = f"width {int(width):,}{results.headline.mark(int(width), name)}"
                yield Asked(name, network, results.headline.curves[key].of(*CONTAINED[name]), fit)
        for (quantity, time), fit in results.curve_fits.items():
            if quantity == name:
                yield Asked(
                    name, f"infinite, {TIMES[time]}", results.exact_curves[name, time].of(*CONTAINED[name]), fit
                )


def claim(results: EnsembleResults) -> str:
    """The answer in the first box: of the widest networks, and of the exact curve that goes on."""
    width = int(results.mean.width[-1])
    trained = results.headline.fits.get(("eps_L", width))
    exact = {name: results.curve_fits.get((name, "steps")) for name in ASKED}
    endless = exact["eps_pop"]
    said = [f"Does eps_L become independent of N_D? {verdict(trained, exact['eps_L'], endless)}"]
    if trained is not None:
        low, high = trained.n
        whose = f"of width {width:,}{BY_LEAPS if results.headline.mark(width, 'eps_L') else ''}"
        said.append(f"Between N_D = {low:,.0f} and {high:,.0f} {_about('eps_L', whose, trained)}.")
    if (fit := exact["eps_L"]) is not None:
        said.append(
            f"Exactly at infinite width, by the same rule of steps, its exponent between N_D = {fit.upper_n:,.0f} and "
            f"{fit.n[1]:,.0f} is {_with_sources(fit.upper_slope)}"
            + (f", and on an endless test set {_with_sources(endless.upper_slope)}" if endless else "")
            + "."
        )
    return " ".join(said)


BY_LEAPS = " (by networks in leaps, corrected by trained ones)"


def _with_sources(one: Estimate) -> str:
    """ "-0.31 ± 0.02 (± for the draw of the training set)"."""
    said = joined(SOURCES[name] for name in one.parts)
    return slope(one) + (f" (± for {said})" if said else "")


def verdict(trained: Levelling | None, exact: Levelling | None, population: Levelling | None) -> str:
    """From what the curves do over their upper sizes; the exact one goes farthest and decides where it can tell."""
    if exact is not None and exact.end != "unknown":
        said = _verdict(exact, population)
        return f"At infinite width, up to N_D = {exact.n[1]:,.0f}: {said[0].lower()}{said[1:]}"
    if trained is None or trained.end == "unknown":
        return "These sizes and errors cannot tell."
    return _verdict(trained, population)


def _verdict(decisive: Levelling, population: Levelling | None) -> str:
    if decisive.end == "independent":
        if population is not None and population.end == "falls":
            return "On this test set it does, but not on an endless one: what is left is the choice of the test points."
        return f"Yes: over the upper sizes its exponent is closer to zero than {INDEPENDENT:g}."
    if decisive.end == "rises":
        return "No: it rises."
    if decisive.flattens:
        return "Not yet: it falls, but ever more slowly."
    return "No, not at these sizes: it keeps falling."


def _about(quantity: str, whose: str, fit: Levelling) -> str:
    """ "eps_L of width 512 falls as N_D^-0.28 ± 0.04 ...": what was tested, and how it came out."""
    exponent, name = slope(fit.slope), f"{quantity} {whose}"
    bent = f"no pure power law: {chance(fit.p_power)}, the local exponent changes by {slope(fit.curvature)}"
    if not fit.p_slope < LEVEL:
        if fit.is_curved:
            return f"{name} neither falls nor rises as a whole (exponent {exponent}), but depends on N_D ({bent})"
        seen = fit.slope.seen()
        if seen > 2 * INDEPENDENT:
            return f"it cannot be told whether {name} depends on N_D (exponent {exponent})"
        return f"no dependence of {name} on N_D is seen (exponent {exponent}; {seen:.2f} would have been seen)"
    way = "falls" if fit.slope.value < 0 else "rises"
    said = f"{name} {way} with the exponent {exponent} (an exponent of zero: {chance(fit.p_slope)}"
    if fit.is_curved:
        return f"{said}; {bent})"
    said += f"; a pure power law: {chance(fit.p_power)})"
    return said + (_floor(fit) if way == "falls" else "")


def _floor(fit: Levelling) -> str:
    """What the 95 % interval of the floor says."""
    if fit.floor is None:
        return ""
    low, high = fit.floor.offset_95
    if math.isnan(high):
        return ", and no floor makes it one"
    if high <= 0:
        return ", without a floor (95 %)"
    if math.isinf(high):
        return ", and these sizes do not bound a floor"
    if low > 0:
        return f", and the floor of a power law above a floor lies between {low:.2g} and {high:.2g} (95 %)"
    return f", and a floor, if there is one, lies below {high:.2g} (95 %)"


def table(results: EnsembleResults) -> Table:
    rows: list[Sequence[str]] = [
        ("quantity", "network", "N_D", "exponent", "upper", "p slope", "p power", "preferred", "floor, 95 %")
    ]
    for one in asked(results):
        fit = one.fit
        floor = interval(fit.floor.offset_95, ".2g") if fit.floor and one.curve.sources else "-"
        rows.append(
            (one.quantity, one.network, f"{fit.n[0]:,.0f}-{fit.n[1]:,.0f}", slope(fit.slope), slope(fit.upper_slope),
             probability(fit.p_slope), probability(fit.p_power), fit.preferred if fit.aicc else "-", floor)
        )  # fmt: skip
    note = NOTE.format(contained=contained.brackets(results))
    return Table(rows, " ".join(filter(None, (note, results.headline.sentence(*ASKED)))))


def reasons(results: EnsembleResults) -> list[str]:
    """Why a plateau of eps_L need not be a property of the networks, each with what this run says of it."""
    found = []
    eps, population = (results.exact_curves.get((name, "steps")) for name in ASKED)
    count = int(results.store.sizes["test_point"])
    if eps is not None and population is not None:
        shares = [100 * (1 - (population.value[i] / eps.value[i]) ** 2) for i in (0, -1)]
        found.append(
            f"the test set: on {count:,} test points the fluctuation of single points stays when N_D grows. At "
            f"infinite width it is {shares[0]:.0f} % of eps_L^2 at N_D = {eps.n[0]:,.0f} and {shares[1]:.0f} % at "
            f"{eps.n[-1]:,.0f}"
        )
    fixed = results.curve_fits.get(("eps_L", "fixed"))
    if fixed is not None:
        found.append(
            f"time: with {results.study.infinite_width.fixed_steps:,} steps at every size a fixed number of modes is "
            f"learned, and the exponent of eps_L over the upper two octaves is {slope(fixed.upper_slope)}"
        )
    if eps is not None:
        found.append(
            f"the range of N_D: trained networks reach {results.sizes[-1]:,}, exact curves {eps.n[-1]:,.0f}; beyond "
            "nothing is known here"
        )
    law = results.law_mean.isel(n_train=-1) if results.has_law else None
    share = 100 * float(law.variance / law.mu_L) if law is not None else float("nan")
    if np.isfinite(share):
        found.append(
            f"the untrained part of f: at infinite width all of the spread, and {share:.0f} % of mu_L at N_D = "
            f"{results.sizes[-1]:,}, is what networks say before training and training does not remove; networks "
            "centred at their initialisation would lack it"
        )
    return found


PAPER = (
    "arXiv:2503.05938 finds mu_L and sigma_L falling as powers of N_D and eps_L becoming flat at large N_D, at "
    "infinite and at finite width. What it trained and tested on differs from this study."
)

LEAD = "What can make eps_L flat, or keep it from being so:"


def answer(results: EnsembleResults) -> Figure:
    """eps_L and eps_pop against n_train, with what describes them best; below, their local exponents."""
    figure = Figure(figsize=(10, 7.0))
    axes = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=[2, 1.1])
    for (top, bottom), name in zip(axes.T, ASKED, strict=True):
        exact_lines(top, results, name)
        for width, look in widths(results):
            shown(top, results, name, width, look, share=SPAN / 2)
            if (fit := results.headline.fits.get((name, width))) is not None:
                _fitted(top, results.headline.curves[name, width], fit, look)
                _upper(bottom, fit, look)
        for time, label, drawn in times(results):
            if (name, time) in results.exact_curves:
                exact = results.exact_curves[name, time].of(*CONTAINED[name])
                local_exponents(bottom, exact, drawn, f"local exponent, {label}")
        bottom.axhspan(-INDEPENDENT, INDEPENDENT, color="0.9", zorder=0)
        bottom.axhline(0, **UNIT)
        top.set_title(NAMES[name])
        bottom.set_xlabel("training samples $N_D$")
        log_y(top)
        log_x(bottom)
    axes[0, 0].set_ylabel("relative spread")
    axes[1, 0].set_ylabel("local exponent")
    legend_below(figure, [axes[0, 0], axes[1, 0]], 3)
    return figure


def caption(results: EnsembleResults) -> str:
    """What `answer` draws of these results."""
    two_level = results.headline.sentence(*ASKED)
    who = "networks" if two_level else "trained networks"
    said = (
        "Above: the relative spread of the test loss, on this test set and as an endless one would show it. Points: "
        f"{who}, with 68 % intervals for their members"
    )
    trained = {key: curve for key, curve in results.headline.curves.items() if key[0] in ASKED}
    exact = {key: curve for key, curve in results.exact_curves.items() if key[0] in ASKED}
    if trained:
        said += "; coloured lines: their power law, or where a floor is preferred their power law with a floor"
    if results.has_law or results.has_curve:
        said += "; black and grey: exact curves at infinite width"
    below = []
    if exact:
        errors = contained.sources(exact.values())
        bands = f" (bands: 68 % intervals for {errors})" if errors else ""
        below.append(f"of the exact curves from one size to the next{bands}")
    if trained:
        bars = f"bars: 68 % intervals for {contained.sources(trained.values())}"
        below.append(f"of the {who} over their upper two octaves ({bars})")
    if two_level:
        said += f". {two_level[:-1]}"
    if not below:
        return f"{said}. Below: nothing, as there is no curve with three sizes."
    points = (
        ", of the endless test set for the choice of the test points too" if contained.knows_points(results) else ""
    )
    return f"{said}. Below: the local exponents {joined(below)}{points}. An exponent of zero is independence of N_D."


def _fitted(axis: Axes, curve: Curve, fit: Levelling, look: Look) -> None:
    """The power law, or the one with a floor where that is preferred."""
    n = np.geomspace(curve.n[0], curve.n[-1], 100)
    floor = fit.floor if fit.aicc and fit.preferred == "floor" else None
    with_floor = floor is not None and np.isfinite(floor.offset)
    axis.plot(n, line(curve, floor, n) if floor and with_floor else curve.line(n), **{**look.line, "lw": 1.0})


def _upper(axis: Axes, fit: Levelling, look: Look) -> None:
    """The exponent over the upper octaves, in the middle of them."""
    one, middle = fit.upper_slope, look.apart([np.sqrt(fit.upper_n * fit.n[1])], 0.4)
    axis.errorbar(middle, [one.value], [one.half()], **look.points)


def fits(results: EnsembleResults) -> dict[str, Any]:
    return {"answer": {f"{one.quantity} {one.network.removesuffix(MARK)}": one.fit.end for one in asked(results)}}


SECTION: Section[EnsembleResults] = Section(
    title="Does eps_L become independent of N_D?",
    needs=("test_loss",),
    claim=claim,
    figure=answer,
    caption=caption,
    tables=lambda results: [table(results)],
    sentences=lambda results: [PAPER, *led(LEAD, reasons(results))],
    fits=fits,
)

"""What finite width does: the kernel that networks begin with, and what training does beyond it. And finite_width.csv.

Infinite width (the exact law) -> networks linearised where they began, of the same seeds -> the networks themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import infinite, leaps, two_level
from analysis.contrasts import Estimate, number
from analysis.ensemble import initial_kernel
from analysis.ensemble.drawing import NAMES, widths
from analysis.ensemble.results import EnsembleResults
from analysis.leaps import SPLIT
from analysis.report.look import EXACT, Look
from analysis.report.numbers import percent
from analysis.report.plotting import legend_below, log_x
from analysis.report.section import Section, Table, led
from analysis.two_level import Quantity
from analysis.width import extrapolated

STEPS = ("initial kernel", "training beyond it", "both")

SHARE = 0.25
"""Of the distance between sizes over which widths are moved apart: hollow and filled points of one belong together."""

CAPTION = (
    "What finite width does, against infinite width (solid black: the exact law of the same samples and steps). "
    "Hollow: networks linearised at their own initial weights and trained as the others were, which differ from "
    "infinite width by the kernel they begin with. Filled: the networks themselves, of the same seeds. With 68 % "
    "intervals for the networks; the hollow and the filled point of a width are of the same networks: their difference "
    "is known better than their bars show."
)

NOTE = (
    "Relative changes with half of their 68 % intervals. Initial kernel: from infinite width to networks linearised "
    "where they began. Training beyond it: from these to the networks themselves, by pairs of the same seeds."
)

FROM_NARROW = (
    " From width {width:,}: what both would be if they fell as 1/width from there on; its error holds the size that "
    "terms of order 1/width^2 then have."
)


@dataclass(frozen=True)
class Changes:
    """Of one quantity, width and n_train, logarithms of ratios by STEPS; None where one is not known.

    `from_narrow` is the relative change of both steps as it follows from the narrowest width alone, None there.
    """

    quantity: str
    width: int
    n_train: int
    steps: dict[str, Estimate | None]
    from_narrow: Estimate | None

    def percent(self, step: str) -> str:
        one = self.steps[step]
        return percent(one.of_ratio()) if one else "-"


def changes(results: EnsembleResults) -> list[Changes]:
    found = []
    for name in SPLIT:
        for (width, n), draws in results.leapt.splits.items():
            exact = float(results.law_mean[name].sel(n_train=n))
            twin = two_level.over_draws([one.twin[name] for one in draws])
            trained = two_level.over_draws([one.trained[name] for one in draws])
            steps = (_against(twin, exact), trained.log_ratio(twin), _against(trained, exact))
            told = _from_narrow(results, name, width, n, exact)
            found.append(Changes(name, width, n, dict(zip(STEPS, steps, strict=True)), told))
    return found


def _from_narrow(results: EnsembleResults, name: str, width: int, n: int, exact: float) -> Estimate | None:
    narrowest = _narrowest(results)
    if width == narrowest or not exact > 0:
        return None
    found = two_level.over_draws([one.trained[name] for one in results.leapt.splits[narrowest, n]]).estimate()
    return found and extrapolated(found, narrowest, exact, width).less(exact).scaled(1 / exact)


def _narrowest(results: EnsembleResults) -> int:
    return min(width for width, _ in results.leapt.splits)


def _against(one: Quantity, exact: float) -> Estimate | None:
    """log(value/exact); None where it is not known."""
    return number(one.value / exact, one.sources()) if one.is_known and exact > 0 else None


def finite_width(results: EnsembleResults) -> Figure | None:
    """mu_L and eps_L over infinite width against n_train: linearised networks hollow, networks themselves filled."""
    found = changes(results)
    if all(one.steps[STEPS[0]] is None for one in found):
        return None
    figure = Figure(figsize=(10, 4.4))
    axes = figure.subplots(1, 2)
    for axis, name in zip(axes, SPLIT, strict=True):
        for width, look in widths(results):
            mine = [one for one in found if (one.quantity, one.width) == (name, width)]
            for step, hollow, label in ((STEPS[0], True, "linearised"), (STEPS[2], False, "trained")):
                _points(axis, mine, step, look, hollow, f"width {width:,}, {label}")
        axis.axhline(1, **EXACT)
        axis.set_ylabel(f"{NAMES[name].split('=')[0].strip()}{'$' if '=' in NAMES[name] else ''} / infinite width")
        axis.set_xlabel("training samples $N_D$")
        log_x(axis)
    legend_below(figure, [axes[0]], 3)
    return figure


def _points(axis: Any, mine: Sequence[Changes], step: str, look: Look, hollow: bool, label: str) -> None:
    there = [(one.n_train, found.of_log()) for one in mine if (found := one.steps[step])]
    if not there:
        return
    n, ratio, half = (np.array(one) for one in zip(*((n, e.value, e.half()) for n, e in there), strict=True))
    shape = {**look.points, **({"mfc": "white", "mec": look.color, "mew": 1.1} if hollow else {})}
    at = look.apart(n, SHARE)
    axis.errorbar(at, ratio, half, **shape, label=label)
    axis.plot(at, ratio, color=look.color, lw=0.8, ls=":" if hollow else "-", zorder=1.2)


def tables(results: EnsembleResults) -> list[Table]:
    found = [one for one in changes(results) if one.steps[STEPS[0]]]
    if not found:
        return []
    narrowest, wider = _narrowest(results), any(one.from_narrow for one in found)
    rows: list[Sequence[str]] = [
        ("quantity", "width", "N_D", *STEPS, *([f"both, from width {narrowest:,}"] if wider else []))
    ]
    for one in found:
        told = (percent(one.from_narrow) if one.from_narrow else "-",) if wider else ()
        rows.append((one.quantity, f"{one.width:,}", f"{one.n_train:,}", *map(one.percent, STEPS), *told))
    note = NOTE + (FROM_NARROW.format(width=narrowest) if wider else "")
    return [Table(rows, note), *initial_kernel.tables(results.leapt.initial_kernels)]


def sentences(results: EnsembleResults) -> list[str | list[str]]:
    """What was measured, by width: over the sizes, from where to where each step leads, and where it is told."""
    found = changes(results)
    said = [_sentence(name, int(width), [one for one in found if (one.quantity, one.width) == (name, width)])
            for name in SPLIT for width in results.mean.width.values]  # fmt: skip
    return [*led(LEAD, said), *initial_kernel.sentences(results.leapt.initial_kernels)]


LEAD = (
    "Two things set a network of finite width apart from an infinitely wide one: the kernel that it begins with is "
    "random, and training changes it. The first alone is what networks do that are linearised where they begin. "
    "Relative changes, from the least to the largest over the training-set sizes:"
)


def _sentence(name: str, width: int, mine: Sequence[Changes]) -> str:
    parts = []
    for step, verb in ((STEPS[0], "the initial kernel changes it by"), (STEPS[1], "training beyond it by")):
        known = [one.steps[step] for one in mine]
        if not mine or any(one is None for one in known):
            return ""
        values = [100 * math.expm1(one.value) for one in known if one]
        told = sum(one.p_value() < LEVEL / len(known) for one in known if one)
        where = "at every size" if told == len(known) else f"at {told} of {len(known)} sizes" if told else "at no size"
        parts.append(f"{verb} {_range(values)} % (told from zero {where})")
    return f"{name} at width {width:,}: {', '.join(parts)}"


LEVEL = 0.01
"""Chance that any of the sizes is told from zero where none is."""


def _range(values: Sequence[float]) -> str:
    low, high = (f"{end:+.1f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def records(results: EnsembleResults) -> list[dict[str, Any]]:
    """One record for each quantity, width and n_train: relative changes and their standard errors."""
    kernels = {(one.width, one.n_train): one for one in results.leapt.initial_kernels}
    found = []
    for one in changes(results):
        kernel = kernels.get((one.width, one.n_train))
        row: dict[str, Any] = {"quantity": one.quantity, "width": one.width, "n_train": one.n_train}
        for step, key in zip(STEPS, ("initial_kernel", "beyond", "both"), strict=True):
            ratio = known.of_ratio() if (known := one.steps[step]) else None
            row[key], row[f"{key}_stderr"] = (ratio.value, ratio.stderr) if ratio else (None, None)
            row[f"{key}_p_value"] = known.p_value() if known else None
        row["both_from_narrowest"] = one.from_narrow and one.from_narrow.value
        row["both_from_narrowest_stderr"] = one.from_narrow and one.from_narrow.stderr
        row["kernel_fluctuation"] = kernel and kernel.measured.value
        row["kernel_fluctuation_stderr"] = kernel and kernel.measured.stderr
        row["kernel_fluctuation_predicted"] = kernel and kernel.predicted
        found.append(row)
    return found


SECTION: Section[EnsembleResults] = Section(
    title="What finite width does",
    needs=(*infinite.LAW, *leaps.TWIN),
    figure=finite_width,
    caption=CAPTION,
    tables=tables,
    sentences=sentences,
    fits=lambda results: {"finite_width": records(results)},
    files=lambda results: {"finite_width": pd.DataFrame(records(results))},
    order=("sentences", "figure", "tables"),
)

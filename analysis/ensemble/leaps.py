"""Leaps: how near they come to training, and what trained and leapt networks say together. And two CSV tables."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis import leaps
from analysis.contrasts import Curve, Estimate
from analysis.ensemble.curves import DRAW, FITTED, MEMBERS
from analysis.ensemble.results import EnsembleResults
from analysis.leaps import LeaptCell
from analysis.report.numbers import estimate, percent, slope, two_digits
from analysis.report.section import Section, Table
from analysis.scaling import plain
from analysis.two_level import LEAPT
from ntkhpc.words import count, joined

ABOUT = (
    "A leapt network takes the same initial weights through training in a few leaps, each the exact solution of "
    "training with the kernel held at its present value, instead of in single steps. Networks that were trained too "
    "tell how near this comes, and correct it."
)

ACCURACY_NOTE = (
    "Of networks that were trained and leapt: mean, with half of its 68 % interval, and root mean square of "
    "(leapt loss)/(trained loss) - 1; correlation of the two losses; reduction: the variance of L over that of the "
    "difference. Leaps: accepted leaps of a network, mean; residual: relative error of its training residual, as "
    "leaping estimated it, mean.{draws}"
)

WORST = " Of several draws, the one with the largest root mean square."

VALUES_NOTE = (
    "Two-level: the value by all leapt networks, corrected by those that were trained too (Giles 2015); ± half of the "
    "68 % interval for the networks, the correction's error in it. Correction: by how much the two-level value lies "
    "above that of leaps as they are. Errors of values of the same cell are not independent."
)

EXPONENTS_NOTE = (
    "Slopes of least squares of log(value) against log(N_D), ± half of the 68 % interval for the networks alone, and "
    "with what another draw of the training set would change as well."
)


def worst(results: EnsembleResults) -> Iterator[LeaptCell]:
    """Of each width and n_train the draw of which leaps are the least accurate: a refused one, if there is any."""
    found: dict[tuple[int, int], LeaptCell] = {}
    for one in results.leapt.cells:
        key = one.width, one.n_train
        found[key] = max(found.get(key, one), one, key=_inaccuracy)
    yield from found.values()


def _inaccuracy(one: LeaptCell) -> tuple[bool, float]:
    """With too few networks to know the root mean square it is as if it were infinite."""
    rms = one.accuracy.rms
    return bool(one.refusal), math.inf if math.isnan(rms) else rms


def accuracy_rows(results: EnsembleResults) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("width", "N_D", "trained too, of leapt", "mean", "rms", "correlation", "reduction", "leaps", "residual", "")
    ]
    for one in worst(results):
        found = one.accuracy
        rows.append(
            (
                f"{one.width:,}", f"{one.n_train:,}", f"{found.networks:,} of {one.leapt:,}",
                percent(found.bias) if found.bias.parts else "-", _percentage(found.rms),
                _number(found.correlation, ".4f"), _number(found.reduction), _number(one.leaps, ".1f"),
                _percentage(one.error), "refused" if one.refusal else "",
            )
        )  # fmt: skip
    return rows


def value_rows(results: EnsembleResults) -> list[Sequence[str]]:
    """mu_L and eps_L; the others are in two_level.csv."""
    rows: list[Sequence[str]] = [
        ("quantity", "width", "N_D", "trained", "two-level", "correction", *(["infinite"] if results.has_law else []))
    ]
    for name in ("mu_L", "eps_L"):
        for quantity, width, n in results.leapt.two_level:
            if quantity == name:
                rows.append(_value_row(results, name, width, n))
    return rows


def _value_row(results: EnsembleResults, name: str, width: int, n: int) -> Sequence[str]:
    i = list(results.sizes).index(n)
    trained, both = results.value(name, width, i), results.leapt.two_level[name, width, n].estimate()
    moved = results.leapt.correction(name, width, n)
    exact = (f"{float(results.law_mean[name].isel(n_train=i)):.3g}",) if results.has_law else ()
    return (
        name, f"{width:,}", f"{n:,}", estimate(trained) if trained else "-", estimate(both) if both else "-",
        percent(moved) if moved else "-", *exact,
    )  # fmt: skip


def exponent_rows(results: EnsembleResults) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("exponent of", "width", "N_D", "trained", "two-level", "two-level, any draw",
         *(["infinite"] if results.has_law else []))
    ]  # fmt: skip
    for name in FITTED:
        for (quantity, width), curve in results.leapt.two_level_curves.items():
            if quantity == name:
                rows.append(_exponent_row(results, name, width, curve))
    return rows


def _exponent_row(results: EnsembleResults, name: str, width: int, curve: Curve) -> Sequence[str]:
    trained = results.curves.get((name, width))
    same = trained is not None and len(trained.n) == len(curve.n)
    law = results.law_curves.get(name)
    exact = (f"{law.slope().value:.2f}" if law and len(law.n) == len(curve.n) else "-",) if results.has_law else ()
    known = any(one.name == DRAW for one in curve.sources)
    return (
        name, f"{width:,}", f"{curve.n[0]:.0f}-{curve.n[-1]:.0f}",
        slope(trained.of(MEMBERS).slope()) if trained and same else "-", slope(curve.of(MEMBERS, LEAPT).slope()),
        slope(curve.of(MEMBERS, LEAPT, DRAW).slope()) if known else "-", *exact,
    )  # fmt: skip


def tables(results: EnsembleResults) -> list[Table]:
    if not results.leapt.cells:
        return []
    draws = WORST if results.store.sizes["draw"] > 1 else ""
    found = [Table(accuracy_rows(results), ACCURACY_NOTE.format(draws=draws))]
    if len(values := value_rows(results)) > 1:
        found.append(Table(values, VALUES_NOTE))
    if len(slopes := exponent_rows(results)) > 1:
        found.append(Table(slopes, EXPONENTS_NOTE))
    return found


def sentences(results: EnsembleResults) -> list[str]:
    if not results.leapt.cells:
        return []
    return [ABOUT, *(one for one in (_judged(results), _gained(results)) if one)]


def _judged(results: EnsembleResults) -> str:
    """How accurate leaps are, over the cells where they are accepted."""
    found = [one.accuracy for one in results.leapt.cells if not one.refusal]
    if not found:
        return "Leaps are refused in every cell: no number of the report contains them."
    bias, rms = [100 * one.bias.value for one in found], [100 * one.rms for one in found]
    told = count(len(found), "cell")
    refused = len(results.leapt.cells) - len(found)
    where = f"In the {told} where leaps are accepted" if refused else f"Over {told}"
    return (
        f"{where} the losses of leaps are off by {_range(bias, '+.1f')} % on average and by {_range(rms, '.1f')} % "
        "root mean square."
    )


def _gained(results: EnsembleResults) -> str:
    """By what factor the errors of the trained networks shrink."""
    said = []
    for name in FITTED:
        factors = []
        for (quantity, width, n), two in results.leapt.two_level.items():
            trained = results.value(name, width, list(results.sizes).index(n)) if quantity == name else None
            together = two.estimate() if trained is not None else None
            if trained is not None and together is not None and together.stderr:
                factors.append(trained.stderr / together.stderr)
        if factors:
            said.append(f"of {name} {_range(factors, '.2g')} times")
    if not said:
        whole = all(one.leapt == one.accuracy.networks for one in results.leapt.cells)
        return "Every leapt network was trained too: leaps are judged here and add nothing." if whole else ""
    larger = "" if all(one.adds for one in results.leapt.cells) else ", where they are accepted"
    return (
        f"Standard errors of the trained networks alone are {joined(said)} those of the two-level estimates{larger}. "
        "These contain what is not known of the bias of leaps, which is why leaps as they are have no error of their "
        "own here."
    )


def cautions(results: EnsembleResults) -> list[str]:
    """One sentence for each reason and width, and one on networks that were left out."""
    refused = [one for one in worst(results) if one.refusal]
    said = [
        f"leaps of width {one.width:,} at N_D = {one.n_train:,} are refused, and in no number here: {one.refusal}"
        for one in refused[:SHOWN]
    ]
    if more := len(refused) - SHOWN:
        said += [f"leaps of {count(more, 'more cell')} are refused (leaps.csv)"] if more > 0 else []
    if lost := sum(one.lost for one in results.leapt.cells):
        noun = (
            "network whose leaps or training diverged is"
            if lost == 1
            else "networks whose leaps or training diverged are"
        )
        said.append(f"{lost:,} {noun} in no number of leaps (counted once a cell)")
    return said


SHOWN = 3


def cells(results: EnsembleResults) -> list[dict[str, Any]]:
    """One record a cell."""
    return [
        {
            "width": one.width, "n_train": one.n_train, "draw": one.draw,
            "leapt": one.leapt, "trained_too": one.accuracy.networks, "lost": one.lost,
            "bias": plain(one.accuracy.bias.value),
            "bias_stderr": plain(one.accuracy.bias.stderr if one.accuracy.bias.parts else math.nan),
            "rms": plain(one.accuracy.rms), "correlation": plain(one.accuracy.correlation),
            "variance_reduction": plain(one.accuracy.reduction),
            "leaps": plain(one.leaps), "residual_error": plain(one.error), "refused": one.refusal,
        }
        for one in results.leapt.cells
    ]  # fmt: skip


def records(results: EnsembleResults) -> list[dict[str, Any]]:
    """One record for each quantity, width and n_train with a two-level estimate, which may be negative for eps_pop."""
    return [
        {
            "quantity": name, "width": width, "n_train": n,
            **_columns("trained", results.value(name, width, list(results.sizes).index(n))),
            **_columns("two_level", two.estimate()), "two_level": two.value,
            **_columns("correction", results.leapt.correction(name, width, n)),
            **({"law": float(results.law_mean[name].sel(n_train=n))} if results.has_law else {}),
        }
        for (name, width, n), two in results.leapt.two_level.items()
    ]  # fmt: skip


def _columns(name: str, one: Estimate | None) -> dict[str, float]:
    """Value, standard error and the ends of the 95 % interval."""
    if one is None:
        return {f"{name}{part}": math.nan for part in ("", "_stderr", "_low_95", "_high_95")}
    low, high = one.interval(0.95)
    return {name: one.value, f"{name}_stderr": one.stderr, f"{name}_low_95": low, f"{name}_high_95": high}


def fits(results: EnsembleResults) -> dict[str, Any]:
    return {
        "leaps": cells(results),
        "two_level": {
            f"{name} width {width}": {"exponent": curve.slope().to_dict(), "curvature": curve.curvature().to_dict()}
            for (name, width), curve in results.leapt.two_level_curves.items()
        },
    }


def _range(values: Sequence[float], spec: str) -> str:
    low, high = (f"{end:{spec}}" if spec != ".2g" else two_digits(end) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _percentage(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def _number(value: float, spec: str = "") -> str:
    """Two digits where no format is asked for."""
    if not math.isfinite(value):
        return "-"
    return f"{value:{spec}}" if spec else two_digits(value)


SECTION: Section[EnsembleResults] = Section(
    title="Leaps",
    needs=leaps.ARRAYS,
    tables=tables,
    sentences=sentences,
    cautions=cautions,
    fits=fits,
    files=lambda results: {"leaps": pd.DataFrame(cells(results)), "two_level": pd.DataFrame(records(results))},
    order=("sentences", "tables", "figure"),
)

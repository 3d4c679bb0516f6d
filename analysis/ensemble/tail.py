"""Where the exact curve goes on far beyond the ensembles: its tail. And tail.csv and local_exponents.csv."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.contrasts import Estimate
from analysis.ensemble.curves import DRAW, FITTED, ITERATION, LARGEST_SHARE_OF_POOL, POINTS, REQUIRED, SOURCES
from analysis.ensemble.drawing import TIMES
from analysis.ensemble.endings import Ending, endings
from analysis.ensemble.results import EnsembleResults
from analysis.ensemble.tail_figure import CAPTION, ORDER_ONE, tail
from analysis.floor import INDEPENDENT, KNOWN, End
from analysis.infinite import CURVE
from analysis.report.numbers import chance, interval, slope, two_digits
from analysis.report.section import Section, Table, led
from analysis.tails import Tail
from ntkhpc.words import count, joined

NOTE = (
    "Exponent: slope of least squares over the last two octaves of the curve, three sizes at least, every size with "
    "the same weight, ± half of its 68 % interval{contents}. Test points: the standard error for their choice alone, "
    "where it is known. Before: over the two octaves before. Change: the exponent less that before. {other} {draw}"
)


def table(results: EnsembleResults) -> Table:
    rows: list[Sequence[str]] = [
        ("quantity", "time", "N_D", "exponent", "test points", "before", "change", "at the end")
    ]
    for one in endings(results):
        asked, (low, high) = one.asked, one.tail.n
        part = one.tail.slope.parts.get(POINTS)
        rows.append(
            (one.quantity, TIMES[one.time], f"{low:,.0f}-{high:,.0f}", slope(asked.slope),
             "-" if part is None else f"± {part:.3f}", _or_dash(asked.before), _or_dash(asked.change), AT_END[one.end])
        )  # fmt: skip
    contents = f": {contained}" if (contained := _contents(results, FITTED)) else ""
    return Table(rows, NOTE.format(contents=contents, other=_about_others(results), draw=_about_draws(results)))


AT_END: dict[End, str] = {
    "falls": "falls", "rises": "rises", "independent": "levels off", "unknown": "cannot tell",
}  # fmt: skip


def _or_dash(one: Estimate | None) -> str:
    return "-" if one is None else slope(one)


def _about_others(results: EnsembleResults) -> str:
    iterated = any(source.name == ITERATION for one in endings(results) for source in one.tail.curve.sources)
    return "The error of the iteration is in all of them." if iterated else "Exact curves have no other error."


def _about_draws(results: EnsembleResults) -> str:
    """What the errors know of the draw of the training set."""
    if _knows_draws(results):
        return f"The error of the draw is learned from {count(results.curve.sizes['draw'], 'draw')}."
    return f"The error of the draw is in none of them: {_no_error_of_draw(results)}."


def _knows_draws(results: EnsembleResults) -> bool:
    return all(one.tail.knows(DRAW) for one in endings(results))


def _no_error_of_draw(results: EnsembleResults) -> str:
    draws, pool, largest = results.curve.sizes["draw"], results.study.data.pool, int(results.study.curve_sizes[-1])
    if largest > LARGEST_SHARE_OF_POOL * pool:
        return f"draws of {largest:,} take nearly all of the pool of {pool:,} samples, and tell nothing of another"
    if draws == 1:
        return "an exact curve of one draw has no such error, and several infinite_width.draws would tell it"
    return "the draws do not tell it"


def sentences(results: EnsembleResults) -> list[str | list[str]]:
    if not (found := endings(results)):
        return []
    low, high = found[0].tail.n
    trained = results.study.ensemble.n_train[-1]
    reach = (
        f"The largest training set of the ensembles is N_D = {trained:,}; the exact curve at infinite width goes on to "
        f"{high:,.0f}."
    )
    asked = f"{reach} Does the relative spread go on falling at its end, from {low:,.0f} on, or level off?"
    said = led(asked, [_at(time, found, results) for time in TIMES], alone=reach)
    return [
        *said,
        _errors(results) if len(said) > 1 else "",
        finite_widths(results),
    ]


def _at(time: str, found: Sequence[Ending], results: EnsembleResults) -> str:
    """One bullet point: both spreads at one training time."""
    mine = {one.quantity: one for one in found if one.time == time and one.quantity in ("eps_L", "eps_pop")}
    if not mine:
        return ""
    said = f"{TIMES[time]}: {'; '.join(sentence(one, results) for one in mine.values())}"
    if {name: one.end for name, one in mine.items()} == {"eps_L": "independent", "eps_pop": "falls"}:
        said += ": what is left of eps_L is the choice of the test points"
    return said


def _errors(results: EnsembleResults) -> str:
    """What ± contains, and what cannot be told without it."""
    contents = _contents(results, ("eps_L", "eps_pop"))
    behind = f"Behind ± stands half of a 68 % interval: {contents}." if contents else ""
    if _knows_draws(results):
        return f"{behind} {_about_draws(results)}"
    return (
        "Whether eps_L and eps_pop go on falling or level off for another draw of the training set cannot be told: "
        f"{_no_error_of_draw(results)}. {behind}"
    ).rstrip()


def _contents(results: EnsembleResults, names: Sequence[str]) -> str:
    """What errors contain: "of eps_L for ..., on these test points; of eps_pop for ..."; empty without a source."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for one in endings(results):
        if one.quantity in names:
            alike = found.setdefault(tuple(source.name for source in one.asked.curve.sources), {})
            alike[one.quantity] = None
    return "; ".join(_for(sources, alike) for sources, alike in found.items() if sources)


def _for(sources: Iterable[str], quantities: Iterable[str]) -> str:
    """ "of mu_L and eps_L for the draw of the training set, on these test points"."""
    said = f"of {joined(quantities)} for {' and '.join(SOURCES[name] for name in sources)}"
    return said if POINTS in sources else f"{said}, on these test points"


def sentence(one: Ending, results: EnsembleResults) -> str:
    """ "eps_L goes on falling ...": what one spread does at the end, or why it cannot be told."""
    name, tail = one.quantity, one.asked
    exponent = f"exponent {slope(tail.slope)}"
    match one.end:
        case "falls":
            return f"{name} goes on falling ({exponent}){_pace(tail)}"
        case "rises":
            return f"{name} rises ({exponent})"
        case "independent":
            return f"{name} levels off: its {exponent} is closer to zero than {INDEPENDENT:g} (95 %)"
        case _:
            return f"cannot tell for {name}: its {exponent} {_unknown(one, results)}"


def _pace(tail: Tail) -> str:
    """How the exponent changed from the two octaves before."""
    if (change := tail.change) is None:
        return "; there is nothing before to compare it with"
    if not (tail.slows or tail.steepens):
        return f", and no change of the exponent from the two octaves before is seen ({slope(change)})"
    how = "but more slowly" if tail.slows else "and faster"
    return f", {how} than over the two octaves before (change of the exponent {slope(change)})"


def _unknown(one: Ending, results: EnsembleResults) -> str:
    if not one.tail.knows(DRAW):
        return "is that of these samples"
    if not one.tail.knows(*REQUIRED[one.quantity]):
        return "is that of these test points, and what others would change is not known"
    if one.has_few_draws:
        return f"has an error that {count(results.curve.sizes['draw'], 'draw')} do not tell; {KNOWN + 1:.0f} would"
    found = one.asked.slope
    return (
        f"is neither told from zero at 1 % ({chance(found.p_value())}) nor closer to it than {INDEPENDENT:g} (95 % "
        f"interval {interval(found.interval(0.95))}, from {count(results.curve.sizes['draw'], 'draw')})"
    )


def finite_widths(results: EnsembleResults) -> str:
    """What N_D^2/n says of networks of the study's widths, and no more than its source."""
    found = [int(width) for width in results.mean.width.values]
    sizes, last = results.study.ensemble.n_train, int(results.study.curve_sizes[-1])
    places = ", ".join(f"{np.sqrt(width):,.0f} at width {width:,}" for width in found)
    trained = _range(sizes[0] ** 2 / found[-1], sizes[-1] ** 2 / found[0])
    end = _range(last**2 / found[-1], last**2 / found[0])
    said = (
        "Networks of finite width n are another matter. They were seen to leave the loss of infinite width near "
        "N_D = sqrt(n), where N_D^2/n is of order 1 (arXiv:2212.12147, polynomial regression with ReLU networks; an "
        f"order of magnitude, and nothing about eps_L). That is N_D = {places}. In the ensembles of this study N_D^2/n "
        f"is {trained}, at the end of the curve {end}; there it would be 1 at a width of {two_digits(last**2)}."
    )
    if last**2 / found[-1] > ORDER_ONE:
        said += " So the end is a statement about infinite width, and not about networks of these widths."
    if results.has_law:
        said += (
            " What they do at the sizes that were trained is measured: see whether finite width differs from infinite "
            "width."
        )
    return said


def _range(low: float, high: float) -> str:
    return two_digits(low) if low == high else f"{two_digits(low)} to {two_digits(high)}"


def records(results: EnsembleResults) -> pd.DataFrame:
    """One row a tail."""
    return pd.DataFrame([_record(one) for one in endings(results)])


def _record(one: Ending) -> dict[str, Any]:
    tail, before, change = one.tail, one.tail.before, one.tail.change
    return {
        "quantity": one.quantity, "time": one.time, "n_min": tail.n[0], "n_max": tail.n[1],
        "exponent": tail.slope.value, **_parts("stderr", tail.slope),
        "before_n_min": tail.before_n, "before_exponent": before and before.value,
        "change": change and change.value, **_parts("change_stderr", change), "end": one.end,
    }  # fmt: skip


def local(results: EnsembleResults) -> Iterator[dict[str, Any]]:
    """One row a step between neighbouring sizes."""
    for one in endings(results):
        curve = one.tail.curve
        for i in range(len(curve.n) - 1):
            step = curve.local_slope(i)
            yield {
                "quantity": one.quantity, "time": one.time, "n_low": curve.n[i], "n_high": curve.n[i + 1],
                "exponent": step.value, **_parts("stderr", step),
            }  # fmt: skip


def _parts(name: str, one: Estimate | None) -> dict[str, float | None]:
    """Standard errors by source, None where they are not known."""
    parts = one.parts if one else {}
    columns = {DRAW: "draw", POINTS: "test_points", ITERATION: "iteration"}
    return {f"{name}_{column}": parts.get(source) for source, column in columns.items()}


def fits(results: EnsembleResults) -> dict[str, Any]:
    return {
        "tail": {
            f"{one.quantity} {one.time}": {
                "n": list(one.tail.n),
                "exponent": one.tail.slope.to_dict(),
                "before_n": one.tail.before_n,
                "before": one.tail.before and one.tail.before.to_dict(),
                "change": one.tail.change and one.tail.change.to_dict(),
                "end": one.end,
            }
            for one in endings(results)
        }
    }


def files(results: EnsembleResults) -> dict[str, pd.DataFrame]:
    if not endings(results):
        return {}
    return {"tail": records(results), "local_exponents": pd.DataFrame(local(results))}


SECTION: Section[EnsembleResults] = Section(
    title="The curve to large N_D",
    needs=CURVE,
    figure=tail,
    caption=CAPTION,
    tables=lambda results: [table(results)] if endings(results) else [],
    sentences=sentences,
    fits=fits,
    files=files,
    order=("sentences", "figure", "tables"),
)

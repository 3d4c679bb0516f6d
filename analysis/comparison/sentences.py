"""Differences in words: which variants differ, of which no difference is seen, and of which nothing can be told."""

from collections.abc import Iterable, Sequence

from analysis.comparison.differences import RESOLVED, PairedDifference, What
from analysis.contrasts import Estimate
from analysis.report.numbers import chance, estimate, slope, two_digits
from ntkhpc.words import joined, numbers

MOST_SEEN: dict[What, float] = {"exponent": 3.0, "value": 9.0}
"""Of what would have been seen: more is written as so much or more."""


def verdict(found: Sequence[PairedDifference], reference: str, value: Estimate | None) -> str:
    """Of one quantity, all widths and variants; `value` is that of the reference at the widest.

    "Of mu_L (gd: -0.82 ± 0.10 at width 128) no: what differs is adam by -0.14 and momentum by +0.08 (width 32); no
    difference is seen for sgd (0.08 would have been)."
    """
    widths = list(dict.fromkeys(one.width for one in found))
    order = list(dict.fromkeys(one.variant for one in found))
    listed = sorted(found, key=lambda one: order.index(one.variant))
    groups = {name: [one for one in listed if one.verdict == name] for name in ("same", "differs", "alike", "unknown")}
    names = {name: joined(_variants(mine, widths)) for name, mine in groups.items()}
    said = []
    if mine := groups["differs"]:
        said.append(f"no: what differs is {joined(_differing(mine, widths[-1]))}")
    if mine := groups["alike"]:
        said.append(f"no difference is seen for {names['alike']} ({_seen(mine)} would have been)")
    if mine := groups["unknown"]:
        said.append(f"it cannot be told for {names['unknown']} (only {_seen(mine)} would have been seen)")
    if mine := groups["same"]:
        verb = "is" if len({one.variant for one in mine}) == 1 else "are"
        said.append(f"{names['same']} {verb} the same to the bit")
    shown = f" ({reference}: {_number(found[0], value)} at width {widths[-1]:,})" if value is not None else ""
    return f"Of {found[0].quantity}{shown} {'; '.join(said)}."


def _differing(found: Sequence[PairedDifference], widest: int) -> list[str]:
    """Each variant with the difference of its widest networks that differ; their width where there are wider ones."""
    last = {one.variant: one for one in found}  # widths come in order
    return [
        f"{name} by {size(one)}" + ("" if one.width == widest else f" (width {one.width:,})")
        for name, one in last.items()
    ]


def _number(one: PairedDifference, value: Estimate) -> str:
    return slope(value) if one.what == "exponent" else estimate(value)


def _variants(found: Iterable[PairedDifference], widths: Sequence[int]) -> list[str]:
    """Their names, with the widths where it is not at all."""
    where: dict[str, list[int]] = {}
    for one in found:
        where.setdefault(one.variant, []).append(one.width)
    return [name if len(at) == len(widths) else f"{name} (width {numbers(at)})" for name, at in where.items()]


def _seen(found: Sequence[PairedDifference]) -> str:
    """Of the comparison that sees least."""
    return amount(found[0].what, max(one.seen for one in found))


def sentence(found: Sequence[PairedDifference], reference: str, value: Estimate | None) -> str:
    """One quantity at one width: the number of the reference, and how far all others are from it.

    "the exponent of eps_L is -0.25 ± 0.04 for gd; against that, +0.10 for adam (95 % +0.05 to +0.15, p = 0.001)"
    """
    one = found[0]
    number = _number(one, value) if value is not None else "unknown"
    subject = f"the exponent of {one.quantity}" if one.what == "exponent" else one.quantity
    told = [
        f"{size(d)} for {d.variant} (95 % {ends(d)}, {chance(d.p_holm)})"
        if d.verdict != "same" else f"the same, to the bit, for {d.variant}"
        for d in found
    ]  # fmt: skip
    return f"{subject} is {number} for {reference}; against that, {joined(told)}"


def size(one: PairedDifference) -> str:
    """The difference itself: "+0.10", "-12 %"."""
    return _signed(one, one.shown.value) + (" %" if one.what == "value" else "")


def ends(one: PairedDifference) -> str:
    """Its 95 % interval: "+0.05 to +0.15", "-14 to -10 %"."""
    low, high = one.interval()
    return f"{_signed(one, low)} to {_signed(one, high)}" + (" %" if one.what == "value" else "")


def _signed(one: PairedDifference, value: float) -> str:
    """With as many digits as the interval is worth: per cent of values, exponents as they are."""
    low, high = one.interval()
    if one.what == "exponent":
        return f"{value:+.{2 if high - low > 0.02 else 3}f}"
    return f"{100 * value:+,.{0 if 100 * (high - low) > 4 else 1}f}"


def amount(what: What, value: float) -> str:
    """A difference that would be seen: of exponents itself, of values as a factor, either way."""
    more = " or more" if value >= MOST_SEEN[what] else ""
    found = min(value, MOST_SEEN[what])
    return (f"a factor of {1 + found:.3g}" if what == "value" else two_digits(found)) + more


def resolved(what: What) -> str:
    """What a comparison must be able to see."""
    return amount(what, RESOLVED[what])


def cell(one: PairedDifference | None) -> str:
    """Of a table: "+0.10 (+0.05 to +0.15), p = 0.12"."""
    if one is None:
        return "-"
    return "the same" if one.verdict == "same" else f"{size(one)} ({ends(one)}), {chance(one.p_holm)}"

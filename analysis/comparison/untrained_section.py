"""How much of mu_L is the untrained function: where variants differ in the scale of their outputs or in centring."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison import untrained
from analysis.comparison.drawing import law_key, law_line, shown_widths, variants
from analysis.comparison.results import ComparisonResults
from analysis.comparison.untrained import Removed, Share
from analysis.report.look import SPAN
from analysis.report.numbers import pm, two_digits
from analysis.report.plotting import legend_below, log_x
from analysis.report.section import Section, Table
from ntkhpc.words import joined

CAPTION = (
    "The share of the variance over initialisations in mu_L, a panel a width (of more than two the narrowest and the "
    "widest). Points: networks, with 68 % intervals by tiles of members; dashed: the exact law at infinite width and "
    "the gamma of this width, where the variance is the untrained part of f alone. Hollow circles: the part of mu_L "
    "that is missing in centred networks of the same gamma, paired by member. Points of one size are moved apart."
)

NOTE = (
    "Share: variance/mu_L at the largest N_D, ± half of its 68 % interval (tiles of members); at infinite width exact, "
    "at the gamma of this width, where it is the untrained part of f. At finite width random kernels add to the "
    "variance. Removed by centring: 1 - mu_L(centred)/mu_L with its 95 % interval, paired by member, on these training "
    "sets."
)


def claim(results: ComparisonResults) -> str:
    found = untrained.removed(results)
    said = [f"How much of mu_L is the untrained function? {' '.join(_pairs(results, found))}"] if found else []
    return " ".join(said) or _without_pairs(results)


def _pairs(results: ComparisonResults, found: Sequence[Removed]) -> list[str]:
    """One sentence a pair: at the largest size by width, over all sizes, and exactly at infinite width."""
    high, said = int(results.sizes[-1]), []
    exact = {(one.variant, one.width, one.n_train): one.exact for one in untrained.shares(results)}
    for names in dict.fromkeys((one.uncentred, one.centred) for one in found):
        mine = [one for one in found if (one.uncentred, one.centred) == names]
        last = [one for one in mine if one.n_train == high]
        if last:
            values = joined(f"{_percent(one)} at width {one.width:,}" for one in last)
            said.append(f"Of the mu_L of {names[0]} at N_D = {high:,} centring ({names[1]}) removes {values}.")
        ends = [100 * pick(one.removed.value for one in mine) for pick in (min, max)]
        said.append(f"Over all N_D and widths that is {ends[0]:.0f} to {ends[1]:.0f} %.")
        laws = {one.width: exact.get((one.uncentred, one.width, high), np.nan) for one in last}
        said.append(_exactly(laws))
    return [one for one in said if one]


def _exactly(laws: dict[int, float]) -> str:
    """The untrained part of f in mu_L at infinite width, from that of each width."""
    if not laws or not all(map(np.isfinite, laws.values())):
        return ""
    if np.ptp(list(laws.values())) < 1e-9:
        value = f"{100 * next(iter(laws.values())):.1f} %"
    else:
        value = joined(f"{100 * one:.1f} % at the gamma of width {width:,}" for width, one in laws.items())
    return f"At infinite width the untrained function is {value} of mu_L there, exactly."


def _percent(one: Removed) -> str:
    low, high = (100 * end for end in one.interval_95)
    return f"{100 * one.removed.value:.1f} % (95 % {low:.1f} to {high:.1f})"


def _without_pairs(results: ComparisonResults) -> str:
    """The shares of the variance at the widest networks, where no variant is another one centred."""
    width, high = results.widths[-1], int(results.sizes[-1])
    mine = [one for one in untrained.shares(results) if (one.width, one.n_train) == (width, high) and one.share]
    if not mine:
        return ""
    told = ", ".join(f"{_share(one)} % of {one.variant}{_law(one)}" for one in mine)
    return (
        f"How much of mu_L is the variance over initialisations, at width {width:,} and N_D = {high:,}: {told}. What "
        "of it is the untrained function is not measured, as no variant is another one centred."
    )


def _share(one: Share) -> str:
    assert one.share is not None
    return pm(100 * one.share.value, 100 * one.share.half())


def _law(one: Share) -> str:
    return f" (its law {two_digits(100 * one.exact)} %)" if np.isfinite(one.exact) else ""


def rows(results: ComparisonResults) -> list[Sequence[str]]:
    """One for each variant and width, at the largest size."""
    high = int(results.sizes[-1])
    lacking = {(one.uncentred, one.width): one for one in untrained.removed(results) if one.n_train == high}
    found: list[Sequence[str]] = [("variant", "width", "share, %", "infinite width, %", "removed by centring")]
    for one in untrained.shares(results):
        if one.n_train == high:
            pair = lacking.get((one.variant, one.width))
            exact = f"{100 * one.exact:.1f}" if np.isfinite(one.exact) else "-"
            share = _share(one) if one.share else "-"
            found.append((one.variant, f"{one.width:,}", share, exact, _percent(pair) if pair else "-"))
    return found


def untrained_share(results: ComparisonResults) -> Figure | None:
    """variance/mu_L against n_train, and what centring removes; nothing where outputs are of one scale."""
    known = untrained.shares(results)
    if not any(one.share for one in known):
        return None
    widths = shown_widths(results)
    figure = Figure(figsize=(10, 4.6))
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for axis, width in zip(axes, widths, strict=True):
        _panel(axis, results, [one for one in known if one.width == width])
        axis.set_title(f"width {width:,}")
        axis.set_xlabel("training samples $N_D$")
        axis.set_ylim(-0.03, 1.03)
        log_x(axis)
    if any(np.isfinite(one.exact) for one in known):
        law_key(axes[0])
    axes[0].set_ylabel("share of $\\mu_L$")
    legend_below(figure, axes, 4)
    return figure


def _panel(axis: Axes, results: ComparisonResults, known: Sequence[Share]) -> None:
    pairs = untrained.removed(results)
    for one, look in variants(results):
        mine = [share for share in known if share.variant == one.name and share.share]
        n = np.array([share.n_train for share in mine], float)
        values = [share.share for share in mine if share.share]
        at = look.apart(n, SPAN / 2)
        axis.errorbar(at, [v.value for v in values], [v.half() for v in values], **look.points, label=one.name)
        exact = [share for share in known if share.variant == one.name]
        law_line(axis, [share.n_train for share in exact], [share.exact for share in exact], look)
        mine_pairs = [p for p in pairs if known and p.uncentred == one.name and p.width == known[0].width]
        if mine_pairs:
            ends = np.array([p.interval_95 for p in mine_pairs]).T
            middle = np.array([p.removed.value for p in mine_pairs])
            axis.errorbar([p.n_train for p in mine_pairs], middle, np.abs(ends - middle), fmt="o", ms=9, mfc="none",
                          mew=1.2, elinewidth=0.9, color=look.color, label=f"{one.name}: removed by centring, 95 %",
                          zorder=2.5)  # fmt: skip


SECTION: Section[ComparisonResults] = Section(
    title="The untrained function",
    claim=claim,
    figure=untrained_share,
    caption=CAPTION,
    tables=lambda results: [Table(rows(results), NOTE)] if untrained.differs(results) else [],
    fits=lambda results: {"removed_by_centring": [one.to_dict() for one in untrained.removed(results)]},
    files=lambda results: (
        {"untrained": untrained.shares_frame(untrained.shares(results))} if untrained.differs(results) else {}
    ),
)

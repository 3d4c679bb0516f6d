"""Single networks that carry much of sigma_L^2. And dominant_members.csv."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.ensemble.results import EnsembleResults
from analysis.report.numbers import probability
from analysis.report.page import count
from analysis.report.section import Section, Table
from analysis.scaling import plain
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble import exact

UNLIKELY = 1e-3
"""Chance below which a large share is a caution: 20 cells of sound members have one with probability 2 %."""

SHOWN, TOLD = 5, 3

HEADING = ("width", "N_D", "draw", "network", "share of sigma_L^2", "L/mu_L", "eps_L", "without it", "chance")

NOTE = (
    "Networks that carry more than a tenth of sigma_L^2 of their cell (width, N_D, draw): (L - mu_L)^2 over its sum "
    "over the cell's networks. Chance: the probability that one of as many networks has as large a share where L is "
    "distributed {law}."
)

SKEWED = "with the skewness of {whose} (a gamma law)"

NORMAL = "as a normal law"

BOUND = "losses are skewed to the right, which makes large shares more likely, so that this chance is a lower bound"


def sentences(results: EnsembleResults) -> list[str]:
    found = results.dominant
    if found.empty:
        return ["No network carries more than a tenth of sigma_L^2 of its cell."]
    cells, there = len(found.groupby(list(CELL))), results.moments.mu_L.size
    told = f"In {cells:,} of {count(there, 'cell')} single networks carry more than a tenth of sigma_L^2"
    rare = found[found.chance < UNLIKELY]
    if rare.empty:
        rarest, least = float(found.chance.min()), "at least " if found.skewness.isna().any() else ""
        rarest_of = f"the rarest of these shares has the probability {least}{rarest:.2g} in a cell"
        return [f"{told}, as may be by chance: {rarest_of}."]
    unlikely = len(rare)
    some = "it is" if unlikely == len(found) == 1 else "they are" if unlikely == len(found) else f"{unlikely:,} are"
    said = f"{told}: {count(len(found), 'share')}, and {some} "
    if not rare.skewness.isna().any():
        return [f"{said}no chance."]
    return [f"{said}unlikely (less than {UNLIKELY:g}), where no skewness is known as far as a normal law tells."]


def tables(results: EnsembleResults) -> Sequence[Table]:
    """The largest shares."""
    found = results.dominant
    if found.empty:
        return []
    rows = [
        (
            f"{one.width:,}", f"{one.n_train:,}", f"{one.draw}", f"{one.member}", f"{100 * one.share:.0f} %",
            f"{one.loss_ratio:.3g}", f"{one.eps_L:.3g}", f"{one.eps_L_without:.3g}", probability(one.chance),
        )
        for one in found.head(SHOWN).itertuples()
    ]  # fmt: skip
    more, note = len(found) - len(rows), NOTE.format(law=_law(results))
    return [Table([HEADING, *rows], note + (f" {more:,} more are in dominant_members.csv." if more else ""))]


def _law(results: EnsembleResults) -> str:
    """Of which distribution chances are."""
    normal = results.dominant.skewness.isna()
    if normal.all():
        return f"{NORMAL}, as no skewness is known: {BOUND}"
    skewed = SKEWED.format(whose=_whose(results))
    return skewed if not normal.any() else f"{skewed}, and where that is not there {NORMAL}: {BOUND}"


def _whose(results: EnsembleResults) -> str:
    if results.has_law:
        return "the exact law"
    width = ", at the gamma of each width" if "width" in results.reference.skewness.dims else ""
    if exact.has_law(results.study):
        return f"the lazy law beside the networks{width}, which is not their own"
    return f"full-batch descent at infinite width{width}: another law, as theirs is not known"


def cautions(results: EnsembleResults) -> list[str]:
    """One sentence a network, of those with the largest shares: a network begins alike at every size and draw."""
    found = results.dominant
    networks = [rows for _, rows in found[found.chance < UNLIKELY].groupby(["width", "member"], sort=False)]
    said = [_caution(rows) for rows in networks[:TOLD]]
    if more := len(networks) - len(said):
        verb = "carries" if more == 1 else "carry"
        said.append(f"{count(more, 'more network')} {verb} more than a tenth of sigma_L^2 (dominant_members.csv)")
    return said


def _caution(rows: pd.DataFrame) -> str:
    worst, others = rows.iloc[0], len(rows) - 1
    also = f" (more than a tenth in {count(others, 'other cell')} too)" if others else ""
    return (
        f"network {int(worst.member)} of width {int(worst.width):,} carries {100 * worst.share:.0f} % of sigma_L^2 at "
        f"{training_set(worst)}{also}: eps_L is {worst.eps_L:.3g} there, and {worst.eps_L_without:.3g} without it"
    )


def training_set(row: Any) -> str:
    """The training set of a cell, in words."""
    return f"N_D = {int(row.n_train):,}" + (f" of draw {int(row.draw)}" if row.draw else "")


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, for fits.json."""
    return [{str(name): plain(value) for name, value in row.items()} for row in rows.to_dict("records")]


SECTION: Section[EnsembleResults] = Section(
    title="Single networks",
    tables=tables,
    sentences=sentences,
    cautions=cautions,
    fits=lambda results: {"dominant_members": records(results.dominant)},
    files=lambda results: {"dominant_members": results.dominant},
    order=("sentences", "tables", "figure"),
)

"""Are exponents and losses robust to what varies? Every variant against the first, paired by member."""

from collections.abc import Sequence

import pandas as pd

from analysis.comparison import sentences, varied
from analysis.comparison.differences import COMPARED, PairedDifference, What
from analysis.comparison.results import ComparisonResults
from analysis.contrasts import Estimate
from analysis.ensemble.curves import DRAW
from analysis.ensemble.results import EnsembleResults
from analysis.report.section import Section, Table
from ntkhpc.words import joined

QUESTIONS: dict[What, str] = {
    "exponent": "Are exponents of N_D robust to {}?",
    "value": "And losses and spreads at N_D = {:,}?",
}

NOTE = (
    "Less {reference}, of the same width: of exponents the difference, of mu_L and eps_L the relative difference, "
    "each with its own 95 % interval. p: the probability of a difference as clear were there none, Holm's over the "
    "variants of a column and width. A difference is called one below 0.01; where there is none, it cannot be told if "
    "one of {resolved} would not have been seen. Differences are paired by member: {paired} {errors}"
)


def claim(results: ComparisonResults, what: What) -> str:
    """The answer in the first box: a verdict on each quantity, with the numbers of what differs."""
    found = _quantities([d for d in results.differences if d.what == what])
    if not found:
        return "" if what == "value" else "Exponents of the variants cannot be compared: too few sizes or members."
    asked = subject(results) if what == "exponent" else int(results.sizes[-1])
    width = results.widths[-1]
    said = [
        sentences.verdict(one, results.reference.name, own(results.reference.results, what, one[0].quantity, width))
        for one in found
    ]
    return " ".join([QUESTIONS[what].format(asked), *said])


def subject(results: ComparisonResults) -> str:
    """What varies: the names of the fields."""
    names = [name.partition(".")[2] for name in varied.fields(results.variants)]
    return joined(f"`{name}`" for name in names) if names else "the variant"


def _quantities(found: Sequence[PairedDifference]) -> list[list[PairedDifference]]:
    """Those of one quantity together."""
    return [[d for d in found if d.quantity == name] for name in dict.fromkeys(d.quantity for d in found)]


def numbers(results: ComparisonResults) -> list[str | list[str]]:
    """Of every width a heading and one sentence a quantity."""
    told: list[str | list[str]] = []
    for width in results.widths:
        said = []
        for what, name in COMPARED:
            mine = [d for d in results.differences if (d.what, d.quantity, d.width) == (what, name, width)]
            if mine:
                value = own(results.reference.results, what, name, width)
                said.append(sentences.sentence(mine, results.reference.name, value))
        told += [f"At width {width:,}:", said] if said else []
    return told


def own(results: EnsembleResults, what: What, name: str, width: int) -> Estimate | None:
    """An exponent, or the value at the largest size, of one ensemble."""
    if what == "value":
        return results.value(name, width, -1)
    fit = results.fits.get((name, width))
    return fit.slope if fit else None


def rows(results: ComparisonResults) -> list[Sequence[str]]:
    """One for each variant but the first and each width."""
    found: list[Sequence[str]] = [
        ("variant", "width", *(f"{name} exponent" if what == "exponent" else name for what, name in COMPARED))
    ]
    known = {(d.what, d.quantity, d.width, d.variant): d for d in results.differences}
    for one in results.others:
        for width in results.widths:
            cells = (known.get((what, name, width, one.name)) for what, name in COMPARED)
            found.append((one.name, f"{width:,}", *map(sentences.cell, cells)))
    return found


def note(results: ComparisonResults) -> str:
    resolved = joined((sentences.resolved(what) for what in QUESTIONS), "or")
    told = varied.pairing(results.variants)
    return NOTE.format(reference=results.reference.name, errors=_errors(results), resolved=resolved, paired=told)


def _errors(results: ComparisonResults) -> str:
    """What errors of differences are made of."""
    parts = [set(d.estimate.parts) for d in results.differences if d.what == "exponent"]
    if not any(DRAW in one for one in parts):
        return "Errors are of the members alone: differences are those on these training sets."
    where = "" if all(DRAW in one for one in parts) else "where both variants have an exact law of further draws "
    return (
        f"Errors are of the members, and of exponents {where}also of the draw of the training set, of eps_pop of the "
        "test points too; other differences are those on these training sets."
    )


def differences(results: ComparisonResults) -> pd.DataFrame:
    """One row a comparison."""
    return pd.DataFrame([one.to_dict() for one in results.differences])


SECTION: Section[ComparisonResults] = Section(
    title="Differences between variants",
    claim=lambda results: claim(results, "exponent"),
    tables=lambda results: [Table(rows(results), note(results))] if results.differences else [],
    sentences=lambda results: numbers(results),
    fits=lambda results: {
        "reference": results.reference.name,
        "differences": [one.to_dict() for one in results.differences],
    },
    files=lambda results: {"differences": differences(results)} if results.differences else {},
)

VALUES: Section[ComparisonResults] = Section(claim=lambda results: claim(results, "value"))

"""Does each variant agree with its own exact law at infinite width? And which have none."""

import math
from typing import Any

from analysis.agreement import TESTED
from analysis.comparison.results import ComparisonResults, Variant
from analysis.ensemble import agreement
from analysis.ensemble.results import EnsembleResults
from analysis.report.numbers import percent, two_digits
from analysis.report.section import Section
from ntkhpc.studies.ensemble import exact, standing
from ntkhpc.words import joined

NOTE = (
    "Each variant is tested against its own law, whatever the others are: of so many variants and widths that all have "
    "their law, one in a hundred is called different at p < 0.01."
)


def with_law(results: ComparisonResults) -> list[Variant]:
    return [one for one in results.variants if one.results.has_law]


def claim(results: ComparisonResults) -> str:
    """One clause a variant, of its widest networks; and who has no law."""
    width = results.widths[-1]
    said = [f"{one.name}: {_verdict(one.results, width)}" for one in with_law(results)]
    heading = f"Against the exact law of its own algorithm at infinite width, on the same samples, at width {width:,}: "
    return " ".join([*([f"{heading}{'; '.join(said)}."] if said else []), *without_law(results)])


def _verdict(results: EnsembleResults, width: int) -> str:
    """ "differs in mu_L (-28 ± 4 %), no difference seen in the variance of predictions (9.2 % would have been)"."""
    found = {name: one for name in TESTED if (one := results.comparisons.get((name, width)))}
    if not any(math.isfinite(one.p_value) for one in found.values()):
        return "not tested"
    groups = {
        "differs in": [
            f"{_word(name)} ({percent(one.ratio.of_ratio())})" for name, one in found.items() if one.differs
        ],
        "no difference seen in": [
            f"{_word(name)} ({two_digits(100 * one.seen)} % would have been)"
            for name, one in found.items() if one.can_tell and not one.differs
        ],
        "cannot tell for": [_word(name) for name, one in found.items() if not one.can_tell],
    }  # fmt: skip
    return ", ".join(f"{what} {joined(told)}" for what, told in groups.items() if told)


def _word(name: str) -> str:
    return "the variance of predictions" if name == "variance" else name


def without_law(results: ComparisonResults) -> list[str]:
    """A sentence for those whose networks have no law of their own, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for one in results.variants:
        if not one.results.has_law:
            reasons.setdefault(_reason(one.results), []).append(one.name)
    return [f"{joined(names)}: {reason}." for reason, names in reasons.items()]


def _reason(results: EnsembleResults) -> str:
    study = results.study
    if standing.is_own(study):
        return "its law has not been computed"
    if not exact.has_law(study):
        return standing.short(study)
    if study.network.centred:
        return f"{standing.short(study).removeprefix('centred: ')}, nothing is tested"
    return "the lazy law of each width is a reference and no limit, nothing is tested"


def sentences(results: ComparisonResults) -> list[str | list[str]]:
    """Of each variant with a law, a heading and one sentence a width."""
    said: list[str | list[str]] = []
    for one in with_law(results):
        said += [f"{one.name}:", agreement.agreements(one.results), standing.lazy_widths(one.results.study)]
    return [agreement.HEADING, *said, NOTE] if said else []


def fits(results: ComparisonResults) -> dict[str, Any]:
    """By variant: comparisons with its law, or in words why there are none."""
    return {
        "agreement": {
            one.name: agreement.comparisons(one.results) if one.results.has_law else _reason(one.results)
            for one in results.variants
        }
    }


SECTION: Section[ComparisonResults] = Section(
    title="Each variant against its own law", claim=claim, sentences=sentences, fits=fits
)

"""Do the ensembles differ from the exact law of the same steps? One sentence a width."""

import math
from typing import Any

from analysis.agreement import TESTED, AgainstLaw
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.numbers import chance, percent, two_digits
from analysis.report.section import Section
from analysis.scaling import plain
from ntkhpc.studies.ensemble import standing

WORDS = {"mu_L": "mu_L", "eps_L": "eps_L", "variance": "the variance of the prediction over all test points"}

HEADING = (
    "Against the exact law of infinite width after the same steps on the same samples. Percentages are means over the "
    "training-set sizes, ± half of the 68 % interval over members; a difference is called one at p < 0.01, whatever "
    "number of quantities is tested:"
)


def agreements(results: EnsembleResults) -> list[str]:
    """One sentence a width: in what does its ensemble differ from the exact law of the same steps?"""
    return [_sentence(results, int(width)) for width in results.mean.width.values]


def _sentence(results: EnsembleResults, width: int) -> str:
    found = {name: one for name in TESTED if (one := results.comparisons.get((name, width)))}
    if not any(math.isfinite(one.p_value) for one in found.values()):
        return f"width {width:,}: not tested, as some of it is missing or has too few members"
    differing = [name for name, one in found.items() if one.differs]
    untold = [name for name, one in found.items() if not one.differs and not one.can_tell]
    alike = [name for name in found if name not in differing and name not in untold]
    said = []
    if differing:
        said.append("differs in " + _listed(f"{WORDS[name]} ({_difference(found[name])})" for name in differing))
    if alike:
        said.append("no difference seen in " + _listed(f"{WORDS[name]} ({_limit(found[name])})" for name in alike))
    if untold:
        said.append("cannot tell for " + _listed(f"{WORDS[name]} ({_limit(found[name])})" for name in untold))
    return f"width {width:,}: {'; '.join(said)}{_largest(results, width, differing)}"


def _difference(one: AgainstLaw) -> str:
    return f"{percent(one.ratio.of_ratio())}, {chance(one.p_value)}"


def _limit(one: AgainstLaw) -> str:
    if not math.isfinite(one.p_value):
        return f"{percent(one.ratio.of_ratio())}, too few members to test"
    return (
        f"{percent(one.ratio.of_ratio())}, {chance(one.p_value)}; {two_digits(100 * one.seen)} % would have been seen"
    )


def _largest(results: EnsembleResults, width: int, differing: list[str]) -> str:
    """What differs, at the largest size, where a mean over sizes may hide how much."""
    n, values = int(results.sizes[-1]), []
    for name in differing:
        value, exact = results.headline.value(name, width, -1), float(results.law_mean[name].isel(n_train=-1))
        if value is not None:
            relative = value.scaled(1 / exact)
            values.append(f"{WORDS[name]} {percent(relative.less(1.0))}")
    return f". At N_D = {n:,}: {_listed(values)}" if values else ""


def _listed(words: Any) -> str:
    found = list(words)
    return ", ".join(found[:-1]) + " and " + found[-1] if len(found) > 1 else found[0]


def comparisons(results: EnsembleResults) -> dict[str, Any]:
    """By quantity and width."""
    return {
        name: {str(w): one.to_dict() for (quantity, w), one in results.comparisons.items() if quantity == name}
        for name in TESTED
    }


def p_values(results: EnsembleResults) -> dict[str, dict[str, Any]]:
    """By quantity and width."""
    return {
        name: {str(w): plain(one.p_value) for (quantity, w), one in results.comparisons.items() if quantity == name}
        for name in TESTED
    }


SECTION: Section[EnsembleResults] = Section(
    title="Does finite width differ from infinite width?",
    needs=LAW,
    sentences=lambda results: [
        HEADING,
        agreements(results),
        standing.lazy_widths(results.study),
        results.headline.sentence("mu_L", "eps_L"),
    ],
    summary=lambda results: [
        "",
        "against the exact law of infinite width after the same steps on the same data (means over sizes):",
        *(f"  {text}" for text in agreements(results)),
    ],
    fits=lambda results: {"agreement_p_value": p_values(results), "agreement": comparisons(results)},
)

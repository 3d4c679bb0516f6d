"""Do the ensembles differ from the exact law of the same steps? One sentence a width."""

import math
from collections.abc import Mapping
from typing import Any

from analysis.agreement import TESTED, AgainstLaw
from analysis.contrasts import Estimate, mean_weights
from analysis.ensemble.curves import MEMBERS
from analysis.ensemble.headline import MARK
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.numbers import chance, percent, two_digits
from analysis.report.section import Section
from analysis.scaling import plain
from analysis.two_level import LEAPT
from ntkhpc.studies.ensemble import standing

WORDS = {"mu_L": "mu_L", "eps_L": "eps_L", "variance": "the variance of the prediction over all test points"}

HEADING = (
    "Against the exact law of infinite width after the same steps on the same samples. Percentages are means over the "
    "training-set sizes, ± half of the 68 % interval over members; a difference is called one at p < 0.01, whatever "
    "number of quantities is tested:"
)


ALONE = 2
"""Quantities that two-level estimates test, of which each could alarm."""


def agreements(results: EnsembleResults) -> list[str]:
    """One sentence a width: in what does its ensemble differ from the exact law of the same steps?"""
    said = []
    for width in map(int, results.mean.width.values):
        found = {name: one for name in TESTED if (one := results.comparisons.get((name, width)))}
        values = {name: results.value(name, width, -1) for name in found}
        said.append(_sentence(results, f"width {width:,}", found, values))
    return said


def two_level(results: EnsembleResults) -> dict[tuple[str, int], AgainstLaw]:
    """By (quantity, width), mu_L and eps_L of what is two-level: the mean over sizes of log(value/law), by Student's t.

    `p_value` is that of any of ALONE quantities [Sidak 1967].
    """
    found = {}
    for (name, width), curve in results.headline.curves.items():
        if name in TESTED and (name, width) in results.headline.gains:
            over = curve.over(results.law_mean[name].values).of(MEMBERS, LEAPT)
            ratio = over.contrast(mean_weights(curve.n))
            found[name, width] = AgainstLaw(ratio, 1 - (1 - ratio.p_value()) ** ALONE)
    return found


def two_level_agreements(results: EnsembleResults) -> list[str]:
    """As `agreements`, of widths that are two-level."""
    told, said = two_level(results), []
    for width in map(int, results.mean.width.values):
        found = {name: told[name, width] for name in TESTED if (name, width) in told}
        values = {name: results.headline.value(name, width, -1) for name in found}
        if found:
            said.append(_sentence(results, f"width {width:,}{MARK}", found, values))
    return said


def _sentence(
    results: EnsembleResults, who: str, found: Mapping[str, AgainstLaw], values: Mapping[str, Estimate | None]
) -> str:
    """`values` are those at the largest size."""
    if not any(math.isfinite(one.p_value) for one in found.values()):
        return f"{who}: not tested, as some of it is missing or has too few members"
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
    return f"{who}: {'; '.join(said)}{_largest(results, {name: values[name] for name in differing})}"


def _difference(one: AgainstLaw) -> str:
    return f"{percent(one.ratio.of_ratio())}, {chance(one.p_value)}"


def _limit(one: AgainstLaw) -> str:
    if not math.isfinite(one.p_value):
        return f"{percent(one.ratio.of_ratio())}, too few members to test"
    return (
        f"{percent(one.ratio.of_ratio())}, {chance(one.p_value)}; {two_digits(100 * one.seen)} % would have been seen"
    )


def _largest(results: EnsembleResults, differing: Mapping[str, Estimate | None]) -> str:
    """What differs, at the largest size, where a mean over sizes may hide how much."""
    n, values = int(results.sizes[-1]), []
    for name, value in differing.items():
        if value is not None:
            relative = value.scaled(1 / float(results.law_mean[name].isel(n_train=-1)))
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
        [*agreements(results), *two_level_agreements(results)],
        standing.lazy_widths(results.study),
    ],
    summary=lambda results: [
        "",
        "against the exact law of infinite width after the same steps on the same data (means over sizes):",
        *(f"  {text}" for text in (*agreements(results), *two_level_agreements(results))),
    ],
    fits=lambda results: {"agreement_p_value": p_values(results), "agreement": comparisons(results)},
)

"""Do the ensembles differ from the exact law of the same steps? One sentence a width."""

import math
from typing import Any

from analysis.agreement import MEMBERS_A_SIZE
from analysis.ensemble.results import SIGNIFICANT, EnsembleResults
from analysis.infinite import LAW
from analysis.report.numbers import chance
from analysis.report.section import Section
from analysis.scaling import plain

TESTED = ("mu_L", "eps_L")


def agreements(results: EnsembleResults) -> list[str]:
    """One sentence a width: does its ensemble differ from the exact law of the same steps?"""
    said = []
    n = int(results.sizes[-1])
    for width in results.mean.width.values:
        one, cell = results.agreement.sel(width=width), results.mean.sel(width=width).isel(n_train=-1)
        p = {name: float(one[f"{name}_p_value"]) for name in TESTED}
        if not all(map(math.isfinite, p.values())):
            said.append(
                f"width {int(width):,}: not tested, as some of it is missing or has fewer than {MEMBERS_A_SIZE} "
                f"members for each of {len(results.sizes)} sizes"
            )
            continue
        found = []
        for name in p:
            exact = float(results.law_mean[name].isel(n_train=-1))
            percent = 100 * (float(one[f"{name}_ratio"].isel(n_train=-1).mean("draw")) - 1)
            found.append(f"{name} {percent:+.1f} ± {100 * float(cell[f'{name}_stderr']) / exact:.1f} %")
        verdict = "differs" if min(p.values()) <= SIGNIFICANT else f"no difference seen (at p = {SIGNIFICANT})"
        odds = f"{chance(p['mu_L'])} for mu_L, {chance(p['eps_L'])} for eps_L, all sizes together"
        said.append(f"width {int(width):,}: {verdict}; {', '.join(found)} at N_D = {n:,} ({odds})")
    return said


def p_values(results: EnsembleResults) -> dict[str, dict[str, Any]]:
    """By quantity and width."""
    return {
        name: {str(int(w)): plain(float(results.agreement[f"{name}_p_value"].sel(width=w))) for w in results.mean.width}
        for name in TESTED
    }


SECTION: Section[EnsembleResults] = Section(
    needs=LAW,
    sentences=lambda results: [
        "Against the exact law of infinite width after the same steps on the same samples:",
        agreements(results),
    ],
    summary=lambda results: [
        "",
        "against the exact law of infinite width after the same steps on the same data:",
        *(f"  {text}" for text in agreements(results)),
    ],
    fits=lambda results: {"agreement_p_value": p_values(results)},
)

"""Whether chains have converged: what a careful reader should know before using the sampled numbers."""

import numpy as np
import xarray

from analysis.posterior.results import PosteriorResults
from analysis.report.numbers import two_digits
from analysis.report.section import Section
from ntkhpc.studies.posterior.study import PosteriorStudy

R_HAT, ESS, ESS_A_CHAIN = 1.01, 400, 100
"""Above the first, chains have not converged; below the others, errors of means are themselves uncertain."""

STIFF = 0.2
"""Langevin: at this the variance along the stiffest direction is 11 % too large."""

RELAXATIONS = 10
"""Langevin: relaxation times that the kept samples of a chain should span."""


def cautions(results: PosteriorResults) -> list[str]:
    """What is wrong with the chains, each finding with the cells where it was found."""
    one = results.chains
    planned = results.study.sampling.chains
    if one is None:
        why = "their arrays are not in the store" if planned else "sampling.chains = 0"
        return [f"no networks were sampled ({why}): theory stands alone"]
    found = []
    lacking = int((planned - one.chains).sum())
    if lacking:
        found.append(f"{lacking:,} of {planned * one.chains.size:,} chains are missing")
    for bad, text in (
        (
            (one.chains > 0) & ~(one.r_hat <= R_HAT),
            f"R-hat is not below {R_HAT:g}: chains have not converged and errors are too small",
        ),
        ((one.chains > 0) & ~(one.ess >= ESS), f"fewer than {ESS} effective samples: errors are rough"),
        (
            (one.ess >= ESS) & (one.ess < ESS_A_CHAIN * one.chains),
            f"fewer than {ESS_A_CHAIN} effective samples a chain: R-hat is rough",
        ),
        (
            one.step_size * one.curvature > STIFF,
            f"learning_rate times curvature exceeds {STIFF:g}: Langevin steps are too large, and variances with them",
        ),
        (one.divergences > 0, "transitions diverged: some of the posterior may not have been reached"),
    ):
        if bad.any():
            found.append(f"{text}, in {_cells(bad)}")
    return found + _about_relaxation(results.study)


def _about_relaxation(study: PosteriorStudy) -> list[str]:
    """Langevin dynamics forgets in its own time, the same in all cells."""
    sampling, posterior = study.sampling, study.posterior
    if sampling.sampler != "langevin":
        return []
    relaxation = 1 / (sampling.learning_rate * posterior.temperature * min(posterior.precisions))
    spanned = sampling.draws * sampling.thin / relaxation
    if spanned >= RELAXATIONS:
        return []
    return [
        f"the kept samples of a chain span {two_digits(spanned)} relaxation times 1/(learning_rate T lambda) = "
        f"{relaxation:,.0f} steps: directions that the data leave free are still near where they started"
    ]


def _cells(bad: xarray.DataArray) -> str:
    """Some cells by name, or how many there are."""
    named = [
        f"(P = {int(bad.n_train[j]):,}, N1 = {int(bad.width[i]):,}, draw {int(bad.draw[k])})"
        for i, j, k in zip(*np.nonzero(bad.values), strict=True)
    ]
    more = f" and {len(named) - 3} more of {bad.size} cells" if len(named) > 3 else ""
    return ", ".join(named[:3]) + more


SECTION: Section[PosteriorResults] = Section(cautions=cautions)

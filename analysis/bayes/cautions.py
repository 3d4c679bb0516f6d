"""What a careful reader should know before using the numbers of a posterior, as sentences."""

from collections.abc import Sequence

import numpy as np
import xarray

from analysis.bayes.results import Results
from analysis.bayes.sampled import per_cell
from ntkhpc import convergence
from ntkhpc.studies.posterior.study import BayesStudy

R_HAT, ESS, ESS_A_CHAIN = 1.01, 400, 100
"""Above the first, chains have not converged; below the others, errors of means are themselves uncertain."""

STIFF = 0.2
"""Langevin: at this the variance along the stiffest direction is 11 % too large."""

RELAXATIONS = 10
"""Langevin: relaxation times that the kept samples of a chain should span."""

ACCURATE_S = 4.0
"""Theory errs by more than some per cent above this (measured by its authors' test problems, for P about N1)."""

ACCURATE_RATIO = 1.0
"""And for P/N1 above this: by 12 to 34 % at 2 to 4 on the digits of MNIST."""


def cautions(results: Results) -> list[str]:
    """Every caution there is about these results; none where nothing is wrong."""
    found = []
    if results.missing:
        found.append(f"PARTIAL: {results.missing}; numbers will change")
    found += _about_chains(results)
    found += _about_neurons(results)
    large = [int(n) for n in results.theory.n_train.values if float(results.theory.s.sel(n_train=n).max()) > ACCURATE_S]
    if large:
        found.append(
            f"s exceeds {ACCURATE_S:g} at P = {_listed(large)}: the finite-width theory is known to err by 10 % there"
        )
    narrow = min(results.study.network.widths)
    if results.theory.n_train.values.max() > ACCURATE_RATIO * narrow:
        found.append(
            f"P/N1 reaches {results.theory.n_train.values.max() / narrow:.2g}: beyond {ACCURATE_RATIO:g} the "
            "finite-width theory may err by tens of per cent, as it knows only the scale of the kernel"
        )
    if (results.theory.eps_pop.values < 0).any() or (results.descent.eps_pop.values < 0).any():
        found.append("eps_pop is negative somewhere: too few test points to tell what an endless test set would give")
    return found


def _about_neurons(results: Results) -> list[str]:
    if "adaptive_drift" not in results.store:
        return []
    drifts, losses = (per_cell(results.store[f"adaptive_{name}"], "population") for name in ("drift", "loss"))
    wrong = ~convergence.settled(drifts.values, losses.values)
    cells = [f"P = {losses.n_train.values[j]:,}, N1 = {losses.width.values[i]:,}" for i, j, _ in np.argwhere(wrong)]
    if not cells:
        return []
    return [
        f"the adaptive kernel still drifts at {'; '.join(dict.fromkeys(cells))}, by more than its error: raise "
        "adaptive.updates"
    ]


def _about_chains(results: Results) -> list[str]:
    one = results.chains
    if one is None:
        return ["no networks were sampled (sampling.chains = 0): theory stands alone"]
    found = []
    planned = results.study.sampling.chains
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


def _about_relaxation(study: BayesStudy) -> list[str]:
    """Langevin dynamics forgets in its own time, the same in all cells."""
    sampling, posterior = study.sampling, study.posterior
    if sampling.sampler != "langevin":
        return []
    relaxation = 1 / (sampling.learning_rate * posterior.temperature * min(posterior.precisions))
    spanned = sampling.draws * sampling.thin / relaxation
    if spanned >= RELAXATIONS:
        return []
    return [
        f"the kept samples of a chain span {spanned:.2g} relaxation times 1/(learning_rate T lambda) = "
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


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)

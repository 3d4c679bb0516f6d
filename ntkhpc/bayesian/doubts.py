"""Reasons not to trust a sample, in plain words."""

import numpy as np

from ntkhpc.bayesian.chains import MOST_STEPS, ChainProgram, State
from ntkhpc.bayesian.target import Problem

_ESS_PER_CHAIN = 100
"""Effective samples below which R-hat and the standard error are themselves uncertain [Vehtari et al. 2021]."""
_ACCEPTANCE = 0.25
_STIFF = 0.2
"""lr c of Langevin dynamics: at 0.2 the variance along the stiffest direction is 11 % too large."""
_RELAXATIONS = 10


def doubts(
    program: ChainProgram, problem: Problem, state: State, draws: dict[str, np.ndarray], r_hat: float, ess: float
) -> tuple[str, ...]:
    """Doubts about draws (C, n) by name, from their R-hat, bulk effective sample size and the state after them."""
    chains, n = draws["potential"].shape
    found = []
    if not r_hat <= 1.05:
        found.append(f"R-hat = {r_hat:.3f} > 1.05: the chains disagree; nothing here can be trusted before they mix")
    elif r_hat > 1.01:
        found.append(f"R-hat = {r_hat:.3f} > 1.01: the chains may not have mixed; more draws tell")
    if not ess >= _ESS_PER_CHAIN * chains:
        found.append(f"effective sample size {ess:.0f} of {chains * n} draws is below {_ESS_PER_CHAIN} per chain")
    if program.sampler == "langevin":
        return tuple(found + _of_langevin(program, problem, state))
    divergent = int(draws["divergent"].sum())
    if divergent:
        found.append(f"{divergent} of {chains * n} draws diverged: where the density is steep, the sample has a hole")
    acceptance = draws["acceptance"].mean(axis=1)
    off = np.abs(acceptance - program.target_acceptance) > _ACCEPTANCE
    if off.any():
        rates = ", ".join(f"{rate:.2f}" for rate in acceptance[off])
        found.append(
            f"acceptance {rates} in {off.sum()} of {chains} chains, where {program.target_acceptance:g} was the aim: "
            "a longer warm-up adapts the step size better"
        )
    most = MOST_STEPS if program.sampler == "hmc" else 2**program.doublings - 1
    cut = float((draws["gradients"] >= most * program.thin).mean())
    if cut > 0.05:
        found.append(
            f"{cut:.0%} of the trajectories were cut off at {most} steps: draws are closer than they should be"
        )
    return tuple(found)


def _of_langevin(program: ChainProgram, problem: Problem, state: State) -> list[str]:
    rate, temperature = program.learning_rate, float(problem.temperature)
    found = []
    stiff = rate * float(state["curvature"].max())
    if not stiff < 2:
        found.append(f"learning rate times largest curvature is {stiff:.3g} >= 2: the dynamics is unstable")
    elif stiff > _STIFF:
        found.append(
            f"learning rate times largest curvature is {stiff:.3g}: without a Metropolis step the variance along the "
            f"stiffest direction is {1 / (1 - stiff / 2) - 1:.0%} too large"
        )
    relaxation = 1 / (rate * temperature * float(np.min(problem.precisions)))
    run = int(state["draw"].max()) * program.thin
    if run < _RELAXATIONS * relaxation:
        found.append(
            f"{run} steps of a chain are {run / relaxation:.2g} relaxation times 1/(lr T lam) = {relaxation:.3g}: "
            "directions that the data leave free are still near where they started"
        )
    return found

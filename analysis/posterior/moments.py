"""moments.csv: mean, standard deviation and relative spread of the loss of single networks, of every law and sample."""

import math

import pandas as pd

from analysis.posterior.results import PosteriorResults, frame
from analysis.report.section import Section


def moments(results: PosteriorResults) -> pd.DataFrame:
    """One row per (network, width, n_train, draw): mu_L, sigma_L, eps_L, eps_pop; errors where they were sampled."""
    names = ["mu_L", "sigma_L", "eps_L", "eps_pop", "bias", "variance"]
    theory = frame(results.theory[[*names, "q_bar", "mixture", "s", "log_evidence"]])
    theory = theory.rename(columns={"theory_width": "width"}).assign(network="posterior, theory")
    descent = frame(results.descent[names]).assign(network="trained to the end", width=math.inf)
    parts = [theory, descent]
    if results.chains is not None:
        parts.append(frame(results.chains).assign(network="posterior, sampled"))
    whole = pd.concat(parts, ignore_index=True)
    first = ["network", "width", "n_train", "draw"]
    return whole[[*first, *(name for name in whole.columns if name not in first)]]


SECTION: Section[PosteriorResults] = Section(files=lambda results: {"moments": moments(results)})

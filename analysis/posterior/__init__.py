"""The report of a posterior: theory at finite and infinite width beside networks sampled from it."""

import math

from analysis.posterior import (
    adaptive,
    chains,
    chi_square,
    claim,
    convergence,
    distribution,
    losses,
    moments,
    order_parameter,
    scaling,
    scans,
)
from analysis.posterior.results import PosteriorResults, collect
from analysis.report.compose import Cover
from analysis.report.compose import compose as compose_sections
from analysis.report.page import count
from analysis.report.publication import Publication
from analysis.report.section import Section
from ntkhpc.engine.run import Run

SECTIONS: list[Section[PosteriorResults]] = [
    losses.SECTION,
    chi_square.SECTION,
    claim.SECTION,
    convergence.SECTION,
    adaptive.SECTION,
    order_parameter.SECTION,
    scans.SECTION,
    distribution.SECTION,
    moments.SECTION,
    scaling.SECTION,
    chains.SECTION,
]
"""In the order of the page."""

PREFACE = (
    "Losses are the mean over test points of (f - y)^2, as in arXiv:2209.04882: no factor 1/2, so twice the L of "
    "studies of kind ensemble (arXiv:2503.05938). Those of networks trained to the end are in the same normalisation."
)


def compose(run: Run, *, partial: bool = False) -> Publication:
    """Analyse a run. Raises RunError for an incomplete one unless `partial`."""
    results = collect(run, partial=partial)
    return compose_sections(SECTIONS, results, cover(results))


def cover(results: PosteriorResults) -> Cover:
    name = results.run.plan.run_name  # a study that is read may have gained settings
    return Cover(
        name=results.study.name,
        run_name=name,
        subject=f"{results.run.layout.kind.title}: theory against samples.",
        about=_about(results),
        preface=PREFACE,
        definitions=_definitions(results),
        fits={
            "study": name,
            "loss": PREFACE,
            "missing": results.missing,
            "claim": "",
            "chi_square": None,
            "adaptive_kernel": [],
            "exact": {},
            "sampled": {},
            "posterior_less_trained": {},
        },
    )


def _about(results: PosteriorResults) -> str:
    study = results.study
    posterior, sampling = study.posterior, study.sampling
    what = (
        f"one hidden layer of width {_numbers(study.network.widths)}, {study.network.activation}, P = "
        f"{_numbers(posterior.n_train)} training samples, {count(posterior.draws, 'draw')}, temperature "
        f"{posterior.temperature:g}, prior precisions {posterior.precisions[0]:g} and {posterior.precisions[1]:g}, "
        f"{study.data.test:,} test points; "
    )
    if not sampling.chains:
        return f"{what}no samples."
    return f"{what}{sampling.chains} chains ({sampling.sampler}) of {sampling.draws:,} samples a cell."


def _definitions(results: PosteriorResults) -> dict[str, str]:
    study = results.study
    adaptive = {
        "adaptive kernel": "each neuron's weights have the distribution that the others' mean field gives them, so the "
                           "kernel changes its shape; Monte Carlo over populations of neurons, errors from their spread"
    }  # fmt: skip
    constant = float((results.store.y_test.values**2).mean())
    baseline = f"; predicting zero gives {constant:.2g}" if math.isfinite(constant) else ""
    return {
        "posterior": "p(weights | data) ~ exp(-SSE/(2T) - sum of precision times squared weights / 2), with "
                     "f = v . phi(W x/sqrt(N0))/sqrt(N1)",
        "test loss": f"mean over N_T = {study.data.test:,} test points of (f - y)^2{baseline}. Losses without the name "
                     "of a network are averages over the posterior",
        "theory": "saddle point of the effective action of the order parameter Qb: a Gaussian process whose kernel is "
                  "Qb times that of infinite width (arXiv:2209.04882)",
        **(adaptive if results.adaptive_cells else {}),
        "Qb": "lam_1 |v|^2/N1 of the read-out v, averaged over the posterior; 1 at infinite width",
        "s": "y^T (T+K)^-1 K (T+K)^-1 y / Tr K (T+K)^-1, at zero temperature y^T K^-1 y / P: Qb > 1 exactly where "
             "s > 1",
        "mu_L, sigma_L, eps_L": "mean and standard deviation over networks of the loss L of a single one, and "
                                "sigma_L/mu_L, which is free of the normalisation of L",
        "eps_pop": "eps_L as an endless test set would show it",
        "trained to the end": "infinitely wide networks that start from this prior and follow gradient descent without "
                              "noise to the end: the ensemble of arXiv:2503.05938 (NTK)",
    }  # fmt: skip


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(f"{value:,}" for value in values)

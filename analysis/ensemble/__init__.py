"""The report of an ensemble: how much the test loss varies with the initialisation."""

import numpy as np

from analysis.ensemble import (
    agreement,
    answer,
    bias_and_variance,
    distribution,
    exponents,
    fixed_gamma,
    flattening,
    leaps,
    learning_curves,
    members,
    oscillating,
    overview,
    points,
    rechecked,
    reference,
    residuals,
    split,
    tail,
    units,
    width_dependence,
)
from analysis.ensemble.results import EnsembleResults, collect
from analysis.infinite import REFINEMENT
from analysis.report.compose import Cover
from analysis.report.compose import compose as compose_sections
from analysis.report.page import count
from analysis.report.publication import Publication
from analysis.report.section import Section
from ntkhpc.engine.run import Run
from ntkhpc.refinement import SMALLEST_PIVOT
from ntkhpc.studies.ensemble import exact, standing
from ntkhpc.studies.ensemble.network import Network
from ntkhpc.studies.ensemble.study import EnsembleStudy

SECTIONS: list[Section[EnsembleResults]] = [
    answer.SECTION,
    overview.SECTION,
    reference.SECTION,
    fixed_gamma.SECTION,
    units.SECTION,
    agreement.SECTION,
    learning_curves.SECTION,
    leaps.SECTION,
    flattening.SECTION,
    tail.SECTION,
    distribution.SECTION,
    members.SECTION,
    points.SECTION,
    rechecked.SECTION,
    oscillating.SECTION,
    width_dependence.SECTION,
    split.SECTION,
    bias_and_variance.SECTION,
    exponents.SECTION,
    residuals.SECTION,
]
"""In the order of the page."""


STATISTICS = (
    "Exponents are slopes of least squares of log(value) against log(N_D), every size with the same weight. Errors of "
    "these and of every other contrast of logarithms are jackknife errors over members, standard deviations over "
    "exact draws of the training set, and a jackknife over test points; intervals are Student's, with degrees of "
    "freedom from the kurtosis of the jackknife's deviates and after Welch and Satterthwaite. Tests of mean loss and "
    "relative spread against the exact law resample members, those of the variance of the prediction are Student's t "
    "over tiles of members. Coverage of intervals for members, draws and test points, and false alarms of the "
    "verdicts, were measured on synthetic studies of known truth."
)
"""How the numbers of a report were made, for its methods section."""


def compose(run: Run, *, partial: bool = False) -> Publication:
    """Analyse a run. Raises RunError for an incomplete one unless `partial`."""
    results = collect(run, partial=partial)
    return compose_sections(SECTIONS, results, cover(results))


def cover(results: EnsembleResults) -> Cover:
    return Cover(
        name=results.study.name,
        run_name=results.run.plan.run_name,
        subject="How much the test loss of a neural network varies with its random initialisation.",
        about=_about(results),
        measured=[*_measured(results), *_iterated(results), *_refined(results), STATISTICS],
        definitions=_definitions(results),
        fits={
            "study": results.run.plan.run_name,
            "missing": results.missing,
            "diverged": results.diverged,
            "ensembles": {},
            "infinite_width_same_cells": {},
            "infinite_width_redraws": {},
            "infinite_width_curve": {},
            "answer": {},
            "tail": {},
            "width": [],
            "agreement_p_value": {},
            "agreement": {},
            "resolution": None,
            "dominant_members": [],
            "dominant_test_points": [],
            "second_run": None,
            "oscillating": [],
            "law": "own",
            "leaps": [],
            "two_level": {},
            "finite_width": [],
        },
    )


def _measured(results: EnsembleResults) -> list[str]:
    """Of the methods, what the study leaves to its data: the learning rates."""
    rates = results.store.learning_rate.values
    if not np.isfinite(rates).any():
        return []
    network, bound = results.study.network, results.study.training.algorithm.entry.bound
    before = ", before the factor gamma^2," if network.is_scaled and bound is not None else ""
    return [f"Learning rates{before} are {np.nanmin(rates):.3g} to {np.nanmax(rates):.3g}, over sizes and draws."]


def _scaled(network: Network) -> str:
    """What the law at infinite width takes of the scale of outputs."""
    if not network.is_scaled:
        return ""
    gamma = "that of each width" if network.parametrisation == "mup" else f"{network.gamma:g}"
    return f"; outputs are over gamma, {gamma}" + (", and centred" if network.centred else "")


def _iterated(results: EnsembleResults) -> list[str]:
    """How well iterated curves converged, and what their errors are."""
    if not (results.is_iterated and np.isfinite(results.curve.largest_residual).any()):
        return []
    curve, iterations = results.curve, results.curve.iterations.values
    probes = int(curve.probes.max())
    traces = f"{count(probes, 'random probe')}" if probes else "a solution for every test point"
    return [
        f"The iterated law at infinite width took at most {int(iterations.max()):,} products with the kernels for "
        f"a size and draw, with {traces}, to residuals of "
        f"{results.study.infinite_width.tolerance:g}; the largest that was left is "
        f"{float(curve.largest_residual.max()):.1e} of its right-hand side. Errors of the iteration are jackknife "
        "errors over probes and, in quadrature, what residuals may change at most as far as their energies tell; they "
        "are part of every number of these curves."
    ]


def _refined(results: EnsembleResults) -> list[str]:
    """How weights that factors in float32 gave were refined, a sentence for each kernel."""
    told = []
    for kernel, names in REFINEMENT.items():
        if not all(name in results.store for name in names):
            continue
        sweeps, condition = (results.store[name].values for name in names)
        there = np.isfinite(condition)
        if not there.any():
            continue
        fewest, most = int(sweeps[there].min()), int(sweeps[there].max())
        taken = f"{most}" if fewest == most else f"{fewest} to {most}"
        told.append(
            f"The refinement of the factor of the {kernel} in float32 took {taken} sweeps for a size and draw; the "
            f"condition of the kernel was estimated at {condition[there].min():.1e} to {condition[there].max():.1e}, "
            f"where less than {1 / SMALLEST_PIVOT:.1e} is needed."
        )
    return told


def _about(results: EnsembleResults) -> str:
    study, sizes = results.study, results.sizes
    widths = ", ".join(f"{int(width):,}" for width in results.mean.width.values)
    return (
        f"ensembles of {_networks(study)} of width {widths}, "
        f"{study.network.shape()}, at {len(sizes)} training-set "
        f"sizes from {sizes[0]:,} to {sizes[-1]:,}, {count(study.ensemble.draws, 'draw')}; "
        + (f"exact curves at infinite width up to {study.curve_sizes[-1]:,}." if standing.is_own(study)
           else f"{standing.short(study)}.")
    )  # fmt: skip


def _networks(study: EnsembleStudy) -> str:
    """How many a cell has, trained and in leaps."""
    trained, leapt = study.trained_members, study.leapt_members
    if not leapt:
        return f"{trained:,} networks"
    return f"{trained:,} networks trained step by step and {leapt:,} in leaps ({min(trained, leapt):,} are both)"


def _definitions(results: EnsembleResults) -> dict[str, str]:
    outputs, constant = results.store.sizes["output"], float((results.store.y_test.values**2).mean() / 2)
    return {
        "L": f"test loss of one network: the mean over N_T = {results.study.data.test:,} test points"
             f"{' and outputs' if outputs > 1 else ''} of (f - y)^2 / 2, with targets y as stored; predicting the "
             f"mean gives {constant:.2g}",
        "mu_L, sigma_L, eps_L": "mean and standard deviation of L over initialisations, and sigma_L/mu_L",
        "eps_pop": "eps_L as an endless test set would show it: sqrt(mean covariance of the losses of two different "
                   "test points)/mu_L",
        "N_D": "number of training samples; sets of different size are nested",
        "infinite width": "the exact Gaussian law of networks in the NTK parametrisation as their width grows without "
                          "bound, trained for as many steps (arXiv:1902.06720); no network is trained for it"
                          + ("" if exact.has_law(results.study) else "; here by full-batch gradient descent")
                          + _scaled(results.study.network),
    }  # fmt: skip

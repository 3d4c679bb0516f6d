"""The report of a posterior: theory at finite and infinite width beside networks sampled from it."""

import math
from functools import partial as given
from pathlib import Path
from typing import Any

from analysis.bayes import figures, tables, words
from analysis.bayes.captions import CAPTIONS
from analysis.bayes.cautions import cautions
from analysis.bayes.results import Results, collect
from analysis.page import bullets, count, definitions, document, figure, provenance_rows, small, table, text
from analysis.publication import Publication
from ntkhpc.engine.run import Run


def compose(run: Run, *, partial: bool = False) -> Publication:
    """Analyse a run. Raises RunError for an incomplete one unless `partial`."""
    results = collect(run, partial=partial)
    return Publication(
        figures=figures.draw_all(results),
        fits=tables.summary(results),
        tables=tables.frames(results),
        summary=tables.terminal(results),
        page=given(page, results),
    )


def page(results: Results, made_from: dict[str, Any], target: Path) -> str:
    study, kind = results.study, results.run.layout.kind
    name = results.run.plan.run_name  # a study that is read may have gained settings

    def drawn(which: str) -> str:
        return figure(which, CAPTIONS[which], target)

    parts = [
        f"<h1>{text(study.name)}</h1>",
        f'<p class="small">{text(kind.title)}: theory against samples. Run <code>{text(name)}</code>: '
        f"{text(_what(results))}</p>",
    ]
    if results.missing:
        parts.append(f'<p class="partial">PARTIAL REPORT: {text(results.missing)}.</p>')
    parts += [f'<p class="claim">{text(words.claim(results))}</p>', f"<p>{text(words.LOSS)}</p>"]
    parts += ["<h2>Loss against width</h2>", drawn("loss"), table(tables.losses(results)), small(_loss_note(results))]
    parts.append(bullets(words.chi_squares(results)))
    if found := cautions(results):
        parts += ["<p>Mind:</p>", bullets(found)]
    parts += ["<h2>Order parameter and sign rule</h2>", drawn("order_parameter"), bullets(words.sign_rule(results))]
    if results.scans:
        parts += ["<h2>Temperature and read-out precision</h2>", drawn("scans")]
    parts += ["<h2>The distribution of the loss</h2>", drawn("distribution"), bullets(words.intervals(results))]
    parts.append(f"<p>{text(words.widths_of_intervals(results))}</p>")
    parts += ["<h2>Scaling with training-set size</h2>", drawn("scaling"), bullets(words.scaling(results))]
    if results.exact_fits or results.sampled_fits:
        parts += [table(tables.fits(results)), small(EXPONENT_NOTE)]
    if results.chains is not None:
        parts += ["<h2>Chains</h2>", table(tables.chains(results)), small(CHAIN_NOTE)]
        if results.sampled_cells:
            parts.append(drawn("chains"))
    parts += ["<h2>What the words mean</h2>", definitions(_entries(results))]
    parts += ["<h2>Where this comes from</h2>", table(provenance_rows(made_from)), small(_files(results))]
    return document(name, parts)


LOSS_NOTE = (
    "Errors are Monte Carlo standard errors of the mean over all chains, for the training sets of this study. "
    "Deviation: from the finite-width theory; s.e.: in units of that error. Theory is exact arithmetic but an "
    "approximation, the better the smaller P/N1: a few per cent at 1, a third at 4 on digits; so deviations need not "
    "be statistical. Closer: of theory and infinite width; undecided within two errors of the middle between them. "
    "With several draws of the training set, R-hat is the largest and ESS the smallest."
)

ADAPTIVE_NOTE = (
    "Theory knows only the scale of the kernel; that its shape changes too is what the adaptive kernel mends. Its "
    "errors are those of the mean over populations of neurons, rough if these are few; the deviation from it is in "
    "units of its error and that of the samples together."
)

EXPONENT_NOTE = (
    "value ~ N_D^exponent without an offset. Theory and networks trained to the end have no statistical error: theirs "
    "is that of the mean over draws of the training set, if there are several. Sampled: 68 % intervals, the first for "
    "any draw of the training set (if there are several), the second with Monte Carlo errors alone; p: probability of "
    "a larger chi squared, were it a power law. eps_pop is theory's alone: chains keep no losses of single test points."
)

CHAIN_NOTE = (
    "R-hat: of ranks, split chains (arXiv:1903.08008), the larger of those of expected loss and order parameter; ESS: "
    "effective samples, the smaller of these two; ESS of L: of the loss of single networks. Gradients a sample: of the "
    "potential, for each effective sample."
)


def _loss_note(results: Results) -> str:
    return f"{LOSS_NOTE} {ADAPTIVE_NOTE}" if results.adaptive_cells else LOSS_NOTE


def _what(results: Results) -> str:
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


def _entries(results: Results) -> dict[str, str]:
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


def _files(results: Results) -> str:
    names = [f"{name}.csv" for name in tables.frames(results)]
    return f"Beside this file: fits.json, {', '.join(names)}, provenance.json, and every figure as PDF and PNG."


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(f"{value:,}" for value in values)

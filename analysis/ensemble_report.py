"""The report of an ensemble: how much the test loss varies with the initialisation."""

import math
from collections.abc import Sequence
from functools import partial as given
from pathlib import Path
from typing import Any

from analysis import figures, tables, words
from analysis.captions import CAPTIONS
from analysis.numbers import exponent, pm, probability
from analysis.page import bullets, count, definitions, document, figure, provenance_rows, table, text
from analysis.publication import Publication
from analysis.results import FITTED, Results, collect
from analysis.scaling import Comparison
from ntkhpc.engine.run import Run


def compose(run: Run, *, partial: bool = False) -> Publication:
    """Analyse a run. Raises RunError for an incomplete one unless `partial`."""
    results = collect(run, partial=partial)
    return Publication(
        figures=figures.draw_all(results),
        fits=tables.summary(results),
        tables={
            "moments": tables.moments(results),
            "curve": tables.curve(results),
            "exponents": tables.exponents(results),
        },
        summary=words.terminal(results),
        page=given(page, results),
    )


def page(results: Results, made_from: dict[str, Any], target: Path) -> str:
    study, name = results.study, results.run.plan.run_name
    parts = [
        f"<h1>{text(study.name)}</h1>",
        f'<p class="small">How much the test loss of a neural network varies with its random initialisation. Run '
        f"<code>{text(name)}</code>: {text(_what(results))}</p>",
    ]
    if results.missing:
        parts.append(f'<p class="partial">PARTIAL REPORT: {text(results.missing)}.</p>')
    if results.resolution:
        parts.append(f'<p class="claim">{text(results.resolution.sentence())}</p>')
    rows = words.table(results)
    parts += ["<h2>The numbers</h2>", table(rows), f'<p class="small">{EXPONENT_NOTE}</p>']
    parts += ["<p>Against the exact law of infinite width after the same steps on the same samples:</p>"]
    parts.append(bullets(words.agreements(results)))
    if found := words.warnings(results):
        parts += ["<p>Mind:</p>", bullets(found)]
    parts += ["<h2>Learning curves</h2>", figure("learning_curves", CAPTIONS["learning_curves"], target)]
    parts += ["<h2>Why does eps_L flatten?</h2>", "<p>At infinite width,</p>", bullets(words.flattening(results))]
    parts.append(figure("flattening", CAPTIONS["flattening"], target))
    parts += ["<h2>The distribution of the loss</h2>", figure("distribution", CAPTIONS["distribution"], target)]
    parts += [
        "<h2>Finite width</h2>",
        figure("width_dependence", CAPTIONS["width_dependence"], target),
        table(_width_rows(results)),
    ]
    parts += [
        '<p class="small">A network of width n differs from infinite width by the fraction a/n; p tests the line.</p>'
    ]
    parts += ["<h2>Bias and variance</h2>", figure("bias_and_variance", CAPTIONS["bias_and_variance"], target)]
    parts += ["<h2>Exponents</h2>", table(_ensemble_rows(results)), f'<p class="small">{ENSEMBLE_NOTE}</p>']
    parts += [table(_curve_rows(results)), f'<p class="small">{CURVE_NOTE}</p>']
    parts.append(figure("residuals", CAPTIONS["residuals"], target))
    parts += ["<h2>What the words mean</h2>", _definitions(results)]
    parts += ["<h2>Where this comes from</h2>", table(provenance_rows(made_from)), FILES]
    return document(name, parts)


EXPONENT_NOTE = (
    "value ~ N_D^exponent without an offset; 68 % intervals. Errors of the ensembles' exponents are those of "
    "initialisations and, where infinite width has several draws of the training set, of their spread there. The exact "
    "exponent is for the very samples the ensembles were trained on, fitted with the weights of the widest ensemble. "
    "Curved: no pure power law, and the exponent is no asymptotic one."
)

ENSEMBLE_NOTE = (
    "Exponent: of a power law without an offset, its error for any draw of the training set; p: probability of a "
    "larger chi squared, were it one. This draw only: with the errors of the initialisations alone, to compare "
    "networks trained on the same samples. With an offset: b of value = a N_D^b + c, and the change of AICc; it "
    "measures how much the data bend, and an offset below zero says nothing about endless data."
)

CURVE_NOTE = (
    "Exact curves have no statistical error: theirs is that of the mean over draws of the training set. How far they "
    "are from a power law is in the figure; the last slope is the local one between the two largest sizes."
)

FILES = (
    '<p class="small">Beside this file: <code>fits.json</code>, <code>moments.csv</code>, <code>curve.csv</code>, '
    "<code>exponents.csv</code>, <code>provenance.json</code>, and every figure as PDF and PNG.</p>"
)


def _what(results: Results) -> str:
    study, sizes = results.study, results.sizes
    widths = ", ".join(f"{int(width):,}" for width in results.mean.width.values)
    return (
        f"ensembles of {study.ensemble.members:,} networks of width {widths}, "
        f"{count(study.network.depth, 'hidden layer')}, {study.network.activation}, at {len(sizes)} training-set "
        f"sizes from {sizes[0]:,} to {sizes[-1]:,}, {count(study.ensemble.draws, 'draw')}; exact curves at infinite "
        f"width up to {study.curve_sizes[-1]:,}."
    )


def _definitions(results: Results) -> str:
    outputs, constant = results.study.outputs, float((results.store.y_test.values**2).mean() / 2)
    entries = {
        "L": f"test loss of one network: the mean over N_T = {results.study.data.test:,} test points"
             f"{' and outputs' if outputs > 1 else ''} of (f - y)^2 / 2, with targets y as stored; predicting the "
             f"mean gives {constant:.2g}",
        "mu_L, sigma_L, eps_L": "mean and standard deviation of L over initialisations, and sigma_L/mu_L",
        "eps_pop": "eps_L as an endless test set would show it: sqrt(mean covariance of the losses of two different "
                   "test points)/mu_L",
        "N_D": "number of training samples; sets of different size are nested",
        "infinite width": "the exact Gaussian law of networks in the NTK parametrisation as their width grows without "
                          "bound, trained for as many steps (arXiv:1902.06720); no network is trained for it",
    }  # fmt: skip
    return definitions(entries)


def _ensemble_rows(results: Results) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("quantity", "network", "N_D", "exponent", "p", "this draw only", "with an offset")]
    for quantity in FITTED:
        for (name, width), fit in results.fits.items():
            if name == quantity:
                one, sizes = fit.any_draw.none, f"{fit.any_draw.n[0]:.0f}-{fit.any_draw.n[-1]:.0f}"
                rows.append(
                    (name, f"width {width:,}", sizes, exponent(one), probability(one.p_value),
                     exponent(fit.this_draw.none), _offset(fit.any_draw))
                )  # fmt: skip
        if law := results.law_fits.get(quantity):
            sizes = f"{results.sizes[0]}-{results.sizes[-1]}"
            rows.append((quantity, "infinite, exact", sizes, "", "", f"{law.exponent:.2f}", ""))
    return rows


def _curve_rows(results: Results) -> list[Sequence[str]]:
    labels = {"steps": "same rule of steps", "fixed": "fixed steps", "infinite": "end of training"}
    rows: list[Sequence[str]] = [("quantity", "infinite width", "N_D", "exponent", "last slope")]
    for quantity in FITTED:
        for (name, time), fit in results.curve_fits.items():
            if name == quantity:
                mean = pm(fit.exponent, fit.exponent_stderr)
                rows.append((name, labels[time], f"{fit.n[0]:.0f}-{fit.n[1]:.0f}", mean, f"{fit.last_slope:.2f}"))
    return rows


def _offset(comparison: Comparison) -> str:
    if comparison.free is None or math.isinf(comparison.delta_aicc):
        return "too few sizes"
    better = ", better" if comparison.preferred is comparison.free else ""
    return f"{exponent(comparison.free)}{better} (AICc {comparison.delta_aicc:+.1f})"


def _width_rows(results: Results) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("quantity", "N_D", "infinite width", "a (relative)", "p")]
    for fit in results.width_fits.values():
        relative = pm(fit.relative, fit.a_stderr / fit.exact)
        rows.append((fit.quantity, f"{fit.n_train:,}", f"{fit.exact:.4g}", relative, probability(fit.p_value)))
    return rows

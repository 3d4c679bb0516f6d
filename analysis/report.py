"""The report of a run: one HTML file that needs no other, figures, tables, and a few lines for the terminal."""

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import figures, tables, words
from analysis.captions import CAPTIONS
from analysis.provenance import provenance
from analysis.results import FITTED, Results, collect, folder
from analysis.scaling import Comparison
from ntkhpc.run import Run

SUMMARY = "summary.txt"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem } figure { margin: 1.2rem 0 } img { max-width: 100% }
figcaption, .small { color: #444; font-size: .92rem } table { border-collapse: collapse; margin: .8rem 0 }
th, td { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
td:nth-child(-n+6) { white-space: nowrap }
td { vertical-align: top } th { border-bottom: 2px solid #888 }
.claim { font-size: 1.15rem; border-left: 4px solid #3b6ea8; padding: .3rem 1rem; background: #f4f7fb }
.partial { color: #8b1a1a; font-weight: bold; border: 2px solid #8b1a1a; padding: .5rem 1rem }
code { background: #f3f3f3; padding: 0 .2rem } dt { font-weight: bold } dd { margin: 0 0 .5rem 1.2rem }
"""


def make(run: Run, *, partial: bool = False) -> Path:
    """Analyse a run and write everything into its `analysis/`; the path of report.html.

    Raises RunError for an incomplete run unless `partial`.
    """
    results = collect(run, partial=partial)
    target = folder(run)
    target.mkdir(exist_ok=True)
    figures.save(figures.draw_all(results), target)
    tables.write(results, target)
    made_from = provenance(run)
    (target / "provenance.json").write_text(json.dumps(made_from, indent=1) + "\n", encoding="utf-8")
    (target / SUMMARY).write_text(words.terminal(results), encoding="utf-8")
    report = target / "report.html"
    report.write_text(page(results, made_from, target), encoding="utf-8")
    return report


def page(results: Results, made_from: dict[str, Any], target: Path) -> str:
    study = results.study
    parts = [
        f"<h1>{_text(study.name)}</h1>",
        f'<p class="small">How much the test loss of a neural network varies with its random initialisation. Run '
        f"<code>{_text(study.run_name)}</code>: {_text(_what(results))}</p>",
    ]
    if results.missing:
        parts.append(f'<p class="partial">PARTIAL REPORT: {_text(results.missing)}.</p>')
    if results.resolution:
        parts.append(f'<p class="claim">{_text(results.resolution.sentence())}</p>')
    rows = words.table(results)
    parts += ["<h2>The numbers</h2>", _table(rows), f'<p class="small">{EXPONENT_NOTE}</p>']
    parts += ["<p>Against the exact law of infinite width after the same steps on the same samples:</p>"]
    parts.append(_list(words.agreements(results)))
    if found := words.warnings(results):
        parts += ["<p>Mind:</p>", _list(found)]
    parts += ["<h2>Learning curves</h2>", _figure("learning_curves", target)]
    parts += ["<h2>Why does eps_L flatten?</h2>", "<p>At infinite width,</p>", _list(words.flattening(results))]
    parts.append(_figure("flattening", target))
    parts += ["<h2>The distribution of the loss</h2>", _figure("distribution", target)]
    parts += ["<h2>Finite width</h2>", _figure("width_dependence", target), _table(_width_rows(results))]
    parts += [
        '<p class="small">A network of width n differs from infinite width by the fraction a/n; p tests the line.</p>'
    ]
    parts += ["<h2>Bias and variance</h2>", _figure("bias_and_variance", target)]
    parts += ["<h2>Exponents</h2>", _table(_ensemble_rows(results)), f'<p class="small">{ENSEMBLE_NOTE}</p>']
    parts += [_table(_curve_rows(results)), f'<p class="small">{CURVE_NOTE}</p>']
    parts.append(_figure("residuals", target))
    parts += ["<h2>What the words mean</h2>", _definitions(results)]
    parts += ["<h2>Where this comes from</h2>", _table(_provenance_rows(made_from)), FILES]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(study.run_name)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


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
        f"{_count(study.network.depth, 'hidden layer')}, {study.network.activation}, at {len(sizes)} training-set "
        f"sizes from {sizes[0]:,} to {sizes[-1]:,}, {_count(study.ensemble.draws, 'draw')}; exact curves at infinite "
        f"width up to {study.curve_sizes[-1]:,}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _definitions(results: Results) -> str:
    outputs, constant = results.study.data.outputs, float((results.store.y_test.values**2).mean() / 2)
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
    return "<dl>" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in entries.items()) + "</dl>"


def _ensemble_rows(results: Results) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("quantity", "network", "N_D", "exponent", "p", "this draw only", "with an offset")]
    for quantity in FITTED:
        for (name, width), fit in results.fits.items():
            if name == quantity:
                one, sizes = fit.any_draw.none, f"{fit.any_draw.n[0]:.0f}-{fit.any_draw.n[-1]:.0f}"
                rows.append(
                    (name, f"width {width:,}", sizes, words.exponent(one), words.probability(one.p_value),
                     words.exponent(fit.this_draw.none), _offset(fit.any_draw))
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
                mean = words.pm(fit.exponent, fit.exponent_stderr)
                rows.append((name, labels[time], f"{fit.n[0]:.0f}-{fit.n[1]:.0f}", mean, f"{fit.last_slope:.2f}"))
    return rows


def _offset(comparison: Comparison) -> str:
    if comparison.free is None or math.isinf(comparison.delta_aicc):
        return "too few sizes"
    better = ", better" if comparison.preferred is comparison.free else ""
    return f"{words.exponent(comparison.free)}{better} (AICc {comparison.delta_aicc:+.1f})"


def _width_rows(results: Results) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("quantity", "N_D", "infinite width", "a (relative)", "p")]
    for fit in results.width_fits.values():
        relative = words.pm(fit.relative, fit.a_stderr / fit.exact)
        rows.append((fit.quantity, f"{fit.n_train:,}", f"{fit.exact:.4g}", relative, words.probability(fit.p_value)))
    return rows


def _provenance_rows(made_from: dict[str, Any]) -> list[Sequence[str]]:
    git = made_from["git"]
    rows: list[Sequence[str]] = [
        ("what", "value"),
        (
            "code",
            f"{made_from['code'][:12]}"
            + (f", commit {git['commit'][:12]}{'*' if git['dirty'] else ''}" if git else ""),
        ),
        ("packages", ", ".join(f"{name} {version}" for name, version in made_from["versions"].items())),
        ("hosts", ", ".join(made_from["hosts"])),
        ("devices", ", ".join(made_from["devices"])),
        (
            "core seconds",
            ", ".join(f"{phase} {seconds:,.0f}" for phase, seconds in made_from["seconds_by_phase"].items()),
        ),
        ("started", made_from["started"]),
        ("shards", f"{made_from['shards']:,}; numerics fingerprints: {made_from['fingerprints']}"),
    ]
    later = made_from["analysis"]
    if later["code"] != made_from["code"]:
        rows.append(("this report made with", f"code {later['code'][:12]}, not the run's"))
    if changed := [f"{k} {v}" for k, v in later["versions"].items() if made_from["versions"].get(k) != v]:
        rows.append(("and packages", ", ".join(changed)))
    rows += [("accepted change", f"{change['time']}: {change['why']}") for change in made_from["changes"]]
    return rows


def _figure(name: str, target: Path) -> str:
    data = base64.b64encode((target / f"{name}.png").read_bytes()).decode()
    caption = _text(CAPTIONS[name])
    return (
        f'<figure><img alt="{_text(name.replace("_", " "))}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row)
                   for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)]  # fmt: skip
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(text: str) -> str:
    return html.escape(text)

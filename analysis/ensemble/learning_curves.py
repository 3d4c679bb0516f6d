"""Learning curves: mu_L and eps_L against the number of training samples, and what bounds what networks can learn."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.ensemble.drawing import NAMES, exact_lines, shown, shown_values, times, widths
from analysis.ensemble.results import EnsembleResults
from analysis.infinite import LAW
from analysis.report.look import CLOSE, EXACT, SPAN
from analysis.report.plotting import legend_below, log_x, log_y
from analysis.report.section import Section
from ntkhpc.data.source import FAINT

SHOWN = ("mu_L", "eps_L")

LARGE_SHARE = 0.1
FEW_FEATURES = 10

ITERATION_ERRORS = 3.0
"""By so many errors of the iteration a value must lie above another one to be said to."""

ABOVE = (
    "Mean test loss and its relative spread over initialisations against the number of training samples. Points: "
    "ensembles of {trained}networks, with 68 % intervals for their finite number of members. {two_level}Thick black: "
    "the exact law of infinitely wide networks, trained on the same samples for the same steps."
)

CURVES = {
    "steps": "Thin black: the same steps, mean and spread (band) over draws of the training set{iterated}.",
    "infinite": "Grey dashes: the end of training, another question{iterated}.",
}

ITERATED = ", with the error of the iteration"

FITS = "Coloured lines: power laws of least squares, every size with the same weight."

BELOW = (
    "Below: ratio of the ensembles to the exact law of their own steps and samples; errors of neighbours are "
    "correlated (the same initialisations, nested training sets). Points of one size are moved apart."
)


def caption(results: EnsembleResults) -> str:
    """What `learning_curves` draws of these results."""
    there = [time for time, _, _ in times(results)]
    iterated = ITERATED if results.is_iterated else ""
    said = [text.format(iterated=iterated) for time, text in CURVES.items() if time in there]
    fitted = [FITS] if any(name in SHOWN for name, _ in results.headline.curves) else []
    told = results.headline.sentence(*SHOWN)
    above = ABOVE.format(trained="" if told else "trained ", two_level=f"{told} " if told else "")
    return " ".join([above, *said, *fitted, BELOW])


def learning_curves(results: EnsembleResults) -> Figure:
    """mu_L and eps_L against n_train for every width, with fits; below, their ratio to the law of the same steps."""
    figure = Figure(figsize=(10, 6.6))
    axes = figure.subplots(2, 2, sharex="col", height_ratios=[2.4, 1])
    for column, name in enumerate(SHOWN):
        top, bottom = axes[:, column]
        exact_lines(top, results, name)
        for width, look in widths(results):
            shown(top, results, name, width, look, share=SPAN / 2 if name == "eps_L" else CLOSE)
            curve = results.headline.curves.get((name, width))
            if curve is not None:
                n = np.geomspace(results.sizes[0], results.sizes[-1], 100)
                top.plot(n, curve.line(n), **{**look.line, "lw": 1.0})
            ratio, half = _over_law(results, name, width)
            bottom.errorbar(look.apart(results.sizes), ratio, half, **look.points)
        bottom.axhline(1, **EXACT)
        top.set_ylabel(NAMES[name])
        bottom.set_ylabel("ratio to\ninfinite width")
        bottom.set_xlabel("training samples $N_D$")
        log_y(top)
        log_x(bottom)
    legend_below(figure, axes[0], 3)
    return figure


def _over_law(results: EnsembleResults, name: str, width: int) -> tuple[Any, Any]:
    """Of the points, their ratio to the exact law and half of its 68 % interval."""
    exact = results.law_mean[name]
    if (name, width) in results.headline.gains:
        cell = shown_values(results, name).sel(width=width)
        return cell[name] / exact, cell[f"{name}_half"] / exact
    ratio = results.agreement[f"{name}_ratio"].sel(width=width).mean("draw")
    return ratio, results.mean.sel(width=width)[f"{name}_half"] / exact


def cautions(results: EnsembleResults) -> list[str]:
    return [*_about_losses(results), *_about_inputs(results)]


def _about_losses(results: EnsembleResults) -> list[str]:
    found = []
    constant = float((results.store.y_test.values**2).mean() / 2)
    above = {"trained networks": results.mean.mu_L.values}
    if results.has_curve:
        error = results.curve.mu_L_error.values if results.is_iterated else 0.0
        above["infinitely wide ones"] = results.curve.mu_L.values - ITERATION_ERRORS * error
        largest = results.curve.largest_share.max().item() if "largest_share" in results.curve else 0.0
        if largest > LARGE_SHARE:
            found.append(f"one test point carries {100 * largest:.0f} % of mu_L at infinite width: look at that point")
    for who, values in above.items():
        if (values > constant).any():
            where = "every" if (values[np.isfinite(values)] > constant).all() else "some"
            found.append(
                f"mu_L of {who} exceeds {constant:.2g}, the loss of predicting the mean, at {where} N_D: what networks "
                "say before training is large beside the targets (network.weight_variance), or the samples are too few"
            )
    return found


def _about_inputs(results: EnsembleResults) -> list[str]:
    data, network = results.study.data, results.study.network
    features, found = results.store.sizes["feature"], []
    rays = network.bias_variance == 0 and network.activation == "relu" and not network.architecture
    if features < FEW_FEATURES and rays:
        found.append(
            f"networks of {features} inputs without biases are linear along every ray from the mean input, "
            "which bounds what they can learn: network.bias_variance = 0.1 gives them biases"
        )
    if data.mixed_units:
        deviation = results.store.x_train.values.std(axis=0)
        if (faint := deviation < FAINT * deviation.max()).any():
            found.append(
                f"{faint.sum()} of {len(faint)} inputs vary by less than {FAINT:g} of the one that varies most, and "
                'are hardly seen: data.scaling = "feature" gives each the same weight'
            )
    return found


SECTION: Section[EnsembleResults] = Section(
    title="Learning curves",
    needs=LAW,
    figure=learning_curves,
    caption=caption,
    cautions=cautions,
)

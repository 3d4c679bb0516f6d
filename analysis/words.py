"""Numbers and findings as words, for the terminal and the report. Every sentence is made from the results."""

import math

import numpy as np

from analysis.agreement import MEMBERS_A_SIZE
from analysis.fits import EnsembleFit
from analysis.numbers import chance, exponent, pm
from analysis.results import Results
from analysis.scaling import FitResult

SIGNIFICANT = 0.01
"""Probability below which a difference, or the failure of a power law, is called one."""

CURVED = "(curved)"

FEW_FEATURES = 10
FAINT = 0.01


def fitted(fit: FitResult) -> str:
    """The exponent, marked where the data are no pure power law."""
    return exponent(fit) + (f" {CURVED}" if fit.p_value < SIGNIFICANT else "")


def table(results: Results) -> list[tuple[str, ...]]:
    """Rows (network, mu_L, eps_L at the largest n_train, exponent of mu_L, of eps_L); the first is the heading."""
    n = int(results.sizes[-1])
    low, high = int(results.sizes[0]), n
    rows: list[tuple[str, ...]] = [
        ("network", f"mu_L at {n:,}", f"eps_L at {n:,}", f"mu_L exponent, {low}-{high}", "eps_L exponent")
    ]
    for width in results.mean.width.values:
        cell = results.mean.sel(width=width).isel(n_train=-1)
        fits = [results.fits.get((name, int(width))) for name in ("mu_L", "eps_L")]
        rows.append(
            (
                f"width {int(width):,}",
                *(pm(float(cell[name]), float(cell[f"{name}_stderr"])) for name in ("mu_L", "eps_L")),
                *(fitted(fit.any_draw.none) if fit else "-" for fit in fits),
            )
        )
    exact = results.law_mean.isel(n_train=-1)
    law = [results.law_fits.get(name) for name in ("mu_L", "eps_L")]
    rows.append(
        (
            "infinite width",
            *(pm(float(exact[name]), math.nan) for name in ("mu_L", "eps_L")),
            *(f"{fit.exponent:.2f} (exact, these samples)" if fit else "-" for fit in law),
        )
    )
    return rows


def agreements(results: Results) -> list[str]:
    """One sentence a width: does its ensemble differ from the exact law of the same steps?"""
    said = []
    n = int(results.sizes[-1])
    for width in results.mean.width.values:
        one, cell = results.agreement.sel(width=width), results.mean.sel(width=width).isel(n_train=-1)
        p = {name: float(one[f"{name}_p_value"]) for name in ("mu_L", "eps_L")}
        if not all(map(math.isfinite, p.values())):
            said.append(
                f"width {int(width):,}: not tested, as some of it is missing or has fewer than {MEMBERS_A_SIZE} "
                f"members for each of {len(results.sizes)} sizes"
            )
            continue
        found = []
        for name in p:
            exact = float(results.law_mean[name].isel(n_train=-1))
            percent = 100 * (float(one[f"{name}_ratio"].isel(n_train=-1).mean("draw")) - 1)
            found.append(f"{name} {percent:+.1f} ± {100 * float(cell[f'{name}_stderr']) / exact:.1f} %")
        verdict = "differs" if min(p.values()) <= SIGNIFICANT else f"no difference seen (at p = {SIGNIFICANT})"
        odds = f"{chance(p['mu_L'])} for mu_L, {chance(p['eps_L'])} for eps_L, all sizes together"
        said.append(f"width {int(width):,}: {verdict}; {', '.join(found)} at N_D = {n:,} ({odds})")
    return said


def warnings(results: Results) -> list[str]:
    """What a careful reader should know before using the numbers."""
    found = []
    if results.missing:
        found.append(f"PARTIAL: {results.missing}; numbers will change")
    if results.diverged:
        found.append(f"{results.diverged:,} networks diverged and are in no number here")
    largest = results.curve.largest_share.max().item()
    if largest > 0.1:
        found.append(f"one test point carries {100 * largest:.0f} % of mu_L at infinite width: look at that point")
    constant = float((results.store.y_test.values**2).mean() / 2)
    above = {
        "trained networks": results.mean.mu_L.values,
        "infinitely wide ones": results.curve.mu_L.values,
    }
    for who, values in above.items():
        if (values > constant).any():
            where = "every" if (values[np.isfinite(values)] > constant).all() else "some"
            found.append(
                f"mu_L of {who} exceeds {constant:.2g}, the loss of predicting the mean, at {where} N_D: what networks "
                "say before training is large beside the targets (network.weight_variance), or the samples are too few"
            )
    found += _about_inputs(results)
    found += [
        f"{name} of width {_listed(lacking)} is not fitted: fewer than 3 sizes, or values that could be zero"
        for name in ("mu_L", "eps_L", "eps_pop")
        if (lacking := [int(w) for w in results.mean.width.values if (name, int(w)) not in results.fits])
    ]
    for name in ("mu_L", "eps_L"):
        found += _about_fits(results, name, {w: fit for (quantity, w), fit in results.fits.items() if quantity == name})
    if any(math.isnan(fit.draw_spread) for fit in results.fits.values()):
        found.append(
            "the errors of exponents know nothing of other draws of the training set: infinite_width.draws of 2 or "
            "more, at sizes that overlap the ensemble's, would tell how much they matter"
        )
    return found


def _about_inputs(results: Results) -> list[str]:
    study, network = results.study, results.study.network
    deviation = results.store.x_train.values.std(axis=0)
    found = []
    if study.features < FEW_FEATURES and network.bias_variance == 0 and network.activation == "relu":
        found.append(
            f"networks of {study.features} inputs without biases are linear along every ray from the mean input, "
            "which bounds what they can learn: network.bias_variance = 0.1 gives them biases"
        )
    if study.data.mixed_units and (faint := deviation < FAINT * deviation.max()).any():
        found.append(
            f"{faint.sum()} of {len(faint)} inputs vary by less than {FAINT:g} of the one that varies most, and are "
            'hardly seen: data.scaling = "feature" gives each the same weight'
        )
    return found


def _about_fits(results: Results, name: str, fits: dict[int, EnsembleFit]) -> list[str]:
    found = []
    low, high = results.sizes[0], results.sizes[-1]
    for width, fit in fits.items():
        one, values = fit.any_draw.none, results.mean[name].sel(width=width).values
        found += [f"power law of {name} at width {width}: {flag}" for flag in one.flags if "fits badly" not in flag]
        if one.p_value < SIGNIFICANT:
            slope = math.log(values[-1] / values[0]) / math.log(high / low)
            text = (
                f"{name} at width {width} is no pure power law ({chance(one.p_value)}): the fitted {exponent(one)} is "
                f"no asymptotic exponent; from end to end, {low} to {high}, the slope is {slope:+.2f}"
            )
            if fit.any_draw.preferred is fit.any_draw.free:
                text += f"; it gets {'flatter' if fit.any_draw.preferred.offset > 0 else 'steeper'} with N_D"
            found.append(text)
    return found


def _listed(numbers: list[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)


def flattening(results: Results) -> list[str]:
    """What keeps eps_L from falling, in numbers, at infinite width and the largest size of the curve."""
    curve, said = results.curve.mean("draw").isel(n_train=-1), []
    n, points = int(curve.n_train), int(curve.test_size[-1])
    for time in results.curve.time.values:
        one = curve.sel(time=time)
        eps, population = float(one.eps_L), float(one.eps_pop)
        fit = results.curve_fits.get(("eps_pop", str(time)))
        name = {
            "steps": "with the study's rule of steps",
            "fixed": f"with {results.study.infinite_width.fixed_steps:,} steps at every size",
            "infinite": "at the end of training",
        }[str(time)]
        share = 100 * (1 - (population / eps) ** 2)
        said.append(
            f"{name}, eps_L is {eps:.3g} at N_D = {n:,}; "
            + (
                f"{share:.0f} % of its square is due to having only {points:,} test points, and an endless test set "
                f"would give {population:.3g}"
                if population > 0
                else f"{points:,} test points are too few to tell what an endless test set would give"
            )
            + (f" (local exponent {fit.last_slope:+.2f} there)" if fit else "")
        )
    return said


def terminal(results: Results) -> str:
    """The end of `make submit`: a table, what agrees, what it means."""
    rows = table(results)
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", "against the exact law of infinite width after the same steps on the same data:"]
    lines += [f"  {text}" for text in agreements(results)]
    if results.resolution:
        lines += ["", results.resolution.sentence()]
    if found := warnings(results):
        lines += ["", *(f"mind: {text}" for text in found)]
    return "\n".join(lines) + "\n"

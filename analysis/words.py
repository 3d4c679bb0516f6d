"""Numbers and findings as words, for the terminal and the report. Every sentence is made from the results."""

import math

from analysis.results import Results
from analysis.scaling import FitResult

SIGNIFICANT = 0.01


def pm(value: float, stderr: float) -> str:
    """value ± stderr, with two digits of the error, or one from 3 on; without an error where there is none."""
    if not math.isfinite(value):
        return "-"
    if not math.isfinite(stderr) or stderr <= 0:
        return f"{value:.3g}"
    digits = 1 - math.floor(math.log10(stderr))
    if round(stderr, digits) * 10 ** (digits - 1) >= 3:
        digits -= 1
    digits = max(digits, 0)
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def exponent(fit: FitResult) -> str:
    """The exponent with half the width of its 68 % interval; lopsided intervals are written out."""
    low, high = fit.exponent - fit.exponent_68[0], fit.exponent_68[1] - fit.exponent
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{fit.exponent:.2f} (unconstrained)"
    if max(low, high) > 1.3 * min(low, high):
        return f"{fit.exponent:.2f} (+{high:.2f} -{low:.2f})"
    return pm(fit.exponent, (low + high) / 2)


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
                *(exponent(fit.any_draw.none) if fit else "-" for fit in fits),
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
    """One sentence a width: does its ensemble agree with the exact law of the same steps?"""
    said = []
    n = int(results.sizes[-1])
    for width in results.mean.width.values:
        one = results.agreement.sel(width=width)
        p = [float(one[f"{name}_p_value"].mean("draw")) for name in ("mu_L", "eps_L")]
        if not all(math.isfinite(x) for x in p):
            continue
        ratio = [float(one[f"{name}_ratio"].isel(n_train=-1).mean("draw")) - 1 for name in ("mu_L", "eps_L")]
        what = f"mu_L {100 * ratio[0]:+.0f} %, eps_L {100 * ratio[1]:+.0f} % at N_D = {n:,}"
        chance = f"p = {p[0]:.2g} for mu_L, {p[1]:.2g} for eps_L, all sizes together"
        agrees = min(p) > SIGNIFICANT
        said.append(f"width {int(width):,} {'agrees' if agrees else 'differs'}: {what} ({chance})")
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
    if (results.curve.mu_L > constant).any():
        found.append(f"at infinite width some mu_L exceed {constant:.2g}, the loss of predicting the mean")
    for (name, width), fit in results.fits.items():
        if name in ("mu_L", "eps_L"):
            found += [f"power law of {name} at width {width}: {flag}" for flag in fit.any_draw.preferred.flags]
            if math.isnan(fit.draw_spread):
                found.append(
                    f"{name}, width {width}: the exponent's error knows nothing of other draws of the training set; "
                    "infinite_width.draws of 2 or more estimates them"
                )
    for (name, width), fit in results.fits.items():
        if fit.any_draw.preferred is fit.any_draw.free and name in ("mu_L", "eps_L"):
            offset = fit.any_draw.preferred.offset
            found.append(
                f"{name} at width {width} {'levels off' if offset > 0 else 'bends down'} in this range: an offset of "
                f"{offset:.2g} describes it better, with exponent {exponent(fit.any_draw.preferred)}"
            )
    return found


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
        share = 100 * (1 - (population / eps) ** 2) if population > 0 else 100
        said.append(
            f"{name}, eps_L is {eps:.3g} at N_D = {n:,}; {share:.0f} % of its square is due to having only {points:,} "
            f"test points, and an endless test set would give {population:.3g}"
            + (f" (falling with local exponent {fit.last_slope:.2f} there)" if fit else "")
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

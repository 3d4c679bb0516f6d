"""Ensembles of an algorithm without an exact law, beside full-batch descent at infinite width as a reference."""

import xarray
from matplotlib.figure import Figure

from analysis import infinite
from analysis.ensemble.drawing import NAMES, points, widths
from analysis.ensemble.results import EnsembleResults
from analysis.report.look import CLOSE, EXACT_OTHER, SPAN
from analysis.report.numbers import estimate, pm
from analysis.report.plotting import legend_below, log_x, log_y
from analysis.report.section import Section, Table
from ntkhpc.studies.ensemble import algorithms, standing

SHOWN = ("mu_L", "eps_L")

POINTS = (
    "Mean test loss and its relative spread over initialisations against the number of training samples. Points: "
    "ensembles of trained networks, with 68 % intervals for their finite number of members"
)

WHAT = "full-batch gradient descent of as many steps on the same samples at infinite width"

REMARK = "It is another algorithm, drawn as a reference: no agreement with it is expected, and none is tested."

NOTE = (
    "Ratio: the ensemble over full-batch gradient descent at infinite width{gamma}, after as many steps on the same "
    "samples. It holds what the algorithm and what the width changes, which this study cannot tell apart."
)


def claim(results: EnsembleResults) -> str:
    return f"{standing.sentence(results.study)}."


def figure(results: EnsembleResults) -> Figure:
    """mu_L and eps_L against n_train for every width, and the reference."""
    return beside(results, "full-batch descent, infinite width")


def beside(results: EnsembleResults, label: str) -> Figure:
    """The same, with a name for the reference, which may be one for each width; without it where it is zero."""
    drawn = Figure(figsize=(10, 4.6))
    axes = drawn.subplots(1, 2)
    for axis, name in zip(axes, SHOWN, strict=True):
        exact = lines(results, name)
        if (one := exact.get(None)) is not None:
            axis.plot(one.n_train, one, **EXACT_OTHER, label=label, zorder=1.5)
        for width, look in widths(results):
            if (own := exact.get(width)) is not None:
                own_line = {**EXACT_OTHER, "color": look.color, "lw": 1.3}
                axis.plot(own.n_train, own, **own_line, label=f"{label}, {width:,}", zorder=1.5)
            share = SPAN / 2 if name == "eps_L" else CLOSE
            points(axis, results.mean.sel(width=width), name, look, f"width {width:,}", share=share)
            if (curve := results.curves.get((name, width))) is not None:
                axis.plot(curve.n, curve.line(curve.n), **{**look.line, "lw": 1.0})
        axis.set_ylabel(NAMES[name])
        axis.set_xlabel("training samples $N_D$")
        log_y(axis)
        log_x(axis)
    legend_below(drawn, axes, 3)
    return drawn


def reference(results: EnsembleResults) -> xarray.Dataset:
    """What stands beside the networks, averaged over draws, over n_train; in the mu-parametrisation over width too."""
    return results.reference.drop_dims(["quantile"]).mean("draw", skipna=False)


def lines(results: EnsembleResults, name: str) -> dict[int | None, xarray.DataArray]:
    """Those of the reference that are drawn, by width, or one without; none where it is zero or not there."""
    exact = reference(results)[name]
    found: dict[int | None, xarray.DataArray] = {None: exact}
    if "width" in exact.dims:
        found = {int(width): exact.sel(width=width) for width in exact.width.values}
    return {width: one for width, one in found.items() if (one > 0).all()}


def caption(results: EnsembleResults, what: str = WHAT, remark: str = REMARK) -> str:
    """What `beside` draws of these results, where the reference is `what`."""
    fitted = any(name in SHOWN for name, _ in results.curves)
    said = [POINTS + (", and power laws of least squares." if fitted else ".")]
    drawn = {name: found for name in SHOWN if (found := lines(results, name))}
    if drawn:
        each = all(width is not None for found in drawn.values() for width in found)
        line = "Thin solid lines, in the colours of the widths" if each else "Thin black"
        gamma = ", each at the gamma of its width" if each else ""
        has_none = bool((reference(results).eps_L == 0).all())
        spread = ". It has no spread, and no line for eps_L" if has_none else ""
        said += [f"{line}: {what}{gamma}{spread}.", remark]
    return " ".join([*said, "Points of one size are moved apart."])


def tables(results: EnsembleResults) -> list[Table]:
    """mu_L and eps_L at the largest size, over the reference."""
    gamma = " and the gamma of its width" if "width" in reference(results).mu_L.dims else ""
    return [Table(rows(results, "reference"), NOTE.format(gamma=gamma))]


def rows(results: EnsembleResults, label: str) -> list[tuple[str, ...]]:
    """Of the table; one of the reference, or one for each width."""
    exact, high = reference(results).isel(n_train=-1), int(results.sizes[-1])
    each = "width" in exact.mu_L.dims
    found: list[tuple[str, ...]] = [
        ("network", *(f"{name} at {high:,}" for name in SHOWN), *(f"ratio of {name}" for name in SHOWN))
    ]
    for width in results.mean.width.values:
        values = [results.value(name, int(width), -1) for name in SHOWN]
        own = _numbers(exact.sel(width=width) if each else exact)
        ratios = [one.scaled(1 / number) if one and number else None for one, number in zip(values, own, strict=True)]
        found.append((f"width {int(width):,}", *(estimate(one) if one else "-" for one in (*values, *ratios))))
        if each:
            found.append(_reference_row(f"{label}, {int(width):,}", own))
    return found if each else [*found, _reference_row(label, _numbers(exact))]


def _numbers(exact: xarray.Dataset) -> list[float]:
    return [float(exact[name]) for name in SHOWN]


def _reference_row(label: str, numbers: list[float]) -> tuple[str, ...]:
    return (label, *(pm(number, float("nan")) for number in numbers), *("1" if number else "-" for number in numbers))


SECTION: Section[EnsembleResults] = Section(
    title="Beside full-batch descent",
    needs=infinite.REFERENCE,
    claim=claim,
    figure=figure,
    caption=caption,
    tables=tables,
    fits=lambda results: {"law": algorithms.without_law(results.study.training.algorithm)},
)

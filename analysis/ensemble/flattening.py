"""What can make eps_L flat: few test points, or few steps. And curve.csv, the exact curves that show it."""

from matplotlib.figure import Figure

from analysis.contrasts import Curve
from analysis.ensemble.curves import ITERATION, SOURCES
from analysis.ensemble.drawing import TIMES, times
from analysis.ensemble.results import EnsembleResults, frame
from analysis.infinite import CURVE, LAW
from analysis.report.look import EXACT, series
from analysis.report.numbers import estimate, pm, slope
from analysis.report.plotting import legend_under, log_x, log_y
from analysis.report.section import Section, led
from ntkhpc.words import joined

LEFT = (
    "What can make eps_L flat. Left, for the samples the ensembles were trained on: on N_T test points eps_L "
    "contains the fluctuation of single points, which more training data do not remove; lines are exact at "
    "infinite width, points the widest ensemble, black what an endless test set would show."
)

RIGHT = "Right, at infinite width, mean over draws of the training set: {times}{fixed}."

FIXED = (
    "; steps that stay the same while N_D grows learn a fixed number of modes, and what they leave unlearned keeps its "
    "spread"
)

BANDS = " Bands: the error of the iteration."


def caption(results: EnsembleResults) -> str:
    """What `flattening` draws of these results."""
    there = [time for time, _, _ in times(results)]
    right = RIGHT.format(times=joined(TIMES[time] for time in there), fixed=FIXED if "fixed" in there else "")
    return f"{LEFT} {right}" + (BANDS if results.is_iterated else "")


def flattening(results: EnsembleResults) -> Figure:
    """Infinite width, and the widest ensemble beside it."""
    figure = Figure(figsize=(10, 5.2))
    left, right = figure.subplots(1, 2)
    curve, own = results.curve.mean("draw"), results.law_mean  # on the left the samples of the ensemble itself
    sizes = own.test_size.values
    widest = results.mean.isel(width=-1)
    for size, look in zip(sizes, series(len(sizes), "size"), strict=True):
        left.plot(own.n_train, own.size_sigma.sel(test_size=size) / own.mu_L, **look.line, label=f"$N_T$ = {size:,}")
        dots = {**look.points, "label": f"the same, width {int(widest.width):,}" if size == sizes[0] else None}
        left.errorbar(look.apart(widest.n_train, 0.3), widest.size_sigma.sel(test_size=size) / widest.mu_L, **dots)
    left.plot(own.n_train, own.eps_pop, **EXACT, label="endless test set")
    left.errorbar(widest.n_train, widest.eps_pop, widest.eps_pop_half, fmt="P", color="black", ms=6, mec="white",
                  mew=0.5, label=f"endless test set, width {int(widest.width):,}")  # fmt: skip
    left.set_title("test points: lines infinite width, markers the ensemble")
    for time, label, line in times(results):
        one = curve.sel(time=time)
        right.plot(one.n_train, one.eps_L, **line, label=f"{label}, $N_T$ = {sizes[-1]:,}")
        for name in ("eps_L", "eps_pop") if results.is_iterated else ():
            error = one[f"{name}_error"]
            right.fill_between(one.n_train, one[name] - error, one[name] + error, color=line["color"], alpha=0.15, lw=0)
        right.plot(one.n_train, one.eps_pop, **{**line, "lw": 1.0}, marker="o", mfc="white", ms=3.5,
                   label=f"{label}, endless")  # fmt: skip
    right.set_title("training time, at infinite width")
    for axis in (left, right):
        log_y(axis)
        log_x(axis)
        axis.set_xlabel("training samples $N_D$")
        axis.set_ylabel("$\\epsilon_L$")
        legend_under(axis, 2)
    return figure


def sentences(results: EnsembleResults) -> list[str]:
    """What eps_L is made of, and how it goes on, at infinite width at the largest sizes of the curve."""
    return [said for time in results.curve.time.values if (said := _sentence(results, str(time)))]


def _sentence(results: EnsembleResults, time: str) -> str:
    eps, population = (results.exact_curves.get((name, time)) for name in ("eps_L", "eps_pop"))
    if eps is None:
        return ""
    n, points, section = int(eps.n[-1]), int(results.store.sizes["test_point"]), results.study.infinite_width
    name = {
        "steps": "with the study's rule of steps",
        "fixed": f"with {section.fixed_steps:,} steps at every size",
        "infinite": "at the end of training" + (f" with a ridge of {section.ridge:g}" if section.ridge else ""),
        "posterior": "in the posterior of the NNGP"
        + (f" with a noise variance of {section.noise:g}" if section.noise else ""),
    }[time]
    said = f"{name}, eps_L is {_value(eps)} at N_D = {n:,}"
    if population is None:
        return f"{said}; {points:,} test points are too few to tell what an endless test set would give"
    ratio = (population.value[-1] / eps.value[-1]) ** 2
    share = (
        pm(100 * (1 - ratio), 200 * ratio * _iterated(eps, population))
        if _iterated(eps)
        else f"{100 * (1 - ratio):.0f}"
    )
    first, end = eps.upper()
    return (
        f"{said}; {share} % of its square is due to having only {points:,} test points, and an endless test set "
        f"would give {_value(population)}. From N_D = {first:,.0f} on the exponent is {slope(end)}, of an endless test "
        f"set {slope(population.upper()[1])}"
    )


def _iterated(*curves: Curve) -> float:
    """The relative errors of the iteration at the largest sizes together: how they go with one another is not known."""
    return sum(curve.log_value(-1).parts.get(ITERATION, 0.0) for curve in curves)


def _value(curve: Curve) -> str:
    return estimate(curve.log_value(-1).of_log())


def contents(results: EnsembleResults) -> str:
    """What the ± of the sentences contains."""
    curves = [curve for (name, _), curve in results.exact_curves.items() if name == "eps_L"]
    sources = [one.name for one in curves[0].sources] if curves else []
    if not sources:
        return ""
    return f"Errors are those of {' and of '.join(SOURCES[one] for one in sources)}, ± half of a 68 % interval."


SECTION: Section[EnsembleResults] = Section(
    title="What can make eps_L flat",
    needs=(*LAW, *CURVE),
    figure=flattening,
    caption=caption,
    sentences=lambda results: [*led("At infinite width,", sentences(results)), contents(results)],
    files=lambda results: {
        "curve": frame(results.curve.drop_vars("size_sigma", errors="ignore"), ("time", "draw", "n_train"))
    },
    order=("sentences", "figure"),
)

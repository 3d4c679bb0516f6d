"""What is counted: of each interval whether it covers the truth, of each verdict whether it is a false alarm."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis import floor
from analysis.calibration.synthetic import Pool, Synthetic
from analysis.contrasts import LEVEL, SIGMA, Curve, Estimate, curvature_weights, slope_weights
from analysis.ensemble.curves import DRAW, FITTED, MEMBERS
from analysis.ensemble.results import EnsembleResults
from analysis.floor import INDEPENDENT

VALUES = (*FITTED, "bias2", "variance")

EXPONENT, AMPLITUDE = -0.35, 0.2
"""Of the power law that curves are brought to where a pure one must be the truth."""

FLOOR = 0.1
ABOVE = {"": (0.1, -0.8), " that is plain": (0.3, -3.0)}
"""Of the power laws with a floor c: amplitude and exponent of what is above it. From 60 networks the sizes hardly tell
the first floor from none, and many intervals of its exponent are open; they tell the second one."""


@dataclass
class Tally:
    """Outcomes by name. `intervals` hold (covers at 68 %, covers at 95 %), `alarms` whether there was a false one.

    NaN stands for an interval that reports do not give.
    """

    intervals: defaultdict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    alarms: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def covers(self, name: str, one: Estimate | None, truth: float) -> None:
        if one is not None and one.stderr:
            narrow, wide = (one.interval(level) for level in (SIGMA, 0.95))
            self.intervals[name].append((narrow[0] <= truth <= narrow[1], wide[0] <= truth <= wide[1]))

    def within(self, name: str, wide: tuple[float, float], truth: float) -> None:
        self.intervals[name].append((np.nan, wide[0] <= truth <= wide[1]))

    def merge(self, other: "Tally") -> None:
        for name, found in other.intervals.items():
            self.intervals[name] += found
        for name, alarms in other.alarms.items():
            self.alarms[name] += alarms


OPEN = "(an end may be open)"
"""What the names of intervals have that are open where sizes do not tell an end: it cannot miss, so more are right."""


@dataclass(frozen=True)
class Population:
    """Means over draws of many pools of the logarithms of the exact values at each size (k,), by quantity."""

    logarithms: dict[str, np.ndarray]

    @classmethod
    def of(cls, pools: Sequence[Pool], tail: float) -> "Population":
        table = [[one.values for one in row] for pool in pools for row in pool.further[tail]]
        return cls({q: np.log([[one[q] for one in row] for row in table]).mean(axis=0) for q in VALUES})


def check(made: Synthetic, population: Population) -> Tally:
    """Everything that a report of this study would say of its networks."""
    tally, results = Tally(), made.results
    own = {q: np.array([[one.values[q] for one in row] for row in made.own]).mean(axis=0) for q in VALUES}
    for width in map(int, results.mean.width.values):
        for q in VALUES:
            for i, size in ((0, "smallest"), (len(results.sizes) - 1, "largest")):
                tally.covers(f"{q} at the {size} N_D", results.value(q, width, i), own[q][i])
        for q in FITTED:
            curve = results.curves.get((q, width))
            tally.alarms[f"(control) no exponent of {q}"].append(curve is None)
            if curve is not None:
                _trained(tally, q, curve, own[q], population.logarithms[q])
        differs = [one.differs for (_, w), one in results.comparisons.items() if w == width]
        tally.alarms["differs from infinite width"].append(any(differs))
        shares = results.agreement.ks_p_value.sel(width=width).values
        if np.isfinite(shares).all():
            tally.alarms["distribution differs (one N_D)"].append(bool(shares.flat[-1] < LEVEL))
    _widths(tally, made)
    return tally


def check_laws(results: EnsembleResults, population: Population) -> Tally:
    """What a report says of the exact curve and of the laws of further draws, whatever its networks are."""
    tally = Tally()
    curves = {(q, "exact curve"): results.exact_curves.get((q, "steps")) for q in FITTED}
    curves |= {(q, "further draws"): results.redraw_curves.get(q) for q in FITTED}
    for (q, what), curve in curves.items():
        if curve is None:
            continue
        draws = curve.of(DRAW)
        tally.covers(f"{what}: {q} at the largest N_D", draws.log_value(-1), float(population.logarithms[q][-1]))
        truth = Curve(curve.n, np.exp(population.logarithms[q]))
        tally.covers(f"{what}: exponent of {q}", draws.slope(), truth.slope().value)
        tally.covers(f"{what}: upper exponent of {q}", draws.upper()[1], truth.upper()[1].value)
        straight = floor.levelling(draws.over(truth.value / (curve.n / curve.n[0]) ** EXPONENT), floors=False)
        tally.alarms[f"{what}: a pure power law of {q} is called curved"].append(straight.is_curved)
    return tally


def _trained(tally: Tally, q: str, curve: Curve, own: np.ndarray, population: np.ndarray) -> None:
    slope, bend = slope_weights(curve.n), curvature_weights(curve.n)
    this, both = curve.of(MEMBERS), curve.of(MEMBERS, DRAW)
    tally.covers(f"exponent of {q}, this draw", this.slope(), float(slope @ np.log(own)))
    tally.covers(f"exponent of {q}, any draw", both.slope(), float(slope @ population))
    tally.covers(f"(control) exponent of {q}, any draw, by members alone", this.slope(), float(slope @ population))
    tally.covers(f"bend of {q}, this draw", this.curvature(), float(bend @ np.log(own)))
    tally.covers(f"bend of {q}, any draw", both.curvature(), float(bend @ population))
    n = curve.n
    power = both.over(np.exp(population) / (AMPLITUDE * (n / n[0]) ** EXPONENT))
    fit = floor.levelling(power)
    tally.alarms[f"{q}: a pure power law is called curved"].append(fit.is_curved)
    if fit.floor is not None:
        tally.within(f"offset of a pure power law, {q}", fit.floor.offset_95, 0.0)
    constant = floor.levelling(both.over(np.exp(population)), floors=False)
    tally.alarms[f"{q}: a constant is called falling or rising"].append(constant.p_slope < LEVEL)
    tally.alarms[f"{q}: upper octaves of a constant are called falling or rising"].append(
        constant.end in ("falls", "rises")
    )
    edge = floor.levelling(both.over(np.exp(population) / (n / n[0]) ** -INDEPENDENT), floors=False)
    called = f"{q}: an exponent of {-INDEPENDENT:g} is called independence (of 2.5 %)"
    tally.alarms[called].append(edge.end == "independent")
    for which, (amplitude, exponent) in ABOVE.items():
        truth = FLOOR + amplitude * (n / np.exp(np.log(n).mean())) ** exponent
        with_floor = floor.find(both.over(np.exp(population) / truth))
        tally.within(f"floor{which}, {q}", with_floor.offset_95, FLOOR)
        tally.within(f"exponent above a floor{which}, {q} {OPEN}", with_floor.exponent_95, exponent)


def _widths(tally: Tally, made: Synthetic) -> None:
    for (q, n), fit in made.results.width_lines.items():
        if n == made.results.sizes[-1]:
            tally.covers(f"a of the width line of {q}", fit.a, 0.0)
            tally.covers(f"extrapolation to infinite width of {q}", fit.limit, 0.0)
            tally.alarms[f"widths are called off the line, {q}"].append(not fit.holds)
    units = made.results.in_units
    if units is not None:
        tally.covers("headline: relative difference from infinite width", units.found.ratio, 0.0)

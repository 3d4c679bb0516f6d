"""Two-level intervals: few trained networks, many leapt ones that come near them, and a known truth.

Networks linearised where they begin are a sample of the exact law: the truth of what the kernel they begin with does is
zero. Training beyond it multiplies what sets a network apart from the mean by BEYOND, so that trained networks have an
exact law too. A leapt network is off by a common factor and by a random function, whose size varies from network to
network: some are leapt badly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray

from analysis.agreement import STATISTICS
from analysis.calibration.checks import Tally
from analysis.calibration.synthetic import (
    PLAIN,
    attributes,
    coordinates,
    data_arrays,
    law_arrays,
    results_of,
    trained_arrays,
    width_arrays,
)
from analysis.calibration.truth import LawMoments
from analysis.calibration.world import Draws, World, sample
from analysis.contrasts import slope_weights
from analysis.ensemble import split
from analysis.ensemble.curves import FITTED, MEMBERS
from analysis.ensemble.results import EnsembleResults
from analysis.ensemble.split import STEPS
from analysis.two_level import LEAPT
from ntkhpc import studies
from ntkhpc.studies.dims import CELL, PROBABILITIES
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import OK

STUDY = """
name = "leapt"
[data]
source = "calorimeter"
pool = {pool}
test = {test}
[network]
widths = [64, 256]
[training.steps]
factor = 4.0
[ensemble]
n_train = [32, 64, 128, 256]
members = {members}
"""

BEYOND = 1.05
"""Of the deviation of a network from the mean network, what training beyond the kernel it begins with does to it."""

SHRUNK = {64: 0.985, 256: 0.992}
"""By width: of the error of a network, what leaps leave, so that with what they add losses are 1.5 % too small."""

SPOILT = {64: 0.12, 256: 0.035}
"""By width: what leaps add, of the deviation of another network. Var(L)/Var(L - L_leap) is about 25 and 300, as of
leaps of the calorimeter at their worst and on average."""

UNEQUAL = 0.4
"""Standard deviation of the logarithm of the random function's size over networks."""

STUDIES = 25
"""Studies on one draw of the training set: laws of a draw take longer than a study."""


@dataclass(frozen=True)
class Truth:
    """A draw of the training set, and exact moments of networks and of linearised ones at each size."""

    draws: Draws
    trained: list[LawMoments]
    twin: list[LawMoments]

    @classmethod
    def of(cls, world: World, rng: np.random.Generator) -> "Truth":
        draws = world.draws(world.rows(rng, np.arange(world.study.data.pool), 1))
        y, laws = world.split.y_test, draws.laws[0]
        trained = [LawMoments.of((mean, BEYOND**2 * covariance), y) for mean, covariance in laws]
        return cls(draws, trained, [LawMoments.of(law, y) for law in laws])


def study(trained: int, test: int = 100, pool: int = 512) -> EnsembleStudy:
    return studies.loads(STUDY.format(pool=pool, test=test, members=trained)).of_kind(EnsembleStudy)


def world_of(trained: int, test: int = 100, pool: int = 512) -> World:
    one = study(trained, test, pool)
    return World(one, one.data.load(one.known))


def make(world: World, truth: Truth, leapt: int, rng: np.random.Generator) -> EnsembleResults:
    """The results of one study with so many leapt networks, of which the first are trained too."""
    widths = world.study.network.widths
    made = [_width(world, truth.draws, leapt, width, rng) for width in widths]
    leaps = {name: np.stack([beside[name] for _, beside in made]) for name in made[0][1]}
    store = xarray.Dataset(
        trained_arrays([own for own, _ in made])
        | {name: ((*CELL, *_DIMS.get(name, ("leap_member",))), value) for name, value in leaps.items()}
        | law_arrays(world, truth.draws.laws, [truth.twin], tabulated=False)
        | data_arrays(world),
        coords=coordinates(world.study) | {"width": list(widths), "draw": [0], "quantile": list(PROBABILITIES)},
        attrs=attributes(world.study),
    )
    return results_of(world.study, store)


_DIMS = {"leap_point_loss": ("leap_member", "test_point")}


def _width(
    world: World, draws: Draws, leapt: int, width: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays (n_train, draw, ...) of one width: of the trained networks, and of all that were leapt."""
    mean = np.stack([law[0][:, 0] for law in draws.laws[0]])[None, :, None]
    y = world.split.y_test[:, 0]
    twin, other = (sample(world, draws, leapt, rng) for _ in range(2))
    f = mean + BEYOND * (twin - mean)
    size = SPOILT[width] * np.exp(UNEQUAL * rng.standard_normal(leapt) - UNEQUAL**2 / 2)
    near = y + SHRUNK[width] * (f - y) + size[:, None] * (other - mean)
    losses = {"leap": (near - y) ** 2 / 2, "twin": (twin - y) ** 2 / 2}
    points = np.swapaxes(losses["leap"], 0, 1)
    status = np.full(points.shape[:3], OK, np.int8)
    beside = {
        "leap_point_loss": points,
        "leap_loss": points.mean(axis=-1),
        "leap_status": status,
        "twin_loss": np.swapaxes(losses["twin"], 0, 1).mean(axis=-1),
        "twin_status": status,
    }
    return width_arrays(world, PLAIN, f[:, :, : world.study.ensemble.members], rng), beside


def check(results: EnsembleResults, known: Truth) -> Tally:
    """What a report of this study would say of its leaps, and of what finite width does."""
    tally = Tally()
    truth = {q: np.array([one.values[q] for one in known.trained]) for q in FITTED}
    weights = slope_weights(results.sizes)
    for width in map(int, results.mean.width.values):
        for q in FITTED:
            for i, size in ((0, "smallest"), (len(results.sizes) - 1, "largest")):
                if (two := results.leapt.two_level.get((q, width, int(results.sizes[i])))) is not None:
                    tally.covers(f"two-level {q} at the {size} N_D, width {width}", two.estimate(), truth[q][i])
            if (curve := results.leapt.two_level_curves.get((q, width))) is not None:
                slope = curve.of(MEMBERS, LEAPT).slope()
                tally.covers(
                    f"two-level exponent of {q}, this draw, width {width}", slope, float(weights @ np.log(truth[q]))
                )
        for i, cell in enumerate(one for one in results.leapt.cells if one.width == width):
            tally.alarms[f"(control) leaps of width {width} are refused"].append(bool(cell.refusal))
            if i == len(results.sizes) - 1:
                raw = cell.raw["mu_L"].estimate()
                tally.covers(f"(control) mu_L of leaps as they are, width {width}", raw, truth["mu_L"][i])
    for q, width in results.headline.gains:
        if q in STATISTICS:
            exact = np.mean(
                [np.log(one.values[q] / two.values[q]) for one, two in zip(known.trained, known.twin, strict=True)]
            )
            against = results.comparisons[q, width]
            tally.covers(f"two-level {q} against the law, mean over sizes, width {width}", against.ratio, float(exact))
    for one in split.changes(results):
        if one.n_train == results.sizes[-1]:
            trained, twin = known.trained[-1].values[one.quantity], known.twin[-1].values[one.quantity]
            where = f"{one.quantity}, width {one.width}"
            for step, exact in zip(STEPS, (0.0, np.log(trained / twin), np.log(trained / twin)), strict=True):
                tally.covers(f"finite width, {step}: {where}", one.steps[step], float(exact))
    return tally


def run(world: World, leapt: int, seed: int, numbers: Sequence[int]) -> Tally:
    """Check the studies of these numbers, each with a stream of its own: any division of the work gives the same."""
    tally, truths = Tally(), {}
    for number in numbers:
        draw = number // STUDIES
        if draw not in truths:
            truths = {draw: Truth.of(world, np.random.default_rng([seed, draw]))}
        rng = np.random.default_rng([seed, draw, number])
        tally.merge(check(make(world, truths[draw], leapt, rng), truths[draw]))
    return tally

"""`make calibrate`: coverage of every interval and false alarms of every verdict, from synthetic studies."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from analysis.calibration.checks import Population, Tally, check
from analysis.calibration.synthetic import PLAIN, Losses, make
from analysis.calibration.truth import LawMoments
from analysis.calibration.world import World
from ntkhpc import studies
from ntkhpc.studies.ensemble.study import EnsembleStudy

STUDY = """
name = "calibration"
[data]
source = "calorimeter"
pool = 8192
test = {test}
[network]
widths = [64, 256]
[training.steps]
factor = 4.0
[ensemble]
n_train = [32, 48, 64, 96, 128, 192, 256]
members = {members}
draws = {draws}
[infinite_width]
draws = 4
redraws = {redraws}
times = ["steps"]
"""

SEED = 20261129


@dataclass(frozen=True)
class Scenario:
    """A kind of study. With `redraws` 0 errors for any draw come from the four draws of the exact curve."""

    name: str
    members: int
    draws: int = 1
    redraws: int = 32
    losses: Losses = PLAIN


SCENARIOS = (
    Scenario("20 members", 20),
    Scenario("60 members", 60),
    Scenario("200 members", 200),
    Scenario("1000 members", 1000),
    Scenario("60 members, heavy-tailed losses", 60, losses=Losses(tail=0.3)),
    Scenario("60 members, 5 % diverged", 60, losses=Losses(diverged=0.05)),
    Scenario("60 members, 3 draws", 60, draws=3),
    Scenario("60 members, a run without further draws", 60, redraws=0),
)


def study(scenario: Scenario, test: int = 300) -> EnsembleStudy:
    text = STUDY.format(test=test, members=scenario.members, draws=scenario.draws, redraws=scenario.redraws)
    return studies.loads(text).of_kind(EnsembleStudy)


def world_of(scenario: Scenario, test: int = 300) -> World:
    one = study(scenario, test)
    return World(one, one.data.load(one.known))


def population(world: World, count: int, tail: float) -> list[list[LawMoments]]:
    """LawMoments [draw][size] of many draws."""
    rng = np.random.default_rng(SEED)
    rows = world.rows(rng, count)
    return [[LawMoments.of(law, world.split.y_test, tail) for law in world.laws(one)] for one in rows]


def run(world: World, scenario: Scenario, draws: list[list[LawMoments]], numbers: Sequence[int]) -> Tally:
    """Check the studies of these numbers; each has its own stream, so that any division of the work gives the same."""
    tally, truth = Tally(), Population.of(draws)
    for number in numbers:
        rng = np.random.default_rng([SEED, number, scenario.members, scenario.draws])
        chosen = rng.choice(len(draws), max(scenario.redraws, world.study.infinite_width.draws))
        made = make(world, scenario.losses, [draws[i] for i in chosen], rng)
        if not scenario.redraws:
            made = made.without_redraws()
        tally.merge(check(made, truth))
    return tally


def lines(tally: Tally) -> Iterator[str]:
    for name, outcomes in sorted(tally.intervals.items()):
        narrow, wide = 100 * np.array(outcomes, float).mean(axis=0)
        yield f"  {name:58s} {narrow:5.1f} % of 68   {wide:5.1f} % of 95   ({len(outcomes)})"
    for name, alarms in sorted(tally.alarms.items()):
        yield f"  {name:58s} {100 * np.mean(alarms):5.2f} %                 ({len(alarms)})"


def _part(job: tuple[Scenario, int, Sequence[int]]) -> Tally:
    scenario, count, numbers = job
    world = world_of(scenario)
    return run(world, scenario, population(world, count, scenario.losses.tail), numbers)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make calibrate", description=__doc__)
    parser.add_argument("--studies", type=int, default=400, help="synthetic studies of each kind")
    parser.add_argument("--draws", type=int, default=400, help="draws of the training set that are the truth")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    errors = [100 * np.sqrt(p * (1 - p) / options.studies) for p in (0.683, 0.95, 0.01)]
    print(
        f"{options.studies} studies of 2 widths each: how often a 68 and a 95 % interval covers the truth, and single "
        f"percentages for false alarms at the 1 % level. Binomial errors: {', '.join(f'{e:.1f}' for e in errors)} %."
    )
    with ProcessPoolExecutor(options.processes) as pool:
        for scenario in SCENARIOS:
            if options.only not in scenario.name:
                continue
            parts = [range(i, options.studies, options.processes) for i in range(options.processes)]
            tally = Tally()
            for part in pool.map(_part, [(scenario, options.draws, numbers) for numbers in parts]):
                tally.merge(part)
            print(f"\n{scenario.name}")
            print("\n".join(lines(tally)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

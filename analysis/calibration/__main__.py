"""`make calibrate`: coverage of every interval and false alarms of every verdict, from synthetic studies."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from analysis.calibration import leapt
from analysis.calibration.checks import OPEN, Population, Tally, check, check_laws
from analysis.calibration.judge import ENOUGH, Row, marks, promise, verdict
from analysis.calibration.points import check_points
from analysis.calibration.synthetic import PLAIN, Losses, Pool, laws_alone, make
from analysis.calibration.world import World
from ntkhpc import studies
from ntkhpc.data.split import Split
from ntkhpc.studies.ensemble.study import EnsembleStudy

STUDY = """
name = "calibration"
[data]
source = "calorimeter"
pool = {pool}
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

POOL = 8192
"""Samples of a study's pool."""

WORLD = 8 * POOL
"""Samples of which pools are drawn: so many that a draw of a pool hardly has one twice."""


@dataclass(frozen=True)
class Scenario:
    """A kind of study. With `redraws` 0 errors for any draw come from the four draws of the exact curve.

    A kind that is judged by itself, and not together with others, has `times` as many studies.
    """

    name: str
    members: int
    draws: int = 1
    redraws: int = 32
    losses: Losses = PLAIN
    times: int = 1


SCENARIOS = (
    Scenario("20 members", 20, times=4),
    Scenario("60 members", 60),
    Scenario("200 members", 200),
    Scenario("1000 members", 1000),
    Scenario("60 members, heavy-tailed losses", 60, losses=Losses(tail=0.3)),
    Scenario("60 members, 5 % diverged", 60, losses=Losses(diverged=0.05)),
    Scenario("60 members, 3 draws", 60, draws=3),
    Scenario("60 members, a run without further draws", 60, redraws=0),
)


TAILS = sorted({one.losses.tail for one in SCENARIOS})


def study(scenario: Scenario, test: int = 300, pool: int = POOL) -> EnsembleStudy:
    text = STUDY.format(test=test, pool=pool, members=scenario.members, draws=scenario.draws, redraws=scenario.redraws)
    return studies.loads(text).of_kind(EnsembleStudy)


@cache
def samples(test: int, count: int) -> Split:
    """The world's samples, the same for every scenario."""
    one = study(SCENARIOS[0], test, count)
    return one.data.load(one.known)


def world_of(scenario: Scenario, test: int = 300, count: int = WORLD) -> World:
    return World(study(scenario, test), samples(test, count))


def pools(world: World, numbers: Sequence[int]) -> list[Pool]:
    """Pools of these numbers; each has its own stream, so that any division of the work gives the same."""
    return [Pool.of(world, TAILS, np.random.default_rng([SEED, number])) for number in numbers]


def run(world: World, scenario: Scenario, of: Sequence[Pool], numbers: Sequence[int]) -> Tally:
    """Check the studies of these numbers, each on a pool of its own as long as there are such."""
    tally, truth = Tally(), Population.of(of, scenario.losses.tail)
    for number in numbers:
        rng = np.random.default_rng([SEED, number, scenario.members, scenario.draws])
        made = make(world, scenario.losses, of[number % len(of)], rng)
        if not scenario.redraws:
            made = made.without_redraws()
        tally.merge(check(made, truth))
    return tally


def run_laws(world: World, tail: float, of: Sequence[Pool]) -> Tally:
    """Check the exact laws of a study on each pool."""
    tally, truth = Tally(), Population.of(of, tail)
    for pool in of:
        tally.merge(check_laws(laws_alone(world.study, pool, tail), truth))
    return tally


CONTROL, BOUND = "(control)", "(of 2.5 %)"
"""What the names of rows have of which nothing is promised, and of one-sided bounds."""


def lines(tally: Tally, members: int, studies: int) -> Iterator[str]:
    """The table of a scenario with so many members and synthetic studies, and what is to be thought of it."""
    promised, texts, rows = promise(members), [], []
    for name, outcomes in sorted(tally.intervals.items()):
        narrow, wide = np.array(outcomes, float).mean(axis=0)
        first = "             " if np.isnan(narrow) else f"{100 * narrow:5.1f} % of 68"
        texts.append(f"  {name:58s} {first}   {100 * wide:5.1f} % of 95   ({len(outcomes)})")
        least = (promised.wide[0], 1.0)
        both = [(narrow, promised.narrow), (wide, least if OPEN in name else promised.wide)]
        rows.append([Row(rate, len(outcomes), studies, band) for rate, band in both if not np.isnan(rate)])
    for name, alarms in sorted(tally.alarms.items()):
        rate, band = float(np.mean(alarms)), promised.bounds if BOUND in name else promised.alarms
        texts.append(f"  {name:58s} {100 * rate:5.2f} %                 ({len(alarms)})")
        rows.append([Row(rate, len(alarms), studies, band)])
    judged = [[] if CONTROL in text else of for text, of in zip(texts, rows, strict=True)]
    found = iter(marked := marks([row for of in judged for row in of]))
    for text, of in zip(texts, judged, strict=True):
        yield f"{text}  {' '.join(sorted({next(found) for _ in of} - {''}))}".rstrip()
    yield f"  {verdict(marked)}"


LAWS, POINTS, LEAPS = "exact laws", "test points", "leaps"
"""What is checked beside the kinds of studies."""

LEAPT, TRAINED = 1000, 20
"""Networks of a study that are leapt, and how many of them are trained too. Two-level intervals are promised to cover
as those of many networks: the leapt ones make most of the error, as long as leaps are accurate."""

TEST_SETS = 16
"""Test sets of one draw that share no point, others at each draw. All of them together stand for an endless one."""


def run_points(studies: int) -> Tally:
    """Check the errors for the choice of the test points, on so many test sets."""
    one, tally = study(SCENARIOS[0]), Tally()
    world = World(one, samples(TEST_SETS * one.data.test, POOL))
    for number in range(studies // TEST_SETS):
        rng = np.random.default_rng([SEED, number])
        rows, order = rng.permutation(POOL)[: world.sizes[-1]], rng.permutation(TEST_SETS * one.data.test)
        tally.merge(check_points(world, rows, order.reshape(TEST_SETS, -1)))
    return tally


def _pools(numbers: Sequence[int]) -> list[Pool]:
    return pools(world_of(SCENARIOS[0]), numbers)


def _part(job: tuple[Scenario, Sequence[Pool], Sequence[int]]) -> Tally:
    scenario, of, numbers = job
    return run(world_of(scenario), scenario, of, numbers)


def _leapt(numbers: Sequence[int]) -> Tally:
    return leapt.run(leapt.world_of(TRAINED), LEAPT, SEED, numbers)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make calibrate", description=__doc__)
    parser.add_argument(
        "--studies", type=int, default=400, help="synthetic studies of each kind, and four times as many of 20 members"
    )
    parser.add_argument("--pools", type=int, default=1600, help="pools of samples, whose draws are the truth")
    parser.add_argument("--only", default="", help=f"kinds with this in their name, {LAWS!r}, {POINTS!r} or {LEAPS!r}")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    errors = [100 * np.sqrt(p * (1 - p) / options.studies) for p in (0.683, 0.95, 0.01)]
    print(
        f"{options.studies} studies of 2 widths each: how often a 68 and a 95 % interval covers the truth, and single "
        f"percentages for false alarms at the 1 % level. Binomial errors: {', '.join(f'{e:.1f}' for e in errors)} %, "
        f"and {np.sqrt(options.studies / options.pools):.1f} times as large for exact laws ({options.pools} pools). "
        "Outside: not within 65-71, 93-97, 0.5-2 %, and 0-3.5 % of bounds (20 members: 62 and 90 % or more; intervals "
        "of which an end may be open: 93 % or more)."
    )

    def shares(count: int) -> list[range]:
        return [range(i, count, options.processes) for i in range(options.processes)]

    wanted = [scenario for scenario in SCENARIOS if options.only in scenario.name]
    together = Tally()
    with ProcessPoolExecutor(options.processes) as executor:
        if options.only in POINTS:
            print(f"\n{POINTS}")
            print("\n".join(lines(run_points(options.studies), ENOUGH, options.studies)), flush=True)
        if options.only in LEAPS:
            leaps = Tally()
            for part in executor.map(_leapt, shares(options.studies)):
                leaps.merge(part)
            print(f"\n{LEAPS}: {LEAPT:,} leapt networks, {TRAINED} of them trained too")
            print("\n".join(lines(leaps, ENOUGH, options.studies)), flush=True)
        of: list[Pool] = []
        if wanted or options.only in LAWS:
            parts = list(executor.map(_pools, shares(options.pools)))
            of = [parts[i % len(parts)][i // len(parts)] for i in range(options.pools)]  # in the order of their numbers
        for tail in TAILS if options.only in LAWS else ():
            print(f"\n{LAWS}{', heavy-tailed losses' if tail else ''}")
            print("\n".join(lines(run_laws(world_of(SCENARIOS[0]), tail, of), ENOUGH, options.pools)), flush=True)
        for scenario in wanted:
            tally, count = Tally(), options.studies * scenario.times
            for part in executor.map(_part, [(scenario, of, numbers) for numbers in shares(count)]):
                tally.merge(part)
            print(f"\n{scenario.name}")
            print("\n".join(lines(tally, scenario.members, count)), flush=True)
            if scenario.members >= ENOUGH:
                together.merge(tally)
    kinds = sum(scenario.members >= ENOUGH for scenario in wanted)
    if kinds > 1:
        print(f"\nall {kinds} kinds of {ENOUGH} members and more, together")
        print("\n".join(lines(together, ENOUGH, kinds * options.studies)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

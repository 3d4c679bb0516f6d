"""Pure functions cut shards into tasks, and tasks into job arrays, and refuse what cannot fit."""

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ntkhpc.engine import plan
from ntkhpc.engine.plan import Plan, Shard
from ntkhpc.errors import ProfileError
from ntkhpc.launch.profile import Partition, Profile
from ntkhpc.launch.submissions import JobArray
from ntkhpc.phase.layout import Layout
from ntkhpc.phase.phase import Phase
from ntkhpc.studies import analysis
from ntkhpc.studies.memory import MARGIN

SUPERVISOR_MB = 250
"""A task's own process, the container and the page cache of the step take so much beside the workers."""

START_SECONDS = 240.0
"""Tasks ask for so much more time, to start a container, import and compile on a cold file system."""

WIDE = 0.6
"""A worker of several cores is so many times as fast, for each of them, as one of one core."""

MORE_MEMORY = 1.6
MORE_TIME = 2.0
"""Each time that memory or time did not suffice for a shard, the next task asks for so many times as much."""


@dataclass(frozen=True)
class Experience:
    """Earlier attempts taught these factors on memory and time of shards, by id, and nodes to avoid.

    `speed` is that of a core, or GPU, of a partition (by label) against the reference core.
    """

    memory: Mapping[str, float] = field(default_factory=dict)
    time: Mapping[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    speed: Mapping[str, float] = field(default_factory=dict)

    def of(self, shard: Shard) -> tuple[float, float]:
        """Return the factors on memory and time of a shard."""
        return self.memory.get(shard.id, 1.0), self.time.get(shard.id, 1.0)


def arrays(
    layout: Layout,
    planned: Plan,
    shards: Mapping[str, Iterable[Shard]],
    profile: Profile,
    prefix: str,
    array_size: int,
    experience: Experience = Experience(),
    existing: Mapping[str, Iterable[str]] | None = None,
) -> list[JobArray]:
    """Make job arrays of the shards of each phase, in an order in which they can be submitted.

    `existing` names, for a phase, arrays that are in the queue already: what needs the phase waits for them too.
    Raises ProfileError, naming the field to change, if a worker does not fit its partition.
    """
    found: list[JobArray] = []
    for phase, described in layout.phases.items():
        groups: dict[tuple[float, float], list[Shard]] = {}
        for shard in shards.get(phase, ()):
            groups.setdefault(experience.of(shard), []).append(shard)
        # A GPU is timed at training; nothing says that it, or its host, solves as much faster.
        timed = described.probed or not profile[phase].gpu
        speed = experience.speed.get(profile.partition_of(phase), 1.0) if timed else 1.0
        # Nobody can guess what a GPU that was not timed takes for a tile: that refuses nothing.
        if not profile[phase].gpu or (timed and profile.partition_of(phase) in experience.speed):
            _require_tiles_fit(described, shards.get(phase, ()), profile, speed)
        # Shards that an older version planned, before the phase had its dimensions of today, use one core each.
        as_planned = all(set(described.blocks) <= set(shard.region) for shard in shards.get(phase, ()))
        wide = described.wide(layout.study) if as_planned else 1
        needs = tuple(
            [one.name for one in found if one.phase in layout.needs[phase]]
            + [name for before in layout.needs[phase] for name in (existing or {}).get(before, ())]
        )
        pieces = [
            (tasks, resources)
            for factors, group in sorted(groups.items())
            for tasks, resources in _pieces(
                layout, planned, described, group, profile, factors, array_size, speed, wide
            )
        ]
        for number, (tasks, (workers, memory_mb, minutes)) in enumerate(pieces):
            found.append(
                JobArray(
                    name=f"{prefix}-{phase}-{number}",
                    phase=phase,
                    partition=profile.partition_of(phase),
                    tasks=tasks,
                    workers=workers,
                    cpus=profile[phase].cores if profile[phase].gpu else max(workers, _hands(profile[phase], wide)),
                    gpu=bool(profile[phase].gpu),
                    memory_mb=memory_mb,
                    minutes=minutes,
                    needs=needs,
                )
            )
    return found


def _require_tiles_fit(phase: Phase, shards: Iterable[Shard], profile: Profile, speed: float) -> None:
    """Raises ProfileError if a task that is stopped and requeued would never get to the end of a tile."""
    longest = max((shard.tile_seconds for shard in shards), default=0.0) / speed
    if longest > 0 and longest + profile.limits.stop_seconds > profile[phase.name].minutes * 60:
        raise _too_long_a_tile(phase, profile, longest)


Resources = tuple[int, int, int]


def _pieces(
    layout: Layout,
    planned: Plan,
    phase: Phase,
    shards: list[Shard],
    profile: Profile,
    factors: tuple[float, float],
    array_size: int,
    speed: float,
    wide: int,
) -> list[tuple[tuple[tuple[str, ...], ...], Resources]]:
    """Make arrays of at most `array_size` tasks of one phase, each with its (workers, memory, minutes)."""
    partition, (factor, longer) = profile[phase.name], factors
    worker_mb = math.ceil(planned.memory_bytes[phase.name] * MARGIN * factor / 2**20)
    room = int(partition.memory_gb * 1024) - SUPERVISOR_MB
    if worker_mb > room:
        # After a kill a task may ask for all there is, once.
        if factor > 1 and worker_mb / MORE_MEMORY < room:
            worker_mb = room
        else:
            raise _too_large(planned, phase, profile, worker_mb)
    chains = plan.chains(layout, shards)
    side_by_side = len(chains)
    if phase.name == analysis.NAME and profile.analysis.dask == "local":
        side_by_side = profile.analysis.workers  # of Dask, in one shard
    hands = _hands(partition, wide)
    workers = 1 if partition.gpu or hands > 1 else max(1, min(partition.cores, room // worker_mb, side_by_side))
    speed *= max(1.0, WIDE * hands)
    tasks = _distribute(chains, workers, profile, speed)
    longest = longer * max(_seconds(task, workers) for task in tasks) / speed
    beside = START_SECONDS + profile.limits.stop_seconds
    minutes = math.ceil((2 * longest + beside) / 60)
    if minutes > partition.minutes:
        alone = max(longer / MORE_TIME, 1.0) * max(shard.seconds for shard in shards) / speed
        if not phase.keeps_tiles and alone + profile.limits.stop_seconds > partition.minutes * 60:
            raise _too_long(phase, profile, partition, alone)
        minutes = partition.minutes
    resources = (workers, workers * worker_mb + SUPERVISOR_MB, minutes)
    named = tuple(tuple(shard.id for shard in task) for task in tasks)
    return [(named[first : first + array_size], resources) for first in range(0, len(named), array_size)]


def _hands(partition: Partition, wide: int) -> int:
    """Return how many cores one worker uses."""
    return max(1, min(partition.cores, wide))


def _distribute(chains: list[list[Shard]], workers: int, profile: Profile, speed: float) -> list[list[Shard]]:
    """Put each chain, the longest first, into the emptiest of as many tasks as take about `task_minutes` each."""
    aim = profile.limits.task_minutes * 60.0 * workers * speed
    total = sum(shard.seconds for chain in chains for shard in chain)
    count = min(len(chains), profile.limits.tasks, max(1, math.ceil(total / aim)))
    tasks: list[list[Shard]] = [[] for _ in range(count)]
    loads = [(0.0, index) for index in range(count)]
    for chain in chains:
        load, index = heapq.heappop(loads)
        tasks[index].extend(chain)
        heapq.heappush(loads, (load + sum(shard.seconds for shard in chain), index))
    return tasks


def _seconds(task: list[Shard], workers: int) -> float:
    """Return the seconds of a task on reference cores, whose workers take the next shard, longest first, when free."""
    return max(task[0].seconds, sum(shard.seconds for shard in task) / workers + task[-1].seconds)


def task_seconds(planned: Plan, found: Iterable[JobArray]) -> dict[str, float]:
    """Return the seconds that the tasks of each phase hold their share of nodes, on the reference core."""
    seconds = {shard.id: shard.seconds for shard in planned.shards}
    held: dict[str, float] = {}
    for one in found:
        held[one.phase] = held.get(one.phase, 0.0) + sum(seconds[n] for task in one.tasks for n in task) / at_once(one)
    return held


def at_once(one: JobArray) -> float:
    """Return how many seconds of one core a task does in a second."""
    return max(one.workers, WIDE * one.cpus) if one.workers == 1 and not one.gpu else one.workers


def _too_large(planned: Plan, phase: Phase, profile: Profile, needed_mb: int) -> ProfileError:
    label, partition = profile.partition_of(phase.name), profile[phase.name]
    return ProfileError(
        f"a worker of phase {phase.name} needs {needed_mb / 1024:,.1f} GiB (projected "
        f"{planned.memory_bytes[phase.name] / 2**30:,.1f} GiB and a margin); a task of partition {label!r} has "
        f"{partition.memory_gb:,.1f} GiB",
        where=f"profile {profile.name}, partitions.{label}.memory_gb",
        todo=f"lower {phase.lower} in the study, or give the phase a larger partition: [phases] {phase.name} = ...",
    )


def _too_long(phase: Phase, profile: Profile, partition: Partition, seconds: float) -> ProfileError:
    return ProfileError(
        f"a shard of phase {phase.name} takes about {seconds / 3600:,.1f} h and cannot be stopped and continued; "
        f"the partition allows {partition.minutes / 60:,.1f} h",
        where=f"profile {profile.name}, partitions.{profile.partition_of(phase.name)}.minutes",
        todo=f"lower {phase.lower} in the study, or give the phase another partition",
    )


def _too_long_a_tile(phase: Phase, profile: Profile, seconds: float) -> ProfileError:
    return ProfileError(
        f"a tile of phase {phase.name} takes about {seconds / 60:,.1f} minutes with the start and cannot be stopped "
        f"and continued; the partition allows {profile[phase.name].minutes:,} less the {profile.limits.stop_seconds} s "
        "of limits.stop_seconds",
        where=f"profile {profile.name}, partitions.{profile.partition_of(phase.name)}.minutes",
        todo=f"lower {phase.shorten} in the study, or give the phase a partition with more minutes: "
        f"[phases] {phase.name} = ...",
    )

"""Study -> phases -> shards: pure and fast, with projected time, memory, bytes and files.

A shard is what one task computes and what one receipt confirms. Its region says which part of the store is its own.
"""

import math
from itertools import product

import msgspec
from msgspec import Struct

from ntkhpc.errors import StudyError
from ntkhpc.studies import cost, schema
from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.ensemble.study import Study
from ntkhpc.studies.posterior import cost as bayes_cost
from ntkhpc.studies.posterior.study import BayesStudy

NEEDS = {
    "data": (),
    "ensemble": ("data",),
    "law": ("data",),
    "curve": ("data",),
    "theory": ("data",),
    "adaptive": ("data",),
    "chains": ("data",),
    "finalise": ("ensemble",),
    "analysis": ("law", "curve", "finalise", "theory", "adaptive", "chains"),
}
"""The phases whose every shard a phase needs, directly; in an order in which they can be run.

Those of all kinds of studies: a study of one kind has no shards in the phases of another.
"""

PHASES = tuple(NEEDS)

STAGES = (("data",), ("ensemble", "law", "curve", "theory", "adaptive", "chains"), ("finalise",), ("analysis",))
"""Phases that can run side by side, in order."""

RESUMABLE = frozenset(["ensemble", "adaptive", "chains"])
"""Phases whose shards keep finished tiles: told to stop, they go on later where they were."""

MAX_SHARDS = 1_000_000


class Shard(Struct, frozen=True):
    """One unit of work. `seconds` is projected for one core, `tile_seconds` too: where finished tiles are kept, for the
    start and the longest tile, without which an attempt leaves the next one as much to do. 0 is unknown."""

    id: str
    phase: str
    region: dict[str, tuple[int, int]]
    seconds: float
    tile_seconds: float = 0.0


class Plan(Struct, frozen=True):
    """A function of the study alone."""

    study_id: str
    run_name: str
    shards: tuple[Shard, ...]
    memory_bytes: dict[str, int]
    store_bytes: int
    files: int

    def of_phase(self, phase: str) -> tuple[Shard, ...]:
        return tuple(shard for shard in self.shards if shard.phase == phase)

    @property
    def seconds(self) -> float:
        return sum(shard.seconds for shard in self.shards)


def make(study: AnyStudy) -> Plan:
    """The plan of a study. Raises StudyError if it would have more than a million shards."""
    if isinstance(study, BayesStudy):
        shards = _of_posterior(study)
        memory = {phase: bayes_cost.memory_bytes(study, phase) for phase in _phases(shards)}
    else:
        shards = _of_ensemble(study.of_kind(Study))
        memory = {phase: cost.memory_bytes(study.of_kind(Study), phase) for phase in _phases(shards)}
    arrays = schema.arrays(study)
    chunks = {array.name: schema.chunk_count(array, study) for array in arrays}
    return Plan(
        study_id=study.id,
        run_name=study.run_name,
        shards=tuple(shards),
        memory_bytes=memory,
        store_bytes=sum(chunks[array.name] * schema.chunk_bytes(array, study) for array in arrays),
        files=sum(chunks.values()) + len(arrays) + 1 + len(shards),
    )


def _phases(shards: list[Shard]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(shard.phase for shard in shards))


def _of_ensemble(study: Study) -> list[Shard]:
    cells = math.prod((len(study.network.widths), len(study.ensemble.n_train), study.ensemble.draws))
    count = cells * math.ceil(study.ensemble.members / study.ensemble.shard_members)
    if count > MAX_SHARDS:
        raise StudyError(
            f"the study has {count:,} shards; at most {MAX_SHARDS:,} are planned",
            cause=f"ensemble.members = {study.ensemble.members:,} in shards of {study.ensemble.shard_members:,}",
            todo="raise ensemble.shard_members (a multiple of ensemble.tile)",
        )
    return [
        Shard("data-0", "data", {}, cost.data_seconds(study)),
        *_ensemble(study),
        *_law(study),
        *_curve(study),
        Shard("finalise-0", "finalise", {}, cost.finalise_seconds(study)),
        Shard("analysis-0", "analysis", {}, cost.analysis_seconds(study)),
    ]


def _ensemble(study: Study) -> list[Shard]:
    ensemble = study.ensemble
    shards = []
    starts = range(0, ensemble.members, ensemble.shard_members)
    tiles = schema.dimension_sizes(study)["tile"]
    tiles_per_shard = ensemble.shard_members // ensemble.tile
    cells = product(range(len(study.network.widths)), range(len(ensemble.n_train)), range(ensemble.draws))
    for width, n_train, draw in cells:
        cell = study, study.network.widths[width], ensemble.n_train[n_train]
        tile_seconds = cost.ensemble_seconds(*cell, ensemble.tile)
        for start in starts:
            stop = min(start + ensemble.shard_members, ensemble.members)
            tile = start // ensemble.tile
            region = {
                "width": (width, width + 1),
                "n_train": (n_train, n_train + 1),
                "draw": (draw, draw + 1),
                "member": (start, stop),
                "tile": (tile, min(tile + tiles_per_shard, tiles)),
            }
            # Named by value, so that a person can tell what failed; unique because values are.
            name = f"w{study.network.widths[width]}-n{ensemble.n_train[n_train]}-d{draw}-m{start}"
            # The last tile is trained whole, padded with members beyond the ensemble.
            members = math.ceil((stop - start) / ensemble.tile) * ensemble.tile
            seconds = cost.ensemble_seconds(*cell, members)
            shards.append(Shard(name, "ensemble", region, seconds, tile_seconds))
    return shards


def _law(study: Study) -> list[Shard]:
    sizes = study.ensemble.n_train
    return [
        Shard(
            f"law-n{n}-d{draw}",
            "law",
            {"draw": (draw, draw + 1), "n_train": (i, i + 1)},
            cost.law_seconds(study, n),
        )
        for draw in range(study.ensemble.draws)
        for i, n in enumerate(sizes)
    ]


def _curve(study: Study) -> list[Shard]:
    draws, seconds = range(study.infinite_width.draws), cost.curve_seconds(study)
    return [Shard(f"curve-d{draw}", "curve", {"curve_draw": (draw, draw + 1)}, seconds) for draw in draws]


def _of_posterior(study: BayesStudy) -> list[Shard]:
    posterior, sampling = study.posterior, study.sampling
    draws = range(posterior.draws)
    theory = [
        Shard(
            f"theory-n{n}-d{draw}",
            "theory",
            {"draw": (draw, draw + 1), "n_train": (i, i + 1)},
            bayes_cost.theory_seconds(study, n),
        )
        for draw in draws
        for i, n in enumerate(posterior.n_train)
    ]
    adaptive, chains = [], []
    for (i, width), (j, n), draw in product(enumerate(study.sampled_widths), enumerate(study.sampled_sizes), draws):
        cell = {"sampled_width": (i, i + 1), "sampled_n_train": (j, j + 1), "draw": (draw, draw + 1)}
        name = f"w{width}-n{n}-d{draw}"
        if study.adaptive.populations:
            costs = (bayes_cost.adaptive_seconds(study, n, count) for count in (study.adaptive.populations, 1))
            adaptive.append(Shard(name, "adaptive", cell, *costs))
        for start in range(0, sampling.chains, sampling.shard_chains):
            stop = min(start + sampling.shard_chains, sampling.chains)
            seconds = bayes_cost.chains_seconds(study, width, n, stop - start)
            tile_seconds = bayes_cost.chains_tile_seconds(study, width, n, stop - start)
            region = cell | {"chain": (start, stop)}
            chains.append(Shard(f"{name}-c{start}", "chains", region, seconds, tile_seconds))
    return [
        Shard("data-0", "data", {}, cost.data_seconds(study)),
        *theory,
        *adaptive,
        *chains,
        Shard("analysis-0", "analysis", {}, bayes_cost.analysis_seconds(study)),
    ]


def closure(phase: str) -> tuple[str, ...]:
    """Every phase that a phase needs, directly or not, in order."""
    needed = set(NEEDS[phase])
    for one in NEEDS[phase]:
        needed |= set(closure(one))
    return tuple(phase for phase in PHASES if phase in needed)


def dumps(plan: Plan) -> bytes:
    return msgspec.json.encode(plan) + b"\n"


def loads(data: bytes) -> Plan:
    return msgspec.json.decode(data, type=Plan)


def longest_first(shards: list[Shard]) -> list[Shard]:
    """The order in which workers take shards: it keeps the last one from running alone."""
    return sorted(shards, key=lambda shard: (-shard.seconds, shard.id))

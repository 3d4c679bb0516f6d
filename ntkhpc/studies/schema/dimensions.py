"""Dimensions of the store: how long they are, what stands along them, and where shards cut them."""

import math
from typing import Any

from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.ensemble.study import Study
from ntkhpc.studies.posterior.study import BayesStudy

CELL = ("width", "n_train", "draw")

TIMES = ("steps", "fixed", "infinite")
"""Meaning of the coordinate `time`: 0, 1, 2."""

PROBABILITIES = tuple(i / 200 for i in range(1, 200))
"""At which the distribution of the loss is tabulated."""


def sizes(study: AnyStudy) -> dict[str, int]:
    common = {
        "pool": study.data.pool,
        "test_point": study.data.test,
        "feature": study.features,
        "output": study.outputs,
        "order": study.orders,
        "test_size": len(study.test_sizes),
        "quantile": len(PROBABILITIES),
    }
    return common | (_bayes(study) if isinstance(study, BayesStudy) else _ensemble(study.of_kind(Study)))


def _ensemble(study: Study) -> dict[str, int]:
    ensemble = study.ensemble
    return {
        "width": len(study.network.widths),
        "n_train": len(ensemble.n_train),
        "draw": ensemble.draws,
        "member": ensemble.members,
        "tile": math.ceil(ensemble.members / ensemble.tile),
        "trace_point": ensemble.trace_points,
        "cumulant": 4,
        "curve_draw": study.infinite_width.draws,
        "curve_n_train": len(study.curve_sizes),
        "time": len(study.infinite_width.times),
    }


def _bayes(study: BayesStudy) -> dict[str, int]:
    return {
        "theory_width": len(study.theory_widths),
        "n_train": len(study.posterior.n_train),
        "draw": study.posterior.draws,
        "temperature": len(study.scan.temperatures),
        "readout_factor": len(study.scan.readout_factors),
        "sampled_width": len(study.sampled_widths),
        "sampled_n_train": len(study.sampled_sizes),
        "chain": study.sampling.chains,
        "sample": study.sampling.draws,
        "population": study.adaptive.populations,
    }


def cuts(study: AnyStudy, phase: str) -> dict[str, int]:
    """How much of a dimension a chunk of a phase's arrays holds, where that is not all of it."""
    if phase in ("ensemble", "finalise", "law", "curve"):
        ensemble = study.of_kind(Study).ensemble
        per_shard = {"member": ensemble.shard_members, "tile": ensemble.shard_members // ensemble.tile}
        return dict.fromkeys((*CELL, "curve_draw"), 1) | per_shard
    if phase == "theory":
        return {"n_train": 1, "draw": 1}
    if phase == "adaptive":
        return {"sampled_width": 1, "sampled_n_train": 1, "draw": 1}
    if phase == "chains":
        chains = study.of_kind(BayesStudy).sampling.shard_chains
        return {"sampled_width": 1, "sampled_n_train": 1, "draw": 1, "chain": chains}
    return {}


def coordinates(study: AnyStudy) -> dict[str, Any]:
    """The values of the arrays that are written with the run directory."""
    common = {"test_size": study.test_sizes, "quantile": PROBABILITIES}
    if isinstance(study, BayesStudy):
        return common | {
            "theory_width": study.theory_widths,
            "n_train": study.posterior.n_train,
            "draw": range(study.posterior.draws),
            "temperature": study.scan.temperatures,
            "readout_factor": study.scan.readout_factors,
            "sampled_width": study.sampled_widths,
            "sampled_n_train": study.sampled_sizes,
            "chain": range(study.sampling.chains),
            "sample": range(study.sampling.draws),
            "population": range(study.adaptive.populations),
        }
    study = study.of_kind(Study)
    n_train = study.ensemble.n_train
    return common | {
        "width": study.network.widths,
        "n_train": n_train,
        "draw": range(study.ensemble.draws),
        "member": range(study.ensemble.members),
        "n_steps": [study.training.steps(n) for n in n_train],
        "trace_step": [study.trace_steps(n) for n in n_train],
        "time": [TIMES.index(time) for time in study.infinite_width.times],
        "curve_draw": range(study.infinite_width.draws),
        "curve_n_train": study.curve_sizes,
        "curve_steps": [
            [-1 if (s := study.curve_steps(time, n)) is None else s for n in study.curve_sizes]
            for time in study.infinite_width.times
        ],
    }

"""Projected cost of a shard on one reference core: what `make plan` shows and what orders the work.

The constants were fitted to timed shards of the default study on one 2.4 GHz x86-64 core (November 2026); they are
meant to be right within a factor of two elsewhere. Profiles with timed probes replace them on a cluster.
"""

import math

from ntkhpc import schema
from ntkhpc.study import Study

FLOPS_PER_SECOND = 45e9
SECONDS_PER_STEP = 5e-6
SECONDS_PER_SHARD = 1.8
SECONDS_PER_SHOWER = 60e-6
WORKER_BYTES = 420 * 2**20
"""Resident size of a worker with JAX and XLA's compiler before it holds any data."""


def forward_flops(study: Study, width: int, samples: int) -> float:
    depth, features, outputs = study.network.depth, study.data.features, study.data.outputs
    return 2.0 * samples * (features * width + (depth - 1) * width**2 + width * outputs)


def training_flops(study: Study, width: int, n_train: int) -> float:
    """One member: forward and both backward products, less the input gradient of the first layer; then evaluations."""
    forward = forward_flops(study, width, n_train)
    step = 3 * forward - 2.0 * n_train * study.data.features * width
    traced = forward_flops(study, width, study.data.test) * study.ensemble.trace_points
    return study.training.steps(n_train) * step + traced


def ensemble_seconds(study: Study, width: int, n_train: int, members: int) -> float:
    per_member = training_flops(study, width, n_train) / FLOPS_PER_SECOND
    per_member += study.training.steps(n_train) * SECONDS_PER_STEP
    slower = 2.0 if study.training.precision == "float64" else 1.0
    return SECONDS_PER_SHARD + members * per_member * slower


def data_seconds(study: Study) -> float:
    n = study.ensemble.n_train
    kernels = study.ensemble.draws * sum(size**2 for size in n) * (study.data.features + 60 * study.network.depth)
    return 4.0 + (study.data.pool + study.data.test) * SECONDS_PER_SHOWER + kernels / 1e9


def finalise_seconds(study: Study) -> float:
    return 1.0 + sum(schema.chunk_bytes(a, study) * schema.chunk_count(a, study) for a in _moments(study)) / 200e6


def memory_bytes(study: Study, phase: str) -> int:
    """Projected peak resident size of one worker of a phase."""
    sizes = schema.dimension_sizes(study)
    rows = (sizes["pool"] + sizes["test_point"]) * (sizes["feature"] + sizes["output"]) * 8
    if phase == "data":
        largest = study.ensemble.n_train[-1]
        return WORKER_BYTES + 6 * rows + 8 * 8 * largest**2
    if phase == "finalise":
        return WORKER_BYTES // 3 + sum(schema.chunk_bytes(array, study) for array in _moments(study)) * 3
    shard = sum(schema.chunk_bytes(array, study) for array in schema.arrays(study, "ensemble"))
    itemsize = 8 if study.training.precision == "float64" else 4
    samples = max(study.ensemble.n_train[-1], study.data.test)
    activations = 4 * samples * study.network.widths[-1] * study.network.depth * itemsize
    parameters = 4 * itemsize * math.ceil(forward_flops(study, study.network.widths[-1], 1) / 2)
    return WORKER_BYTES + rows + 3 * shard + activations + parameters


def _moments(study: Study) -> list[schema.Array]:
    return [a for a in schema.arrays(study, "ensemble") if a.name in ("prediction_mean", "prediction_m2", "status")]

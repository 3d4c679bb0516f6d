"""Projected cost of a shard on one reference core: what `make plan` shows and what orders the work.

The constants were fitted to timed shards of the default study on one 2.4 GHz x86-64 core (November 2026); they are
meant to be right within a factor of two elsewhere. Profiles with timed probes replace them on a cluster.
"""

import math

from ntkhpc.studies import schema
from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.ensemble.study import Study

FLOPS_PER_SECOND = 45e9
FLOPS_FLOAT64 = 30e9
SECONDS_PER_STEP = 5e-6
SECONDS_PER_SHARD = 1.8
WORKER_BYTES = 420 * 2**20
"""Resident size of a worker that compiled its training steps, before it holds any data.

Between 265 MiB, all read from the compilation cache, and 410 MiB, where all was compiled; 360 MiB after laws.
"""

KERNEL_BYTES = 310 * 2**20
"""Of one that computed kernels, 190 MiB, and keeps what the allocator does not give back between two laws.

A local worker that also trained reaches 270 MiB.
"""

LIGHT_BYTES = 220 * 2**20
"""Of one in which JAX compiles nothing."""

ANALYSIS_BYTES = 520 * 2**20
"""Of the analysis, with pandas, pyarrow, xarray, lmfit and matplotlib."""


def forward_flops(study: Study, width: int, samples: int) -> float:
    depth, features, outputs = study.network.depth, study.features, study.outputs
    return 2.0 * samples * (features * width + (depth - 1) * width**2 + width * outputs)


def training_flops(study: Study, width: int, n_train: int) -> float:
    """One member: forward and both backward products, less the input gradient of the first layer; then evaluations."""
    forward = forward_flops(study, width, n_train)
    step = 3 * forward - 2.0 * n_train * study.features * width
    traced = forward_flops(study, width, study.data.test) * study.ensemble.trace_points
    return study.training.steps(n_train) * step + traced


def ensemble_seconds(study: Study, width: int, n_train: int, members: int) -> float:
    per_member = training_flops(study, width, n_train) / FLOPS_PER_SECOND
    per_member += study.training.steps(n_train) * SECONDS_PER_STEP
    slower = 2.0 if study.training.precision == "float64" else 1.0
    return SECONDS_PER_SHARD + members * per_member * slower


def data_seconds(study: AnyStudy) -> float:
    pairs = 0.0
    if isinstance(study, Study):  # kernels, for the learning rates
        sizes = sum(size**2 for size in study.ensemble.n_train)
        pairs = study.ensemble.draws * sizes * (study.features + 60 * study.network.depth)
    return 4.0 + study.data.making_seconds(study.known) + pairs / 1e9


def finalise_seconds(study: Study) -> float:
    return 1.0 + sum(schema.chunk_bytes(a, study) * schema.chunk_count(a, study) for a in _moments(study)) / 200e6


def kernel_seconds(study: Study, pairs: float) -> float:
    return pairs * (study.features * 2 / FLOPS_FLOAT64 + study.network.depth * 16e-9)


def law_seconds(study: Study, n_train: int) -> float:
    """One cell: kernels, one eigendecomposition of T and one of the covariance, which also gives the distribution."""
    test = study.data.test
    pairs = n_train**2 / 2 + n_train * test + test**2 / 2
    flops = 30 * n_train**3 + 6 * n_train**2 * test + 2 * n_train * test**2 + 34 * test**3
    return SECONDS_PER_SHARD + kernel_seconds(study, pairs) + flops / FLOPS_FLOAT64


def curve_seconds(study: Study) -> float:
    """One draw: kernels at the largest size, one factorisation, and a law for every size and time."""
    test, sizes = study.data.test, study.curve_sizes
    pairs = sizes[-1] ** 2 / 2 + sizes[-1] * test + test**2 / 2
    flops = sizes[-1] ** 3 + 2.0 * sizes[-1] ** 2 * test
    finite = [time for time in study.infinite_width.times if time != "infinite"]
    for n in sizes:
        law = 2 * n * test**2 + 4 * n**2 * test
        flops += len(study.infinite_width.times) * (law + 4 * test**2)
        flops += (30 * n**3 + 2 * n**2 * test + len(finite) * 2 * n**2 * test) if finite else 0
    return SECONDS_PER_SHARD + kernel_seconds(study, pairs) + flops / FLOPS_FLOAT64


def analysis_seconds(study: Study) -> float:
    losses = math.prod((len(study.network.widths), len(study.ensemble.n_train), study.ensemble.draws))
    return 15.0 + losses * study.ensemble.members * study.data.test * 30e-9


def memory_bytes(study: Study, phase: str) -> int:
    """Projected peak resident size of one worker of a phase."""
    rows = rows_bytes(study)
    if phase == "data":
        return data_memory_bytes(study)
    if phase in ("law", "curve"):
        n, test = (study.ensemble.n_train if phase == "law" else study.curve_sizes)[-1], study.data.test
        # Kernels and their factors, cross panels and weights, covariances and (law) their eigenvectors.
        return KERNEL_BYTES + rows + 8 * (7 * n**2 + 6 * n * test + (7 if phase == "law" else 4) * test**2)
    if phase == "analysis":
        return ANALYSIS_BYTES + 3 * sum(schema.chunk_bytes(array, study) for array in schema.arrays(study, "ensemble"))
    if phase == "finalise":
        return LIGHT_BYTES + sum(schema.chunk_bytes(array, study) for array in _moments(study)) * 3
    shard = sum(schema.chunk_bytes(array, study) for array in schema.arrays(study, "ensemble"))
    itemsize = 8 if study.training.precision == "float64" else 4
    samples = max(study.ensemble.n_train[-1], study.data.test)
    activations = 4 * samples * study.network.widths[-1] * study.network.depth * itemsize
    parameters = 4 * itemsize * math.ceil(forward_flops(study, study.network.widths[-1], 1) / 2)
    return WORKER_BYTES + rows + 3 * shard + activations + parameters


def rows_bytes(study: AnyStudy) -> int:
    """Of the inputs and targets of the pool and the test points."""
    return (study.data.pool + study.data.test) * (study.features + study.outputs) * 8


def data_memory_bytes(study: AnyStudy) -> int:
    largest = study.ensemble.n_train[-1] if isinstance(study, Study) else 0  # kernels, for the learning rates
    return LIGHT_BYTES + study.data.making_bytes(study.known) + 6 * rows_bytes(study) + 4 * 8 * largest**2


def _moments(study: Study) -> list[schema.Array]:
    return [a for a in schema.arrays(study, "ensemble") if a.name in ("prediction_mean", "prediction_m2", "status")]

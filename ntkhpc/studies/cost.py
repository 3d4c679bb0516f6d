"""Speed and memory of the reference core, by which shards of all phases are projected.

The constants were fitted to timed shards of the default study on one 2.4 GHz x86-64 core (November 2026); they are
meant to be right within a factor of two elsewhere. Profiles with timed probes replace them on a cluster.
"""

from ntkhpc.studies.base import Study

FLOPS_PER_SECOND = 45e9
"""Operations a second of one reference core, training in float32."""

FLOPS_FLOAT64 = 30e9
"""Operations a second of the same core on dense matrices in float64."""

SECONDS_PER_SHARD = 1.8

KERNEL_BYTES = 310 * 2**20
"""Resident size of a worker that computed kernels, 190 MiB, and keeps what the allocator does not give back between two
laws. A local worker that also trained reaches 270 MiB.
"""

LIGHT_BYTES = 220 * 2**20
"""Resident size of a worker in which JAX compiles nothing."""

ANALYSIS_BYTES = 520 * 2**20
"""Resident size of the analysis, with pandas, pyarrow, xarray, lmfit and matplotlib."""


def kernel_seconds(pairs: float, features: int, depth: int) -> float:
    """Both kernels, of so many pairs of inputs."""
    return pairs * (features * 2 / FLOPS_FLOAT64 + depth * 16e-9)


def rows_bytes(study: Study) -> int:
    """Size of the inputs and targets of the pool and the test points, and of the draws' orders of the pool."""
    return ((study.data.pool + study.data.test) * (study.features + study.outputs) + study.orders * study.data.pool) * 8

"""Speed and memory of the reference core, by which shards of all phases are projected.

The constants were fitted to timed shards of the default study on one 2.4 GHz x86-64 core (November 2026); they are
meant to be right within a factor of two elsewhere. Profiles with timed probes replace them on a cluster.
"""

from ntkhpc.data.sources import Calorimeter, Cifar10, Mnist, Table
from ntkhpc.studies.base import AnyStudy

FLOPS_PER_SECOND = 45e9
"""Of training in float32."""

FLOPS_FLOAT64 = 30e9
SECONDS_PER_SHARD = 1.8
SECONDS_PER_SHOWER = 60e-6
SECONDS_PER_TOWER = 4e-6
"""Of the cells behind one another in all layers."""

SECONDS_PER_NUMBER = 50e-9

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


def rows_bytes(study: AnyStudy) -> int:
    """Size of the inputs and targets of the pool and the test points."""
    return (study.data.pool + study.data.test) * (study.data.features + study.data.outputs) * 8


def making_seconds(study: AnyStudy) -> float:
    """To make, or to read, the data."""
    section, rows = study.data, study.data.pool + study.data.test
    if isinstance(section, Calorimeter):
        return rows * (SECONDS_PER_SHOWER if section.inputs == "layers" else section.cells**2 * SECONDS_PER_TOWER)
    return 5.0 + max(rows, getattr(section, "rows", 0)) * section.features * SECONDS_PER_NUMBER


def making_bytes(study: AnyStudy) -> int:
    """What the data phase holds besides the rows that are used: whole files, or the cells of a batch of showers."""
    section = study.data
    if isinstance(section, Mnist):
        return 120 * 2**20
    if isinstance(section, Cifar10):
        return 600 * 2**20
    if isinstance(section, Calorimeter):
        return 0 if section.inputs == "layers" else 300 * 2**20
    if isinstance(section, Table):
        return 3 * 8 * section.rows * (section.features + section.outputs) + 2 * section.bytes + 64 * 2**20
    return 40 * section.rows + 256 * 2**20

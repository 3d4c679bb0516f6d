"""Memory of a worker: the terms by which each phase projects its peak, and the margin that jobs ask beyond it.

A peak is the sum of what the interpreter and its libraries take and of the largest of a computation's moments, in
numbers of 8 bytes. The constants were measured with one worker a phase on x86-64 Linux, glibc and JAX for CPUs
(November 2026): `make bench` measures them again. Arrays of less than about 32 MiB leave holes that the allocator
keeps: a projection may be a tenth too low where all of them are so small, and is close for larger ones.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from ntkhpc.phase.array import Array
from ntkhpc.studies.base import Study

MIB = 2**20

MARGIN = 1.25
"""Jobs ask for so many times the projection: it is right within a fifth of the peak, here; elsewhere the same packages
have other sizes. Whatever asks for memory asks by this factor."""

WORKER = 167 * MIB
"""A worker with NumPy, Zarr and JAX in which nothing is compiled."""

KERNELS = 190 * MIB
"""A worker that has computed kernels and their laws by SciPy."""

LEARNING_RATES = 193 * MIB
"""A worker that has looked for an eigenvalue by SciPy's sparse solver."""

TRAINING = 335 * MIB
"""A worker that compiles the training of one cell after the other: XLA takes 150 MiB meanwhile."""

LEAPS = 385 * MIB
"""A worker that compiles leaps, and twins, of one cell after the other."""

SECOND_TRAINING = 305 * MIB
"""A worker that compiles the training of single members, one cell after the other."""

SADDLE_POINTS = 288 * MIB
"""A worker that has solved saddle points, with BlackJAX imported."""

NEURONS = 515 * MIB
"""A worker that compiles the moves of neurons, one cell after the other."""

SAMPLERS = {"hmc": 520 * MIB, "nuts": 575 * MIB, "langevin": 440 * MIB}
"""A worker that compiles a sampler, one cell after the other."""

REPORT = {"ensemble": 455 * MIB, "bayes": 405 * MIB}
"""The analysis by the kind of study, with pandas, PyArrow, xarray, lmfit and matplotlib."""

REPORT_THREADS = 2
"""Threads of Dask in the analysis where it has no workers of its own; each holds one block of losses."""

BLOCK = 4 * MIB
"""Of the parts of neighbouring shards that the analysis reads together, if they are not larger alone."""

RECEIPT = 16 * 1024
"""What the analysis keeps of each shard: its receipt, and where in each array its part is."""

MEMBER = 24
"""Numbers that the analysis holds of each member of each cell: of its loss, its influence on four moments and on their
logarithms, and on the way there."""

POINT = 12
"""The same of each test point of each cell."""

HELD_TILES = 256
"""Tiles of a cell whose mean predictions the analysis holds; of more none."""


def of_numbers(count: float) -> int:
    """Size of so many numbers in float64."""
    return int(8 * count)


def of_chunks(study: Study, arrays: Sequence[Array], along: Mapping[str, int], names: Collection[str] = ()) -> int:
    """Size of one chunk, with its checksum, of each of the arrays that the study has, or of those that are named.

    `along` is the length of a chunk along each dimension.
    """
    chosen = [array for array in arrays if array.when(study) and (array.name in names or not names)]
    return sum(math.prod(along[dim] for dim in array.dims) * array.itemsize + 4 for array in chosen)


def rows(study: Study) -> int:
    """Size of the inputs and targets of the pool and the test points, and of the draws' orders of the pool."""
    columns = study.features + study.outputs
    return of_numbers((study.data.pool + study.data.test) * columns + study.orders * study.data.pool)


def eigenvectors(n: int, test: int) -> float:
    """Numbers held while the NTK of n training inputs is decomposed: both kernels, eigenvectors, twice that as
    workspace, and kernels across and between the test points."""
    return 5 * n**2 + 2 * n * test + test**2


def covariance(n: int, test: int) -> float:
    """Numbers held while a covariance of the test points is made: both kernels and the eigenvectors; five panels of
    training and test points; the kernel between these, a product, and the covariance before."""
    return 3 * n**2 + 5 * n * test + 3 * test**2


def nested(n: int, test: int) -> float:
    """Numbers held while covariances of nested sizes are made: both kernels, the factor, M and a quarter of it; five
    panels; and between the test points the kernel, a product, and the covariance before."""
    return 4.25 * n**2 + 5 * n * test + 3 * test**2


def quantiles(n: int, test: int) -> float:
    """Numbers held while a covariance is decomposed: that and the kernel of the test points, eigenvectors, workspace;
    the kernels of the training points are still there."""
    return 2 * n**2 + 2 * n * test + 5 * test**2

"""What it takes to train members in leaps: operations, seconds of one reference core, and memory.

Measured on one core that trains 2.4 times as fast as the reference core (ReLU, 25 features, 4 n_train steps, of width
and n_train 32 and 32, 128 and 128, 512 and 256): leaps 0.5, 1.3 and 9.8 ms a member, twins 0.3, 0.7 and 3.6 ms.

A leap is a Krylov space of the kernel of the network at its present weights, a move of the weights, and the network
after it. The kernel is made as a matrix where that is small (tangent_products.py); else each product with it takes
about one and a half steps of training. A twin is one leap over all steps, in a larger space.
"""

import math
from typing import TYPE_CHECKING

from ntkhpc import lanes
from ntkhpc.leap_sizes import MOST_ROWS, VECTORS, twin_vectors
from ntkhpc.studies import cost
from ntkhpc.studies.ensemble import network, train, training_cost
from ntkhpc.studies.ensemble.members import TOLERANCE

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

LEAPS = 8.0
"""Leaps of a member at the tolerance TOLERANCE: 5 to 11 of the calorimeter. Errors grow as the square of a leap."""

TRIES = 1.3
"""Leaps tried, by leaps taken."""

PRODUCTS, PRODUCTS_OF_MOMENTUM = 11.0, 24.0
"""With the kernel, of a leap on average: 7 to 13 of plain descent on the calorimeter, whose spaces end early; with
momentum and schedules they do not, but the first leaps take no more than they have steps and one."""

TWIN_PRODUCTS = 18.0
"""With the kernel, of a twin by plain descent: 8 to 18 of the calorimeter."""

PRODUCT = 1.5
"""Operations of a product with the kernel without its matrix, by those of a step of training."""

SECONDS_PER_LEAP, SECONDS_PER_PRODUCT, SECONDS_PER_STEP = 40e-6, 10e-6, 2e-6
"""Beside operations: of a leap with its small eigenproblem, of a product and its orthogonalisation, and of each step of
the recursion that momentum and schedules need in place of a closed form."""


COMPILED, TWIN_COMPILED = 1.5, 1.5
"""Seconds of a shard's start beyond that of training: programs of leaps, and of twins, take longer to compile."""


def rows(study: "EnsembleStudy", n_train: int) -> int:
    """Of the kernel."""
    return n_train * study.outputs


def is_explicit(study: "EnsembleStudy", n_train: int) -> bool:
    """Whether the kernel is made as a matrix."""
    return not study.network.architecture and rows(study, n_train) <= MOST_ROWS


def leaps(study: "EnsembleStudy", n_train: int) -> float:
    """Expected of a member; there are never more leaps than steps."""
    expected = LEAPS * math.sqrt(TOLERANCE / study.ensemble.leap_tolerance)
    return min(float(study.training.steps(n_train)), expected)


def products(study: "EnsembleStudy", n_train: int) -> float:
    """With the kernel, of a leap of a member on average; of as many vectors is its Krylov space."""
    steps = study.training.steps(n_train) / leaps(study, n_train)
    expected = PRODUCTS if study.training.algorithm.is_closed else PRODUCTS_OF_MOMENTUM
    return min(expected, float(rows(study, n_train)), steps + 1)


def _twin_products(study: "EnsembleStudy", n_train: int) -> float:
    room = float(_vectors_of_twin(study, n_train))
    return min(TWIN_PRODUCTS, room) if study.training.algorithm.is_closed else room


def _vectors_of_twin(study: "EnsembleStudy", n_train: int) -> int:
    """That its space has room for."""
    return twin_vectors(study.training.algorithm, study.training.steps(n_train), rows(study, n_train))


def member_flops(study: "EnsembleStudy", width: int, n_train: int) -> float:
    """One member: its leaps, and the test points once; and its twin, with a product at these too."""
    test = network.forward_flops(study, width, study.data.test)
    step = network.step_flops(study, width, n_train)
    spaces = (2 if study.training.algorithm.momentum else 1) * _space_flops(
        study, width, n_train, products(study, n_train)
    )
    found = leaps(study, n_train) * (_kernel_flops(study, width, n_train) + spaces + TRIES * step) + test
    if not study.ensemble.twin:
        return found
    space = _space_flops(study, width, n_train, _twin_products(study, n_train))
    return found + 2 * _kernel_flops(study, width, n_train) + space + step + 2 * test


def _kernel_flops(study: "EnsembleStudy", width: int, n_train: int) -> float:
    """Of its matrix: two products a layer, of the gradients and of the inputs of the next one."""
    if not is_explicit(study, n_train):
        return 0.0
    n, depth = rows(study, n_train), study.network.depth
    return depth * 2.0 * (n**2 + n_train**2) * width + (depth - 1) * 2.0 * n * width**2


def _space_flops(study: "EnsembleStudy", width: int, n_train: int, vectors: float) -> float:
    """Of so many products with the kernel, each made orthogonal to all of the space twice; and of the eigenproblem."""
    n = rows(study, n_train)
    # A matrix is read from memory for each product with it, which takes about as long as eight operations a number.
    product = 8.0 * n**2 if is_explicit(study, n_train) else PRODUCT * network.step_flops(study, width, n_train)
    return vectors * (product + 8.0 * vectors * n) + 100.0 * vectors**3


def member_seconds(study: "EnsembleStudy", width: int, n_train: int) -> float:
    taken, algorithm = leaps(study, n_train), study.training.algorithm
    multiplied = taken * products(study, n_train) * (2 if algorithm.momentum else 1)
    others = taken * SECONDS_PER_LEAP + multiplied * SECONDS_PER_PRODUCT
    if study.ensemble.twin:
        others += SECONDS_PER_LEAP + _twin_products(study, n_train) * SECONDS_PER_PRODUCT
    if not algorithm.is_closed:
        others += TRIES * study.training.steps(n_train) * SECONDS_PER_STEP
    operations = member_flops(study, width, n_train) / cost.FLOPS_PER_SECOND
    return training_cost.slowness(study.training.precision) * (operations + others)


def members_seconds(study: "EnsembleStudy", width: int, n_train: int, members: int) -> float:
    start = cost.SECONDS_PER_SHARD + COMPILED + (TWIN_COMPILED if study.ensemble.twin else 0.0)
    return start + members * member_seconds(study, width, n_train)


def network_bytes(study: "EnsembleStudy") -> int:
    """One network of the largest width on the largest set: what training it takes, and what its kernel does."""
    n, precision = study.ensemble.n_train[-1], study.training.precision
    return training_cost.network_bytes(study, precision) + _kernel_bytes(study, study.network.widths[-1], n)


def lane_bytes(study: "EnsembleStudy", width: int, n_train: int) -> int:
    """What one member takes of a GPU on which others are computed beside it."""
    trained = lanes.lane_bytes(train.sizes(study, width, n_train), study.training.algorithm, dual=False)
    return trained + _kernel_bytes(study, width, n_train)


def _kernel_bytes(study: "EnsembleStudy", width: int, n_train: int) -> int:
    """The kernel, its layers in the making and the gradients of all outputs, or two states of a linearised network;
    and the space."""
    itemsize, n = 8 if study.training.precision == "float64" else 4, rows(study, n_train)
    vectors = max(VECTORS, _vectors_of_twin(study, n_train) if study.ensemble.twin else 0)
    matrices = 3 * n**2 + 2 * n * width if is_explicit(study, n_train) else 4 * n_train * width * study.network.depth
    return itemsize * (matrices + (vectors + 4) * n + 3 * vectors**2)

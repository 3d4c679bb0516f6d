"""What it takes to train members in leaps: operations, seconds of one reference core, and memory.

A leap is a Lanczos basis of the NTK of the network at its present weights, a move of the weights, and the network after
it. Products with the kernel are those with its matrix where that is made (see `is_explicit`), else a Jacobian's and its
transpose's, which take about one and a half steps of training.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.studies import cost
from ntkhpc.studies.ensemble import network, training_cost
from ntkhpc.studies.ensemble.members import TOLERANCE

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

LEAPS = 9.0
"""Accepted leaps of a member at the tolerance TOLERANCE, whatever the steps. Errors grow as the square of a leap."""

TRIES = 1.3
"""Leaps tried, by leaps accepted."""

BASIS = 32
"""Lanczos vectors of a leap."""

PRODUCT = 1.5
"""Operations of a product with the kernel without its matrix, by those of a step of training."""

SECONDS_PER_PRODUCT = 20e-6
"""Of a product with the kernel and the orthogonalisation of its result, beside operations."""


def is_explicit(study: "EnsembleStudy") -> bool:
    """Whether the matrix of the kernel is made: with one hidden layer and one output."""
    return study.network.depth == 1 and study.outputs == 1


def leaps(study: "EnsembleStudy", n_train: int) -> float:
    """Expected of a member; there are never more leaps than steps."""
    expected = LEAPS * math.sqrt(TOLERANCE / study.ensemble.leap_tolerance)
    return min(float(study.training.steps(n_train)), expected)


def member_flops(study: "EnsembleStudy", width: int, n_train: int) -> float:
    """One member: its leaps, and the test points once; and its twin, which is a leap with a product at these."""
    test = network.forward_flops(study, width, study.data.test)
    step = network.step_flops(study, width, n_train)
    twin = _basis_flops(study, width, n_train) + step + 2 * test if study.ensemble.twin else 0.0
    return leaps(study, n_train) * (_basis_flops(study, width, n_train) + TRIES * step) + test + twin


def _basis_flops(study: "EnsembleStudy", width: int, n_train: int) -> float:
    """Of the Lanczos basis at one point, its orthogonalisation included."""
    samples, vectors = n_train * study.outputs, _vectors(study, n_train)
    orthogonal = 4.0 * samples * vectors**2
    if is_explicit(study):
        return 4.0 * n_train**2 * width + vectors * 2.0 * n_train**2 + orthogonal
    return vectors * PRODUCT * network.step_flops(study, width, n_train) + orthogonal


def _vectors(study: "EnsembleStudy", n_train: int) -> int:
    return min(BASIS, n_train * study.outputs)


def member_seconds(study: "EnsembleStudy", width: int, n_train: int) -> float:
    products = (leaps(study, n_train) + study.ensemble.twin) * _vectors(study, n_train)
    operations = member_flops(study, width, n_train) / cost.FLOPS_PER_SECOND
    return training_cost.slowness(study.training.precision) * (operations + products * SECONDS_PER_PRODUCT)


def members_seconds(study: "EnsembleStudy", width: int, n_train: int, members: int) -> float:
    return cost.SECONDS_PER_SHARD + members * member_seconds(study, width, n_train)


def network_bytes(study: "EnsembleStudy") -> int:
    """One network of the largest width on the largest set: what training it takes, the basis and, where they are made,
    the kernel, its parts, and the products of the inputs."""
    n, itemsize = study.ensemble.n_train[-1], np.dtype(study.training.precision).itemsize
    matrices = 4 * n**2 if is_explicit(study) else 0
    basis = (_vectors(study, n) + 4) * n * study.outputs
    return training_cost.network_bytes(study, study.training.precision) + itemsize * (matrices + basis)

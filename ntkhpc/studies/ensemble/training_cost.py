"""What it takes to train the members of an ensemble: operations, seconds of one reference core, and memory."""

from typing import TYPE_CHECKING

from ntkhpc.studies import cost
from ntkhpc.studies.ensemble import network
from ntkhpc.studies.ensemble.network import forward_flops, stax_bytes

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

SECONDS_PER_STEP = 5e-6


def training_flops(study: "EnsembleStudy", width: int, n_train: int) -> float:
    """One member: forward and both backward products, less the input gradient of the first layer; then evaluations."""
    step = step_flops(study, width, n_train)
    traced = forward_flops(study, width, study.data.test) * study.ensemble.trace_points
    return study.training.steps(n_train) * step + traced


def step_flops(study: "EnsembleStudy", width: int, n_train: int) -> float:
    """Of one step, of all samples or of a batch."""
    return network.step_flops(study, width, study.training.batch or n_train)


SECONDS_PER_STATE = 0.5e-9
"""Of a step, for each number that an optimiser keeps beyond one a parameter: they pass through memory."""


def step_seconds(study: "EnsembleStudy", width: int) -> float:
    """Of one step, beside its operations."""
    return SECONDS_PER_STEP + SECONDS_PER_STATE * _states(study) * network.parameter_count(study, width)


def _states(study: "EnsembleStudy") -> int:
    """Numbers that are kept for each parameter beyond its gradient, its update and a velocity."""
    algorithm = study.training.algorithm
    start = bool(algorithm.weight_decay) and algorithm.decay_towards == "start"
    return max(algorithm.entry.states - 1, 0) + start


def members_seconds(study: "EnsembleStudy", width: int, n_train: int, members: int) -> float:
    return cost.SECONDS_PER_SHARD + members * member_seconds(study, width, n_train, study.training.precision)


def member_seconds(study: "EnsembleStudy", width: int, n_train: int, precision: str) -> float:
    """One member, trained in a precision."""
    steps = study.training.steps(n_train) * step_seconds(study, width)
    return slowness(precision) * (training_flops(study, width, n_train) / cost.FLOPS_PER_SECOND + steps)


def slowness(precision: str) -> float:
    """How much longer than in float32 a step takes."""
    return 2.0 if precision == "float64" else 1.0


def network_bytes(study: "EnsembleStudy", precision: str) -> int:
    """What training one network of the largest width on the largest set takes: activations and parameters."""
    itemsize = 8 if precision == "float64" else 4
    if study.network.architecture:
        moments = (1 + _states(study)) * itemsize * network.parameter_count(study, study.network.widths[-1])
        return stax_bytes(study, precision) + moments
    width, samples = study.network.widths[-1], max(study.ensemble.n_train[-1], study.data.test)
    activations = 4 * samples * width * study.network.depth * itemsize
    parameters = (4 + _states(study)) * itemsize * network.parameter_count(study, width)
    return activations + parameters + _dual_bytes(study, itemsize)


def _dual_bytes(study: "EnsembleStudy", itemsize: int) -> int:
    """What the dual form holds besides: Gram matrix, X W_0, coefficients, and what an optimiser keeps of them."""
    algorithm, width = study.training.algorithm, study.network.widths[-1]
    dual = [n for n in study.ensemble.n_train if algorithm.is_dual(study.features, n)]
    return max((itemsize * (n**2 + (2 + algorithm.entry.states) * n * width) for n in dual), default=0)

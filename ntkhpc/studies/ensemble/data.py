"""Phase `data` of an ensemble: the split, and learning rates from the infinite-width kernel, once for every shard."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc import optimisers
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import data, memory
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

DENSE = 4096
"""Training points up to which the largest eigenvalue is found of a whole kernel."""

PRODUCTS = 20
"""With a vector, that Lanczos' method takes for it: the first eigenvalue is far from the others."""

ARRAYS = (
    Array("lambda_max", ("draw", "n_train"), "f8", "1", "largest eigenvalue of the infinite-width NTK"),
    Array(
        "learning_rate",
        ("draw", "n_train"),
        "f8",
        "1",
        "step size eta of the cost per sample and output; its peak, and of adam over sqrt(width)",
    ),
)


def compute(work: "Work[EnsembleStudy]") -> Values:
    values = data.compute(work)
    lambda_max, learning_rate = learning_rates(work.study, values["x_train"], values["permutation"])
    return {**values, "lambda_max": lambda_max, "learning_rate": learning_rate}


def learning_rates(
    study: "EnsembleStudy", x_train: np.ndarray, permutation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """lambda_max of the infinite-width NTK and the peak rate eta, each (draws, n_train).

    eta is the study's fraction of the stability bound of its algorithm, 2 (1 + momentum) c/lambda_max with
    c = n_train * outputs for heavy-ball descent, or its own rate for an algorithm without one. Kernels of several
    outputs are the same for each, so lambda_max is that of one output.
    """
    from ntkhpc import kernels
    from ntkhpc.kernel_products import ComputedKernels

    sizes = study.ensemble.n_train
    dense, tiled = [n for n in sizes if n <= DENSE], [n for n in sizes if n > DENSE]
    lambda_max = np.empty((study.ensemble.draws, len(sizes)))
    rates = np.empty_like(lambda_max)
    for draw, order in enumerate(permutation[: study.ensemble.draws]):
        # Sizes are nested, so every smaller kernel is a leading block of the largest.
        kernel = kernels.nngp_ntk(mlp(study), x_train[order[: dense[-1]]])[1] if dense else np.empty((0, 0))
        found = [kernels.lambda_max(kernel[:n, :n]) for n in dense]
        lambda_max[draw] = found + [_of_tiles(study, x_train[order[:n]]) for n in tiled]
        diagonal = (
            np.diag(kernel) if not tiled else ComputedKernels(mlp(study), x_train[order[: sizes[-1]]]).diagonal("ntk")
        )
        rates[draw] = [_rate(study, *one, diagonal) for one in zip(lambda_max[draw], sizes, strict=True)]
    return lambda_max, rates


def _rate(study: "EnsembleStudy", largest: float, n: int, diagonal: np.ndarray) -> float:
    training, algorithm = study.training, study.training.algorithm
    if algorithm.entry.bound is None:
        return training.learning_rate
    bound = optimisers.stability_bound(algorithm, largest, n, study.outputs, diagonal[:n])
    return training.learning_rate_fraction * float(bound) * study.network.rate_factor


def _of_tiles(study: "EnsembleStudy", x: np.ndarray) -> float:
    """The largest eigenvalue of the NTK of x (n, d), which is multiplied tile by tile."""
    from scipy.sparse.linalg import LinearOperator

    from ntkhpc import kernels
    from ntkhpc.kernel_products import ComputedKernels

    ntk = ComputedKernels(mlp(study), x)

    def product(vector: np.ndarray) -> np.ndarray:
        return ntk.products({"ntk": vector.reshape(-1, 1)})["ntk"][:, 0]

    return kernels.lambda_max(LinearOperator((len(x), len(x)), matvec=product, dtype=np.float64))


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """Kernels, for the learning rates, come on top: of sizes beyond DENSE once for each product."""
    sizes = sum(size**2 * (1 if size <= DENSE else PRODUCTS) for size in study.ensemble.n_train)
    if study.network.architecture:  # half of the pairs
        return (
            data.seconds(study, block) + start_seconds(study) + kernel_seconds(study, study.ensemble.draws * sizes / 2)
        )
    pairs = study.ensemble.draws * sizes * (study.features + 60 * study.network.depth)
    return data.seconds(study, block) + pairs / 1e9


def memory_bytes(study: "EnsembleStudy") -> int:
    """The rows as they are loaded, then, beside them, both kernels up to DENSE."""
    kernels = memory.of_numbers(2 * max((n for n in study.ensemble.n_train if n <= DENSE), default=0) ** 2)
    taken = memory.rows(study) + kernels + kernel_bytes(study)
    return memory.LEARNING_RATES + max(data.loading_bytes(study), taken)


PHASE = replace(
    data.PHASE,
    writes=(*data.PHASE.writes, *ARRAYS),
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    lower="ensemble.n_train, data.pool or data.test",
)

"""Phase `law`: what infinitely wide networks do in one (n_train, draw) of the ensemble, after its own steps.

In the mu-parametrisation the networks of each width have a gamma, and there is a law for each: moments with a
covariance over gamma^2 would follow from parts of those of another gamma, but quantiles do not, so all are computed.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.dims import PROBABILITIES
from ntkhpc.studies.ensemble import exact
from ntkhpc.studies.ensemble.network import kernel_bytes, kernel_seconds, mlp, start_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ntkhpc.infinite_width import Law
    from ntkhpc.output_scale import OutputScale
    from ntkhpc.studies.ensemble.study import EnsembleStudy

CELLS = ("draw", "n_train")

ARRAYS = (
    Array("law_mean", (*CELLS, "test_point", "output"), "f8", "1",
          "infinite width, same steps: mean of f over initialisations"),
    Array("law_variance", (*CELLS, "test_point"), "f8", "1",
          "infinite width, same steps: variance of f, every output"),
    Array("law_cumulant", (*CELLS, "cumulant"), "f8", "1",
          "infinite width, same steps: cumulants 1 to 4 of L, in this order"),
    Array("law_population_variance", CELLS, "f8", "1",
          "infinite width, same steps: sigma_pop^2, the part of Var L that an endless test set would leave"),
    Array("law_size_variance", (*CELLS, "test_size"), "f8", "1",
          "infinite width, same steps: Var L on a block of test_size points, mean over disjoint blocks"),
    Array("law_quantile", (*CELLS, "quantile"), "f8", "1",
          "infinite width, same steps: exact quantiles of L"),
    Array("law_point_mean", (*CELLS, "test_point"), "f8", "1",
          "infinite width, same steps: mean of each test point's loss l_a, of which L is the mean"),
    Array("law_point_covariance", (*CELLS, "test_point"), "f8", "1",
          "infinite width, same steps: Cov(l_a, L) of each test point, of which Var L is the mean"),
)  # fmt: skip

LAZY_ARRAYS = tuple(
    array if array.name == "law_mean"
    else replace(
        array, dims=("width", *array.dims),
        meaning=array.meaning.replace("same steps", "same steps, gamma = gamma0 sqrt(width)"),
    )
    for array in ARRAYS
)  # fmt: skip
"""Where each width has a law of its own, that of its own gamma; the mean is the same for all of them."""


def compute(work: "Work[EnsembleStudy]") -> Values:
    study = work.study
    if is_lazy(study):
        found = _laws(work, [study.network.output_scale(width) for width in study.network.widths])
        values = {name: np.stack([one[name] for one in found]) for name in found[0]}
        values["law_mean"] = found[0]["law_mean"]
        return {name: value[(None, None) if name == "law_mean" else (slice(None), None, None)]
                for name, value in values.items()}  # fmt: skip
    (one,) = _laws(work, [study.network.output_scale(1)])
    return {name: value[None, None] for name, value in one.items()}


def _laws(work: "Work[EnsembleStudy]", scales: "Sequence[OutputScale]") -> list[dict[str, np.ndarray]]:
    """Each array's values of one cell, for each of the scales of the outputs."""
    from ntkhpc import infinite_width

    study, inputs = work.study, work.inputs
    draw, at, n = work.block.index("draw"), work.block.index("n_train"), work.block.value("n_train")
    chosen = inputs["permutation"][draw, :n]
    rate, steps = float(inputs["learning_rate"][draw, at]), study.training.steps(n)
    blocks = infinite_width.panels(mlp(study), inputs["x_train"][chosen], inputs["x_test"])
    laws = exact.laws(study, blocks, inputs["y_train"][chosen], steps, rate)
    y_test = inputs["y_test"]
    if len(exact.orders(study)) > 1:
        return _mixed(study, laws, y_test, scales)
    (law,) = laws
    return [_values(study, scale.law(*law), y_test) for scale in scales]


def _values(study: "EnsembleStudy", law: "Law", y_test: np.ndarray) -> dict[str, np.ndarray]:
    from ntkhpc import loss_law

    mean, covariance = law
    statistics = loss_law.statistics(mean, covariance, y_test, study.test_sizes)
    values = {
        "law_mean": mean,
        "law_variance": np.diag(covariance),
        "law_cumulant": loss_law.loss_moments(mean, covariance, y_test),
        "law_population_variance": np.array(statistics.population_variance),
        "law_size_variance": np.array(statistics.size_variance),
        "law_quantile": loss_law.quantiles(mean, covariance, y_test, np.array(PROBABILITIES)),
        "law_point_mean": statistics.point_mean,
        "law_point_covariance": statistics.point_covariance,
    }
    return {name: np.array(value) for name, value in values.items()}


def _mixed(
    study: "EnsembleStudy", laws: "Iterator[Law]", y_test: np.ndarray, scales: "Sequence[OutputScale]"
) -> list[dict[str, np.ndarray]]:
    """The values of a mixture of laws, for each of the scales."""
    from ntkhpc import mixtures

    of_each = [[mixtures.MixedLaw.of(*scale.law(*law), y_test, study.test_sizes, distribution=True)
                for scale in scales] for law in laws]  # fmt: skip
    found = []
    for parts in zip(*of_each, strict=True):
        statistics = mixtures.statistics(parts, y_test, study.test_sizes)
        values = {
            "law_mean": mixtures.mean(parts),
            "law_variance": mixtures.variance(parts),
            "law_cumulant": mixtures.cumulants(parts),
            "law_population_variance": np.array(statistics.population_variance),
            "law_size_variance": np.array(statistics.size_variance),
            "law_quantile": mixtures.quantiles(parts, np.array(PROBABILITIES)),
            "law_point_mean": statistics.point_mean,
            "law_point_covariance": statistics.point_covariance,
        }
        found.append({name: np.array(value) for name, value in values.items()})
    return found


def is_lazy(study: "EnsembleStudy") -> bool:
    """Whether each width has a law of its own."""
    return study.network.parametrisation == "mup"


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """One cell: kernels, one eigendecomposition of T and one of the covariance, which also gives the distribution."""
    n_train, test = block.value("n_train"), study.data.test
    pairs = n_train**2 / 2 + n_train * test + test**2 / 2
    each = 2 * n_train * test**2 + (len(study.network.widths) if is_lazy(study) else 1) * 34 * test**3
    flops = 30 * n_train**3 + 6 * n_train**2 * test + len(exact.orders(study)) * each
    batched = exact.batched_seconds(study, n_train, study.training.steps(n_train))
    kernels = kernel_seconds(study, pairs)
    return start_seconds(study) + kernels + flops / cost.FLOPS_FLOAT64 + batched


def memory_bytes(study: "EnsembleStudy") -> int:
    n, test = study.ensemble.n_train[-1], study.data.test
    quantiles = memory.quantiles(n, test) + (test**2 if study.network.is_scaled else 0)  # the law of g, and that of f
    moments = (memory.eigenvectors(n, test), memory.covariance(n, test), quantiles)
    return memory.KERNELS + kernel_bytes(study) + memory.rows(study) + memory.of_numbers(max(moments))


PHASE = Phase(
    "law",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "learning_rate"),
    writes=ARRAYS,
    blocks=CELLS,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    when=lambda study: not is_lazy(study),
    fewer="lower ensemble.draws",
    lower="ensemble.n_train or data.test",
)

LAZY_PHASE = replace(PHASE, writes=LAZY_ARRAYS, when=is_lazy)

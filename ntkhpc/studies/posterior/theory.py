"""Phase `theory`: what theory predicts of the posterior for one training set, at every width, infinity included.

Here are its section of a study file ([scan]), its arrays, its cost and its computation.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.errors import DataError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.settings import PositiveFloat, Settings, require_increasing
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory, pool_rows
from ntkhpc.studies.dims import PROBABILITIES
from ntkhpc.words import joined, numbers

if TYPE_CHECKING:
    from ntkhpc.bayesian import OneLayerPosterior, OneLayerProblem
    from ntkhpc.studies.posterior.study import PosteriorStudy


class Scan(Settings, frozen=True, kw_only=True):
    """Other temperatures, and factors on the read-out's precision, at which theory alone is computed."""

    temperatures: tuple[PositiveFloat, ...] = ()
    readout_factors: tuple[PositiveFloat, ...] = ()

    def __post_init__(self) -> None:
        for name in ("temperatures", "readout_factors"):
            require_increasing(name, getattr(self, name))

    def description(self) -> str:
        """What else theory is computed for, in a sentence of a methods section; empty if nothing."""
        others = {
            "T": self.temperatures,
            "lam_1 over its own value": self.readout_factors,
        }
        said = [f"{name} = {numbers(values)}" for name, values in others.items() if values]
        return f"Theory alone is computed for {joined(said)} too." if said else ""


DESCRIPTION = (
    "At finite width theory is the saddle point of the effective action of the order parameter Qb, a Gaussian process "
    "whose kernel is Qb times that of infinite width, and the mixture of such processes over Qb (arXiv:2209.04882). "
    "Infinitely wide networks that start from the prior and follow gradient descent to its end are Gaussian too "
    "(arXiv:1902.06720)."
)
"""The theory in sentences of a methods section."""


_SIZE = ("draw", "n_train")
_THEORY = (*_SIZE, "theory_width")

ARRAYS = (
    Array("theory_bias", _THEORY, "f8", "1", "saddle point: mean over test points of (mean f - y)^2"),
    Array("theory_variance", _THEORY, "f8", "1", "saddle point: mean over test points of the variance of f"),
    Array("theory_q_bar", _THEORY, "f8", "1", "order parameter Qb, which multiplies the kernel"),
    Array("theory_log_evidence", _THEORY, "f8", "1", "log p(y_train), leading order"),
    Array("theory_s", _SIZE, "f8", "1", "s of the sign rule: below 1 finite width makes Qb less than 1"),
    Array("theory_mean", (*_THEORY, "test_point"), "f8", "1", "saddle point: posterior mean of f"),
    Array("theory_point_variance", (*_THEORY, "test_point"), "f8", "1", "saddle point: variance of f"),
    Array("theory_sigma2", _THEORY, "f8", "1", "saddle point: variance of L, as f is Gaussian there"),
    Array("theory_population_variance", _THEORY, "f8", "1",
          "saddle point: the part of Var L that an endless test set would leave"),
    Array("theory_size_variance", (*_THEORY, "test_size"), "f8", "1",
          "saddle point: Var L on a block of test_size points, mean over disjoint blocks"),
    Array("theory_quantile", (*_THEORY, "quantile"), "f8", "1", "saddle point: quantiles of L"),
    Array("mixture_bias", _THEORY, "f8", "1", "Qb integrated over: mean over test points of (mean f - y)^2"),
    Array("mixture_variance", _THEORY, "f8", "1", "Qb integrated over: mean over test points of var f"),
    Array("ntk_bias", _SIZE, "f8", "1",
          "infinite width, NTK parametrisation, trained to the end by gradient descent: mean of (mean f - y)^2"),
    Array("ntk_variance", _SIZE, "f8", "1",
          "infinite width, gradient descent to its end: mean over test points of var f over initialisations"),
    Array("ntk_sigma2", _SIZE, "f8", "1",
          "infinite width, gradient descent to its end: variance of L over initialisations"),
    Array("ntk_population_variance", _SIZE, "f8", "1",
          "infinite width, gradient descent to its end: the part of Var L that an endless test set would leave"),
    Array("temperature_bias", (*_SIZE, "temperature", "theory_width"), "f8", "1",
          "theory_bias at other temperatures"),
    Array("temperature_variance", (*_SIZE, "temperature", "theory_width"), "f8", "1",
          "theory_variance at other temperatures"),
    Array("temperature_q_bar", (*_SIZE, "temperature", "theory_width"), "f8", "1",
          "theory_q_bar at other temperatures"),
    Array("readout_bias", (*_SIZE, "readout_factor", "theory_width"), "f8", "1",
          "theory_bias at other precisions of the read-out"),
    Array("readout_variance", (*_SIZE, "readout_factor", "theory_width"), "f8", "1",
          "theory_variance at other precisions of the read-out"),
    Array("readout_q_bar", (*_SIZE, "readout_factor", "theory_width"), "f8", "1",
          "theory_q_bar at other precisions of the read-out"),
)  # fmt: skip


def compute(work: "Work[PosteriorStudy]") -> Values:
    from ntkhpc.bayesian import OneLayerProblem

    study, inputs = work.study, work.inputs
    chosen = inputs["permutation"][work.block.index("draw"), : work.block.value("n_train")]
    x_train, y_train = inputs["x_train"][chosen], inputs["y_train"][chosen]
    x_test, y_test = inputs["x_test"], inputs["y_test"]
    problem = OneLayerProblem.make(
        x_train, y_train, x_test, y_test, activation=study.network.activation, precisions=study.posterior.precisions
    )
    values = {
        **_widths(study, problem, x_test),
        **_mixtures(study, problem),
        **_gradient_descent(work, chosen),
        **_scans(study, problem),
    }
    return {name: np.asarray(value)[None, None] for name, value in values.items()}


def _widths(study: "PosteriorStudy", problem: "OneLayerProblem", x_test: np.ndarray) -> dict[str, np.ndarray]:
    """The saddle point and the distribution of L at every width."""
    from ntkhpc.bayesian import loss_distribution, posterior_covariance
    from ntkhpc.bayesian.prior import output_layer

    posterior, temperature = study.posterior, study.posterior.temperature
    test_kernel = output_layer(x_test, x_test[:1], study.network.activation, posterior.precisions).train
    found = [problem.solve(width, temperature) for width in study.theory_widths]
    laws = [
        loss_distribution(
            one.mean,
            posterior_covariance(problem, test_kernel, one.q_bar, temperature),
            problem.y_test,
            study.test_sizes,
            np.array(PROBABILITIES),
        )
        for one in found
    ]
    return {
        **_errors("theory", found),
        "theory_log_evidence": np.array([one.log_evidence for one in found]),
        "theory_s": np.array(found[0].s),
        "theory_mean": np.array([one.mean for one in found]),
        "theory_point_variance": np.array([one.point_variance for one in found]),
        "theory_sigma2": np.array([law.sigma2_L for law in laws]),
        "theory_population_variance": np.array([law.population_variance for law in laws]),
        "theory_size_variance": np.array([law.size_variance for law in laws]),
        "theory_quantile": np.array([law.quantiles for law in laws]),
    }


def _errors(name: str, found: "list[OneLayerPosterior]") -> dict[str, np.ndarray]:
    return {
        f"{name}_bias": np.array([one.bias for one in found]),
        f"{name}_variance": np.array([one.variance for one in found]),
        f"{name}_q_bar": np.array([one.q_bar for one in found]),
    }


def _mixtures(study: "PosteriorStudy", problem: "OneLayerProblem") -> dict[str, np.ndarray]:
    found = [problem.mixture(width, study.posterior.temperature) for width in study.theory_widths]
    return {
        "mixture_bias": np.array([one.bias for one in found]),
        "mixture_variance": np.array([one.variance for one in found]),
    }


def _gradient_descent(work: "Work[PosteriorStudy]", chosen: np.ndarray) -> dict[str, np.ndarray]:
    """The ensemble of infinitely wide networks with this prior as initialisation, trained to the end.

    In NTK parametrisation, where weights are standard normal and their scales stand outside: the read-out's precision
    scales both kernels, so the mean ignores it and the covariance is divided by it. NaN where two training inputs are
    equal: the posterior exists at T > 0, the end of training does not.
    """
    from ntkhpc import infinite_width
    from ntkhpc.bayesian import loss_distribution
    from ntkhpc.networks import MLP

    study, inputs = work.study, work.inputs
    hidden, readout = study.posterior.precisions
    network = MLP(1, study.network.activation, weight_variance=1 / hidden)
    samples = inputs["x_train"][chosen], inputs["y_train"][chosen], inputs["x_test"]
    try:
        with pool_rows.named(study, work.block.value("draw"), chosen):
            mean, covariance = infinite_width.trained_law(network, *samples, time=math.inf)
    except DataError as error:
        print(f"no networks trained to the end: {error}", flush=True)
        return dict.fromkeys(("ntk_bias", "ntk_variance", "ntk_sigma2", "ntk_population_variance"), np.array(math.nan))
    law = loss_distribution(mean[:, 0], covariance * (hidden / readout), inputs["y_test"])
    return {
        "ntk_bias": np.array(law.bias),
        "ntk_variance": np.array(law.variance),
        "ntk_sigma2": np.array(law.sigma2_L),
        "ntk_population_variance": np.array(law.population_variance),
    }


def _scans(study: "PosteriorStudy", problem: "OneLayerProblem") -> dict[str, np.ndarray]:
    """Errors and order parameters at other temperatures, and at other precisions of the read-out."""
    scan, temperature = study.scan, study.posterior.temperature
    points = {
        "temperature": [(problem, other) for other in scan.temperatures],
        "readout": [(problem.with_readout_precision(factor), temperature) for factor in scan.readout_factors],
    }
    values: dict[str, np.ndarray] = {}
    for name, settings in points.items():
        rows = [_errors(name, [one.solve(width, t) for width in study.theory_widths]) for one, t in settings]
        values |= {array: np.array([row[array] for row in rows]) for array in (rows[0] if rows else ())}
    return values


def seconds(study: "PosteriorStudy", block: Block) -> float:
    """One training set: its kernels twice, for posterior and gradient descent; two eigendecompositions of them, and the
    law of the loss at every width."""
    n_train, test, widths = block.value("n_train"), study.data.test, len(study.theory_widths)
    pairs = n_train**2 / 2 + n_train * test + test**2 / 2
    scanned = len(study.scan.temperatures) + len(study.scan.readout_factors)
    flops = 60 * n_train**3 + (1 + widths) * (34 * test**3 + 2 * n_train * test**2)
    flops += (1 + scanned) * widths * 4 * n_train * test
    kernels = 2 * cost.kernel_seconds(pairs, study.features, depth=1)
    return cost.SECONDS_PER_SHARD + kernels + flops / cost.FLOPS_FLOAT64


def memory_bytes(study: "PosteriorStudy") -> int:
    n, test = study.posterior.n_train[-1], study.data.test
    moments = (
        # The end of gradient descent: the posterior's kernel, both kernels of training and a factor; eight panels.
        4 * n**2 + 8 * n * test + 3 * test**2,
        # The distribution of L: a covariance and what it is made of, its eigenvectors and their workspace.
        n**2 + 2 * n * test + 6 * test**2,
    )
    return memory.SADDLE_POINTS + memory.rows(study) + memory.of_numbers(max(moments))


PHASE = Phase(
    "theory",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation"),
    writes=ARRAYS,
    blocks=_SIZE,
    seconds=seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    fewer="lower posterior.draws",
    lower="posterior.n_train or data.test",
)

"""Phase `theory`: what theory predicts of the posterior for one training set, at every width, infinity included."""

import math

import numpy as np

from ntkhpc import infinite_width
from ntkhpc.bayesian import OneLayerPosterior, OneLayerProblem, loss_distribution, posterior_covariance
from ntkhpc.bayesian.prior import output_layer
from ntkhpc.engine import store
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DataError
from ntkhpc.networks import MLP
from ntkhpc.studies import schema
from ntkhpc.studies.posterior.study import BayesStudy

_INPUTS = ("x_train", "y_train", "x_test", "y_test", "permutation")


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    study, inputs = run.study.of_kind(BayesStudy), store.load(run.store, *_INPUTS)
    draw, i = (shard.region[dim][0] for dim in ("draw", "n_train"))
    chosen = inputs["permutation"][draw, : study.posterior.n_train[i]]
    x_train, y_train, x_test, y_test = inputs["x_train"][chosen], inputs["y_train"][chosen], *_test(inputs)
    problem = OneLayerProblem.make(
        x_train, y_train, x_test, y_test, activation=study.network.activation, precisions=study.posterior.precisions
    )
    values = {
        **_widths(study, problem, x_test),
        **_mixtures(study, problem),
        **_gradient_descent(study, x_train, y_train, x_test, y_test),
        **_scans(study, problem),
    }
    return {name: np.asarray(value)[None, None] for name, value in values.items()}, 0


def _test(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return inputs["x_test"], inputs["y_test"]


def _widths(study: BayesStudy, problem: OneLayerProblem, x_test: np.ndarray) -> dict[str, np.ndarray]:
    """The saddle point and the distribution of L at every width."""
    posterior, temperature = study.posterior, study.posterior.temperature
    test_kernel = output_layer(x_test, x_test[:1], study.network.activation, posterior.precisions).train
    found = [problem.solve(width, temperature) for width in study.theory_widths]
    laws = [
        loss_distribution(
            one.mean,
            posterior_covariance(problem, test_kernel, one.q_bar, temperature),
            problem.y_test,
            study.test_sizes,
            np.array(schema.PROBABILITIES),
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


def _errors(name: str, found: list[OneLayerPosterior]) -> dict[str, np.ndarray]:
    return {
        f"{name}_bias": np.array([one.bias for one in found]),
        f"{name}_variance": np.array([one.variance for one in found]),
        f"{name}_q_bar": np.array([one.q_bar for one in found]),
    }


def _mixtures(study: BayesStudy, problem: OneLayerProblem) -> dict[str, np.ndarray]:
    found = [problem.mixture(width, study.posterior.temperature) for width in study.theory_widths]
    return {
        "mixture_bias": np.array([one.bias for one in found]),
        "mixture_variance": np.array([one.variance for one in found]),
    }


def _gradient_descent(
    study: BayesStudy, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> dict[str, np.ndarray]:
    """The ensemble of infinitely wide networks with this prior as initialisation, trained to the end.

    In NTK parametrisation, where weights are standard normal and their scales stand outside: the read-out's precision
    scales both kernels, so the mean ignores it and the covariance is divided by it. NaN where two training inputs are
    equal: the posterior exists at T > 0, the end of training does not.
    """
    hidden, readout = study.posterior.precisions
    network = MLP(1, study.network.activation, weight_variance=1 / hidden)
    try:
        mean, covariance = infinite_width.trained_law(network, x_train, y_train, x_test, time=math.inf)
    except DataError as error:
        print(f"no networks trained to the end: {error}", flush=True)
        return dict.fromkeys(("ntk_bias", "ntk_variance", "ntk_sigma2", "ntk_population_variance"), np.array(math.nan))
    law = loss_distribution(mean[:, 0], covariance * (hidden / readout), y_test)
    return {
        "ntk_bias": np.array(law.bias),
        "ntk_variance": np.array(law.variance),
        "ntk_sigma2": np.array(law.sigma2_L),
        "ntk_population_variance": np.array(law.population_variance),
    }


def _scans(study: BayesStudy, problem: OneLayerProblem) -> dict[str, np.ndarray]:
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

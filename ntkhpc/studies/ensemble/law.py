"""Phase `law`: what infinitely wide networks do in one (n_train, draw) of the ensemble, after its own steps."""

import numpy as np

from ntkhpc import infinite_width, loss_law
from ntkhpc.engine import store
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.infinite_width import Training
from ntkhpc.studies import schema
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import Study

_INPUTS = ("x_train", "y_train", "x_test", "y_test", "permutation", "learning_rate")


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    study, inputs = run.study.of_kind(Study), store.load(run.store, *_INPUTS)
    draw, i = (shard.region[dim][0] for dim in ("draw", "n_train"))
    n = study.ensemble.n_train[i]
    chosen = inputs["permutation"][draw, :n]
    training = Training(
        time=study.training.steps(n),
        learning_rate=float(inputs["learning_rate"][draw, i]),
        momentum=study.training.momentum,
    )
    blocks = infinite_width.panels(mlp(study), inputs["x_train"][chosen], inputs["x_test"])
    ((mean, covariance),) = infinite_width.finite_time_laws(blocks, inputs["y_train"][chosen], [training])
    y_test = inputs["y_test"]
    statistics = loss_law.statistics(mean, covariance, y_test, study.test_sizes)
    values = {
        "law_mean": mean,
        "law_variance": np.diag(covariance),
        "law_cumulant": loss_law.loss_moments(mean, covariance, y_test),
        "law_population_variance": np.array(statistics.population_variance),
        "law_size_variance": np.array(statistics.size_variance),
        "law_quantile": loss_law.quantiles(mean, covariance, y_test, np.array(schema.PROBABILITIES)),
    }
    return {name: np.array(value)[None, None] for name, value in values.items()}, 0

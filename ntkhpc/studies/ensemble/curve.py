"""Phase `curve`: the learning curve of infinitely wide networks for one draw of the training set."""

import math

import numpy as np

from ntkhpc import infinite_width, loss_law
from ntkhpc.engine import store
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.infinite_width import Law, Panels, Training
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import Study

_INPUTS = ("x_train", "y_train", "x_test", "y_test", "permutation")


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    study, inputs = run.study.of_kind(Study), store.load(run.store, *_INPUTS)
    chosen = inputs["permutation"][shard.region["curve_draw"][0], : study.curve_sizes[-1]]
    blocks = infinite_width.panels(mlp(study), inputs["x_train"][chosen], inputs["x_test"])
    statistics = curve(study, blocks, inputs["y_train"][chosen], inputs["y_test"])
    columns = {
        "curve_mu": "mu_L",
        "curve_sigma2": "sigma2_L",
        "curve_population_variance": "population_variance",
        "curve_bias2": "bias2",
        "curve_variance": "variance",
        "curve_size_variance": "size_variance",
        "curve_largest_share": "largest_share",
    }
    return {
        array: np.array([[[getattr(one, column) for one in row] for row in statistics]])
        for array, column in columns.items()
    }, 0


def curve(study: Study, blocks: Panels, y_train: np.ndarray, y_test: np.ndarray) -> list[list[loss_law.Statistics]]:
    """Statistics of the loss for every time and every size: one factorisation for the end of training of all sizes, one
    eigendecomposition a size for the finite times."""
    sizes, times = study.curve_sizes, study.infinite_width.times

    def describe(law: Law) -> loss_law.Statistics:
        return loss_law.statistics(*law, y_test, study.test_sizes)

    rows: dict[str, list[loss_law.Statistics]] = {time: [] for time in times}
    if "infinite" in times:
        rows["infinite"] = [describe(law) for law in infinite_width.nested_laws(blocks, y_train, sizes)]
    finite = [time for time in times if time != "infinite"]
    for n in sizes if finite else ():
        trainings = [_training(study, study.curve_steps(time, n)) for time in finite]
        laws = infinite_width.finite_time_laws(blocks.leading(n), y_train[:n], trainings)
        for time, law in zip(finite, laws, strict=True):
            rows[time].append(describe(law))
    return [rows[time] for time in times]


def _training(study: Study, steps: int | None) -> Training:
    training = study.training
    return Training(
        time=math.inf if steps is None else steps,
        learning_rate_fraction=training.learning_rate_fraction,
        momentum=training.momentum,
    )

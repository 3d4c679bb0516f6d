"""Phase `data`: the split, the draws of the training set, and the learning rates, once for every shard to read."""

import numpy as np

from ntkhpc import kernels, seeds
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DataError
from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import Study


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    study = run.study
    split = study.data.load(study.known)
    if (columns := (split.x_train.shape[1], split.y_train.shape[1])) != (study.features, study.outputs):
        raise DataError(
            f"the data have {columns[0]} features and {columns[1]} outputs, "
            f"the plan was made for {study.features} and {study.outputs}"
        )
    values = {**vars(split), "permutation": permutations(study)}
    if isinstance(study, Study):
        lambda_max, learning_rate = learning_rates(study, split.x_train, values["permutation"])
        values |= {"lambda_max": lambda_max, "learning_rate": learning_rate}
    return values, 0


def permutations(study: AnyStudy) -> np.ndarray:
    """(order, pool): draw d is one seeded permutation, and n_train its first n entries, so that sizes are nested.

    Where the rows are taken in file order, the first draw is the pool as it is.
    """
    streams = [seeds.generator(study.data.seed, seeds.PERMUTATION, draw) for draw in range(study.orders)]
    orders = np.array([stream.permutation(study.data.pool) for stream in streams], np.int64)
    if study.data.keeps_file_order:
        orders[0] = np.arange(study.data.pool)
    return orders


def learning_rates(study: Study, x_train: np.ndarray, permutation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """lambda_max of the infinite-width NTK and eta = fraction (1 + momentum) 2 c / lambda_max, each (draws, n_train).

    c = n_train * outputs; 2 (1 + momentum) c / lambda_max is the stability bound of heavy-ball descent. Kernels of
    several outputs are the same for each, so lambda_max is that of one output.
    """
    training, sizes = study.training, study.ensemble.n_train
    lambda_max = np.empty((study.ensemble.draws, len(sizes)))
    for draw, order in enumerate(permutation[: study.ensemble.draws]):
        # Sizes are nested, so every smaller kernel is a leading block of the largest.
        kernel = kernels.nngp_ntk(mlp(study), x_train[order[: sizes[-1]]])[1]
        lambda_max[draw] = [kernels.lambda_max(kernel[:n, :n]) for n in sizes]
    bound = 2 * (1 + training.momentum) * np.array(sizes) * study.outputs / lambda_max
    return lambda_max, training.learning_rate_fraction * bound

"""One cell of the sampled posteriors, as `chains` and `adaptive` read it from the store."""

from dataclasses import dataclass

from ntkhpc import seeds
from ntkhpc.bayesian.inputs import Data
from ntkhpc.bayesian.target import Problem
from ntkhpc.engine import store
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.studies.posterior.study import BayesStudy

_INPUTS = ("x_train", "y_train", "x_test", "y_test", "permutation")


@dataclass(frozen=True)
class Cell:
    """Data and problem of one width, training-set size and draw, and the seed of what is random there."""

    study: BayesStudy
    width: int
    data: Data
    problem: Problem
    seed: int

    @classmethod
    def of(cls, run: Run, shard: Shard) -> "Cell":
        """That of a shard whose region is in one cell."""
        study, inputs = run.study.of_kind(BayesStudy), store.load(run.store, *_INPUTS)
        i, j, draw = (shard.region[dim][0] for dim in ("sampled_width", "sampled_n_train", "draw"))
        width, n_train, posterior = study.sampled_widths[i], study.sampled_sizes[j], study.posterior
        chosen = inputs["permutation"][draw, :n_train]
        data = Data.make(inputs["x_train"][chosen], inputs["y_train"][chosen], inputs["x_test"], inputs["y_test"])
        problem = Problem.make(data, (width,), posterior.temperature, posterior.precisions)
        return cls(study, width, data, problem, seeds.cell_seed(study.seed, width, n_train, draw))

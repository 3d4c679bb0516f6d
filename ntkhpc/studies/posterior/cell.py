"""One cell of the sampled posteriors, as `chains` and `adaptive` are given it, and what its samplers cost."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntkhpc import seeds
from ntkhpc.phase.work import Work

if TYPE_CHECKING:
    from ntkhpc.bayesian.inputs import Data
    from ntkhpc.bayesian.target import Problem
    from ntkhpc.studies.posterior.study import PosteriorStudy

CELL = ("sampled_width", "sampled_n_train", "draw")

INPUTS = ("x_train", "y_train", "x_test", "y_test", "permutation")

FLOPS_PER_SECOND = 15e9
"""Operations a second of the reference core on a sampler's small matrices, in float64."""


@dataclass(frozen=True)
class Cell:
    """Data and problem of one width, training-set size and draw, and the seed of what is random there."""

    study: "PosteriorStudy"
    width: int
    data: "Data"
    problem: "Problem"
    seed: int

    @classmethod
    def of(cls, work: "Work[PosteriorStudy]") -> "Cell":
        """The cell of a shard, whose block is in one cell."""
        from ntkhpc.bayesian.inputs import Data
        from ntkhpc.bayesian.target import Problem

        study, inputs, block = work.study, work.inputs, work.block
        width, n_train, draw = (block.value(dim) for dim in CELL)
        posterior = study.posterior
        chosen = inputs["permutation"][draw, :n_train]
        data = Data.make(inputs["x_train"][chosen], inputs["y_train"][chosen], inputs["x_test"], inputs["y_test"])
        problem = Problem.make(data, (width,), posterior.temperature, posterior.precisions)
        return cls(study, width, data, problem, seeds.cell_seed(study.seed, width, n_train, draw))


def across_bytes(test: int, features: int) -> int:
    """Size of the test inputs across the span of the training inputs, their singular vectors and their root."""
    return 8 * test * (3 * features + 2 * min(test, features))

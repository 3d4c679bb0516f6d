"""Phase `adaptive`: the theory of a kernel that changes its shape, for one width and training set.

Tile i is the i-th population of neurons. Here are its section of a study file ([adaptive]), its arrays, its cost and
its computation.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta

from ntkhpc.errors import DivergedError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.settings import Settings
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.posterior.cell import CELL, FLOPS_PER_SECOND, INPUTS, Cell, across_bytes

if TYPE_CHECKING:
    from ntkhpc.studies.posterior.study import PosteriorStudy


class AdaptiveKernel(Settings, frozen=True, kw_only=True):
    """Populations of neurons of the theory in `ntkhpc.bayesian.adaptive`, wherever there are chains; 0: without it."""

    populations: Annotated[int, Meta(ge=0)] = 4
    neurons: Annotated[int, Meta(ge=2)] = 2000
    updates: Annotated[int, Meta(ge=20)] = 300

    def __post_init__(self) -> None:
        if self.populations == 1:
            raise ValueError("populations = 1 cannot show its error: give at least 2, or 0 to go without this theory")

    def description(self) -> str:
        """The theory in a sentence of a methods section; empty where a study goes without it."""
        if not self.populations:
            return ""
        return (
            "A second theory lets the kernel change its shape: each neuron's weights have the distribution that the "
            f"mean field of the others gives them, by Monte Carlo over {self.populations} populations of "
            f"{self.neurons:,} neurons, with {self.updates:,} updates of the field, the second half of which is "
            "averaged over."
        )


_POPULATION = (*CELL, "population")

ARRAYS = (
    Array("adaptive_mean", (*_POPULATION, "test_point"), "f8", "1",
          "theory of a kernel that changes its shape: posterior mean of f"),
    Array("adaptive_point_variance", (*_POPULATION, "test_point"), "f8", "1",
          "theory of a kernel that changes its shape: variance of f"),
    Array("adaptive_loss", _POPULATION, "f8", "1",
          "theory of a kernel that changes its shape: mean over test points of (f-y)^2"),
    Array("adaptive_drift", _POPULATION, "f8", "1",
          "adaptive_loss by the later half of the averages, less that by the earlier half"),
)  # fmt: skip


def compute(work: "Work[PosteriorStudy]") -> Values:
    from ntkhpc.bayesian import adaptive
    from ntkhpc.bayesian.prior import output_layer

    cell = Cell.of(work)
    settings, activation = cell.study.adaptive, cell.study.network.activation
    prior = output_layer(cell.data.x_train, cell.data.x_test, activation, cell.study.posterior.precisions)

    def population(number: int) -> Values:
        values = adaptive.population(
            cell.problem, prior, cell.width, activation,
            neurons=settings.neurons, updates=settings.updates, seed=cell.seed, number=number,
        )  # fmt: skip
        _require_finite(values)
        return values

    found = [work.tile(number, partial(population, number)) for number in range(settings.populations)]
    losses = adaptive.summarise(float(cell.problem.temperature), cell.data.y_test[:, 0], found).losses
    arrays = {name: np.stack([one[name] for one in found]) for name in ("mean", "point_variance", "drift")}
    return {f"adaptive_{name}": value[None, None, None] for name, value in (arrays | {"loss": losses}).items()}


def _require_finite(values: Values) -> None:
    if not (all(np.isfinite(value).all() for value in values.values()) and (values["point_variance"] >= 0).all()):
        raise DivergedError(
            "a population of neurons has no finite, positive variances",
            cause="posterior.temperature is too small for float64",
            todo="raise it; adaptive.populations = 0 goes without this theory",
        )


PROGRAM_SECONDS = 4.0
"""Seconds to compile the neurons' moves."""


def populations_seconds(study: "PosteriorStudy", n_train: int, populations: int) -> float:
    """Four steps of every neuron and an inverse an update; a look at the test points every fifth in the second half."""
    neurons, updates, test = study.adaptive.neurons, study.adaptive.updates, study.data.test
    rank = min(n_train, study.features)
    steps = 4 * (2 * n_train * (rank + n_train) * neurons / FLOPS_PER_SECOND + neurons * (rank + n_train) * 30e-9)
    update = steps + (6 * n_train**2 * neurons + 8 * n_train**3) / FLOPS_PER_SECOND
    look = 2 * test * (rank + 3 * n_train) * neurons / FLOPS_PER_SECOND + test * neurons * 60e-9
    per_population = updates * update + updates / 10 * look
    return cost.SECONDS_PER_SHARD + PROGRAM_SECONDS + populations * per_population


def seconds(study: "PosteriorStudy", block: Block) -> float:
    return populations_seconds(study, block.value("sampled_n_train"), study.adaptive.populations)


def tile_seconds(study: "PosteriorStudy", block: Block) -> float:
    return populations_seconds(study, block.value("sampled_n_train"), 1)


def memory_bytes(study: "PosteriorStudy") -> int:
    """Weights and hidden units of every neuron; kernels, moments and their sums of both halves."""
    n, test, features, neurons = study.sampled_sizes[-1], study.data.test, study.features, study.adaptive.neurons
    moving = neurons * (4 * min(n, features) + 4 * n + 5 * test)
    matrices = memory.of_numbers(moving + 12 * n**2 + 16 * n * test)
    return memory.NEURONS + memory.rows(study) + matrices + across_bytes(test, features)


PHASE = Phase(
    "adaptive",
    reads=INPUTS,
    writes=ARRAYS,
    blocks=CELL,
    seconds=seconds,
    tile_seconds=tile_seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    compiled=("sampled_width", "sampled_n_train"),
    when=lambda study: study.adaptive.populations > 0,
    prefix="",
    fewer="lower posterior.draws",
    lower="adaptive.neurons, sampling.n_train or data.test",
    shorten="adaptive.neurons or adaptive.updates",
)

"""Phase `adaptive`: the theory of a kernel that changes its shape, for one width and training set.

Tile i is the i-th population of neurons.
"""

import numpy as np

from ntkhpc.bayesian import adaptive
from ntkhpc.bayesian.prior import output_layer
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DivergedError
from ntkhpc.studies.posterior.cell import Cell


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    cell = Cell.of(run, shard)
    settings, activation = cell.study.adaptive, cell.study.network.activation
    prior = output_layer(cell.data.x_train, cell.data.x_test, activation, cell.study.posterior.precisions)
    found, reused = [], 0
    for number in range(settings.populations):
        values = partial.load(number)
        if values is None:
            values = adaptive.population(
                cell.problem, prior, cell.width, activation,
                neurons=settings.neurons, updates=settings.updates, seed=cell.seed, number=number,
            )  # fmt: skip
            _require_finite(shard, values)
            partial.save(number, values)
        else:
            reused += 1
        found.append(values)
    losses = adaptive.summarise(float(cell.problem.temperature), cell.data.y_test[:, 0], found).losses
    arrays = {name: np.stack([one[name] for one in found]) for name in ("mean", "point_variance", "drift")}
    return {f"adaptive_{name}": value[None, None, None] for name, value in (arrays | {"loss": losses}).items()}, reused


def _require_finite(shard: Shard, values: adaptive.Values) -> None:
    if not (all(np.isfinite(value).all() for value in values.values()) and (values["point_variance"] >= 0).all()):
        raise DivergedError(
            "a population of neurons has no finite, positive variances",
            where=f"shard {shard.id}",
            cause="posterior.temperature is too small for float64",
            todo="raise it; adaptive.populations = 0 goes without this theory",
        )

"""One tile of members trained at once by full-batch gradient descent.

Cost C = sum over samples a and outputs k of (f - y)^2 / (2 c) with c = n_train * outputs; the step is
theta -= eta grad C, with heavy-ball momentum if asked. A network is therefore comparable with the exact law of
[arXiv:1902.06720] after the same number of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntkhpc import seeds
from ntkhpc.networks import MLP


@dataclass(frozen=True)
class Program:
    """A program that is compiled once per (width, n_train): all but data, learning rate and member number is fixed."""

    mlp: MLP
    width: int
    trace_steps: tuple[int, ...]
    momentum: float = 0.0
    precision: str = "float32"
    matmul_precision: str = "highest"


@dataclass(frozen=True)
class Trained:
    """Results of the m members of a tile, on the host.

    predictions (m, n_test, outputs); train_loss, test_loss (m, trace points), the first at initialisation.
    """

    predictions: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray


def train_tile(
    program: Program,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    learning_rate: float,
    seed: int,
    members: Sequence[int],
) -> Trained:
    """Train the given members of the ensemble of `seed`, whatever their order or number, one after the other.

    x_* are (n, features), y_* (n, outputs). The results of a member do not depend on the other members of its tile on a
    CPU, where the members are mapped over, not batched.
    """
    with jax.enable_x64(program.precision == "float64"), jax.default_matmul_precision(program.matmul_precision):
        data = [jnp.asarray(a, program.precision) for a in (x_train, y_train, x_test, y_test)]
        numbers = jnp.asarray(np.asarray(members, np.uint32))
        rate = jnp.asarray(learning_rate, program.precision)
        results = _train(program, numbers, jnp.uint32(seed), rate, *data)
        return Trained(*(np.asarray(part) for part in results))


@partial(jax.jit, static_argnums=0)
def _train(
    program: Program, members: Array, seed: Array, rate: Array, x: Array, y: Array, x_test: Array, y_test: Array
) -> tuple[Array, Array, Array]:
    # lax.map runs the members one by one: on a CPU it is 1.5 to 3 times faster than vmap and keeps each member's bits
    # free of its neighbours.
    return jax.lax.map(lambda member: _train_member(program, member, seed, rate, x, y, x_test, y_test), members)


def _train_member(
    program: Program, member: Array, seed: Array, rate: Array, x: Array, y: Array, x_test: Array, y_test: Array
) -> tuple[Array, Array, Array]:
    mlp = program.mlp
    key = seeds.member_key(seed, program.width, member)
    parameters = mlp.init(key, x.shape[1], [program.width] * mlp.depth, x.dtype)
    optimiser = optax.sgd(rate, momentum=program.momentum or None)

    def cost(parameters: Any, x: Array, y: Array) -> Array:
        return 0.5 * jnp.mean((mlp.apply(parameters, x) - y) ** 2)

    def step(_: Any, state: Any) -> Any:
        parameters, moments = state
        updates, moments = optimiser.update(jax.grad(cost)(parameters, x, y), moments, parameters)
        return optax.apply_updates(parameters, updates), moments

    def trace(state: Any, bounds: tuple[Array, Array]) -> Any:
        state = jax.lax.fori_loop(bounds[0], bounds[1], step, state)
        return state, (cost(state[0], x, y), cost(state[0], x_test, y_test))

    ends = jnp.asarray(program.trace_steps)
    starts = jnp.concatenate([ends[:1], ends[:-1]])
    (parameters, _), (train_loss, test_loss) = jax.lax.scan(
        trace, (parameters, optimiser.init(parameters)), (starts, ends)
    )
    return mlp.apply(parameters, x_test), train_loss, test_loss

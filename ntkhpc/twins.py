"""The linearised twin of each network: f_lin(x) = f(x) + J(x) (theta - theta_0), trained by the same steps.

It begins with the function and the kernel of the network of the same seed, and its features never move. So infinite
width, twin and trained network differ by one thing each: by the random kernel at the start, and by what training does
beyond that kernel. One leap over all steps (leaps.py) trains it in closed form. arXiv:1902.06720, section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc import lanczos, leap_responses, leaps, optimisers, tangent_products
from ntkhpc.lanes import MAPPED, Lanes
from ntkhpc.leap_sizes import twin_vectors
from ntkhpc.leaps import Descent
from ntkhpc.training import Program


@dataclass(frozen=True)
class Twins:
    """Results of the m linearised networks of a tile, on the host.

    predictions (m, n_test, outputs); train_loss, test_loss (m,) at the end; kernel (m,), the mean over training samples
    and outputs of the diagonal of the empirical NTK at the start.
    """

    predictions: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    kernel: np.ndarray


def twin_tile(
    program: Program,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    learning_rate: float,
    seed: int,
    members: Sequence[int],
    lanes: Lanes = MAPPED,
) -> Twins:
    """Train the twins of members of the ensemble of `seed` by all steps of `program`; see leaps.leap_tile.

    x_* are (n, features), y_* (n, outputs). Raises ValueError for algorithms of which leaps are not known.
    """
    leaps.require_known(program.trained_by)
    data = (x_train, y_train, x_test, y_test)
    return Twins(*leaps.over_members(_twin, program, data, learning_rate, seed, members, None, lanes.count))


def _twin(descent: Descent, parameters: Any, how: None) -> tuple[Array, ...]:
    member, algorithm, steps = descent.member(parameters), descent.program.trained_by, descent.program.trace_steps[-1]
    tangents = descent.tangents(member, parameters)
    outputs = member.network.apply(parameters, descent.x)
    residual = (outputs - member.y).reshape(-1)
    enough = leap_responses.enough(algorithm, descent.rate, descent.count, steps, descent.y.dtype)
    most = twin_vectors(algorithm, steps, descent.count)
    space = lanczos.krylov(tangents.product, residual, most, **enough)
    if algorithm.is_closed:
        weights = leap_responses.closed(space.values, descent.rate, descent.count, steps)
    else:
        multipliers = jnp.asarray(optimisers.multipliers(algorithm.schedule, steps), descent.y.dtype)
        answers = leap_responses.stepped(space.values, algorithm, descent.rate, descent.count, 0, steps, multipliers)
        weights = answers.of_residual.weights
    change = jax.tree.map(jnp.negative, tangents.transposed(space.applied(weights)))
    tested, moved = jax.jvp(lambda these: member.network.apply(these, descent.x_test), (parameters,), (change,))
    results = descent.results(member, tested + moved, space.applied(1 - space.values * weights))
    diagonal = tangent_products.diagonal(descent.program.mlp, member.network, parameters, descent.x)
    return *results, jnp.mean(diagonal)

"""Gradient descent in a few leaps, each exact for the network linearised at the parameters where it begins.

At theta_k with residual r = f(theta_k, X) - Y (N,), N = n_train * outputs, and T = J J^T, m steps lead to

    theta_(k+1) = theta_k - J^T q,    q = (eta/c) [1 - (1 - x)^m]/x r,    x = eta T/c,    c = N

and the network itself is evaluated there, not its linearisation. Leaps of one step are gradient descent. As the kernel
is made anew at every leap, what the network learns of its features is in the result: a few leaps give the loss of each
member, from the initial weights of the ensemble, where training takes hundreds of steps. Momentum carries its velocity
from leap to leap (leap_responses.py); functions of T are by Lanczos (lanczos.py).

Adaptive leaps compare the residual of the network with that of its linearisation, err = |r' - r'_lin|/|r|. A leap with
err below the tolerance is taken and the next one made longer; another is tried again, shorter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc import lanczos, leap_responses, optimisers, tangent_products
from ntkhpc.initial_weights import compiler
from ntkhpc.lanczos import Krylov
from ntkhpc.lanes import MAPPED, Lanes
from ntkhpc.leap_sizes import VECTORS
from ntkhpc.networks import MLP, FiniteNetwork
from ntkhpc.optimisers import Algorithm
from ntkhpc.tangent_products import Tangents
from ntkhpc.training import Program, initial_weights

TOLERANCE = 0.1
"""The default; 0.03 takes 1.5 to 2 times as many leaps, and is a reference."""

FIRST = 8
"""Steps of the first adaptive leap."""

_LONGER, _SHORTER = 4.0, 0.25
"""How much longer than the last one a leap may be, and how much shorter one that is tried again."""


@dataclass(frozen=True)
class Leapt:
    """Results of the m members of a tile, on the host.

    predictions (m, n_test, outputs); train_loss, test_loss (m,) at the end; leaps (m,), how many were taken; products
    (m,) with the kernel that these took. error (m,) is the estimated relative error of the residual at the training
    points: how far each leap of two steps or more, as one is exact, ended from its linearisation, over the residual
    that was left there, added in squares.
    """

    predictions: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    leaps: np.ndarray
    products: np.ndarray
    error: np.ndarray


def boundaries(leaps: int | Sequence[int], steps: int) -> tuple[int, ...]:
    """Steps at which fixed leaps end, the last of them `steps`: of 5, of 8, or those given.

    5 are {3, t/32, t/8, t/3, t}, 8 are {2, 6, t/32, t/16, t/8, t/4, t/2, t}. Raises ValueError for other numbers, and
    for ends that do not increase to `steps`.
    """
    if isinstance(leaps, int):
        known = {5: (3, steps / 32, steps / 8, steps / 3), 8: (2, 6, *(steps / part for part in (32, 16, 8, 4, 2)))}
        if leaps not in known:
            raise ValueError(f"leaps = {leaps}: 5 and 8 are known; for others give the steps at which each ends")
        return (*sorted({round(end) for end in known[leaps] if 1 <= round(end) < steps}), steps)
    ends = tuple(leaps)
    if not ends or ends[-1] != steps or any(end <= start for start, end in zip((0, *ends[:-1]), ends, strict=True)):
        raise ValueError(f"leaps end at {ends}: they must increase from 1 or more to the last step, {steps}")
    return ends


def leap_tile(
    program: Program,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    learning_rate: float,
    seed: int,
    members: Sequence[int],
    leaps: int | Sequence[int] | None = None,
    tolerance: float = TOLERANCE,
    lanes: Lanes = MAPPED,
) -> Leapt:
    """Take members of the ensemble of `seed` through all steps of `program` in leaps; see training.train_tile.

    x_* are (n, features), y_* (n, outputs). Leaps are adaptive at `tolerance`, or end at fixed steps (`boundaries`).
    Of `lanes` only the count matters. Results of a member do not depend on the others where there are none. Raises
    ValueError for algorithms of which leaps are not known (Algorithm.has_leaps).
    """
    require_known(program.trained_by)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance = {tolerance} must be between 0 and 1")
    ends = () if leaps is None else boundaries(leaps, program.trace_steps[-1])
    how = (np.float32(tolerance), np.asarray(ends, np.int32))
    data = (x_train, y_train, x_test, y_test)
    return Leapt(*over_members(_leap, program, data, learning_rate, seed, members, how, lanes.count))


def require_known(algorithm: Algorithm) -> None:
    """Raises ValueError for an algorithm whose steps cannot be taken in leaps."""
    if not algorithm.has_leaps:
        raise ValueError(f"leaps are known of full-batch descent without decay of weights, not of {algorithm}")


def over_members(
    each: "Each",
    program: Program,
    data: tuple[Any, ...],
    rate: float,
    seed: int,
    members: Sequence[int],
    how: Any,
    lanes: int,
) -> Iterator[np.ndarray]:
    """What `each`, a function of a module, makes of each member: one array (m, ...) a result, on the host.

    `how` are arrays that it is given. `lanes` members are computed side by side, or one after another where it is 0.
    """
    if not len(members):
        raise ValueError("a tile has no members")
    doubles, plain = "float64" in (program.precision, program.drawn), isinstance(program.mlp, MLP)
    numbers, results = np.asarray(members, np.uint32), []
    with jax.enable_x64(doubles), jax.default_matmul_precision(program.matmul_precision):
        x, y, x_test, y_test = (jnp.asarray(one, program.precision) for one in data)
        eta = jnp.asarray(rate, program.precision)
        weights = initial_weights(program, x.shape[1])
        for _, drawn in weights.parts(seed, numbers, lanes, bool(lanes), doubles):
            run = _compiled(plain)
            results.append(jax.device_get(run(each, program, bool(lanes), drawn, eta, x, y, x_test, y_test, how)))
    return (np.concatenate(part)[: len(numbers)] for part in zip(*results, strict=True))


@cache
def _compiled(fully_connected: bool) -> Any:
    return compiler(fully_connected)(_run, static_argnums=(0, 1, 2))


def _run(
    each: "Each",
    program: Program,
    together: bool,
    drawn: Any,
    rate: Array,
    x: Array,
    y: Array,
    x_test: Array,
    y_test: Array,
    how: Any,
) -> tuple[Array, ...]:
    # One after another a member takes as many leaps as it needs; side by side all wait for the one that needs most.
    gram = x @ x.T if tangent_products.is_explicit(program.mlp, len(x)) else None
    descent = Descent(program, rate, x, y, x_test, y_test, gram)

    def one(parameters: Any) -> tuple[Array, ...]:
        return each(descent, parameters, how)

    return jax.vmap(one)(drawn) if together else jax.lax.map(one, drawn)


class Member(NamedTuple):
    """One network in its cell: what its outputs are to become, at the training and at the test points, and what is
    taken off them at the test points (centred), or None."""

    network: FiniteNetwork
    y: Array
    y_test: Array
    subtracted: Array | None


@dataclass(frozen=True)
class Descent:
    """What all members of a cell share; x (n, features), y (n, outputs), `gram` = x x^T where T is made as a matrix."""

    program: Program
    rate: Array
    x: Array
    y: Array
    x_test: Array
    y_test: Array
    gram: Array | None

    @property
    def count(self) -> int:
        """c = N = n_train * outputs."""
        return self.y.size

    def member(self, parameters: Any) -> Member:
        """Of the network that begins with these parameters; see output_scale.py."""
        network, scale = self.program.mlp.of_width(self.program.width), self.program.output_scale
        if not scale.centred:
            return Member(network, scale.gamma * self.y, scale.gamma * self.y_test, None)
        start, start_test = network.apply(parameters, self.x), network.apply(parameters, self.x_test)
        return Member(network, scale.gamma * self.y + start, scale.gamma * self.y_test + start_test, start_test)

    def tangents(self, member: Member, parameters: Any) -> Tangents:
        return tangent_products.tangents(self.program.mlp, member.network, parameters, self.x, self.gram)

    def results(self, member: Member, tested: Array, residual: Array) -> tuple[Array, Array, Array]:
        """Predictions (n_test, outputs), training and test loss of f, from the network's test outputs and residual."""
        gamma = self.program.output_scale.gamma
        test_loss = 0.5 * jnp.mean((tested - member.y_test) ** 2)
        predictions = tested if member.subtracted is None else tested - member.subtracted
        return predictions / gamma, 0.5 * jnp.mean(residual**2) / gamma**2, test_loss / gamma**2


Each = Callable[[Descent, Any, Any], tuple[Array, ...]]
"""(descent, initial parameters of a member, how) -> its results."""


class _State(NamedTuple):
    """Where a member is: parameters, velocity (None without momentum), residual (N,), step, steps of the next leap,
    leaps and products so far, and the square of the error so far."""

    parameters: Any
    velocity: Any
    residual: Array
    step: Array
    length: Array
    leaps: Array
    products: Array
    error: Array


class _Trial(NamedTuple):
    """One leap as it was last tried: its steps, what it made of a member, err, and the steps to try next."""

    length: Array
    parameters: Any
    velocity: Any
    residual: Array
    deviation: Array
    following: Array
    taken: Array


def _leap(descent: Descent, parameters: Any, how: tuple[Array, Array]) -> tuple[Array, ...]:
    """Results of one member: those of `Leapt`."""
    member, steps = descent.member(parameters), descent.program.trace_steps[-1]
    tolerance, ends = how
    carried = bool(descent.program.trained_by.momentum)

    def residual(parameters: Any) -> Array:
        return (member.network.apply(parameters, descent.x) - member.y).reshape(-1)

    # Below this share of the targets a residual is rounding, which no shorter leap mends.
    floor = 100 * float(np.finfo(descent.y.dtype).eps) * jnp.linalg.norm(member.y)

    def leap(state: _State) -> _State:
        tangents = descent.tangents(member, state.parameters)
        length = ends[state.leaps] - state.step if len(ends) else state.length
        # Weights are exact in a Krylov space of as many vectors as there are steps, the residual takes one more.
        wanted = jnp.minimum(length + 1, min(VECTORS, descent.count))
        enough = leap_responses.enough(descent.program.trained_by, descent.rate, descent.count, length, descent.y.dtype)
        spaces = [lanczos.krylov(tangents.product, state.residual, VECTORS, wanted, **enough)]
        if carried:
            pushed = jax.jvp(
                lambda these: member.network.apply(these, descent.x), (state.parameters,), (state.velocity,)
            )[1]
            spaces.append(lanczos.krylov(tangents.product, pushed.reshape(-1), VECTORS, wanted, **enough))
        size = jnp.maximum(jnp.linalg.norm(state.residual), floor)

        def tried(trial: _Trial) -> _Trial:
            length = trial.following
            moved, velocity, linear = _moved(descent, tangents, spaces, state, length)
            found = residual(moved)
            deviation = jnp.linalg.norm(found - linear) / size
            deviation = jnp.where(jnp.isfinite(deviation), deviation, jnp.inf)
            if len(ends):
                return _Trial(length, moved, velocity, found, deviation, length, jnp.array(True))
            taken = (deviation < tolerance) | (length <= 1)
            ratio = jnp.sqrt(tolerance / jnp.maximum(deviation, 1e-6))
            factor = jnp.where(taken, jnp.minimum(_LONGER, 0.9 * ratio), jnp.maximum(_SHORTER, 0.8 * ratio))
            following = jnp.maximum((length * factor).astype(jnp.int32), 1)
            return _Trial(length, moved, velocity, found, deviation, following, taken)

        start = _Trial(
            length, state.parameters, state.velocity, state.residual, jnp.zeros_like(size), length, jnp.array(False)
        )
        trial = jax.lax.while_loop(lambda trial: ~trial.taken, tried, start)
        step = state.step + trial.length
        left = jnp.maximum(jnp.linalg.norm(trial.residual), floor)
        return _State(
            trial.parameters,
            trial.velocity,
            trial.residual,
            step,
            jnp.minimum(trial.following, steps - step),
            state.leaps + 1,
            state.products + sum(space.products for space in spaces),
            state.error + jnp.where(trial.length > 1, trial.deviation * size / left, 0) ** 2,
        )

    nothing = jnp.int32(0)
    state = _State(
        parameters,
        jax.tree.map(jnp.zeros_like, parameters) if carried else None,
        residual(parameters),
        nothing,
        jnp.int32(min(FIRST, steps)),
        nothing,
        nothing,
        jnp.zeros((), descent.y.dtype),
    )
    state = jax.lax.while_loop(lambda state: (state.step < steps) & jnp.isfinite(state.residual).all(), leap, state)
    tested = member.network.apply(state.parameters, descent.x_test)
    results = descent.results(member, tested, state.residual)
    return *results, state.leaps, state.products, jnp.sqrt(state.error)


def _moved(
    descent: Descent, tangents: Tangents, spaces: list[Krylov], state: _State, length: Array
) -> tuple[Any, Any, Array]:
    """Parameters and velocity after so many steps of the linearised network, and its residual (N,)."""
    algorithm, steps = descent.program.trained_by, descent.program.trace_steps[-1]
    space = spaces[0]
    if algorithm.is_closed:
        weights = leap_responses.closed(space.values, descent.rate, descent.count, length)
        moved = jax.tree.map(jnp.subtract, state.parameters, tangents.transposed(space.applied(weights)))
        return moved, None, space.applied(1 - space.values * weights)
    multipliers = jnp.asarray(optimisers.multipliers(algorithm.schedule, steps), descent.y.dtype)
    answers = [
        leap_responses.stepped(one.values, algorithm, descent.rate, descent.count, state.step, length, multipliers)
        for one in spaces
    ]
    first = answers[0]
    weights = space.applied(first.of_residual.weights)
    linear = space.applied(1 - space.values * first.of_residual.weights)
    if not algorithm.momentum:
        return jax.tree.map(jnp.subtract, state.parameters, tangents.transposed(weights)), None, linear
    velocity = space.applied(first.of_residual.velocity)
    carried, second = spaces[1], answers[1]
    weights = weights + carried.applied(second.of_velocity.weights)
    velocity = velocity + carried.applied(second.of_velocity.velocity)
    linear = linear - carried.applied(second.moved + carried.values * second.of_velocity.weights)
    moved = jax.tree.map(
        lambda now, change, before: now - change - second.moved * before,
        state.parameters, tangents.transposed(weights), state.velocity,
    )  # fmt: skip
    faster = jax.tree.map(
        lambda change, before: change + second.kept * before, tangents.transposed(velocity), state.velocity
    )
    return moved, faster, linear

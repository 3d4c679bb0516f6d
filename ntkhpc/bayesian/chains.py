"""Markov chains over the weights of a network, in tiles: each starts where the one before ended, bit for bit.

    state = program.start(problem, seed, chains) ; state = program.warm(problem, seed, state)
    state, values = program.advance(problem, seed, state)          (as often as wanted)

A state is a dict of arrays, one row a chain, that can be saved with numpy.savez and read again. Hamiltonian Monte
Carlo, NUTS and the adaptation of their step are those of blackjax; the mass is that of the prior, 1 in these
coordinates: a mass for each of thousands of weights, learned from hundreds of draws, is mostly noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc import seeds
from ntkhpc.bayesian import langevin, readout, target
from ntkhpc.bayesian.inputs import Activation
from ntkhpc.bayesian.target import Problem

State = dict[str, np.ndarray]
"""chain (C,): its number; position (C, n); log_density (C,), gradient (C, n); step_size (C,); draw, gradients (C,): how
many so far; curvature (C,), of Langevin dynamics after its warm-up."""

Values = dict[str, np.ndarray]
"""For each of the C chains and `tile` draws: expected_loss, the loss expected given the hidden weights; loss, of one
exact draw of the read-out; potential, -log density; q_bar (C, tile, D, D); acceptance; divergent; gradients, how many
it took. For each chain, means over the tile: mean, mean_square (C, M, D) of the expected outputs; spread (C, M), their
variance given the hidden weights."""

_START, _WARM, _DRAW = 0, 1, 2
_JITTER = 0.2
MOST_STEPS = 1000
"""Leapfrog steps of a trajectory: reached only while the step size is still far too small."""


@dataclass(frozen=True)
class ChainProgram:
    """What is compiled once: everything that is not data or number of a chain.

    warmup, tile: draws of the warm-up and of a tile, each of `thin` transitions (Langevin: steps).
    length: of a trajectory of "hmc", in time units of the prior, whose period is 2 pi; jittered, as a fixed length
        can meet a period. doublings: of a trajectory of "nuts", at most.
    learning_rate: lr of "langevin". at_once: all chains as one batch, as accelerators like it, or one after the other.
    """

    activation: Activation
    widths: tuple[int, ...]
    sampler: Literal["hmc", "nuts", "langevin"] = "hmc"
    warmup: int = 300
    tile: int = 100
    thin: int = 1
    target_acceptance: float = 0.7
    length: float = 1.25
    doublings: int = 8
    learning_rate: float = 1e-3
    at_once: bool = False

    def start(self, problem: Problem, seed: int, chains: Sequence[int]) -> State:
        """Start the chains of these numbers, each at its own draw of the prior."""
        with jax.enable_x64(True):
            return _host(_start(self, problem, jnp.uint32(seed), jnp.asarray(np.asarray(chains, np.uint32))))

    def warm(self, problem: Problem, seed: int, state: State) -> State:
        """The state after `warmup` draws, step size adapted; these draws are no part of the sample."""
        with jax.enable_x64(True):
            return _host(_warm(self, problem, jnp.uint32(seed), state))

    def advance(self, problem: Problem, seed: int, state: State) -> tuple[State, Values]:
        """The state after `tile` draws, and the values of these draws."""
        with jax.enable_x64(True):
            state, values = _advance(self, problem, jnp.uint32(seed), state)
            return _host(state), _host(values)


class Transition(NamedTuple):
    """One transition's acceptance (), divergent () and number of gradients ()."""

    acceptance: Array
    divergent: Array
    gradients: Array


def _host(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in tree.items()}


def _over_chains(program: ChainProgram, function: Callable, chains: Any) -> Any:
    # One by one, a CPU is faster (no chain waits for the longest trajectory) and no chain feels its neighbours.
    return jax.vmap(function)(chains) if program.at_once else jax.lax.map(function, chains)


@partial(jax.jit, static_argnums=0)
def _start(program: ChainProgram, problem: Problem, seed: Array, chains: Array) -> Any:
    count = sum(rows * columns for rows, columns in target.sizes(problem, program.widths))
    if program.sampler == "langevin":
        count += program.widths[-1] * problem.y_train.shape[1]
    # Leapfrog steps shrink like the fourth root of the dimension.
    step = program.learning_rate if program.sampler == "langevin" else 0.5 * count**-0.25

    def start(chain: Array) -> Any:
        key = jax.random.fold_in(seeds.chain_key(seed, chain), _START)
        position = jax.random.normal(key, (count,))
        value, gradient = jax.value_and_grad(_density(program, problem))(position)
        zero = jnp.zeros((), jnp.int64)
        return {
            "chain": chain, "position": position, "log_density": value, "gradient": gradient,
            "step_size": jnp.asarray(step), "draw": zero, "gradients": zero + 1, "curvature": jnp.full((), jnp.nan),
        }  # fmt: skip

    return _over_chains(program, start, chains)


@partial(jax.jit, static_argnums=0)
def _warm(program: ChainProgram, problem: Problem, seed: Array, state: Any) -> Any:
    def warm(state: Any) -> Any:
        key = jax.random.fold_in(seeds.chain_key(seed, state["chain"]), _WARM)
        if program.sampler == "langevin":
            count = program.warmup * program.thin
            args = problem, program.activation, program.widths
            position = langevin.steps(key, *args, state["position"], state["step_size"], count)
            value, gradient = jax.value_and_grad(_density(program, problem))(position)
            # Where an unstable dynamics began, if it has no end.
            place = jnp.where(jnp.isfinite(position).all(), position, state["position"])
            curvature = langevin.curvature(jax.random.fold_in(key, count), *args, place)
            found = {"position": position, "log_density": value, "gradient": gradient, "curvature": curvature}
            return {**state, **found, "gradients": state["gradients"] + count}
        adaptation = blackjax.staged_adaptation(
            _Algorithm(program),
            _density(program, problem),
            # No window ever ends, so the mass stays 1.
            schedule_fn=lambda steps: jnp.zeros((steps, 2), jnp.int32),
            initial_step_size=state["step_size"],
            target_acceptance_rate=program.target_acceptance,
            adaptation_info_fn=lambda _, info, __: info.num_integration_steps,
        )
        (reached, parameters), gradients = adaptation.run(key, state["position"], program.warmup * program.thin)
        found = {"position": reached.position, "log_density": reached.logdensity, "gradient": reached.logdensity_grad}
        found["step_size"] = parameters["step_size"]
        return {**state, **found, "gradients": state["gradients"] + gradients.sum()}

    return _over_chains(program, warm, state)


@partial(jax.jit, static_argnums=0)
def _advance(program: ChainProgram, problem: Problem, seed: Array, state: Any) -> Any:
    def advance(state: Any) -> Any:
        chain = jax.random.fold_in(seeds.chain_key(seed, state["chain"]), _DRAW)

        def draw(carry: Any, number: Array) -> Any:
            state, sums = carry
            move_key, predict_key = jax.random.split(jax.random.fold_in(chain, number))
            state, taken = _move(program, problem, move_key, state)
            values, outputs = _observe(program, problem, predict_key, state)
            values.update(taken._asdict())
            return (state, jax.tree.map(jnp.add, sums, outputs)), values

        outputs = jnp.zeros((len(problem.z_test), problem.y_test.shape[1]))
        sums = {"mean": outputs, "mean_square": outputs, "spread": outputs[:, 0]}
        (state, sums), values = jax.lax.scan(draw, (state, sums), state["draw"] + jnp.arange(program.tile))
        state = {**state, "draw": state["draw"] + program.tile}
        return state, {**values, **{name: total / program.tile for name, total in sums.items()}}

    return _over_chains(program, advance, state)


def _density(program: ChainProgram, problem: Problem) -> Callable[[Array], Array]:
    if program.sampler != "langevin":
        return lambda position: target.log_density(problem, program.activation, program.widths, position)
    # All weights; the dynamics itself takes the gradient of this times -T.
    return lambda position: (
        -langevin.energy(problem, program.activation, program.widths, position) / problem.temperature
    )


class _Algorithm:
    """A sampler as blackjax's adaptation takes it: a way to start, and a kernel."""

    def __init__(self, program: ChainProgram) -> None:
        self.program = program
        self.init = blackjax.hmc.init

    def build_kernel(self) -> Callable:
        program = self.program
        if program.sampler == "nuts":
            return partial(blackjax.nuts.build_kernel(), max_num_doublings=program.doublings)
        kernel = blackjax.hmc.build_kernel()

        def jittered(key: Array, state: Any, density: Callable, step_size: Array, inverse_mass: Array) -> Any:
            length_key, key = jax.random.split(key)
            length = program.length * jax.random.uniform(length_key, minval=1 - _JITTER, maxval=1 + _JITTER)
            count = jnp.clip(jnp.round(length / step_size), 1, MOST_STEPS).astype(jnp.int32)
            return kernel(key, state, density, step_size, inverse_mass, count)

        return jittered


def _move(program: ChainProgram, problem: Problem, key: Array, state: Any) -> tuple[Any, Transition]:
    density = _density(program, problem)
    if program.sampler == "langevin":
        args = problem, program.activation, program.widths
        position = langevin.steps(key, *args, state["position"], state["step_size"], program.thin)
        value, gradient = jax.value_and_grad(density)(position)
        taken = Transition(jnp.ones(()), jnp.zeros((), bool), jnp.int64(program.thin))
        found = {"position": position, "log_density": value, "gradient": gradient}
    else:
        kernel = _Algorithm(program).build_kernel()
        mass = jnp.ones_like(state["position"])

        def transition(at: Any, key: Array) -> Any:
            at, info = kernel(key, at, density, state["step_size"], mass)
            return at, (info.acceptance_rate, info.is_divergent, info.num_integration_steps)

        at = blackjax.mcmc.hmc.HMCState(state["position"], state["log_density"], state["gradient"])
        at, (acceptance, divergent, count) = jax.lax.scan(transition, at, jax.random.split(key, program.thin))
        taken = Transition(acceptance.mean(), divergent.any(), count.sum().astype(jnp.int64))
        found = {"position": at.position, "log_density": at.logdensity, "gradient": at.logdensity_grad}
    return {**state, **found, "gradients": state["gradients"] + taken.gradients}, taken


def _observe(
    program: ChainProgram, problem: Problem, key: Array, state: Any
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The values of one draw: numbers, and outputs at the test points."""
    across_key, readout_key = jax.random.split(key)
    y, temperature = jnp.asarray(problem.y_train), jnp.asarray(problem.temperature)
    if program.sampler == "langevin":
        weights, u = langevin.read(problem, program.widths, state["position"])
        test = target.features_at_test(across_key, problem, program.activation, weights)
        mean = drawn = test @ u
        variance = jnp.zeros(len(mean))
        q_bar = u.T @ u / program.widths[-1]
    else:
        weights = target.unpack(problem, program.widths, state["position"])
        train = target.features_at_train(problem, program.activation, weights)
        test = target.features_at_test(across_key, problem, program.activation, weights)
        found = readout.fit(train, y, temperature)
        mean, variance = readout.predict(found, train, y, test, temperature)
        drawn = test @ readout.draw(readout_key, found, train, y, temperature)
        q_bar = readout.order_parameter(found, train, y)
    expected = ((problem.y_test - mean) ** 2).sum(axis=1) + problem.y_test.shape[1] * variance
    values = {
        "expected_loss": expected.mean(),
        "loss": ((problem.y_test - drawn) ** 2).sum(axis=1).mean(),
        "potential": -state["log_density"],
        "q_bar": q_bar,
    }
    return values, {"mean": mean, "mean_square": mean**2, "spread": variance}

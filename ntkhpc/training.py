"""One tile of members trained at once, by full-batch gradient descent or another algorithm.

Cost C = sum over samples a and outputs k of (f - y)^2 / (2 c) with c = n_train * outputs, of a mini-batch over its own
samples; the step is theta -= eta grad C, or what the algorithm makes of it (optimisers.py). A step is an update of the
weights. A network is therefore comparable with the exact law of [arXiv:1902.06720] after the same number of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntkhpc import first_layer, lane_training, minibatches, optimisers, output_scale, rises, seeds
from ntkhpc.first_layer import FirstLayer
from ntkhpc.initial_weights import InitialWeights, compiler
from ntkhpc.lane_training import Samples
from ntkhpc.lanes import MAPPED, Lanes, Sizes, device_bytes, lanes_for
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm
from ntkhpc.output_scale import OutputScale


@dataclass(frozen=True)
class Program:
    """A program that is compiled once per (width, n_train): all but data, learning rate and member number is fixed.

    `drawn` is the precision in which the initial weights are drawn, before they are rounded to `precision` if that is
    another: the same keys give other numbers in another precision. Empty means `precision`. A `watched` program looks
    at the training loss of every step. `momentum` alone is heavy-ball momentum; see `trained_by`. Schedules are over
    all steps, the last of `trace_steps`. `mlp` is an MLP, or another network of which `of_width` gives a FiniteNetwork.
    Outputs are those of the network by `output_scale`, and the rate is multiplied by its gamma^2. `layerwise` is for
    adam on an MLP in the mu-parametrisation: see `optimisers.layer_scales`.
    """

    mlp: MLP | Any
    width: int
    trace_steps: tuple[int, ...]
    momentum: float = 0.0
    precision: str = "float32"
    matmul_precision: str = "highest"
    drawn: str = ""
    watched: bool = False
    algorithm: Algorithm = optimisers.PLAIN
    output_scale: OutputScale = output_scale.ONE
    layerwise: bool = False

    def __post_init__(self) -> None:
        if self.layerwise and not isinstance(self.mlp, MLP):
            raise ValueError("rates of single layers are known of fully connected networks alone")
        if self.watched and not self.trained_by.falls:
            raise ValueError("nothing is known of the training loss at single steps of this algorithm: do not watch it")

    @property
    def trained_by(self) -> Algorithm:
        """The algorithm with its momentum."""
        return optimisers.trained_by(self.algorithm, self.momentum)


@dataclass(frozen=True)
class Trained:
    """Results of the m members of a tile, on the host.

    predictions (m, n_test, outputs); train_loss, test_loss (m, trace points), the first at initialisation. last_rise
    (m,) is the last step at which the training loss rose by more than `sound_rises` allows, 0 if at none, and -1 for a
    program that is not `watched`.
    """

    predictions: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    last_rise: np.ndarray


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
    lanes: Lanes | None = None,
) -> Trained:
    """Train the given members of the ensemble of `seed`, whatever their order or number.

    x_* are (n, features), y_* (n, outputs). `lanes` says how many are trained at once, or none at once (lanes.MAPPED);
    by default as the rules of lanes.py have it for JAX's device. The results of a member do not depend on which other
    members are in its tile, nor on its place in it where members are trained one after another.
    """
    if not len(members):
        raise ValueError("a tile has no members")
    doubles, plain = "float64" in (program.precision, program.drawn), isinstance(program.mlp, MLP)
    numbers, results = np.asarray(members, np.uint32), []
    with jax.enable_x64(doubles), jax.default_matmul_precision(program.matmul_precision):
        x, y, *test = (jnp.asarray(a, program.precision) for a in (x_train, y_train, x_test, y_test))
        data = (x, jnp.asarray(np.ascontiguousarray(np.asarray(x).T)), y, *test) if plain else (x, x, y, *test)
        rate, weights = jnp.asarray(learning_rate, program.precision), initial_weights(program, x.shape[1])
        if lanes is None:
            lanes = _lanes(program, x.shape[1], len(y), len(test[1]), len(numbers))
        for some, drawn in weights.parts(seed, numbers, lanes.count, lanes.static, doubles):
            if lanes.count:
                found = lane_training.train(program, lanes, drawn, jnp.uint32(seed), some, rate, Samples(*data))
            else:
                found = _compiled(plain)(program, drawn, jnp.uint32(seed), some, rate, *data)
            results.append(jax.device_get(found))
    return Trained(*(np.concatenate(part)[: len(numbers)] for part in zip(*results, strict=True)))


def _lanes(program: Program, features: int, n_train: int, n_test: int, members: int) -> Lanes:
    """The lanes by the rules for JAX's device; networks that are not fully connected are trained one after another."""
    if not isinstance(program.mlp, MLP):
        return MAPPED
    mlp, itemsize = program.mlp, np.dtype(program.precision).itemsize
    sizes = Sizes(features, program.width, mlp.depth, mlp.outputs, n_train, n_test, itemsize)
    return lanes_for(sizes, program.trained_by, members, device_bytes())


def initial_weights(program: Program, features: int) -> InitialWeights:
    """What the initial weights of a program's networks are drawn from."""
    drawn = program.drawn or program.precision
    return InitialWeights(program.mlp, program.width, features, drawn, program.precision)


@cache
def _compiled(fully_connected: bool) -> Callable[..., Any]:
    return compiler(fully_connected)(_train, static_argnums=0)


def _train(
    program: Program,
    drawn: Any,
    seed: Array,
    members: Array,
    rate: Array,
    x: Array,
    x_transposed: Array,
    y: Array,
    x_test: Array,
    y_test: Array,
) -> tuple[Array, ...]:
    # lax.map runs the members one by one: on a CPU it is 1.5 to 3 times faster than vmap and keeps each member's bits
    # free of its neighbours.
    held = _held(program, x, x_transposed)

    def train(one: tuple[Any, Array]) -> tuple[Array, ...]:
        return _train_member(program, held(one[0]), seed, one[1], rate, x, y, x_test, y_test)

    return jax.lax.map(train, (drawn, members))


def _held(program: Program, x: Array, x_transposed: Array) -> Callable[[Any], FirstLayer]:
    """How a network that begins with some parameters is held while it is trained."""
    network, algorithm = program.mlp.of_width(program.width), program.trained_by
    if algorithm.batch or not isinstance(program.mlp, MLP):
        return lambda drawn: FirstLayer(drawn, lambda trained: network.apply(trained, x), lambda trained: trained)
    gram = first_layer.gram(x, x_transposed, algorithm)
    return lambda drawn: first_layer.of_samples(program.mlp, drawn, x, x_transposed, gram, algorithm)


def _train_member(
    program: Program,
    held: FirstLayer,
    seed: Array,
    member: Array,
    rate: Array,
    x: Array,
    y: Array,
    x_test: Array,
    y_test: Array,
) -> tuple[Array, ...]:
    network = program.mlp.of_width(program.width)
    algorithm, steps = program.trained_by, program.trace_steps[-1]
    if not program.layerwise and (scale := algorithm.width_scale(program.width)) != 1:
        rate = rate * scale
    layers = optimisers.layer_scales(held.start, program.width) if program.layerwise else None
    optimiser = optimisers.transformation(algorithm, rate, steps, held.start, layers)
    outputs, start, start_test = program.output_scale, None, None
    if outputs.centred:
        start, start_test = held.outputs(held.start), network.apply(held.parameters(held.start), x_test)
    y, y_test = _targets(outputs, y, start), _targets(outputs, y_test, start_test)
    next_batch, order = _batches(algorithm, seed, seeds.member_key(seed, program.width, member), x, y)

    def cost(trained: Any, batch: tuple[Array, Array] | None = None) -> Array:
        if batch is None:
            return 0.5 * jnp.mean((held.outputs(trained) - y) ** 2)
        return 0.5 * jnp.mean((network.apply(trained, batch[0]) - batch[1]) ** 2)

    untrained = None if start is None else 0.5 * jnp.mean(start**2)
    watch = None
    if program.watched:
        watch = rises.watch(algorithm, steps, program.matmul_precision, x.dtype, untrained)

    def step(number: Any, state: Any) -> Any:
        trained, moments, seen, order = state
        batch, order = next_batch(number, order)
        if watch is None:
            gradient = jax.grad(cost)(trained, batch)
        else:
            loss, gradient = jax.value_and_grad(cost)(trained, batch)
            seen = watch(number, loss, seen)
        updates, moments = optimiser.update(gradient, moments, trained)
        return optax.apply_updates(trained, updates), moments, seen, order

    def trace(state: Any, bounds: tuple[Array, Array]) -> Any:
        state = jax.lax.fori_loop(bounds[0], bounds[1], step, state)
        tested = network.apply(held.parameters(state[0]), x_test)
        return state, (cost(state[0]), 0.5 * jnp.mean((tested - y_test) ** 2))

    ends = jnp.asarray(program.trace_steps)
    starts = jnp.concatenate([ends[:1], ends[:-1]])
    nothing_seen = (jnp.array(jnp.inf, x.dtype), jnp.array(jnp.inf, x.dtype), jnp.int32(0))
    (trained, _, seen, _), (train_loss, test_loss) = jax.lax.scan(
        trace, (held.start, optimiser.init(held.start), nothing_seen, order), (starts, ends)
    )
    last_rise = jnp.int32(-1) if watch is None else watch(ends[-1], train_loss[-1], seen)[2]
    predictions = network.apply(held.parameters(trained), x_test)
    if outputs.is_one:
        return predictions, train_loss, test_loss, last_rise
    if start_test is not None:
        predictions = predictions - start_test
    gamma = outputs.gamma
    return predictions / gamma, train_loss / gamma**2, test_loss / gamma**2, last_rise


def _targets(outputs: OutputScale, y: Array, start: Array | None) -> Array:
    """What g learns at the rate eta where f learns y at eta gamma^2: gamma y, and centred gamma y + g(theta_0)."""
    if outputs.is_one:
        return y
    return outputs.gamma * y if start is None else outputs.gamma * y + start


def _batches(algorithm: Algorithm, seed: Array, key: Array, x: Array, y: Array) -> tuple[Callable[..., Any], Any]:
    """What gives the samples of a step, (step, order) -> ((x, y), order), and the order to begin with.

    Without mini-batches the samples are None, for all of them, and () as the order takes no part in the program.
    """
    if not (size := algorithm.batch):
        return lambda number, order: (None, order), ()
    if not 0 < size <= len(x):
        raise ValueError(f"batch = {size} is more than the {len(x)} samples")
    own, each = seeds.order_key(seed, key if algorithm.order == "own" else None), len(x) // size

    def next_batch(number: Any, order: Array) -> tuple[tuple[Array, Array], Array]:
        epoch, place = number // each, number % each
        order = jax.lax.cond(place == 0, lambda: minibatches.epoch_order(own, epoch, len(x)), lambda: order)
        chosen = jax.lax.dynamic_slice_in_dim(order, place * size, size)
        return (x[chosen], y[chosen]), order

    return next_batch, jnp.zeros(len(x), jnp.int32)

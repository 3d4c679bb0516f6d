"""Training of B networks side by side: one program whose arrays have an axis of lanes (see lanes.py, first_layer.py).

Each lane is a network by itself: sums run over samples, units and outputs, never over lanes, so that a network has the
same bits whatever the others are, and one that diverges leaves them theirs. On a GPU training is a chain of programs
that take 1, 16, 256, ... steps from one trace point to the next, each given the memory of the state before. Elsewhere
it is one program.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ntkhpc import first_layer, lanes, minibatches, optimisers, rises, seeds
from ntkhpc.first_layer import Dual
from ntkhpc.lanes import Lanes

if TYPE_CHECKING:
    from ntkhpc.training import Program


class Samples(NamedTuple):
    """x (n, d), its transpose as an array of its own, y (n, outputs), x_test (N_T, d), y_test (N_T, outputs)."""

    x: Any
    x_transposed: Any
    y: Any
    x_test: Any
    y_test: Any


class Held(NamedTuple):
    """What stays while the lanes are trained.

    Targets y (n, 1 or B, outputs) and y_test; the start of the networks in lanes, where the algorithm needs it; the
    outputs at the test points (N_T, B, outputs) that are subtracted, and the loss (B,) of those at the training points;
    the key of the orders of mini-batches, of each lane (B,) or of all.
    """

    data: Samples
    rate: Array
    dual: Dual | None
    start: Any
    subtracted: Array | None
    untrained: Array | None
    order: Array | None


class State(NamedTuple):
    """What each step changes: what is trained, what the optimiser keeps of it, and what was seen of the losses."""

    trained: Any
    moments: Any
    seen: tuple[Array, Array, Array]


Results = tuple[Any, Any, Any, Any]
"""Predictions (B, N_T, outputs), training and test losses (B, trace points), last rises (B,)."""


def train(
    program: "Program", chosen: Lanes, drawn: Any, seed: Array, members: Array, rate: Array, data: Samples
) -> Results:
    """Train the networks of `members` (B,), which begin with the parameters `drawn`, B along the first axis of each."""
    if not chosen.static:
        return _in_one(program, chosen, drawn, seed, members, rate, data)
    held, state = _begun(program, chosen, drawn, seed, members, rate, data)
    losses, now = [], program.trace_steps[0]
    for end in program.trace_steps:
        for length in lanes.pieces(end - now, _longest(program, len(data.x))):
            state = _advanced(program, chosen, length, held, state, jnp.int32(now))
            now += length
        losses.append(_looked_at(program, chosen, held, state))
    train_loss, test_loss = (jnp.stack(part, axis=1) for part in zip(*losses, strict=True))
    predictions, last_rise = _ended(program, chosen, held, state, train_loss[:, -1])
    return _scaled(program, (predictions, train_loss, test_loss, last_rise))


@partial(jax.jit, static_argnums=(0, 1))
def _in_one(
    program: "Program", chosen: Lanes, drawn: Any, seed: Array, members: Array, rate: Array, data: Samples
) -> Results:
    held, state = _begin(program, chosen, drawn, seed, members, rate, data)

    def trace(state: State, bounds: tuple[Array, Array]) -> tuple[State, tuple[Array, Array]]:
        state = jax.lax.fori_loop(*bounds, _step(program, held, lambda number: None), state)
        return state, _look(program, chosen, held, state)

    ends = jnp.asarray(program.trace_steps)
    starts = jnp.concatenate([ends[:1], ends[:-1]])
    state, (train_loss, test_loss) = jax.lax.scan(trace, state, (starts, ends))
    predictions, last_rise = _end(program, chosen, held, state, train_loss[-1])
    return _scaled(program, (predictions, train_loss.T, test_loss.T, last_rise))


def _scaled(program: "Program", results: Results) -> Results:
    """Of the outputs over gamma."""
    predictions, train_loss, test_loss, last_rise = results
    gamma = program.output_scale.gamma
    if gamma != 1:
        predictions, train_loss, test_loss = predictions / gamma, train_loss / gamma**2, test_loss / gamma**2
    return predictions, train_loss, test_loss, last_rise


def _begin(
    program: "Program", chosen: Lanes, drawn: Any, seed: Array, members: Array, rate: Array, data: Samples
) -> tuple[Held, State]:
    algorithm, outputs = program.trained_by, program.output_scale
    if not program.layerwise and (scale := algorithm.width_scale(program.width)) != 1:
        rate = rate * scale
    parameters, dual = first_layer.lanes_of(drawn), None
    start = parameters
    if chosen.dual:
        weight = parameters[0][0]
        dual = Dual(data.x @ data.x_transposed, weight, jnp.tensordot(data.x, weight, 1))
        start = first_layer.dual_start(parameters, dual.product, algorithm, (len(members), 1))
    subtracted = untrained = None
    y, y_test = (outputs.gamma * one[:, None] for one in (data.y, data.y_test))
    if outputs.centred:
        before = first_layer.in_lanes(program.mlp, data.x, data.x_transposed, dual)[0](start)
        subtracted = jnp.moveaxis(_at_test_points(program, chosen, parameters, data.x_test), 0, 1)
        untrained = 0.5 * jnp.mean(before**2, axis=(0, 2))
        y, y_test = y + before, y_test + subtracted
    towards = bool(algorithm.weight_decay) and algorithm.decay_towards == "start"
    nothing = jnp.full(len(members), jnp.inf, data.x.dtype)
    held = Held(
        data._replace(y=y, y_test=y_test),
        rate,
        dual,
        start if towards else None,
        subtracted,
        untrained,
        _order(program, seed, members),
    )
    trained = jax.tree.map(jnp.copy, start)  # its memory is given to the first step: it is nobody else's
    moments = _optimiser(program, held, start).init(trained)
    return held, State(trained, moments, (nothing, jnp.copy(nothing), jnp.zeros(len(members), jnp.int32)))


@partial(jax.jit, static_argnums=(0, 1))
def _made_at_first(program: "Program", chosen: Lanes, *given: Any) -> tuple[Held, State]:
    """Without the inputs, which would be copied."""
    held, state = _begin(program, chosen, *given)
    return held._replace(data=Samples(None, None, held.data.y, None, held.data.y_test)), state


def _begun(program: "Program", chosen: Lanes, *given: Any) -> tuple[Held, State]:
    held, state = _made_at_first(program, chosen, *given)
    data: Samples = given[-1]
    return held._replace(data=data._replace(y=held.data.y, y_test=held.data.y_test)), state


def _optimiser(program: "Program", held: Held, like: Any) -> "optax.GradientTransformation":
    """`like` has the structure of what is trained."""
    algorithm, steps = program.trained_by, program.trace_steps[-1]
    layers = optimisers.layer_scales(like, program.width) if program.layerwise else None
    return optimisers.transformation(algorithm, held.rate, steps, held.start, layers)


def _order(program: "Program", seed: Array, members: Array) -> Array | None:
    algorithm = program.trained_by
    if not algorithm.batch:
        return None
    if algorithm.order != "own":
        return seeds.order_key(seed)
    return jax.vmap(lambda one: seeds.order_key(seed, seeds.member_key(seed, program.width, one)))(members)


Batch = tuple[Array, Array] | None
"""Samples of a step, (x, y): x (b, d) of all lanes or (B, b, d), y (b, 1 or B, outputs); None: all that there are."""


def _step(program: "Program", held: Held, batch_of: Callable[[Any], Batch]) -> Callable[[Any, State], State]:
    """(number, state) -> state."""
    data, algorithm = held.data, program.trained_by
    outputs, _ = first_layer.in_lanes(program.mlp, data.x, data.x_transposed, held.dual)
    look = None
    if program.watched:
        look = rises.watch(algorithm, program.trace_steps[-1], program.matmul_precision, data.x.dtype, held.untrained)

    def cost(trained: Any, batch: Batch) -> tuple[Array, Array]:
        """The sum over lanes, whose gradient is that of each, and the loss of each."""
        found, y = (outputs(trained), data.y) if batch is None else (_of_batch(program, trained, batch[0]), batch[1])
        losses = _losses(found, y)
        return losses.sum(), losses

    def step(number: Any, state: State) -> State:
        gradient, losses = jax.grad(cost, has_aux=True)(state.trained, batch_of(number))
        seen = state.seen if look is None else look(number, losses, state.seen)
        optimiser = _optimiser(program, held, state.trained)
        updates, moments = optimiser.update(gradient, state.moments, state.trained)
        return State(optax.apply_updates(state.trained, updates), moments, seen)

    return step


def _losses(outputs: Array, y: Array) -> Array:
    return 0.5 * jnp.mean((outputs - y) ** 2, axis=(0, 2))


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def _advanced(program: "Program", chosen: Lanes, length: int, held: Held, state: State, first: Array) -> State:
    """After `length` more steps, of which `first` is the number of the first."""
    step = _step(program, held, _batches(program, held, first, length))
    return jax.lax.fori_loop(0, length, lambda number, state: step(first + number, state), state)


def _batches(program: "Program", held: Held, first: Array, length: int) -> Callable[[Any], Batch]:
    """The samples of the steps from `first` on, whose orders are made before them: no step asks whether one is due."""
    data, size = held.data, program.trained_by.batch
    if not size:
        return lambda number: None
    n, each = len(data.x), len(data.x) // size
    epochs = first // each + jnp.arange(_epochs(length, each))
    own = program.trained_by.order == "own"

    def orders(key: Array) -> Array:
        return jax.vmap(lambda epoch: minibatches.epoch_order(key, epoch, n))(epochs)

    assert held.order is not None
    found = jax.vmap(orders)(held.order) if own else orders(held.order)  # (B, epochs, n) or (epochs, n)

    def of_order(order: Array, number: Any) -> Array:
        row = order[number // each - epochs[0]]
        return jax.lax.dynamic_slice_in_dim(row, number % each * size, size)

    def batch(number: Any) -> Batch:
        if not own:
            chosen = of_order(found, number)
            return data.x[chosen], data.y[chosen]
        chosen = jax.vmap(of_order, in_axes=(0, None))(found, number)
        axis = 1 if data.y.shape[1] > 1 else None
        y = data.y if axis else data.y[:, 0]
        return data.x[chosen], jax.vmap(lambda y, one: y[one], in_axes=(axis, 0), out_axes=1)(y, chosen)

    return batch


def _epochs(length: int, each: int) -> int:
    """Epochs of which `length` steps may take batches, wherever they begin."""
    return (each - 1 + length - 1) // each + 1


def _longest(program: "Program", n: int) -> int:
    """Steps of one program, so that the orders of mini-batches made for it are no more numbers than activations are."""
    size = program.trained_by.batch
    if size and not 0 < size <= n:
        raise ValueError(f"batch = {size} is more than the {n} samples")
    fitting = [lanes.RADIX**level for level in range(lanes.MOST_LEVELS)]
    if size:
        fitting = [one for one in fitting if _epochs(one, n // size) <= program.width] or fitting[:1]
    return fitting[-1]


def _of_batch(program: "Program", trained: Any, x: Array) -> Array:
    weight = trained[0][0]
    if x.ndim == 2:
        product = jnp.tensordot(x, weight, 1)
    else:
        product = jax.vmap(jnp.matmul, in_axes=(0, 1), out_axes=1)(x, weight)
    return first_layer.after_first(program.mlp, trained, product, x.shape[-1])


def _outputs(program: "Program", parameters: Any, x: Array) -> Array:
    """Outputs (n, B, outputs) at inputs x (n, d) of all lanes."""
    return first_layer.after_first(program.mlp, parameters, jnp.tensordot(x, parameters[0][0], 1), x.shape[1])


def _at_test_points(program: "Program", chosen: Lanes, parameters: Any, x: Array) -> Array:
    """Outputs (B, N_T, outputs). On a CPU of one network after another, as test points may be many."""
    if chosen.static:
        return jnp.moveaxis(_outputs(program, parameters, x), 1, 0)
    return jax.lax.map(lambda one: program.mlp.apply(one, x), first_layer.single(parameters))


def _made(program: "Program", held: Held, trained: Any) -> Any:
    return first_layer.in_lanes(program.mlp, held.data.x, held.data.x_transposed, held.dual)[1](trained)


def _look(program: "Program", chosen: Lanes, held: Held, state: State) -> tuple[Array, Array]:
    """Training and test loss (B,). On a CPU test points, which may be many, are those of one network at a time."""
    data = held.data
    outputs, _ = first_layer.in_lanes(program.mlp, data.x, data.x_transposed, held.dual)
    train_loss = _losses(outputs(state.trained), data.y)
    parameters = _made(program, held, state.trained)
    if chosen.static:
        return train_loss, _losses(_outputs(program, parameters, data.x_test), data.y_test)
    y = jnp.moveaxis(jnp.broadcast_to(data.y_test, (len(data.x_test), *train_loss.shape, data.y_test.shape[2])), 1, 0)

    def one(lane: tuple[Any, Array]) -> Array:
        return 0.5 * jnp.mean((program.mlp.apply(lane[0], data.x_test) - lane[1]) ** 2)

    return train_loss, jax.lax.map(one, (first_layer.single(parameters), y))


_looked_at = partial(jax.jit, static_argnums=(0, 1))(_look)


def _end(program: "Program", chosen: Lanes, held: Held, state: State, train_loss: Array) -> tuple[Array, Array]:
    """Predictions of the scaled outputs (B, N_T, outputs), and last rises (B,), from the last training loss (B,)."""
    data, parameters = held.data, _made(program, held, state.trained)
    predictions = _at_test_points(program, chosen, parameters, data.x_test)
    if held.subtracted is not None:
        predictions = predictions - jnp.moveaxis(held.subtracted, 1, 0)
    if not program.watched:
        return predictions, jnp.full(len(predictions), -1, jnp.int32)
    steps = program.trace_steps[-1]
    look = rises.watch(program.trained_by, steps, program.matmul_precision, data.x.dtype, held.untrained)
    return predictions, look(jnp.int32(steps), train_loss, state.seen)[2]


_ended = partial(jax.jit, static_argnums=(0, 1))(_end)

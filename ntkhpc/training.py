"""One tile of members trained at once, by full-batch gradient descent or another algorithm.

Cost C = sum over samples a and outputs k of (f - y)^2 / (2 c) with c = n_train * outputs, of a mini-batch over its own
samples; the step is theta -= eta grad C, or what the algorithm makes of it (optimisers.py). A step is an update of the
weights. A network is therefore comparable with the exact law of [arXiv:1902.06720] after the same number of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntkhpc import first_layer, minibatches, optimisers, output_scale, pinned, precisions, seeds
from ntkhpc.first_layer import FirstLayer
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


_GRID = 4001
_ROUNDINGS = 16
_PRODUCT_ROUNDINGS = 4
_SMALLEST_RISE = 1e-9


def sound_rises(momentum: float, steps: int, algorithm: Algorithm = optimisers.PLAIN) -> np.ndarray:
    """How much the training loss of a stable linear model can rise at each step, in units of its first loss.

    Returns (at most `steps`,), of steps 1, 2, ...; at later ones the loss cannot rise by more than 1e-9. A mode of
    curvature x = eta lambda/c keeps the part p_t(x) of its residual [p_0 = 1, p_1 = 1 - x, p_(t+1) = (1 + beta - x) p_t
    - beta p_(t-1)], and the loss is the sum of p_t^2 z^2/(2 c) over modes. So it rises by at most the maximum over the
    stable 0 <= x <= 2 (1 + beta) of p_(t+1)^2 - p_t^2. Without momentum p_t = (1 - x)^t, and no rise is sound.
    Nesterov momentum and schedules have recursions and bounds of their own. Raises ValueError for an algorithm of which
    nothing is known.
    """
    algorithm = optimisers.trained_by(algorithm, momentum)
    if not algorithm.falls:
        raise ValueError(f"it is not known by how much the loss may rise in a step of {algorithm.optimiser}")
    if not algorithm.is_plain:
        return _scheduled_rises(algorithm, steps)
    momentum = algorithm.momentum
    x = np.linspace(0, 2 * (1 + momentum), _GRID)
    before, now = np.ones_like(x), np.ones_like(x)  # no velocity: p_1 = (1 + beta - x) - beta
    rises = np.zeros(steps if momentum else 0)
    for step in range(len(rises)):
        before, now = now, (1 + momentum - x) * now - momentum * before
        rises[step] = max(0.0, float((now**2 - before**2).max()))
    return _until_small(rises)


def _scheduled_rises(algorithm: Algorithm, steps: int) -> np.ndarray:
    """The same for momentum and rates of any kind, from the velocity v of each mode."""
    bound = optimisers.stability_bound(algorithm, 1.0, 1, 1)
    x, beta = np.linspace(0, bound, _GRID), algorithm.momentum
    rises, residual, velocity = np.zeros(steps if beta else 0), np.ones_like(x), np.zeros_like(x)
    for step, part in enumerate(optimisers.multipliers(algorithm.schedule, steps)[: len(rises)]):
        velocity = residual + beta * velocity
        used = residual + beta * velocity if algorithm.optimiser == "nesterov" else velocity
        before, residual = residual, residual - part * x * used
        rises[step] = max(0.0, float((residual**2 - before**2).max()))
    return _until_small(rises)


def _until_small(rises: np.ndarray) -> np.ndarray:
    large = np.flatnonzero(rises > _SMALLEST_RISE)
    return rises[: large[-1] + 1] if len(large) else rises[:0]


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
    if not len(members):
        raise ValueError("a tile has no members")
    doubles, plain = "float64" in (program.precision, program.drawn), isinstance(program.mlp, MLP)
    numbers, results = np.asarray(members, np.uint32), []
    with jax.enable_x64(doubles), jax.default_matmul_precision(program.matmul_precision):
        x, y, *test = (jnp.asarray(a, program.precision) for a in (x_train, y_train, x_test, y_test))
        data = (x, jnp.asarray(np.ascontiguousarray(np.asarray(x).T)), y, *test) if plain else (x, x, y, *test)
        rate, weights = jnp.asarray(learning_rate, program.precision), _Weights.of(program, x.shape[1])
        parts = -(-len(numbers) // weights.at_once())
        at_once = -(-len(numbers) // parts)  # the last part is padded: one program for all
        for some in jnp.asarray(np.resize(numbers, (parts, at_once))):
            drawn = weights.compiled(at_once, doubles, _settings())(jnp.uint32(seed), some)
            results.append(jax.device_get(_compiled(plain)(program, drawn, jnp.uint32(seed), some, rate, *data)))
    return Trained(*(np.concatenate(part)[: len(numbers)] for part in zip(*results, strict=True)))


_DRAWN_BYTES = 2**23
"""Of initial weights that wait for their training."""


@dataclass(frozen=True)
class _Weights:
    """What initial weights are drawn from beside seed and member: a program of its own, which is compiled once a width
    and kept when those of a training-set size are let go."""

    mlp: MLP | Any
    width: int
    features: int
    drawn: str
    precision: str

    @classmethod
    def of(cls, program: Program, features: int) -> "_Weights":
        return cls(program.mlp, program.width, features, program.drawn or program.precision, program.precision)

    @lru_cache(maxsize=16)  # noqa: B019  (of small frozen values)
    def at_once(self) -> int:
        """Members whose weights are drawn before they are trained, one after the other: of the sizes alone."""
        shapes = jax.eval_shape(self._draw, jnp.uint32(0), jnp.uint32(0))
        taken = sum(one.size * one.dtype.itemsize for one in jax.tree.leaves(shapes))
        return max(1, _DRAWN_BYTES // max(taken, 1))

    def _draw(self, seed: Array, member: Array) -> Any:
        key = seeds.member_key(seed, self.width, member)
        drawn = self.mlp.of_width(self.width).init(key, self.features, jnp.dtype(self.drawn))
        return jax.tree.map(lambda one: one.astype(self.precision), drawn)

    @lru_cache(maxsize=4)  # noqa: B019  (of small frozen values)
    def compiled(self, members: int, doubles: bool, settings: tuple[str, ...]) -> Callable[[Array, Array], Any]:
        """(seed, members (m,)) -> the weights of each, along a first axis.

        `doubles` and the `settings` of JAX decide the program too, and are there to tell one from another.
        """
        draw = _jit(isinstance(self.mlp, MLP))(lambda seed, some: jax.lax.map(lambda one: self._draw(seed, one), some))
        return draw.lower(jnp.uint32(0), jnp.zeros(members, jnp.uint32)).compile()


def _settings() -> tuple[str, ...]:
    """What a process has set of JAX that decides values."""
    return tuple(str(jax.config.values.get(name)) for name in pinned.JAX)


def _jit(fully_connected: bool) -> Callable[..., Any]:
    """jax.jit for an MLP, or for another network."""
    if fully_connected:
        return jax.jit
    from ntkhpc import tangents  # seconds to import, and only for other networks

    return tangents.compiled


@cache
def _compiled(fully_connected: bool) -> Callable[..., Any]:
    return _jit(fully_connected)(_train, static_argnums=0)


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

    watch = _watch(program, x.dtype, start) if program.watched else None

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


def _resolution(matmul_precision: str, dtype: Any) -> float:
    """Of outputs, relative to what they begin with: products of coarser factors have sums of full precision."""
    eps, factors = float(np.finfo(dtype).eps), precisions.of_products(str(dtype), matmul_precision)
    return _ROUNDINGS * eps if factors <= eps else _PRODUCT_ROUNDINGS * factors


def _watch(program: Program, dtype: Any, subtracted: Array | None) -> Callable[[Array, Array, Any], Any]:
    """What looks at the loss at each step: (step, loss, seen) -> seen, which is (first loss, loss before, last rise).

    Rounding moves residuals by about the resolution of the outputs, so the loss C by that times sqrt(C C_0). What is
    `subtracted` from outputs is rounded too, and C_0 has its loss besides.
    """
    rises = sound_rises(program.momentum, program.trace_steps[-1], program.algorithm)
    allowed = jnp.asarray(np.append(rises, _SMALLEST_RISE if len(rises) else 0.0), dtype)
    resolution = _resolution(program.matmul_precision, dtype)
    untrained = None if subtracted is None else 0.5 * jnp.mean(subtracted**2)

    def watch(step: Array, loss: Array, seen: Any) -> Any:
        first, before, last = seen
        first = jnp.where(step == 0, loss, first)
        sound = allowed[jnp.clip(step - 1, 0, len(allowed) - 1)] * first
        scale = first if untrained is None else first + untrained
        rounding = resolution * (before + jnp.sqrt(before * scale))
        rose = loss > before + sound + rounding
        return first, loss, jnp.where(rose, jnp.asarray(step, jnp.int32), last)

    return watch

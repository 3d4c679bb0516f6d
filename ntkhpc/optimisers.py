"""Training algorithms: what each does at a step, up to which rate it is stable, and its law at infinite width.

A step of `optimiser` is theta -= eta_s u_s, with the gradient g_s of the cost on the batch of the step and

    gd, sgd   u = g              momentum  v = g + beta v,  u = v              nesterov  v = g + beta v,  u = g + beta v
    adam      u = m/(sqrt(q) + 1e-8), m and q the means of g and g^2 over about 10 and 1000 steps [arXiv:1412.6980]

Weight decay is decoupled [arXiv:1711.05101]: a step adds -eta_s weight_decay theta, or towards the start
-eta_s weight_decay (theta - theta_0). `eta_s` is the peak rate times `multipliers`; in adam and adamw it is in units of
1/sqrt(width), in which each step changes the outputs alike at every width.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

if TYPE_CHECKING:  # plans are made without JAX
    import optax

OptimiserName = Literal["gd", "momentum", "nesterov", "sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "warmup-cosine"]
Order = Literal["shared", "own"]
Target = Literal["zero", "start"]

DUAL_SHARE, FEWEST_FEATURES = 1.5, 64
"""The dual form is used with so many features or more, and below so many times as many samples."""

WARM_UP = 0.1
"""Share of all steps in which the rate of "warmup-cosine" rises."""


@dataclass(frozen=True)
class Algorithm:
    """One way to train. `batch` samples a step, 0 for all of them, in an `order` that all members share or that each
    has of its own. Raises ValueError for what an optimiser cannot use, or lacks."""

    optimiser: OptimiserName = "gd"
    momentum: float = 0.0
    schedule: Schedule = "constant"
    batch: int = 0
    order: Order = "shared"
    weight_decay: float = 0.0
    decay_towards: Target = "zero"

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser = {self.optimiser!r} is none of {', '.join(OPTIMISERS)}")
        for field, known in (("schedule", Schedule), ("order", Order), ("decay_towards", Target)):
            if getattr(self, field) not in get_args(known):
                raise ValueError(f"{field} = {getattr(self, field)!r} is none of {', '.join(get_args(known))}")
        if not (0 <= self.momentum < 1 and self.batch >= 0 and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                f"momentum = {self.momentum} must be in [0, 1), batch = {self.batch} and weight_decay = "
                f"{self.weight_decay} not negative"
            )
        for field, hint in _FIELDS.items():
            if getattr(self, field) and field not in self.entry.uses:
                able = ", ".join(name for name, one in OPTIMISERS.items() if field in one.uses)
                raise ValueError(f"{field} = {getattr(self, field):g} is not for {self.optimiser}, but for {able}")
            if not getattr(self, field) and field in self.entry.needs:
                raise ValueError(f"optimiser = {self.optimiser!r} needs {field}: {hint}")
        if self.order == "own" and not self.batch:
            raise ValueError('order = "own" is one of mini-batches: give batch, the samples of a step')

    @property
    def entry(self) -> "Optimiser":
        return OPTIMISERS[self.optimiser]

    @property
    def is_plain(self) -> bool:
        """Whether it is full-batch descent, with heavy-ball momentum or without, at a constant rate and no more."""
        plain = self.optimiser in ("gd", "momentum") and self.schedule == "constant"
        return plain and not self.weight_decay

    @property
    def is_closed(self) -> bool:
        """Whether it is full-batch descent at a constant rate alone, whose steps a linear model sums in closed form."""
        return self.optimiser == "gd" and self.is_plain and not self.momentum

    @property
    def has_leaps(self) -> bool:
        """Whether its steps can be taken in leaps: full-batch descent, with momentum and schedules or without.

        Mini-batches have another kernel at every step, adam is not linear in the gradient, and decay of the weights
        needs products with the weights themselves.
        """
        return self.is_linear and not self.weight_decay

    @property
    def falls(self) -> bool:
        """Whether it is known by how much the training loss of a stable linear model may rise at a step."""
        return self.entry.bound is not None and not self.batch and not self.weight_decay

    @property
    def is_linear(self) -> bool:
        """Whether a step is linear in the gradient of the cost on all samples."""
        return self.entry.bound is not None and not self.batch

    def is_dual(self, features: int, n_train: int) -> bool:
        """Whether the first layer of a fully connected network is trained in the dual form (first_layer.py).

        A rule of the sizes alone, so that no timing decides a bit. With 784 features and width 512 a step takes 0.26 of
        the time of the other form at n_train = 256, 0.85 at 1000; with few features, passes over the activations take
        longer than the products do, and nothing is saved.
        """
        return self.is_linear and features >= FEWEST_FEATURES and n_train < DUAL_SHARE * features

    def has_law(self, degree: int | None) -> bool:
        """Whether its law at infinite width is known, of networks of this `homogeneity`."""
        shrinks = bool(self.weight_decay) and self.decay_towards == "zero"
        return self.entry.bound is not None and not (shrinks and degree is None)

    def width_scale(self, width: int) -> float:
        """By which the rate is multiplied in a network of this width."""
        return 1.0 if self.entry.bound else 1 / math.sqrt(width)


def trained_by(algorithm: Algorithm, momentum: float) -> Algorithm:
    """The algorithm, where heavy-ball momentum may be given beside it, as it was before there were others."""
    if not momentum or momentum == algorithm.momentum:
        return algorithm
    if algorithm.momentum:
        raise ValueError(f"momentum = {momentum:g}, but the algorithm has {algorithm.momentum:g}")
    name = "momentum" if algorithm.optimiser == "gd" else algorithm.optimiser
    return replace(algorithm, optimiser=name, momentum=momentum)


@dataclass(frozen=True)
class Optimiser:
    """One entry. `direction` makes u_s of g_s by optax; `states` are the numbers that it keeps for each parameter.

    `bound` gives, from the momentum, the F of the stability bound F c/lambda_max of a constant rate; None where there
    is none, as of what is not linear in the gradient, which has no law either. `uses` and `needs` name its fields.
    """

    title: str
    direction: Callable[[Algorithm], "optax.GradientTransformation"]
    states: int
    bound: Callable[[float], float] | None
    uses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


_FIELDS: Mapping[str, str] = {
    "momentum": "beta, between 0 and 1, such as 0.9",
    "batch": "the samples of a step",
    "weight_decay": "the share of each weight that a step takes, over the rate",
}


def _identity(algorithm: Algorithm) -> "optax.GradientTransformation":
    import optax

    return optax.identity()


def _trace(algorithm: Algorithm) -> "optax.GradientTransformation":
    import optax

    return optax.trace(decay=algorithm.momentum, nesterov=algorithm.optimiser == "nesterov")


def _adam(algorithm: Algorithm) -> "optax.GradientTransformation":
    import optax

    return optax.scale_by_adam()


def _plain(momentum: float) -> float:
    return 2 * (1 + momentum)


OPTIMISERS: Mapping[str, Optimiser] = {
    "gd": Optimiser("gradient descent", _identity, 0, _plain, ("weight_decay",)),
    "momentum": Optimiser(
        "gradient descent with heavy-ball momentum", _trace, 1, _plain, ("momentum", "weight_decay"), ("momentum",)
    ),
    "nesterov": Optimiser(
        "gradient descent with Nesterov momentum", _trace, 1, lambda beta: 2 * (1 + beta) / (1 + 2 * beta),
        ("momentum", "weight_decay"), ("momentum",),
    ),
    "sgd": Optimiser("stochastic gradient descent", _identity, 0, _plain, ("batch", "weight_decay"), ("batch",)),
    "adam": Optimiser("Adam", _adam, 2, None, ("batch",)),
    "adamw": Optimiser("AdamW", _adam, 2, None, ("batch", "weight_decay"), ("weight_decay",)),
}  # fmt: skip


PLAIN = Algorithm()
"""Full-batch gradient descent at a constant rate."""


def layer_scales(parameters: Any, width: int) -> Any:
    """Of adam in the mu-parametrisation: what multiplies the rate of each weight of an MLP, shaped as its parameters.

    Adam changes each weight by about eta, whatever the scale of its gradient. Outputs of a last layer over gamma =
    gamma_0 sqrt(n) then move alike at every width n, as preactivations of the first layer do; those of a hidden layer
    are sums of n changes over sqrt(n), so its weights learn at eta/sqrt(n). [arXiv:2203.03466, powers counted here.]
    """
    last = len(parameters) - 1
    return tuple(
        (1 / math.sqrt(width) if 0 < number < last else 1.0, *(1.0 for _ in layer[1:]))
        for number, layer in enumerate(parameters)
    )


def transformation(
    algorithm: Algorithm, rate: Any, steps: int, start: Any, layers: Any = None
) -> "optax.GradientTransformation":
    """What optax does at each of `steps` steps: `rate` is the peak rate, `start` the parameters theta_0, `layers` what
    multiplies the rate of each of them."""
    import optax

    parts = [algorithm.entry.direction(algorithm)]
    if layers is not None:
        parts.append(_by_layers(layers))
    if algorithm.weight_decay and algorithm.decay_towards == "zero":
        parts.append(optax.add_decayed_weights(algorithm.weight_decay))
    elif algorithm.weight_decay:
        parts.append(_towards(start, algorithm.weight_decay))
    if algorithm.schedule != "constant":
        unit = _schedule(algorithm.schedule, steps)
        return optax.chain(*parts, optax.scale_by_learning_rate(lambda count: rate * unit(count)))
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _by_layers(layers: Any) -> "optax.GradientTransformation":
    import jax
    import optax

    return optax.stateless(lambda updates, parameters: jax.tree.map(lambda u, scale: u * scale, updates, layers))


def _towards(start: Any, decay: float) -> "optax.GradientTransformation":
    import jax
    import optax

    def add(updates: Any, parameters: Any) -> Any:
        return jax.tree.map(lambda u, now, first: u + decay * (now - first), updates, parameters, start)

    return optax.stateless(add)


def _warm_up(schedule: str, steps: int) -> int:
    return int(WARM_UP * steps) if schedule == "warmup-cosine" else 0


def _schedule(schedule: str, steps: int) -> "Callable[[Any], Any]":
    import optax

    if not (rising := _warm_up(schedule, steps)):
        return optax.cosine_decay_schedule(1.0, max(steps, 1))
    return optax.warmup_cosine_decay_schedule(1 / (rising + 1), 1.0, rising, steps)


def multipliers(schedule: str, steps: int) -> np.ndarray:
    """eta_s over the peak rate, of each of all `steps` steps (steps,).

    "cosine" is (1 + cos(pi s/steps))/2. "warmup-cosine" is (s + 1)/(w + 1) in the first w = steps/10 steps, rounded
    down, and then the cosine over those that are left.
    """
    if schedule == "constant":
        return np.ones(steps)
    rising, s = _warm_up(schedule, steps), np.arange(steps)
    return np.where(s < rising, (s + 1) / (rising + 1), (1 + np.cos(np.pi * (s - rising) / max(steps - rising, 1))) / 2)


def stability_bound(
    algorithm: Algorithm, largest: Any, samples: Any, outputs: float, diagonal: np.ndarray | None = None
) -> Any:
    """The rate from which on a linear model diverges, at a constant rate; c = samples * outputs.

    F c/lambda_max without decay; F/(lambda_max/c + F weight_decay/2) with decay towards the start, from the root -1 of
    the recursion. With decay to zero weights are divided by their scale too, and F/(lambda_max/c + F weight_decay)
    suffices at the first step, after which the scale falls. Of mini-batches c and lambda_max are those of a batch,
    and for the latter stands a bound of every batch: lambda_max of all samples or, if that is less, the sum of as many
    of the largest entries on the `diagonal` (n,) of the kernel. Raises ValueError for an optimiser without a bound.
    """
    if algorithm.entry.bound is None:
        raise ValueError(f"{algorithm.optimiser} has no stability bound of the learning rate")
    factor = algorithm.entry.bound(algorithm.momentum)
    if algorithm.batch:
        if diagonal is None:
            raise ValueError("the bound of mini-batches needs the diagonal of the kernel")
        samples, largest = algorithm.batch, min(largest, np.sort(diagonal)[-algorithm.batch :].sum())
    decayed = 0.0
    if algorithm.weight_decay:
        share = 1.0 if algorithm.decay_towards == "zero" else 0.5
        decayed = share * factor * algorithm.weight_decay * samples * outputs
    return factor * samples * outputs / (largest + decayed)


def homogeneity(network: Any) -> int | None:
    """k of f(r theta) = r^k f(theta), which a ReLU network without biases has; None for others.

    `network` has depth, activation and bias_variance.
    """
    known = all(hasattr(network, name) for name in ("depth", "activation", "bias_variance"))
    return network.depth + 1 if known and network.activation == "relu" and not network.bias_variance else None

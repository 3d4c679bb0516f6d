"""Fully connected networks in the NTK parametrisation [arXiv:1902.06720, eq. 1].

    z1 = sqrt(C_W/d) x W1 + sqrt(C_b) b1 ;  z(l+1) = sqrt(C_W/n_l) phi(z_l) W + sqrt(C_b) b ;  all W, b ~ N(0, 1)

The read-out is linear; depth counts hidden layers. Without bias variance there are no bias parameters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

Activation = Literal["relu", "erf"]
Parameters = tuple[tuple[Array, ...], ...]
"""One entry per layer: (W,) or (W, b)."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "erf": jax.lax.erf}


@dataclass(frozen=True)
class FiniteNetwork:
    """A network of some width: init(key, features, dtype) gives standard normal parameters, and apply(parameters, x)
    outputs (n, outputs) at inputs x (n, features)."""

    init: Callable[[Array, int, Any], Any]
    apply: Callable[[Any, Array], Array]


@dataclass(frozen=True)
class MLP:
    """Architecture without its width, which the infinite-width limit does not have.

    Raises ValueError for a depth below 1, an unknown activation, or a variance that is not allowed.
    """

    depth: int
    activation: Activation
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    outputs: int = 1

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is none of {', '.join(ACTIVATIONS)}")
        if self.depth < 1 or self.outputs < 1:
            raise ValueError(f"depth = {self.depth} and outputs = {self.outputs} must be at least 1")
        if not (0 < self.weight_variance < math.inf and 0 <= self.bias_variance < math.inf):
            raise ValueError(
                f"weight_variance = {self.weight_variance} must be positive and bias_variance = {self.bias_variance} "
                "not negative"
            )

    def init(
        self, key: Array, features: int, widths: Sequence[int], dtype: jnp.dtype | type = jnp.float32
    ) -> Parameters:
        """Standard normal parameters of a network with hidden layers of the given `widths` (one per layer)."""
        if len(widths) != self.depth:
            raise ValueError(f"{len(widths)} widths given for depth {self.depth}")
        sizes = [features, *widths, self.outputs]
        layers: list[tuple[Array, ...]] = []
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            # Each layer folds in its own number, so that a deeper network shares its first layers with this one.
            weight_key, bias_key = jax.random.split(jax.random.fold_in(key, layer))
            weight = jax.random.normal(weight_key, (fan_in, fan_out), dtype)
            bias = (jax.random.normal(bias_key, (fan_out,), dtype),) if self.bias_variance else ()
            layers.append((weight, *bias))
        return tuple(layers)

    def of_width(self, width: int) -> FiniteNetwork:
        """The network with so many units in every hidden layer."""
        widths = [width] * self.depth
        return FiniteNetwork(lambda key, features, dtype: self.init(key, features, widths, dtype), self.apply)

    def apply(self, parameters: Parameters, x: Array) -> Array:
        """Outputs (n, outputs) at inputs x (n, features)."""
        return self.after_first(parameters, x @ parameters[0][0], x.shape[1])

    def after_first(self, parameters: Parameters, product: Array, features: int) -> Array:
        """Outputs (n, outputs) from the first layer's product x W1 (n, width), with whatever `parameters` has as W1."""
        phi = ACTIVATIONS[self.activation]
        z = product
        for layer, (weight, *bias) in enumerate(parameters):
            fan_in = weight.shape[0] if layer else features
            z = (phi(z) @ weight if layer else z) * math.sqrt(self.weight_variance / fan_in)
            if bias:
                z = z + math.sqrt(self.bias_variance) * bias[0]
        return z

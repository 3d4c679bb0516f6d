"""What networks of neural_tangents.stax cost to train, from traces of their steps (see `traced`)."""

import functools
import math
from typing import Any

import jax

from ntkhpc import tangents, traced
from ntkhpc.stax_network import StaxNetwork


@functools.lru_cache(maxsize=64)
def forward_operations(network: StaxNetwork, width: int, features: int, samples: int) -> float:
    """Operations to evaluate one network on so many samples, in those of dense products."""
    apply = network.of_width(width).apply
    parameters, x, _ = _shapes(network, width, features, samples, "float32")
    with tangents.library():
        return traced.operations(traced.trace(apply, parameters, x))


@functools.lru_cache(maxsize=64)
def step_operations(network: StaxNetwork, width: int, features: int, samples: int) -> float:
    """Operations of one step of full-batch gradient descent on so many samples, in those of dense products."""
    return traced.operations(_step(network, width, features, samples, "float32"))


@functools.lru_cache(maxsize=64)
def step_bytes(network: StaxNetwork, width: int, features: int, samples: int, precision: str) -> int:
    """Bytes held at the peak of such a step, in float32 or float64: samples, parameters and what layers pass on."""
    return traced.peak_bytes(_step(network, width, features, samples, precision))


@functools.lru_cache(maxsize=64)
def parameter_count(network: StaxNetwork, width: int, features: int) -> int:
    """Weights and biases of one network."""
    leaves = jax.tree.leaves(_shapes(network, width, features, 1, "float32")[0])
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _step(network: StaxNetwork, width: int, features: int, samples: int, precision: str) -> Any:
    apply = network.of_width(width).apply

    def cost(parameters: Any, x: Any, y: Any) -> Any:
        return 0.5 * jax.numpy.mean((apply(parameters, x) - y) ** 2)

    with jax.enable_x64(precision == "float64"), tangents.library():
        return traced.trace(jax.grad(cost), *_shapes(network, width, features, samples, precision))


def _shapes(network: StaxNetwork, width: int, features: int, samples: int, precision: str) -> tuple[Any, Any, Any]:
    def shape(*sizes: int) -> Any:
        return traced.array(sizes, precision)

    parameters = jax.tree.map(lambda leaf: shape(*leaf.shape), network.parameters(width, features))
    return parameters, shape(samples, features), shape(samples, network.outputs)

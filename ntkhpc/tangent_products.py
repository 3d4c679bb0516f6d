"""Products with T = J J^T, the empirical NTK of one network at its parameters, J (N, parameters) with N = n * outputs.

Of a fully connected network T is made as a matrix: the gradient of an output by the weights of a layer is a product,

    T[(i k), (j l)] = sum over layers  s^2 (a_i . a_j) (d_ik . d_jl)  [+ C_b (d_ik . d_jl)]

with a the inputs of the layer, s^2 = C_W/fan_in, and d_ik the gradient of output k at sample i by what the layer gives.
It takes 4 N^2 width operations a hidden layer, less than one gradient step where N < width, and each product with it
2 N^2. Of other networks, and where N^2 would be too many numbers, a product is a jvp of a vjp.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
from jax import Array

from ntkhpc.leap_sizes import MOST_ROWS
from ntkhpc.networks import ACTIVATIONS, MLP, FiniteNetwork, Parameters


class Tangents(NamedTuple):
    """A network linearised at its parameters: product(v) = T v, (N,) to (N,), and transposed(v) = J^T v, shaped as the
    parameters."""

    product: Callable[[Array], Array]
    transposed: Callable[[Array], Any]


def is_explicit(mlp: Any, n_train: int) -> bool:
    """Whether T is made as a matrix: a rule of the sizes alone, so that no timing decides a bit."""
    return isinstance(mlp, MLP) and n_train * mlp.outputs <= MOST_ROWS


def tangents(mlp: Any, network: FiniteNetwork, parameters: Any, x: Array, gram: Array | None) -> Tangents:
    """Of a network at inputs x (n, features); `gram` x x^T (n, n) where T is made as a matrix, None where it is not.

    Rows of T and of J are in the order of outputs (n, outputs), flattened.
    """
    outputs, pulled = jax.vjp(lambda these: network.apply(these, x), parameters)

    def transposed(vector: Array) -> Any:
        return pulled(vector.reshape(outputs.shape).astype(outputs.dtype))[0]

    if gram is not None:
        matrix = empirical_ntk(mlp, parameters, x, gram)
        return Tangents(lambda vector: matrix @ vector, transposed)
    _, pushed = jax.linearize(lambda these: network.apply(these, x), parameters)
    return Tangents(lambda vector: pushed(transposed(vector)).reshape(-1), transposed)


def empirical_ntk(mlp: MLP, parameters: Parameters, x: Array, gram: Array) -> Array:
    """T (N, N) of a fully connected network, N = n * outputs, from its inputs x (n, features) and `gram` = x x^T."""
    n, outputs = len(x), mlp.outputs
    total = jnp.zeros((n, outputs, n, outputs), x.dtype)
    for inputs, gradients in _layers(mlp, parameters, x):
        inner = gram if inputs is x else inputs @ inputs.T
        weighed = _weighed(mlp, inner, inputs.shape[1])[:, None, :, None]
        # The gradients of the last layer are those of the outputs: its part of T is diagonal in them.
        between = jnp.eye(outputs, dtype=x.dtype)[:, None] if gradients is None else gradients @ gradients.T
        total += weighed * (between if gradients is None else between.reshape(total.shape))
    return total.reshape(n * outputs, n * outputs)


def diagonal(mlp: Any, network: FiniteNetwork, parameters: Any, x: Array) -> Array:
    """The diagonal (N,) of T, of any network; where it is not fully connected, by one gradient each."""
    if isinstance(mlp, MLP):
        total = jnp.zeros((len(x), mlp.outputs), x.dtype)
        for inputs, gradients in _layers(mlp, parameters, x):
            weighed = _weighed(mlp, jnp.sum(inputs**2, axis=1), inputs.shape[1])[:, None]
            total += weighed * (1 if gradients is None else jnp.sum(gradients**2, axis=1).reshape(total.shape))
        return total.reshape(-1)
    outputs, pulled = jax.vjp(lambda these: network.apply(these, x), parameters)

    def norm(row: Array) -> Array:
        unit = jnp.zeros(outputs.size, outputs.dtype).at[row].set(1).reshape(outputs.shape)
        return jnp.sum(jax.flatten_util.ravel_pytree(pulled(unit)[0])[0] ** 2)

    return jax.lax.map(norm, jnp.arange(outputs.size))


def _layers(mlp: MLP, parameters: Parameters, x: Array) -> Iterator[tuple[Array, Array | None]]:
    """From the last layer to the first: its inputs (n, fan_in), and the gradients (N, fan_out) of each output by what
    it gives; None of the last layer, where they are unit vectors."""
    n, outputs, phi = len(x), mlp.outputs, ACTIVATIONS[mlp.activation]
    inputs, slopes = [x], []
    for layer in parameters[:-1]:
        z = _given(mlp, layer, inputs[-1])
        activation, slope = jax.jvp(phi, (z,), (jnp.ones_like(z),))
        inputs.append(activation)
        slopes.append(slope)
    yield inputs[-1], None
    gradients = jnp.tile(jnp.eye(outputs, dtype=x.dtype), (n, 1))
    for at in reversed(range(mlp.depth)):
        weight = parameters[at + 1][0]
        back = gradients @ (math.sqrt(mlp.weight_variance / len(weight)) * weight.T)
        gradients = back * jnp.repeat(slopes[at], outputs, axis=0)
        yield inputs[at], gradients


def _weighed(mlp: MLP, inner: Array, fan_in: int) -> Array:
    return mlp.weight_variance / fan_in * inner + mlp.bias_variance


def _given(mlp: MLP, layer: tuple[Array, ...], inputs: Array) -> Array:
    """What a layer gives of its inputs."""
    weight, *bias = layer
    z = inputs @ weight * math.sqrt(mlp.weight_variance / len(weight))
    return z + math.sqrt(mlp.bias_variance) * bias[0] if bias else z

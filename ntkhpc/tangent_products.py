"""Products with T = J J^T, the empirical NTK of one network at its parameters, J (N, parameters) with N = n * outputs.

Of a fully connected network T is made as a matrix: the gradient of an output by the weights of a layer is a product,

    T[(i k), (j l)] = sum over layers  s^2 (a_i . a_j) (d_ik . d_jl)  [+ C_b (d_ik . d_jl)]

with a the inputs of the layer, s^2 = C_W/fan_in, and d_ik the gradient of output k at sample i by what the layer gives.
It takes 4 N^2 width operations a hidden layer, less than one gradient step where N < width, and each product with it
2 N^2. Of other networks, and where N^2 would be too many numbers, a product is a jvp of a vjp.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntkhpc.networks import ACTIVATIONS, MLP, FiniteNetwork, Parameters

MOST_ROWS = 4096
"""N up to which T is made as a matrix: 64 MiB in single precision."""


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
    n, outputs, phi = len(x), mlp.outputs, ACTIVATIONS[mlp.activation]
    inputs, slopes = [x], []
    for layer in parameters[:-1]:
        z = _given(mlp, layer, inputs[-1])
        activation, slope = jax.jvp(phi, (z,), (jnp.ones_like(z),))
        inputs.append(activation)
        slopes.append(slope)
    identity = jnp.eye(outputs, dtype=x.dtype)
    # Outputs are linear in the last layer: its gradients are the unit vectors, its part of T is diagonal in outputs.
    total = _weighed(mlp, inputs[-1] @ inputs[-1].T, inputs[-1].shape[1])[:, None, :, None] * identity[:, None, :]
    gradient = jnp.tile(identity, (n, 1))  # (N, outputs)
    for at in reversed(range(mlp.depth)):
        weight = parameters[at + 1][0]
        back = gradient @ (math.sqrt(mlp.weight_variance / len(weight)) * weight.T)
        gradient = back * jnp.repeat(slopes[at], outputs, axis=0)
        inner = inputs[at] @ inputs[at].T if at else gram
        weighed = _weighed(mlp, inner, inputs[at].shape[1])[:, None, :, None]
        total += weighed * (gradient @ gradient.T).reshape(n, outputs, n, outputs)
    return total.reshape(n * outputs, n * outputs)


def _weighed(mlp: MLP, inner: Array, fan_in: int) -> Array:
    return mlp.weight_variance / fan_in * inner + mlp.bias_variance


def _given(mlp: MLP, layer: tuple[Array, ...], inputs: Array) -> Array:
    """What a layer gives of its inputs."""
    weight, *bias = layer
    z = inputs @ weight * math.sqrt(mlp.weight_variance / len(weight))
    return z + math.sqrt(mlp.bias_variance) * bias[0] if bias else z

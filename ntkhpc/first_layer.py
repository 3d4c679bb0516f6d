"""The first layer of a fully connected network at its training inputs X (n, d), which every full-batch step takes.

A step needs the products Z = X W and X^T g of the weights W (d, width) and of the gradient g (n, width) by Z. In the
dual form W = a W_0 + X^T A with coefficients A (n, width): dC/dA = g moves W as dC/dW = X^T g does, and

    Z = a X W_0 + G A,    G = X X^T (n, n)

so a step of an algorithm that is linear in the gradient takes 2 n^2 width operations in place of 4 n d width. `a` is 1,
and falls by weight decay towards zero alone. Weights are made where the network is evaluated elsewhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntkhpc.networks import MLP, Parameters
from ntkhpc.optimisers import Algorithm


class FirstLayer(NamedTuple):
    """A network as it is trained: `start` stands for its parameters, outputs(trained) gives the network's outputs at
    the training inputs (n, outputs), and parameters(trained) its parameters."""

    start: Any
    outputs: Callable[[Any], Array]
    parameters: Callable[[Any], Parameters]


def gram(x: Array, x_transposed: Array, algorithm: Algorithm) -> Array | None:
    """G (n, n) where the dual form is used, the same for all networks; None for the other form."""
    return x @ x_transposed if algorithm.is_dual(x.shape[1], len(x)) else None


def of_samples(
    mlp: MLP, parameters: Parameters, x: Array, x_transposed: Array, gram: Array | None, algorithm: Algorithm
) -> FirstLayer:
    """Of a network that begins with `parameters` and of the inputs x (n, d) of every step.

    `x_transposed` (d, n) is x^T as an array of its own, as products with it are faster; `gram` is that of x.
    """
    if gram is None:
        return _plain(mlp, parameters, x, x_transposed)
    shrinks = bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"
    return _dual(mlp, parameters, x, x_transposed, gram, shrinks)


def _plain(mlp: MLP, parameters: Parameters, x: Array, x_transposed: Array) -> FirstLayer:
    @jax.custom_vjp
    def product(weight: Array) -> Array:
        return x @ weight

    product.defvjp(lambda weight: (x @ weight, None), lambda _, gradient: (x_transposed @ gradient,))
    return FirstLayer(
        parameters, lambda trained: mlp.after_first(trained, product(trained[0][0]), x.shape[1]), lambda same: same
    )


def _dual(mlp: MLP, parameters: Parameters, x: Array, x_transposed: Array, gram: Array, shrinks: bool) -> FirstLayer:
    """Of the first weight is trained: (A,), or (A, a) where weight decay `shrinks` W_0."""
    (weight, *bias), *rest = parameters
    first = x @ weight
    held = (jnp.zeros_like(first), *([jnp.ones((), first.dtype)] if shrinks else []))

    @jax.custom_vjp
    def product(held: tuple[Array, ...]) -> Array:
        coefficients, *scale = held
        return (scale[0] * first if scale else first) + gram @ coefficients

    def backward(_: None, gradient: Array) -> tuple[tuple[Array, ...]]:
        return ((gradient, *(jnp.zeros_like(scale) for scale in held[1:])),)

    product.defvjp(lambda held: (product(held), None), backward)

    def made(trained: Any) -> Parameters:
        ((coefficients, *scale), *bias), *rest = trained
        return ((scale[0] * weight if scale else weight) + x_transposed @ coefficients, *bias), *rest

    def outputs(trained: Any) -> Array:
        return mlp.after_first(trained, product(trained[0][0]), x.shape[1])

    return FirstLayer(((held, *bias), *rest), outputs, made)

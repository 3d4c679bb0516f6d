"""The first layer of a fully connected network at its training inputs X (n, d), which every full-batch step takes.

A step needs the products Z = X W and X^T g of the weights W (d, width) and of the gradient g (n, width) by Z. In the
dual form W = a W_0 + X^T A with coefficients A (n, width): dC/dA = g moves W as dC/dW = X^T g does, and

    Z = a X W_0 + G A,    G = X X^T (n, n)

so a step of an algorithm that is linear in the gradient takes 2 n^2 width operations in place of 4 n d width. `a` is 1,
and falls by weight decay towards zero alone. Weights are made where the network is evaluated elsewhere.

B networks in lanes have W (d, B, width), A and Z (n, B, width), a (B, 1), and one product of each kind for all; arrays
of other layers have B as their first axis.
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


class Dual(NamedTuple):
    """What stays in the dual form: G (n, n), W_0 (d, width), and X W_0 (n, width)."""

    gram: Array
    weight: Array
    product: Array


def gram(x: Array, x_transposed: Array, algorithm: Algorithm) -> Array | None:
    """G (n, n) where the dual form is used, the same for all networks; None for the other form."""
    return x @ x_transposed if algorithm.is_dual(x.shape[1], len(x)) else None


def of_samples(
    mlp: MLP, parameters: Parameters, x: Array, x_transposed: Array, gram: Array | None, algorithm: Algorithm
) -> FirstLayer:
    """Of a network that begins with `parameters` and of the inputs x (n, d) of every step.

    `x_transposed` (d, n) is x^T as an array of its own, as products with it are faster; `gram` is that of x.
    """

    def after(trained: Any, product: Array) -> Array:
        return mlp.after_first(trained, product, x.shape[1])

    if gram is None:
        return FirstLayer(parameters, _plain(after, x, x_transposed), lambda same: same)
    weight = parameters[0][0]
    dual = Dual(gram, weight, x @ weight)
    return FirstLayer(
        dual_start(parameters, dual.product, algorithm, ()), _dual(after, dual), _made(dual, x_transposed)
    )


def in_lanes(mlp: MLP, x: Array, x_transposed: Array, dual: Dual | None) -> tuple[Callable[[Any], Array], Any]:
    """The functions `outputs` (n, B, outputs) and `parameters` of B networks in lanes, of what is trained of them."""

    def after(trained: Any, product: Array) -> Array:
        return after_first(mlp, trained, product, x.shape[1])

    if dual is None:
        return _plain(after, x, x_transposed), lambda same: same
    return _dual(after, dual), _made(dual, x_transposed)


def lanes_of(parameters: Parameters) -> Parameters:
    """Parameters in lanes, of those with B as the first axis of every array."""
    (weight, *bias), *rest = parameters
    return (jnp.moveaxis(weight, 0, 1), *bias), *rest


def single(parameters: Parameters) -> Parameters:
    """The opposite."""
    (weight, *bias), *rest = parameters
    return (jnp.moveaxis(weight, 1, 0), *bias), *rest


def after_first(mlp: MLP, trained: Any, product: Array, features: int) -> Array:
    """Outputs (n, B, outputs) of B networks in lanes, from their product x W (n, B, width)."""
    (_, *bias), *rest = trained

    def one(bias: Any, rest: Any, product: Array) -> Array:
        return mlp.after_first(((jnp.zeros(()), *bias), *rest), product, features)

    return jax.vmap(one, in_axes=(0, 0, 1), out_axes=1)(bias, rest, product)


def dual_start(parameters: Parameters, product: Array, algorithm: Algorithm, scales: tuple[int, ...]) -> Any:
    """What is trained in the dual form: (A,) of the first weight, or (A, a) where weight decay shrinks W_0.

    `scales` is the shape of a.
    """
    (_, *bias), *rest = parameters
    shrinks = bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"
    held = (jnp.zeros_like(product), *([jnp.ones(scales, product.dtype)] if shrinks else []))
    return (held, *bias), *rest


def _plain(after: Callable[[Any, Array], Array], x: Array, x_transposed: Array) -> Callable[[Any], Array]:
    @jax.custom_vjp
    def product(weight: Array) -> Array:
        return jnp.tensordot(x, weight, 1)

    product.defvjp(
        lambda weight: (product(weight), None), lambda _, gradient: (jnp.tensordot(x_transposed, gradient, 1),)
    )
    return lambda trained: after(trained, product(trained[0][0]))


def _dual(after: Callable[[Any, Array], Array], dual: Dual) -> Callable[[Any], Array]:
    @jax.custom_vjp
    def product(held: tuple[Array, ...]) -> Array:
        coefficients, *scale = held
        return (scale[0] * dual.product if scale else dual.product) + jnp.tensordot(dual.gram, coefficients, 1)

    product.defvjp(lambda held: (product(held), held[1:]), lambda scale, g: ((g, *map(jnp.zeros_like, scale)),))
    return lambda trained: after(trained, product(trained[0][0]))


def _made(dual: Dual, x_transposed: Array) -> Callable[[Any], Parameters]:
    def made(trained: Any) -> Parameters:
        ((coefficients, *scale), *bias), *rest = trained
        weight = scale[0] * dual.weight if scale else dual.weight
        return (weight + jnp.tensordot(x_transposed, coefficients, 1), *bias), *rest

    return made

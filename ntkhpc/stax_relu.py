"""ReLU and its kin for neural_tangents.stax, with kernels that are right for equal inputs too.

The library has the angle between two inputs from q - k^2, with k their covariance and q the product of their variances:
where they are equal, that is rounding, and the angle is up to 3e-8 instead of 0. So the diagonal of its NTK has 8
digits, two equal rows make no singular kernel, and equal patches of two images have as little. Here the angle is 0
where q - k^2 is within the rounding of q. Elsewhere the formulas and the numbers are the library's.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkhpc import tangents

ROUNDING = 64 * float(np.finfo(float).eps)
"""Of q: angles below 1.2e-7, which q - k^2 has no digit of."""


@functools.cache
def layers() -> dict[str, Callable[..., Any]]:
    """By the library's names, what stands for its layers: the same arguments, parameters and outputs."""
    stax = tangents.load().stax

    def ABRelu(a: float, b: float, do_stabilize: bool = False) -> Any:
        def init_fn(rng: Any, input_shape: Any) -> Any:
            return input_shape, ()

        def apply_fn(parameters: Any, inputs: Any, **_: Any) -> Any:
            return a * jnp.minimum(inputs, 0) + b * jnp.maximum(inputs, 0)

        return init_fn, apply_fn, stax.requires(diagonal_spatial=stax.Diagonal())(_kernel_fn(a, b))

    made = stax.layer(stax.supports_masking(remask_kernel=False)(ABRelu))
    return {
        "ABRelu": made,
        "Relu": lambda do_stabilize=False: made(0, 1),
        "LeakyRelu": lambda alpha, do_stabilize=False: made(alpha, 1),
        "Abs": lambda do_stabilize=False: made(-1, 1),
    }


def _kernel_fn(a: float, b: float) -> Callable[..., Any]:
    """a min(x, 0) + b max(x, 0) [arXiv:1711.09090], after a layer whose outputs are Gaussian."""
    factor, half = (a - b) ** 2 / (2 * jnp.pi), (a**2 + b**2) / 2

    def kernel_fn(k: Any, **_: Any) -> Any:
        from neural_tangents._src.stax.requirements import get_diagonal_outer_prods

        if not k.is_gaussian:
            raise NotImplementedError("a non-linearity comes after a layer with weights, whose outputs are Gaussian")
        products = get_diagonal_outer_prods(k.cov1, k.cov2, k.diagonal_batch, k.diagonal_spatial, operator.mul)

        def passed(covariance: Any, product: Any) -> tuple[Any, Any]:
            left = product - covariance**2
            sine = jnp.sqrt(jnp.where(left > ROUNDING * product, left, 0.0))
            angle = jnp.where((sine == 0) & (covariance == 0), jnp.pi / 2, jnp.arctan2(sine, covariance))
            slope = half - factor * angle
            return factor * sine + slope * covariance, slope

        def own(covariance: Any, product: Any) -> Any:
            if covariance is None or (k.diagonal_batch and k.diagonal_spatial):
                return None if covariance is None else half * covariance
            return passed(covariance, product)[0]

        nngp, slope = passed(k.nngp, products[1])
        return k.replace(
            nngp=nngp,
            ntk=None if k.ntk is None else slope * k.ntk,
            cov1=own(k.cov1, products[0]),
            cov2=own(k.cov2, products[2]),
            is_gaussian=False,
        )

    return kernel_fn

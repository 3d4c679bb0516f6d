"""Operations and bytes of a trace, against those counted by hand."""

import jax
import jax.numpy as jnp

from ntkhpc import traced

A, B = traced.array((6, 5), "float32"), traced.array((5, 7), "float32")


def test_a_product_has_two_operations_for_each_of_its_terms() -> None:
    assert traced.operations(traced.trace(jnp.matmul, A, B)) == 2 * 6 * 5 * 7


def test_a_convolution_costs_two_operations_for_each_weight_of_each_output() -> None:
    x, kernel = traced.array((2, 8, 8, 3), "float32"), traced.array((3, 3, 3, 5), "float32")

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)

    assert traced.operations(traced.trace(convolve, x, kernel)) == traced.CONVOLUTION * 2 * (2 * 8 * 8 * 5) * 27


def test_entries_and_turns_of_loops_are_counted() -> None:
    def loop(a: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda a, _: (jnp.tanh(a) + a, None), a, None, length=4)[0]

    assert traced.operations(traced.trace(loop, A)) == 4 * 30 * (traced.FUNCTION + traced.ENTRY)
    assert traced.operations(traced.trace(jax.jit(jnp.tanh), A)) == 30 * traced.FUNCTION


def test_results_are_held_from_where_they_are_made_to_their_last_use() -> None:
    number = traced.array((1000,), "float64")
    with jax.enable_x64(True):
        # At most the argument, one square root and the next one are held, however long the chain is.
        chain = traced.trace(lambda x: jnp.sqrt(jnp.sqrt(jnp.sqrt(x))), number)
        # Here all three square roots are needed at the end.
        kept = traced.trace(lambda x: [jnp.sqrt(x), jnp.sin(x), jnp.cos(x)], number)
    assert traced.peak_bytes(chain) == 8 * 1000 * 3
    assert traced.peak_bytes(kept) == 8 * 1000 * 4


def test_what_a_call_holds_inside_counts_too() -> None:
    number = traced.array((1000,), "float32")

    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(x[:, None] * x[None, :]))

    assert traced.peak_bytes(traced.trace(inner, number)) >= 4 * (1000 + 2 * 1000**2)

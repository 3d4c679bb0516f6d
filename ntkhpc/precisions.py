"""Relative precisions of numbers, and of the factors of their products, which may be coarser."""

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
"""Distance of the number after 1 from 1, by the name of the precision."""

TF32 = 2.0**-10
"""The same of TF32, to which GPUs round the factors of products in float32 where JAX's precision is not "highest"."""


def of_products(precision: str, matmul_precision: str) -> float:
    """That of the factors of products, by JAX's precision of products. Their sums are in `precision` itself."""
    return TF32 if precision == "float32" and matmul_precision != "highest" else EPS[precision]

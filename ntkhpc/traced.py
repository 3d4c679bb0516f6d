"""What a computation of JAX costs, from its trace: operations, and bytes held at its peak. Nothing is compiled or run.

Operations are counted in those of dense products, of which an entry that is computed one by one costs several: it is
moved through memory. The peak is that of all results in the order of the program, each from where it is made to where
it is last used; a compiler that joins loops holds no more.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

ENTRY = 32.0
"""Operations of a dense product in the time of one entry that is computed one by one."""

CONVOLUTION = 2.0
"""The same for an operation of a convolution."""

FUNCTION = 400.0
"""The same for an entry of an arc tangent, a power, an error function and the like. All three were fitted to four
networks on one 2.4 GHz x86-64 core (November 2026), within a factor of two."""

_FUNCTIONS = frozenset(
    ("acos", "asin", "atan", "atan2", "cos", "erf", "erf_inv", "erfc", "exp", "expm1", "log", "log1p", "logistic",
     "pow", "sin", "tan", "tanh")
)  # fmt: skip

_FREE = frozenset(("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "convert_element_type", "stop_gradient",
                   "copy", "slice", "copy_p"))  # fmt: skip
"""What a compiler joins to what uses it."""


def array(shape: tuple[int, ...], precision: str) -> Any:
    """Stands for an array in a trace."""
    return jax.ShapeDtypeStruct(shape, np.dtype(precision))  # type: ignore[no-untyped-call]  # JAX gives it no type


def trace(function: Callable[..., Any], *shapes: Any) -> Any:
    """The trace of a function of arrays of these shapes (jax.ShapeDtypeStruct, or trees of them)."""
    return jax.make_jaxpr(function)(*shapes).jaxpr


def operations(jaxpr: Any) -> float:
    """Operations of a trace, in those of dense products. Of a loop of unknown length one turn counts."""
    return sum(_operations(equation) for equation in jaxpr.eqns)


def _operations(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if inner := list(_inner(params)):
        turns = params.get("length", 1) if name == "scan" else 1
        return float(turns * sum(operations(one) for one in inner))
    if name in _FREE:
        return 0.0
    entries = float(sum(_entries(out.aval) for out in equation.outvars))
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * entries * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        filters = kernel[params["dimension_numbers"].rhs_spec[0]]
        return CONVOLUTION * 2.0 * entries * math.prod(kernel) / max(filters, 1)
    if name.startswith("reduce_window") or name.startswith("select_and"):
        return entries * ENTRY * math.prod(params.get("window_dimensions", (1,)))
    if name.startswith("reduce") or name.startswith("arg") or name.startswith("cum"):
        return ENTRY * sum(_entries(one.aval) for one in equation.invars)
    return entries * (FUNCTION if name in _FUNCTIONS else ENTRY)


def peak_bytes(jaxpr: Any) -> int:
    """Bytes of the results, arguments included, that are held at one time."""
    last_use: dict[Any, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        last_use |= {one: number for one in equation.invars if not hasattr(one, "val")}
    last_use |= {one: len(jaxpr.eqns) for one in (*jaxpr.outvars, *jaxpr.invars) if not hasattr(one, "val")}
    held = {one: _bytes(one.aval) for one in (*jaxpr.invars, *jaxpr.constvars)}
    now = peak = sum(held.values())
    for number, equation in enumerate(jaxpr.eqns):
        made = {one: _bytes(one.aval) for one in equation.outvars}
        # An inner program has the arguments that are held here already.
        inside = max((peak_bytes(one) - _arguments(one) for one in _inner(equation.params)), default=0)
        peak = max(peak, now + max(inside, sum(made.values())))
        held |= made
        now += sum(made.values())
        for one in {one for one in (*equation.invars, *equation.outvars) if not hasattr(one, "val")}:
            if last_use.get(one, -1) <= number:
                now -= held.pop(one, 0)
    return peak


def _arguments(jaxpr: Any) -> int:
    return sum(_bytes(one.aval) for one in (*jaxpr.invars, *jaxpr.constvars))


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs within an operation: of calls, loops and branches."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(one, "jaxpr", one)
            if hasattr(jaxpr, "eqns") and hasattr(jaxpr, "invars"):
                yield jaxpr


def _entries(aval: Any) -> int:
    return math.prod(getattr(aval, "shape", ()))


def _bytes(aval: Any) -> int:
    return _entries(aval) * getattr(getattr(aval, "dtype", None), "itemsize", 4)

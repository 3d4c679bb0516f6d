"""neural-tangents on today's JAX: kernels of every network that its `stax` can describe.

Its last release (0.6.5, February 2024) uses names that JAX has since moved out of its public modules, and imports
TensorFlow for an experimental converter. `load` fills in the names where they are missing, overrides none that JAX
still has, and leaves the converter out. Nothing happens until it is called.
"""

import functools
import importlib
import sys
import types
import warnings
from typing import Any

import jax
import jax.core
import jax.interpreters.ad
import numpy as np

from ntkhpc.errors import SurroundingsError

_CORE = (
    "AbstractValue", "DShapedArray", "Jaxpr", "JaxprEqn", "Literal", "Primitive", "ShapedArray", "Value", "Var",
    "eval_context", "get_aval",
)  # fmt: skip
_AD = ("add_jaxvals_p", "backward_pass", "config", "get_primitive_transpose", "reducing_transposes",
       "source_info_util")  # fmt: skip


@functools.cache
def load() -> Any:
    """The `neural_tangents` module. Raises SurroundingsError if it cannot be imported with this JAX."""
    private = {name: importlib.import_module(f"jax._src.{name}") for name in ("core", "util", "config")}
    _fill(jax.core, _CORE, private["core"])
    _fill(
        jax.interpreters.ad,
        _AD,
        importlib.import_module("jax._src.interpreters.ad"),
        importlib.import_module("jax._src"),
    )
    if not _has(jax.interpreters.ad, "zeros_like_p"):
        # Gone for good: no program holds it, so a rule registered for this stand-in is never asked for.
        setattr(jax.interpreters.ad, "zeros_like_p", private["core"].Primitive("zeros_like"))  # noqa: B010
    if not _has(jax, "util"):
        sys.modules["jax.util"] = types.ModuleType("jax.util")
    _fill(sys.modules["jax.util"], ("safe_map", "safe_zip"), private["util"])
    # The converter from TensorFlow graphs, and what it alone needs, which is not installed.
    for name in ("neural_tangents.experimental", "neural_tangents.experimental.empirical_tf"):
        sys.modules.setdefault(name, types.ModuleType(name))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # its docstrings hold invalid escapes, and deprecated names are what it is about
        try:
            import neural_tangents
        except (ImportError, AttributeError) as error:
            raise SurroundingsError(
                f"neural-tangents cannot be imported with jax {jax.__version__}: {error}",
                cause="JAX moved another name that its last release needs, or the installation is not the lock's",
                todo="make venv restores the versions of the lock; fully connected networks do without it",
            ) from error
    return neural_tangents


def nngp_ntk(kernel_fn: Any, x1: Any, x2: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK (n1, n2) in float64 between x1 (n1, ...) and x2 (n2, ...), of a neural_tangents.stax network.

    `kernel_fn` is the kernel function, or the triple (init_fn, apply_fn, kernel_fn) that stax makes. With x2 None, x1
    is paired with itself; the ReLU NTK's diagonal is then accurate to 1e-7 only.
    Raises ValueError for inputs that are empty or not finite.
    """
    load()
    function = kernel_fn[2] if isinstance(kernel_fn, tuple) else kernel_fn
    x1, x2 = _checked("x1", x1), None if x2 is None else _checked("x2", x2)
    with jax.enable_x64(True):
        kernel = function(x1, x2, ("nngp", "ntk"))
        return np.asarray(kernel.nngp, np.float64), np.asarray(kernel.ntk, np.float64)


def _fill(module: Any, names: tuple[str, ...], *sources: Any) -> None:
    for name in names:
        if not _has(module, name):
            found = [getattr(source, name) for source in sources if _has(source, name)]
            if found:
                setattr(module, name, found[0])


def _has(module: Any, name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # a name that warns is one that is about to go
        try:
            return hasattr(module, name)
        except DeprecationWarning:
            return False


def _checked(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}; it must be (n, features, ...)")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}{np.argwhere(~np.isfinite(x))[0].tolist()} is not finite")
    return x

"""neural-tangents on a jax newer than the one it was written for, without changing either.

neural-tangents 0.6.5 imports as it is up to jax 0.5.3. Later versions of jax moved or dropped names that it imports;
`load` lends it those names while it is imported, and only those that this jax lacks. Afterwards jax is as before.

Architectures, kernels, batches, Monte Carlo estimates and laws work. The empirical NTK works by JACOBIAN_CONTRACTION
(the default) and NTK_VECTOR_PRODUCTS; STRUCTURED_DERIVATIVES and AUTO raise, for jax still has the functions that they
need, and those now do something else. A law (`predict`) used first inside jit cannot be used outside it afterwards.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from ntkhpc.errors import SurroundingsError

_MOVED = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")
"""Names that went from jax.core to jax.extend.core."""


@functools.cache
def load() -> types.ModuleType:
    """The module neural_tangents.

    Raises SurroundingsError if it is not installed, or needs more of jax than this module knows to lend.
    """
    try:
        with _lent_names():
            return importlib.import_module("neural_tangents")
    except (ImportError, AttributeError, TypeError) as error:
        raise SurroundingsError(
            "neural-tangents cannot be imported",
            where=f"jax {jax.__version__}, Python {sys.version.split()[0]}",
            cause=f"{type(error).__name__}: {error}",
            todo="pip install --no-deps neural-tangents==0.6.5 frozendict (tensorflow and tf2jax are not needed) and "
            "the jax of requirements.lock; fully connected networks do without it",
        ) from error


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """jax.jit of a function with convolutions in float64, which on a CPU may end the process otherwise.

    XLA (jaxlib 0.10) makes them by loops of its own. Where these are vectorised, what stands for the padding is read
    from before the array, and then not used: a segmentation fault where no memory is there. At this level of LLVM's
    optimisation they are not, and neither time nor compilation is longer.
    """
    if jax.default_backend() == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 1}
    return jax.jit(function, **options)


@contextlib.contextmanager
def library() -> Iterator[None]:
    """neural-tangents at work: its warnings, of what is slow or approximate, are not the users'."""
    load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def nngp_ntk(kernel_fn: Any, x1: Any, x2: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK between inputs x1 (n1, ...) and x2 (n2, ...), each (n1, n2), per output and in float64.

    With x2 None they are those of x1 with itself, exactly symmetric. `kernel_fn` is a kernel function of
    neural_tangents.stax (or of nt.batch), or the triple (init_fn, apply_fn, kernel_fn). Raises ValueError for inputs
    that have no sample or no feature, differ in features, or are not finite, and for a network with more than one
    output position per sample.
    """
    function: Callable[..., Any] = kernel_fn[2] if isinstance(kernel_fn, tuple | list) else kernel_fn
    x1, x2 = _checked("x1", x1), None if x2 is None else _checked("x2", x2)
    if x2 is not None and x1.shape[1:] != x2.shape[1:]:
        raise ValueError(f"x1 {x1.shape} and x2 {x2.shape} differ in features")
    with jax.enable_x64(True):
        two = None if x2 is None else jax.numpy.asarray(x2)
        nngp, ntk = (np.asarray(kernel) for kernel in function(jax.numpy.asarray(x1), two, ("nngp", "ntk")))
    shape = len(x1), len(x1 if x2 is None else x2)
    for name, kernel in (("nngp", nngp), ("ntk", ntk)):
        if kernel.shape != shape:
            raise ValueError(f"{name} has shape {kernel.shape}, not {shape}: end the network in Flatten or a pool")
        if kernel.dtype != np.float64:
            raise ValueError(f"{name} is {kernel.dtype}, not float64: does the kernel function convert its inputs?")
    return (nngp, ntk) if x2 is not None else (_mirrored(nngp), _mirrored(ntk))


def _checked(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}; it must be (n, features) or (n, height, width, channels)")
    if not np.isfinite(x).all():
        index = tuple(np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{name}[{', '.join(map(str, index))}] = {x[index]} is not finite")
    return x


def _mirrored(kernel: np.ndarray) -> np.ndarray:
    return np.tril(kernel) + np.tril(kernel, -1).T


@contextlib.contextmanager
def _lent_names() -> Iterator[None]:
    """Lend jax, for the time of the import, the names that neural-tangents imports and this jax lacks."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", SyntaxWarning)  # escapes in its docstrings, where it is not compiled yet
        core, extend, ad = map(importlib.import_module, ("jax.core", "jax.extend.core", "jax.interpreters.ad"))
        names = [(core, name, getattr(extend, name)) for name in _MOVED]
        # Only a key in a table of rules: a primitive that no program contains is as good as the one that went.
        names.append((ad, "zeros_like_p", extend.Primitive("zeros_like")))
        for module, name, value in names:
            if not hasattr(module, name):
                setattr(module, name, value)
                stack.callback(delattr, module, name)
        # TensorFlow, which `experimental` alone needs, is not installed.
        modules = [types.ModuleType("neural_tangents.experimental")]
        if importlib.util.find_spec("jax.util") is None:
            modules.append(types.ModuleType("jax.util"))
            vars(modules[-1]).update(safe_map=_safe_map, safe_zip=_safe_zip)
        for module in modules:
            if module.__name__ not in sys.modules:
                sys.modules[module.__name__] = module
                stack.callback(sys.modules.pop, module.__name__)
        yield


def _safe_zip(*lists: Iterable[Any]) -> list[tuple]:
    return list(zip(*lists, strict=True))


def _safe_map(function: Callable[..., Any], *lists: Iterable[Any]) -> list[Any]:
    return [function(*items) for items in _safe_zip(*lists)]

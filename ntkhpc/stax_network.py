"""Networks of neural_tangents.stax that a text describes (see `stax_text`), at finite and at infinite width.

A layer's arguments are the library's own, with two defaults that are a study's: W_std is the root of the weight
variance and b_std that of the bias variance (none without it). All is in the NTK parametrisation, in which every
parameter is N(0, 1) [arXiv:1912.02803]. Inputs are rows; a network with a layer that knows positions is given them as
images.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ntkhpc import stax_relu, stax_text, tangents
from ntkhpc.networks import FiniteNetwork
from ntkhpc.stax_text import ArchitectureError, LayerCall

_REFUSED = {
    "Dropout": "it is random, so the outputs of a network would be too",
    "Aggregate": "it needs a graph beside each input, and a study's inputs have none",
    "Elementwise": "its arguments are functions, which a text cannot hold; take a layer with a name",
    "ElementwiseNumerical": "its arguments are functions, which a text cannot hold; take a layer with a name",
    "DotGeneral": "its arguments are arrays; take Dense or Conv",
    "Index": "its arguments are slices of Python, which a text does not have",
}
_NO_LAYERS = frozenset(("layer", "requires", "supports_masking", "unmask_fn"))

POSITIONS = frozenset(
    ("AvgPool", "Conv", "ConvLocal", "ConvTranspose", "Flatten", "GlobalAvgPool", "GlobalSelfAttention",
     "GlobalSumPool", "ImageResize", "SumPool")
)  # fmt: skip
"""Layers that know positions: a network without any gives an output at each position, so its inputs have none."""


@dataclass(frozen=True)
class StaxNetwork:
    """A network of neural_tangents.stax, without its width.

    `image` is (height, width, channels) of inputs that are images, whose rows hold one channel after the other; None
    for other inputs. Making one checks nothing; `require_sense` does.
    """

    text: str
    outputs: int = 1
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    image: tuple[int, int, int] | None = None

    @property
    def sees_images(self) -> bool:
        """Whether inputs are given to it as images, not as rows."""
        return self.image is not None and any(call.name in POSITIONS for call in stax_text.calls(self.text))

    def shape(self, features: int) -> tuple[int, ...]:
        """The shape of one input as the first layer sees it."""
        return self.image if self.image is not None and self.sees_images else (features,)

    def layers(self, width: int) -> tuple[Any, Any, Any]:
        """(init_fn, apply_fn, kernel_fn) of neural_tangents.stax. Raises ArchitectureError where it refuses a layer."""
        return _layers(self, width)

    @property
    def kernel_fn(self) -> Callable[..., Any]:
        """The kernel function of the library, which takes inputs as the first layer sees them; it knows no width."""
        kernel_fn: Callable[..., Any] = self.layers(stax_text.SOME_WIDTH)[2]
        return kernel_fn

    def seen(self, x: Any) -> Any:
        """Rows x (n, features) as the first layer sees them: (n, features), or (n, height, width, channels)."""
        if self.image is None or not self.sees_images:
            return x
        height, width, channels = self.image
        return x.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)

    def of_width(self, width: int) -> FiniteNetwork:
        """The network of a width. Its parameters are drawn one by one, each from a key with its own number."""
        apply_fn = self.layers(width)[1]

        def init(key: Any, features: int, dtype: Any) -> Any:
            leaves, tree = jax.tree.flatten(self.parameters(width, features))
            drawn = [
                jax.random.normal(jax.random.fold_in(key, number), leaf.shape, dtype)
                for number, leaf in enumerate(leaves)
            ]
            return jax.tree.unflatten(tree, drawn)

        def apply(parameters: Any, x: Any) -> Any:
            with tangents.library():
                return apply_fn(parameters, self.seen(x))

        return FiniteNetwork(init, apply)

    def parameters(self, width: int, features: int) -> Any:
        """Shapes of its parameters (jax.ShapeDtypeStruct), in the trees of the library."""
        init_fn = self.layers(width)[0]
        shape = (1, *self.shape(features))
        with tangents.library():
            return jax.eval_shape(lambda key: init_fn(key, shape)[1], jax.random.key(0))

    def require_sense(self, features: int, widths: Sequence[int]) -> None:
        """Raises ArchitectureError for a network that cannot be built, for inputs that are not its own, for outputs
        that are not (n, outputs) or not Gaussian at infinite width, and for a kernel that is not finite."""
        for width in widths:
            self._require_outputs(width, features)
        self._require_kernel(features)
        if len(widths) > 1 and "width" not in stax_text.names_used(self.text):
            raise ArchitectureError(
                f"no layer has the width of the study, so networks of widths = {list(widths)} would all be the same: "
                "write width where a layer says how many channels it has, or give one width"
            )

    def _require_outputs(self, width: int, features: int) -> None:
        shape = (1, *self.shape(features))
        with tangents.library():
            found: Any = None

            def init(key: Any) -> Any:
                nonlocal found
                found, parameters = self.layers(width)[0](key, shape)
                return parameters

            with _named(f"inputs of shape {shape[1:]}"):
                parameters = jax.eval_shape(init, jax.random.key(0))
        branches = any(isinstance(one, tuple | list) for one in found)
        if branches or tuple(found) != (1, self.outputs):
            given = "several branches" if branches else f"the shape {tuple(map(int, found[1:]))}"
            raise ArchitectureError(
                f"its output for an input of shape {shape[1:]} has {given}, and the data have {self.outputs} "
                f"{'output' if self.outputs == 1 else 'outputs'}: end with Flatten() or a global pool, and "
                "Dense(outputs)"
            )
        if not jax.tree.leaves(parameters):
            raise ArchitectureError("no layer has weights, so there is nothing to train")

    def _require_kernel(self, features: int) -> None:
        with tangents.library(), jax.enable_x64(True), _named(f"inputs of shape {self.shape(features)}"):
            x = self.seen(np.random.default_rng(0).normal(size=(2, features)))
            found = jax.eval_shape(self.kernel_fn, x, None)
            kernel_fn = tangents.compiled(lambda x: tuple(self.kernel_fn(x, None, ("nngp", "ntk"))))
            values = [np.asarray(kernel) for kernel in kernel_fn(x)]
        if not found.is_gaussian:
            raise ArchitectureError(
                "its outputs are not Gaussian at infinite width, so neither law nor kernel holds for training: the "
                "last layer with weights must come after the last non-linearity and Flatten, as in "
                "serial(..., Flatten(), Dense(outputs))"
            )
        for name, value in zip(("NNGP kernel", "NTK"), values, strict=True):
            if value.shape != (2, 2):
                raise ArchitectureError(f"its {name} of two inputs has the shape {value.shape}, not (2, 2)")
            if not np.isfinite(value).all():
                raise ArchitectureError(
                    f"its {name} is not finite for inputs of variance 1: too large a weight variance for so many "
                    "layers, or a layer that has none (this kernel of Sign or Exp, for one, may not exist)"
                )
            if not (np.diag(value) > 0).all():
                raise ArchitectureError(f"its {name} is zero: no weights act on what a layer passes on")


@functools.lru_cache(maxsize=64)
def _layers(network: StaxNetwork, width: int) -> tuple[Any, Any, Any]:
    stax, known = tangents.load().stax, layer_names()
    std = {
        "W_std": math.sqrt(network.weight_variance),
        "b_std": math.sqrt(network.bias_variance) if network.bias_variance else None,
    }

    def make(call: LayerCall) -> tuple[Any, Any, Any]:
        if call.name in _REFUSED:
            raise call.refused(_REFUSED[call.name])
        if call.name not in known:
            raise call.refused(f"neural_tangents.stax has no layer of this name; it has {', '.join(sorted(known))}")
        _require_layers(call)
        function = stax_relu.layers().get(call.name) or getattr(stax, call.name)
        taken = inspect.signature(function).parameters
        given = {
            name: value
            for name, value in std.items()
            if name in taken and len(call.arguments) <= list(taken).index(name)
        }
        if str(call.keywords.get("parameterization", "ntk")).lower() != "ntk":
            raise call.refused('a study is in the NTK parametrisation; leave parameterization out, or say "ntk"')
        try:
            made: tuple[Any, Any, Any] = function(*call.arguments, **{**given, **call.keywords})
        except Exception as error:  # whatever the library objects to, in whatever words
            raise call.refused(f"{type(error).__name__}: {error}") from error
        return _placed(made, call)

    numbers = {"width": width, "outputs": network.outputs}
    with tangents.library():
        layers: tuple[Any, Any, Any] = stax_text.evaluate(network.text, numbers, make)
    return layers


def layer_names() -> frozenset[str]:
    """The layers and combinators of neural_tangents.stax that a text may call."""
    found = {name for name, value in vars(tangents.load().stax).items() if inspect.isfunction(value)}
    return frozenset(found) - _NO_LAYERS - set(_REFUSED)


def _require_layers(call: LayerCall) -> None:
    """What layers are combined of must be layers, and layers are arguments of nothing else."""
    for one in (*call.arguments, *call.keywords.values()):
        is_layer, combines = isinstance(one, tuple) and len(one) == 3 and callable(one[0]), call.name in _COMBINE
        if is_layer and not combines:
            raise call.refused("a layer is an argument of serial, parallel and repeat alone")
        if combines and not is_layer and not (call.name == "repeat" and isinstance(one, int)):
            raise call.refused(f"{one!r} is no layer")


_COMBINE = frozenset(("serial", "parallel", "repeat"))


def _placed(made: tuple[Any, Any, Any], call: LayerCall) -> tuple[Any, Any, Any]:
    """The same layer, whose errors name its place in the text: the innermost layer's."""
    init_fn, apply_fn, kernel_fn = made
    if call.name in _COMBINE:
        return made

    def placed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*arguments: Any, **keywords: Any) -> Any:
            try:
                return function(*arguments, **keywords)
            except ArchitectureError:
                raise
            except Exception as error:  # whatever the library objects to, in whatever words
                raise call.refused(f"{type(error).__name__}: {stax_text.shortened(str(error))}") from error

        return inner

    return placed(init_fn), apply_fn, placed(kernel_fn)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors of the library that name no layer, with what it was given."""
    try:
        yield
    except ArchitectureError as error:
        raise ArchitectureError(f"{error} (for {what})") from error
    except Exception as error:  # whatever the library objects to, in whatever words
        said = f"{type(error).__name__}: {stax_text.shortened(str(error))}"
        raise ArchitectureError(f"neural-tangents refuses it for {what}: {said}") from error

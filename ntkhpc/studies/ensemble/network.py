"""The networks of a study: section [network], and what they cost."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from ntkhpc import output_scale, probes, stax_text
from ntkhpc.output_scale import OutputScale
from ntkhpc.phase.settings import Increasing, NonNegativeFloat, Positive, PositiveFloat, Settings, require_increasing
from ntkhpc.references import FEATURE_LEARNING, LAZY_TRAINING, Reference
from ntkhpc.studies import cost, memory
from ntkhpc.words import count, numbers

if TYPE_CHECKING:
    from ntkhpc.networks import MLP
    from ntkhpc.stax_network import StaxNetwork
    from ntkhpc.studies.ensemble.study import EnsembleStudy

LARGEST_VARIANCE = 1e30
"""Of weights, and one over the least. Networks may diverge long before; their law stays in double precision."""

DECADES = 60
"""By which the squares of all layers together may grow or shrink: the law has the fourth power of a loss."""

LARGEST_SCALE = 1000.0
"""gamma and gamma0, and one over the least: beyond, outputs in single precision keep few digits of the targets."""

MOST_BIAS = 1e6
"""bias_variance / weight_variance: beyond, single precision sees the biases alone and no input."""


class Network(Settings, frozen=True, kw_only=True):
    """Fully connected networks of the given widths; the depth counts hidden layers.

    Or, with an `architecture`, networks of neural_tangents.stax: its text (see ntkhpc.stax_text), in which `width`
    stands for each of the widths and `outputs` for the number of outputs. It has its own depth and non-linearities.

    Outputs are g/gamma, of a network g in the NTK parametrisation: with "ntk" the `gamma` that is given, with "mup"
    `gamma0` sqrt(width); and `centred` they are [g(theta) - g(theta_0)]/gamma (ntkhpc.output_scale).
    """

    widths: Increasing
    parametrisation: Literal["ntk", "mup"] = "ntk"
    gamma: PositiveFloat = 1.0
    gamma0: PositiveFloat = 1.0
    centred: bool = False
    depth: Positive = 1
    activation: Literal["relu", "erf"] = "relu"
    weight_variance: PositiveFloat = 2.0
    bias_variance: NonNegativeFloat = 0.0
    architecture: str = ""

    def __post_init__(self) -> None:
        require_increasing("widths", self.widths)
        c_w = self.weight_variance
        self._require_scale()
        if self.architecture:
            self._require_text()
        # A ReLU passes on half of the square of its input, and erf no more than one.
        decades = 0.0 if self.architecture else math.log10(c_w) + self.depth * math.log10(c_w / 2)
        grows = decades > DECADES and self.activation == "relu"
        if not 1 / LARGEST_VARIANCE <= c_w <= LARGEST_VARIANCE or decades < -DECADES or grows:
            raise ValueError(
                f"weight_variance = {c_w:g} changes squares by {decades:+,.0f} decades in "
                f"{count(self.depth, 'hidden layer')}, and double precision has room for {DECADES}"
            )
        if self.bias_variance > MOST_BIAS * c_w:
            raise ValueError(
                f"bias_variance = {self.bias_variance:g} leaves nothing of the inputs beside "
                f"weight_variance = {c_w:g}: at most {MOST_BIAS:,.0f} times as much"
            )

    def _require_scale(self) -> None:
        given, other = ("gamma", "gamma0") if self.parametrisation == "ntk" else ("gamma0", "gamma")
        if getattr(self, other) != 1:
            raise ValueError(
                f"{other} = {getattr(self, other):g} is not that of parametrisation = {self.parametrisation!r}, whose "
                f"outputs are over {'gamma' if given == 'gamma' else 'gamma = gamma0 sqrt(width)'}: give {given}"
            )
        value, least = getattr(self, given), math.sqrt(self.widths[0])
        if not 1 / LARGEST_SCALE <= value <= LARGEST_SCALE:
            raise ValueError(f"{given} = {value:g} must be between {1 / LARGEST_SCALE:g} and {LARGEST_SCALE:g}")
        if self.parametrisation == "mup" and value > 1 and self.architecture:
            raise ValueError(
                f"gamma0 = {value:g} with an architecture: beyond 1 the stable rate falls with the number of layers, "
                "which is not known of a text: lower it to 1"
            )
        if self.parametrisation == "ntk" and value > max(least, 1.0):
            raise ValueError(
                f"gamma = {value:g} is more than sqrt(width) = {least:.3g} of the narrowest network, beyond which "
                'features move so fast that descent may not be stable: lower it, or take parametrisation = "mup", '
                "whose rate is lowered where gamma0 > 1"
            )

    @property
    def is_scaled(self) -> bool:
        """Whether outputs are other than those of the network in the NTK parametrisation."""
        return self.parametrisation != "ntk" or not self.output_scale(1).is_one

    def output_scale(self, width: int) -> OutputScale:
        """Of networks of a width."""
        if self.parametrisation == "mup":
            return output_scale.mean_field(self.gamma0, width, centred=self.centred)
        return OutputScale(self.gamma, self.centred)

    @property
    def references(self) -> tuple[Reference, ...]:
        """What the scale of the outputs is from."""
        mean_field = (FEATURE_LEARNING,) if self.parametrisation == "mup" else ()
        return (*mean_field, *((LAZY_TRAINING,) if self.is_scaled else ()))

    @property
    def rate_factor(self) -> float:
        """By which the rate is lowered where features move fast."""
        return output_scale.rate_factor(self.gamma0, self.depth) if self.parametrisation == "mup" else 1.0

    def _require_text(self) -> None:
        if (self.depth, self.activation) != (1, "relu"):
            raise ValueError(
                f"depth = {self.depth} and activation = {self.activation!r} have no meaning beside an architecture, "
                "which has its own: leave them out"
            )
        try:
            stax_text.calls(self.architecture)
        except ValueError as error:
            raise ValueError(f"architecture: {error}") from error

    def description(self, outputs: int) -> str:
        """The networks in a sentence of a methods section."""
        biases = "there are no biases"
        if self.bias_variance:
            biases = f"biases start as N(0, 1) too and are scaled by sqrt(C_b), C_b = {self.bias_variance:g}"
        if self.architecture:
            return self._described(outputs, biases)
        layers = f"{count(self.depth, 'hidden layer')} of {numbers(self.widths, 'or')} units"
        return (
            f"Networks f are fully connected, with {layers}, {self.activation.replace('relu', 'ReLU')} activation and "
            f"{count(outputs, 'linear output')}, in the NTK parametrisation: weights start as N(0, 1) and are scaled "
            f"by sqrt(C_W/fan-in), C_W = {self.weight_variance:g}; {biases}.{self._scaled()}"
        )

    def _scaled(self) -> str:
        """What outputs are, in a sentence that begins with a space; nothing where they are the network's."""
        if not self.is_scaled:
            return ""
        said = f"gamma = {self.gamma:g}"
        if self.parametrisation == "mup":
            factor = "" if self.gamma0 == 1 else f"{self.gamma0:g} "
            said = f"gamma = {factor}sqrt(width), the mu-parametrisation of arXiv:2011.14522"
        if not self.centred:
            return f" Outputs are those of such a network over {said} (arXiv:1812.07956)."
        return (
            f" Outputs are the change of those of such a network since its initialisation, over {said} "
            "(arXiv:1812.07956)."
        )

    def shape(self) -> str:
        """Depth and activation, or the text of the architecture, in a line."""
        if self.architecture:
            return stax_text.one_line(self.architecture)
        return f"{count(self.depth, 'hidden layer')}, {self.activation}"

    def _described(self, outputs: int, biases: str) -> str:
        return (
            "Networks f are those that neural-tangents (arXiv:1912.02803) makes of the text "
            f"{stax_text.one_line(self.architecture)} with width = {numbers(self.widths, 'or')} and outputs = "
            f"{outputs}, in the NTK parametrisation. Unless the text says otherwise, weights start as N(0, 1) and are "
            f"scaled by sqrt(C_W/fan-in), C_W = {self.weight_variance:g}; {biases}.{self._scaled()}"
        )


def mlp(study: "EnsembleStudy") -> "MLP | StaxNetwork":
    """The architecture, without its width."""
    network = study.network
    if network.architecture:
        return stax_network(study)
    from ntkhpc.networks import MLP

    return MLP(network.depth, network.activation, network.weight_variance, network.bias_variance, study.outputs)


def stax_network(study: "EnsembleStudy") -> "StaxNetwork":
    """The network of a study with an architecture."""
    from ntkhpc.stax_network import StaxNetwork  # imports JAX, as only such studies may to be planned

    network = study.network
    return StaxNetwork(
        network.architecture,
        study.outputs,
        network.weight_variance,
        network.bias_variance,
        study.data.image(study.known),
    )


def require_built(study: "EnsembleStudy") -> None:
    """Raises ValueError for an architecture that neural-tangents cannot build for the study's data and widths."""
    try:
        _require_built(stax_network(study), study.features, study.network.widths)
    except ValueError as error:
        raise ValueError(f"network.architecture: {error}") from error


@lru_cache(maxsize=16)
def _require_built(network: "StaxNetwork", features: int, widths: tuple[int, ...]) -> None:
    network.require_sense(features, widths)


STAX_SECONDS = 5.0
"""To import neural-tangents and to compile its kernels for a batch."""

STAX = 80 * memory.MIB
"""What a worker holds besides once neural-tangents is imported and a program of it is compiled."""


def start_seconds(study: "EnsembleStudy") -> float:
    """What a shard that computes kernels takes before it does."""
    return cost.SECONDS_PER_SHARD + (STAX_SECONDS if study.network.architecture else 0.0)


def kernel_seconds(study: "EnsembleStudy", pairs: float) -> float:
    """Both kernels of so many pairs of inputs, an unordered pair once, on one reference core."""
    if not study.network.architecture:
        return cost.kernel_seconds(pairs, study.features, study.network.depth)
    return pairs * pair_operations(study) / cost.FLOPS_FLOAT64


def pair_operations(study: "EnsembleStudy") -> float:
    """Floating operations for an entry of both kernels."""
    if not study.network.architecture:
        return probes.pair_operations(study.features, study.network.depth)
    from ntkhpc import kernel_batches

    return kernel_batches.pair_operations(stax_network(study), study.features)


def kernel_bytes(study: "EnsembleStudy") -> int:
    """Memory that kernels of an architecture take besides their matrices; none for fully connected networks."""
    if not study.network.architecture:
        return 0
    from ntkhpc import kernel_batches

    network = stax_network(study)
    size = kernel_batches.batch(network, study.features)
    return STAX + kernel_batches.batch_bytes(network, study.features, size)


def step_flops(study: "EnsembleStudy", width: int, samples: int) -> float:
    """Operations of one step of a network: forward and both backward products, less the first input gradient.

    In the dual form the two products of the first layer are one with the Gram matrix of the samples.
    """
    if not study.network.architecture:
        first = 4.0 * samples * study.features * width
        others = 3 * forward_flops(study, width, samples) - 1.5 * first
        dual = study.training.algorithm.is_dual(study.features, samples)
        return others + (2.0 * samples**2 * width if dual else first)
    from ntkhpc import stax_cost

    return stax_cost.step_operations(stax_network(study), width, study.features, samples)


def stax_bytes(study: "EnsembleStudy", precision: str) -> int:
    """What training one network of an architecture takes: the largest, on the most samples."""
    from ntkhpc import stax_cost

    samples = max(study.ensemble.n_train[-1], study.data.test)
    step = stax_cost.step_bytes(stax_network(study), study.network.widths[-1], study.features, samples, precision)
    return STAX + step


def parameter_count(study: "EnsembleStudy", width: int) -> int:
    """Weights and biases of one network; of an MLP without the biases."""
    if study.network.architecture:
        from ntkhpc import stax_cost

        return stax_cost.parameter_count(stax_network(study), width, study.features)
    return math.ceil(forward_flops(study, width, 1) / 2)


def forward_flops(study: "EnsembleStudy", width: int, samples: int) -> float:
    """Operations to evaluate one network on so many samples."""
    if study.network.architecture:
        from ntkhpc import stax_cost

        return stax_cost.forward_operations(stax_network(study), width, study.features, samples)
    depth, features, outputs = study.network.depth, study.features, study.outputs
    return 2.0 * samples * (features * width + (depth - 1) * width**2 + width * outputs)

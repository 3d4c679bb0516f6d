"""The networks of a study: section [network], and what they cost."""

import math
from typing import TYPE_CHECKING, Literal

from ntkhpc.phase.settings import Increasing, NonNegativeFloat, Positive, PositiveFloat, Settings, require_increasing
from ntkhpc.words import count, numbers

if TYPE_CHECKING:
    from ntkhpc.networks import MLP
    from ntkhpc.studies.ensemble.study import EnsembleStudy

LARGEST_VARIANCE = 1e30
"""Of weights, and one over the least. Networks may diverge long before; their law stays in double precision."""

DECADES = 60
"""By which the squares of all layers together may grow or shrink: the law has the fourth power of a loss."""

MOST_BIAS = 1e6
"""bias_variance / weight_variance: beyond, single precision sees the biases alone and no input."""


class Network(Settings, frozen=True, kw_only=True):
    """Fully connected networks of the given widths; the depth counts hidden layers."""

    widths: Increasing
    parametrisation: Literal["ntk"] = "ntk"
    depth: Positive = 1
    activation: Literal["relu", "erf"] = "relu"
    weight_variance: PositiveFloat = 2.0
    bias_variance: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        require_increasing("widths", self.widths)
        c_w = self.weight_variance
        # A ReLU passes on half of the square of its input, and erf no more than one.
        decades = math.log10(c_w) + self.depth * math.log10(c_w / 2)
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

    def description(self, outputs: int) -> str:
        """The networks in a sentence of a methods section."""
        biases = "there are no biases"
        if self.bias_variance:
            biases = f"biases start as N(0, 1) too and are scaled by sqrt(C_b), C_b = {self.bias_variance:g}"
        layers = f"{count(self.depth, 'hidden layer')} of {numbers(self.widths, 'or')} units"
        return (
            f"Networks f are fully connected, with {layers}, {self.activation.replace('relu', 'ReLU')} activation and "
            f"{count(outputs, 'linear output')}, in the NTK parametrisation: weights start as N(0, 1) and are scaled "
            f"by sqrt(C_W/fan-in), C_W = {self.weight_variance:g}; {biases}."
        )


def mlp(study: "EnsembleStudy") -> "MLP":
    """The architecture, without its width."""
    from ntkhpc.networks import MLP

    network = study.network
    return MLP(network.depth, network.activation, network.weight_variance, network.bias_variance, study.outputs)


def forward_flops(study: "EnsembleStudy", width: int, samples: int) -> float:
    """Operations to evaluate one network on so many samples."""
    depth, features, outputs = study.network.depth, study.features, study.outputs
    return 2.0 * samples * (features * width + (depth - 1) * width**2 + width * outputs)

"""The networks of a study: section [network], and what they cost."""

from typing import TYPE_CHECKING, Literal

from ntkhpc.phase.settings import Increasing, NonNegativeFloat, Positive, PositiveFloat, Settings, require_increasing
from ntkhpc.words import count, numbers

if TYPE_CHECKING:
    from ntkhpc.networks import MLP
    from ntkhpc.studies.ensemble.study import EnsembleStudy


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

"""The network of a study."""

from ntkhpc.ensemble_study import Study
from ntkhpc.networks import MLP


def mlp(study: Study) -> MLP:
    network = study.network
    return MLP(network.depth, network.activation, network.weight_variance, network.bias_variance, study.data.outputs)

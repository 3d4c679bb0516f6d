"""The network of a study."""

from ntkhpc.networks import MLP
from ntkhpc.studies.ensemble.study import Study


def mlp(study: Study) -> MLP:
    network = study.network
    return MLP(network.depth, network.activation, network.weight_variance, network.bias_variance, study.outputs)
